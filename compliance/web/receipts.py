"""The page that checks a receipt in the reader's own browser, served and as one file that needs no server.

No data of the reader reach us: the page's policy (CSP level 3) forbids it every connection, and its form is never sent.
The same program runs in both; `audits/receipt.py` is what it repeats, and tests hold the two together.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from compliance.web.rendering import STATIC, Renderer

SCRIPTS = ("receipt-check.js", "receipt-page.js")
_LOCKED = "default-src 'none'; form-action 'none'; base-uri 'none'; require-trusted-types-for 'script'"
_SERVED = f"{_LOCKED}; script-src 'self'; style-src 'self'; img-src 'self'; frame-ancestors 'none'"
_NAME = "expunge-receipt-check.html"


@dataclass(frozen=True, slots=True)
class ReceiptPages:
    """The two forms of the page."""

    renderer: Renderer

    def routes(self) -> list[Route]:
        """What anybody may open."""
        return [
            Route("/receipt/check", self.served, methods=["GET"]),
            Route("/receipt/check/page", self.saved, methods=["GET"]),
        ]

    def served(self, request: Request) -> Response:
        """The page, with its program from this server."""
        scripts = [f"/static/{name}?{hashlib.sha256(_read(name)).hexdigest()[:12]}" for name in SCRIPTS]
        page = self.renderer.page(request, "check.html", standalone=None, scripts=scripts)
        page.headers["Content-Security-Policy"] = _SERVED
        return page

    def saved(self, request: Request) -> Response:
        """The page as one file: style and program inside, and named by digest in its own policy."""
        page = self.renderer.page(request, "check.html", standalone=_inside(), scripts=[])
        page.headers["Content-Disposition"] = f'attachment; filename="{_NAME}"'
        return page


def _inside() -> Mapping[str, object]:
    style, scripts = _read("expunge.css"), [_read(name) for name in SCRIPTS]
    programs = " ".join(map(_source, scripts))
    return {
        "policy": f"{_LOCKED}; script-src {programs}; style-src {_source(style)}",
        "style": style.decode(),
        "scripts": [one.decode() for one in scripts],
    }


def _read(name: str) -> bytes:
    return (STATIC / name).read_bytes()


def _source(content: bytes) -> str:
    """A CSP source that allows exactly this inline content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"
