"""`python -m compliance.cli`: the same as `expunge`."""

import sys

from compliance.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
