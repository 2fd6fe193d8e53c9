"""What holds for every test: how hard hypothesis tries (HYPOTHESIS_PROFILE), and no deadline on a busy machine."""

import os

from hypothesis import settings

settings.register_profile("quick", deadline=None, max_examples=60)
settings.register_profile("soak", deadline=None, max_examples=20_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
