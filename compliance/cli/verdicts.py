"""A numbered verification as people read it."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from compliance.cli.output import table

_COLUMNS = {"n": "", "ok": "Holds", "name": "Step", "why": "Why"}


def verdict(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    """The steps, and the one answer below them."""
    yield table(_COLUMNS, value["steps"])
    yield Text(f"{'VERIFIED' if value['ok'] else 'NOT VERIFIED'} (trust: {value['trust']})", style="bold")
