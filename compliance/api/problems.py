"""RFC 9457 problem details for everything that goes wrong, whoever raised it.

`detail` is the one sentence of the error; it repeats no value of the caller's. A problem of type
`urn:expunge:problem:CODE` always means the same.
"""

import json
import logging
import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from compliance.errors import (
    ComplianceError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotAllowedError,
    NotFoundError,
    UnavailableError,
)
from compliance.intake import BusyError

_LOG = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
BODY_MAX = 64 * 1024

_STATUS: tuple[tuple[type[ComplianceError], HTTPStatus], ...] = (
    (BusyError, HTTPStatus.TOO_MANY_REQUESTS),
    (InvalidInputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (ForbiddenError, HTTPStatus.FORBIDDEN),
    (NotAllowedError, HTTPStatus.CONFLICT),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
)
_SENTENCES = {
    HTTPStatus.NOT_FOUND: "there is nothing at this address; check the path",
    HTTPStatus.METHOD_NOT_ALLOWED: "this address does not take this method; see the Allow header",
}


class Invalid(BaseModel):
    """One thing wrong with a body."""

    model_config = ConfigDict(frozen=True)
    pointer: str = Field(description="JSON pointer to the value, as a fragment", examples=["#/subject/name"])
    detail: str = Field(description="what is wrong with it")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(frozen=True)
    type: str = Field(examples=["urn:expunge:problem:unknown-regime"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(description="one sentence that says what to change")
    instance: str = Field(description="the path that was asked for")
    errors: list[Invalid] | None = Field(default=None, description="every invalid part of the body")


def problem(
    path: str,
    status: HTTPStatus,
    *,
    code: str,
    detail: str,
    errors: list[Invalid] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """The answer for one problem."""
    body = Problem(
        type=f"urn:expunge:problem:{code}",
        title="Unprocessable Content" if status == HTTPStatus.UNPROCESSABLE_ENTITY else status.phrase,
        status=status.value,
        detail=detail,
        instance=path,
        errors=errors,
    )
    content = json.dumps(body.model_dump(exclude_none=True))
    return Response(content, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Answer every exception of the application with a problem."""
    app.add_exception_handler(ComplianceError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _protocol)


def described(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: these statuses, and those every route may give, are problems."""
    reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
    always = {413, 422, 429, 500, 503}
    return {
        code: {"description": HTTPStatus(code).phrase, "content": {MEDIA_TYPE: reference}}
        for code in sorted(always | set(codes))
    }


def failed(path: str, error: Exception) -> Response:
    """An error of ours: the log gets its kind, the caller learns that it was ours."""
    # No traceback and no message: either could repeat what a person wrote, or a driver's parameters.
    _LOG.error("answering 500: %s", type(error).__qualname__)
    detail = "something failed on our side and nothing was changed; try again with the same Idempotency-Key"
    return problem(path, HTTPStatus.INTERNAL_SERVER_ERROR, code="internal-error", detail=detail)


def too_large(path: str) -> Response:
    """A body over the limit."""
    detail = f"the body is larger than {BODY_MAX // 1024} KiB; send less"
    return problem(path, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, code="body-too-large", detail=detail)


def _refused(request: Request, error: Exception) -> Response:
    path = request.url.path
    if not isinstance(error, ComplianceError):
        return failed(path, error)
    status = next((s for kind, s in _STATUS if isinstance(error, kind)), None)
    if status is None:
        return failed(path, error)
    headers = None
    if isinstance(error, BusyError):
        headers = {"Retry-After": str(math.ceil(error.retry_after.total_seconds()))}
    elif status is HTTPStatus.FORBIDDEN and error.code == "no-token":
        status, headers = HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": "Bearer"}
    return problem(path, status, code=error.code, detail=str(error), headers=headers)


def _invalid(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    path = request.url.path
    if any(one["type"] == "json_invalid" for one in found):
        detail = "the body is no JSON; send one JSON object as application/json"
        return problem(path, HTTPStatus.BAD_REQUEST, code="malformed-json", detail=detail)
    errors = [Invalid(pointer=_pointer(one["loc"]), detail=_sentence(one)) for one in found]
    detail = "; ".join(f"{e.pointer}: {e.detail}" for e in errors[:3])
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    return problem(path, status, code="invalid-body", detail=detail, errors=errors)


def _protocol(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return failed(request.url.path, error)
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return too_large(request.url.path)
    code = status.phrase.lower().replace(" ", "-")
    detail = _SENTENCES.get(status, f"{status.phrase.lower()}; check the request")
    headers = dict(error.headers) if error.headers else None
    return problem(request.url.path, status, code=code, detail=detail, headers=headers)


def _pointer(location: tuple[int | str, ...]) -> str:
    return (
        "#/" + "/".join(str(part) for part in location[1:]) if location[0] == "body" else "/".join(map(str, location))
    )


def _sentence(error: dict[str, Any]) -> str:
    # Pydantic's messages name types and bounds, never the value; `input` is left out on purpose.
    known = {"extra_forbidden": "this member is not known; remove it"}
    return known.get(error["type"], str(error["msg"]).lower())
