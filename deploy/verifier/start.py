"""The first file that Python runs in the single-file verifier, so it is written for any Python that will ever try."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - a file kept for years meets other Pythons than its own
    sys.stderr.write("This verifier needs Python 3.11 or newer.\n")
    sys.exit(2)

from audits.__main__ import main

sys.exit(main())
