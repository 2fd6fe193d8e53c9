"""Reading what a user names on the command line; every fault is one sentence that says what to change."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compliance.errors import InvalidInputError

MAX_BYTES = 1 << 20
_PERIOD = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def read_bytes(path: Path, *, limit: int = MAX_BYTES) -> bytes:
    """A file of at most `limit` bytes."""
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError:
        raise InvalidInputError(f"{path.name} cannot be read; check the path", code="unreadable") from None
    if len(raw) > limit:
        raise InvalidInputError(f"{path.name} is larger than {limit} bytes; check the path", code="too-large")
    return raw


def read_text(path: Path) -> str:
    """A text file in UTF-8."""
    return decode(read_bytes(path), name=path.name)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Refuse a place that cannot be written to."""
    try:
        yield
    except OSError:
        raise InvalidInputError(f"{path} cannot be written; choose another place", code="unwritable") from None


def decode(raw: bytes, *, name: str) -> str:
    """`raw` as UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{name} is not valid UTF-8; save it as UTF-8", code="not-utf-8") from None


def json_object(raw: bytes, *, name: str) -> dict[str, Any]:
    """One JSON object."""
    try:
        value = json.loads(decode(raw, name=name))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidInputError(f"{name} must hold one JSON object", code="not-an-object")
    return value


def seconds(period: str) -> int:
    """A period such as `90s`, `15m`, `6h` or `7d`, in seconds."""
    found = _PERIOD.fullmatch(period)
    if found is None:
        raise InvalidInputError("a period is a number with s, m, h or d, like 15m or 7d", code="bad-period")
    return int(found[1]) * _SECONDS[found[2]]


def settings(pairs: Sequence[str] | None) -> dict[str, Any]:
    """`key=value` pairs; a value is a JSON number, true or false, a JSON list, or else text."""
    found: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key or key in found:
            raise InvalidInputError("--set takes KEY=VALUE, each key once", code="bad-setting")
        found[key] = _scalar(value)
    return found


def _scalar(text: str) -> Any:  # noqa: ANN401 - what the option's own type is checked against
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | list) else text
