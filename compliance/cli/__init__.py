"""The door for people and programs at a terminal: `expunge COMMAND`.

Rules: every command takes `--json` (exactly one JSON value on standard output, and nothing else there) and
`--help` with an example. Exit 0: done, and true. 1: done, and the answer is no. 2: bad usage or input, with one
line on standard error that says what to change. 3: an internal error, with where its log is. Progress goes to
standard error, and only to a terminal. No output holds personal data, unless an operator asks for the identity
behind one request.

A command reads its arguments, calls the desk, and shows the answer. What may be done is decided below it.
"""

from compliance.cli.entry import main

__all__ = ["main"]
