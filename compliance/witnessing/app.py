"""The address of a witness (c2sp.org/tlog-witness): it takes checkpoints, and shows the newest of each log.

    POST /add-checkpoint                     200 and signature lines, or 400, 403, 404, 409, 422 as the protocol has it
    GET  /<hex sha256(origin)>/checkpoint    the newest cosigned checkpoint, for monitors

A body is never logged, and read up to its limit in size and time only. No request is authenticated but by the log's
signature on the checkpoint, so what an unknown sender can make us do is one signature verification.
"""

import asyncio
import re
from collections.abc import Callable

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from audits import witness
from compliance.errors import ComplianceError
from compliance.witnessing.folder import NEWEST, WitnessFolder

BODY_SECONDS = 10.0
SIZE_TYPE = "text/x.tlog.size"
TOO_LARGE, TOO_SLOW, FAILED = 413, 408, 500
_PLACE = re.compile(r"[0-9a-f]{64}")
_log = structlog.get_logger("expunge.witness")


def create_app(folder: WitnessFolder, *, clock: Callable[[], float]) -> Starlette:
    """The witness of `folder` as an ASGI application; `clock` gives POSIX seconds."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
        except TimeoutError:
            return Response(status_code=TOO_SLOW)
        except ClientDisconnect:
            return Response(status_code=witness.MALFORMED)
        if body is None:
            return PlainTextResponse("The request is too large.\n", status_code=TOO_LARGE)
        return await run_in_threadpool(_cosigned, folder, body, int(clock()))

    def newest(request: Request) -> Response:
        place = request.path_params["place"]
        file = folder.path / place / NEWEST
        if not _PLACE.fullmatch(place) or not file.is_file():
            return PlainTextResponse("No checkpoint of such a log was cosigned.\n", status_code=witness.UNKNOWN_LOG)
        return PlainTextResponse(file.read_bytes())

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/{place}/checkpoint", newest, methods=["GET"]),
        ]
    )


async def _body(request: Request) -> bytes | None:
    """The request's body, or None as soon as it is larger than any good one."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > witness.MAX_REQUEST:
            return None
    return bytes(body)


def _cosigned(folder: WitnessFolder, body: bytes, time: int) -> Response:
    try:
        return PlainTextResponse(folder.cosign(body, time=time))
    except witness.RefusedError as refusal:
        _log.info("refused", status=refusal.status, why=str(refusal))
        if refusal.size is not None:  # the type is compared as it stands by other clients: no charset behind it
            return Response(f"{refusal.size}\n", refusal.status, headers={"content-type": SIZE_TYPE})
        return PlainTextResponse(f"{refusal}\n", refusal.status)
    except (ComplianceError, OSError) as error:
        _log.error("nothing could be stored, so nothing is cosigned", kind=type(error).__name__)
        return PlainTextResponse("The checkpoint could not be stored, so it was not cosigned.\n", FAILED)
