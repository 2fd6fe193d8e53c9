"""`python -m compliance.cli` is `expunge`."""

from compliance.cli import main

main()
