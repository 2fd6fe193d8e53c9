"""The machine door: a JSON API for data subjects' software and authorised agents.

`create_app` builds it; nothing is built at import. Rules: every error is an RFC 9457 problem, the answer
follows the commit (invariant 2), and answers never tell who is known. Pages of people live in `web`, which
this package does not know: whoever starts the server hands them over.
"""

from compliance.api.app import create_app

__all__ = ["create_app"]
