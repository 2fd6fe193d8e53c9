"""The application, built from services.

The interactive documentation is off: it would load scripts from elsewhere.
"""

from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from compliance.api import problems, public, requests
from compliance.api.shield import Shield
from compliance.intake import Gatekeeper
from compliance.wiring import Services

_OWN = ("/v1/", "/log/", "/.well-known/")
_ABOUT = """File a removal request, confirm it with the code from the mail, follow it, keep the receipt.

Every error is a problem (RFC 9457) with one sentence that says what to change. A receipt is answered only
after the request was stored. Lists are paged by cursor."""


def create_app(services: Services, *, pages: ASGIApp | None = None) -> FastAPI:
    """The API over `services`; `pages` (the web door) serves every address that is not the API's own."""
    app = FastAPI(
        title="Expunge",
        version="1.0.0",
        summary="An erasure desk for machine-learning models.",
        description=_ABOUT,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.gatekeeper = Gatekeeper(submissions_per_hour=services.settings.submissions_per_hour)
    problems.install(app)
    app.include_router(requests.router)
    app.include_router(public.router)
    app.mount("/log", public.Tiles(services.settings.workdir / "log"))
    app.add_middleware(Shield, secure=services.settings.public_url.startswith("https:"))
    _describe_problems(app)
    if pages is not None:
        app.router.default = _Otherwise(app.router.default, pages)
    return app


class _Otherwise:
    """Unknown addresses: under the API's own roots a problem, everywhere else a page."""

    def __init__(self, not_found: ASGIApp, pages: ASGIApp) -> None:
        self._not_found = not_found
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = scope["path"].startswith(_OWN)
        await (self._not_found if own else self._pages)(scope, receive, send)


def _describe_problems(app: FastAPI) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        schemas = schema["components"]["schemas"]
        template = "#/components/schemas/{model}"
        described = problems.Problem.model_json_schema(ref_template=template)
        schemas |= described.pop("$defs") | {"Problem": described}
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
