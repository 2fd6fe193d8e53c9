"""The door for people: the public form and status pages, and the operator's desk.

Rules: every page works without JavaScript and loads nothing from elsewhere; text is escaped where it is shown
(Jinja2 autoescape), never where it is stored; no page shows personal data unless an operator opens the identity
of one request; every form is guarded against forgery. `create_pages` builds an ASGI application.
"""

from compliance.web.app import create_pages

__all__ = ["create_pages"]
