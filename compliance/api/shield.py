"""What stands between the socket and the application: a size limit, headers, and the last catch.

Pure ASGI, because Starlette's own error middleware would log a traceback and its base class would buffer
streams.
"""

from http import HTTPStatus

from fastapi import HTTPException
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compliance.api import problems
from compliance.api.problems import BODY_MAX

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
HSTS = "max-age=31536000"


class Shield:
    """Wraps an application; `secure` adds HSTS (the desk is served over https)."""

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        """Wrap `app`."""
        self._app = app
        self._headers = HEADERS | ({"Strict-Transport-Security": HSTS} if secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one exchange; other protocols than http pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._add_headers(message)
            await send(message)

        try:
            if _announced(scope) > BODY_MAX:
                await problems.too_large(scope["path"])(scope, receive, guarded)
            else:
                await self._app(scope, _limited(receive), guarded)
        except Exception as error:
            if started:  # too late for another answer; the server must break the connection off
                raise
            await problems.failed(scope["path"], error)(scope, receive, guarded)

    def _add_headers(self, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in self._headers.items():
            headers.setdefault(name, value)


def _announced(scope: Scope) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else BODY_MAX + 1


def _limited(receive: Receive) -> Receive:
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > BODY_MAX:
            # FastAPI lets its own exceptions through when it reads a body, and hides all others as 400.
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    return counted
