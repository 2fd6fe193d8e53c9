"""Templates to answers, with the headers every page has."""

import hashlib
from http import HTTPStatus
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from compliance import intake
from compliance.regimes import length, spelled
from compliance.web import forms, words
from compliance.wiring import Services

HERE = Path(__file__).parent
STATIC = HERE / "static"
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Id(Convertor[str]):
    """An id or a token in a path: anything else is no page of ours."""

    regex = intake.ID_PATTERN

    def convert(self, value: str) -> str:
        """Take it as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Give it as it is."""
        return value


register_url_convertor("id", _Id())


class Renderer:
    """Renders pages of one desk. Templates come from the package alone, never from a user."""

    def __init__(self, desk: Services) -> None:
        """Load the templates; a missing variable is an error, not an empty place."""
        self._desk = desk
        self._secure = desk.settings.public_url.startswith("https:")
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        style = hashlib.sha256((STATIC / "expunge.css").read_bytes()).hexdigest()[:12]
        self._templates.globals |= {
            "organisation": desk.settings.organisation,
            "style": f"/static/expunge.css?{style}",
            "guard_field": forms.FIELD,
            "keep_days": desk.settings.personal_data_days,
        }
        self._templates.filters |= {"spelled": spelled, "period": length, "days_left": words.days_left}

    def page(
        self, request: Request, template: str, *, status: HTTPStatus = HTTPStatus.OK, **context: object
    ) -> Response:
        """A page, with a guard for its forms and the cookie that belongs to it."""
        nonce = forms.nonce_of(request, self._desk.secrets)
        html = self._templates.get_template(template).render(
            guard=forms.guard(self._desk.vault, nonce), path=request.url.path, **context
        )
        response = HTMLResponse(html, status_code=status)
        self.set_cookie(response, forms.COOKIE, nonce)
        return response

    def problem(self, request: Request, status: HTTPStatus, title: str, sentence: str) -> Response:
        """A page that says what went wrong and what to do."""
        return self.page(request, "problem.html", status=status, title=title, sentence=sentence)

    def set_cookie(self, response: Response, name: str, value: str, *, seconds: int | None = None) -> None:
        """A cookie that scripts and foreign pages cannot use; gone with the browser unless `seconds`."""
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self._secure, httponly=True, samesite="strict"
        )


def see_other(path: str) -> Response:
    """Go on with a GET, so that reloading never sends a form twice."""
    return RedirectResponse(path, status_code=HTTPStatus.SEE_OTHER)
