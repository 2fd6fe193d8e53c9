"""What anyone may read: health, the log's static tiles, Global Privacy Control's support resource."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from compliance.api.access import Reading
from compliance.api.problems import described

router = APIRouter(tags=["public"])
_FOREVER = "public, max-age=31536000, immutable"


@router.get("/healthz", responses=described())
def health(ledger: Reading) -> dict[str, Any]:
    """Alive, and the ledger answers."""
    return {"status": "ok", "log_size": ledger.head().size}


@router.get("/.well-known/gpc.json", responses=described())
def global_privacy_control() -> dict[str, Any]:
    """We honour `Sec-GPC: 1`, which opts out of sale and sharing; it is never taken for a removal request."""
    return {"gpc": True, "lastUpdate": "2026-11-21"}


class Tiles(StaticFiles):
    """The C2SP tlog-tiles files: full tiles never change, the checkpoint always may."""

    def __init__(self, folder: Path) -> None:
        """Serve `folder`, which the first publication creates."""
        super().__init__(directory=folder, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file of the log, with how long it may be kept."""
        response: Response = await super().get_response(path, scope)
        whole = path.startswith("tile") and ".p" not in path
        response.headers["Cache-Control"] = _FOREVER if whole else "no-cache"
        kind = "text/plain; charset=utf-8" if path == "checkpoint" else "application/octet-stream"
        response.headers["Content-Type"] = kind
        response.headers["Access-Control-Allow-Origin"] = "*"  # auditors' pages may read the public log
        return response
