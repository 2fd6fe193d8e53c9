"""The pages as one ASGI application: routes, errors, headers."""

import logging
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compliance.errors import (
    ComplianceError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotAllowedError,
    NotFoundError,
)
from compliance.intake import BusyError, Gatekeeper
from compliance.web.desk import DeskPages
from compliance.web.public import PublicPages
from compliance.web.receipts import ReceiptPages
from compliance.web.rendering import HEADERS, STATIC, Renderer
from compliance.wiring import Services

_LOG = logging.getLogger(__name__)
_STATUS: tuple[tuple[type[ComplianceError], HTTPStatus, str], ...] = (
    (BusyError, HTTPStatus.TOO_MANY_REQUESTS, "One moment, please"),
    (InvalidInputError, HTTPStatus.UNPROCESSABLE_ENTITY, "Something is not right yet"),
    (NotFoundError, HTTPStatus.NOT_FOUND, "We cannot find this"),
    (ConflictError, HTTPStatus.CONFLICT, "This is not possible now"),
    (NotAllowedError, HTTPStatus.CONFLICT, "This is not possible"),
    (ForbiddenError, HTTPStatus.FORBIDDEN, "You may not do this"),
)
_PROTOCOL = {
    404: ("We cannot find this page", "Please check the address, or start again from the first page."),
    405: ("This does not work", "This page cannot be used like that. Please start again from the first page."),
    413: ("That is too much text", "Please shorten what you wrote and send it again."),
}


def create_pages(services: Services) -> Starlette:
    """The public pages and the operator's desk over `services`."""
    renderer = Renderer(services)
    keeper = Gatekeeper(submissions_per_hour=services.settings.submissions_per_hour)
    secure = services.settings.public_url.startswith("https:")
    errors = _Errors(renderer)
    return Starlette(
        routes=[
            *PublicPages(services, renderer, keeper).routes(),
            *ReceiptPages(renderer).routes(),
            *DeskPages(services, renderer, keeper).routes(),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/favicon.ico", lambda _: Response(status_code=HTTPStatus.NO_CONTENT)),
        ],
        exception_handlers={ComplianceError: errors.refused, HTTPException: errors.protocol},
        middleware=[Middleware(_Shell, secure=secure, errors=errors)],
    )


class _Errors:
    """Errors as pages: a heading, one sentence, a way on."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def refused(self, request: Request, error: Exception) -> Response:
        for kind, status, title in _STATUS:
            if isinstance(error, kind):
                sentence = str(error)
                return self._renderer.problem(request, status, title, sentence[:1].upper() + sentence[1:] + ".")
        return self.failed(request, error)

    def protocol(self, request: Request, error: Exception) -> Response:
        status = HTTPStatus(error.status_code if isinstance(error, HTTPException) else 500)
        title, sentence = _PROTOCOL.get(status, ("This did not work", "Please go back, reload the page and try again."))
        return self._renderer.problem(request, status, title, sentence)

    def failed(self, request: Request, error: Exception) -> Response:
        # The kind alone: a message or a traceback could repeat what a person wrote.
        _LOG.error("a page failed: %s", type(error).__qualname__)
        sentence = "Something failed on our side and nothing was changed. Please try again in a few minutes."
        return self._renderer.problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "This is our fault", sentence)


class _Shell:
    """Adds the headers and catches what nothing else caught."""

    def __init__(self, app: ASGIApp, *, secure: bool, errors: _Errors) -> None:
        self._app = app
        self._errors = errors
        self._headers = HEADERS | ({"Strict-Transport-Security": "max-age=31536000"} if secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/static/"):
                    headers["Cache-Control"] = "public, max-age=31536000, immutable"
            await send(message)

        try:
            await self._app(scope, receive, guarded)
        except Exception as error:
            if started:
                raise
            await self._errors.failed(Request(scope), error)(scope, receive, guarded)
