"""One job seed, split into independent streams by name: drawing one retain question more changes nothing else.

For what must be repeatable. What must be secret (DP sampling and noise) comes from `methods.secret`, never from a seed
that is logged.
"""

import hashlib
import random


def derive(seed: int, *names: str) -> int:
    """A 63-bit seed for the stream called `names` under the job's seed."""
    text = "\x1f".join((str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str) -> random.Random:
    """A generator of its own for one purpose."""
    return random.Random(derive(seed, *names))  # noqa: S311 - repeatable by design
