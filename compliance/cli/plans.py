"""A folder of results belongs to one plan: what its work depends on, by digests. The same plan goes on there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compliance.errors import InvalidInputError
from engine.contract import canonical

FILE = "plan.json"


def begin(out: Path, plan: Mapping[str, Any], *, what: str) -> None:
    """Claim an empty folder for this plan, or go on in a folder that has the same one; `what` is made there."""
    path, text = out / FILE, canonical(plan) + "\n"
    if path.is_file():
        before = path.read_text(encoding="utf-8")
        if before != text:
            message = f"{out} holds another {what}{_apart(before, plan)}; choose a new --out"
            raise InvalidInputError(message, code=f"other-{what.replace(' ', '-')}")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidInputError(f"{out} exists already and holds no {what}; choose a new --out", code="not-empty")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _apart(before: str, plan: Mapping[str, Any]) -> str:
    try:
        old = json.loads(before)
        names = sorted(key for key in plan if old.get(key) != plan[key])
    except (ValueError, AttributeError):
        return ""
    return f" (it differs in: {', '.join(names)})" if names else ""
