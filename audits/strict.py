"""JSON and base64 as they come from strangers: one meaning for each text, or none.

Python's own parser keeps the last of two equal keys, reads NaN and Infinity, and goes as deep as the stack. Two
programs that disagree about a signed text are how a signature is made to cover what nobody signed, so all of these
are refused, and so are numbers that not every JSON reader can hold (RFC 7493, section 2.2).
"""

import base64
import json
import math
from typing import Any, NoReturn

from audits.errors import VerificationError, require

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1
_LONGEST_NUMBER = 400


def load_json(raw: bytes, *, what: str = "The file", max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:  # noqa: ANN401 - any JSON value
    """The one JSON value in `raw` (UTF-8, no byte-order mark); `what` starts the sentence of the error."""
    require(len(raw) <= max_bytes, f"{what} is larger than {max_bytes} bytes.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise VerificationError(f"{what} is not valid UTF-8.") from fault
    require(_depth(text) <= max_depth, f"{what} is nested deeper than {max_depth} levels.")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
        # A lone surrogate ("\ud800") is legal JSON syntax, yet no text: it can't be encoded, shown or compared.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as fault:
        reason = str(fault) if isinstance(fault, _RefusedError) else "is not valid JSON"
        raise VerificationError(f"{what} {reason}.") from fault
    return value


def decode_base64(text: str, what: str) -> bytes:
    """Standard base64 with padding; refuses every text but the one that encoding the result gives."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError as fault:
        raise VerificationError(f"{what} is not base64.") from fault
    require(encode_base64(raw) == text, f"{what} is not base64 in its one form.")
    return raw


def encode_base64(raw: bytes) -> str:
    """Standard base64 with padding, as text."""
    return base64.b64encode(raw).decode()


def decode_decimal(text: str, what: str, largest: int) -> int:
    """A number from 0 to `largest` in ASCII digits without sign or leading zero."""
    require(0 < len(text) <= len(str(largest)) and text.isascii() and text.isdigit(), f"{what} is no number.")
    value = int(text)
    require(str(value) == text and value <= largest, f"{what} is not a number in its one form.")
    return value


class _RefusedError(ValueError):
    """A JSON text that a lenient parser would accept."""


def _depth(text: str) -> int:
    """The deepest nesting of brackets outside strings, found without recursion."""
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _RefusedError("names one key twice")
    return result


def _constant(name: str) -> NoReturn:
    raise _RefusedError(f"holds {name}, which is no JSON number")


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) < _LONGEST_NUMBER else MAX_INTEGER + 1
    if abs(value) > MAX_INTEGER:
        raise _RefusedError("holds an integer beyond 2**53")
    return value


def _float(digits: str) -> float:
    value = float(digits) if len(digits) < _LONGEST_NUMBER else math.inf
    if not math.isfinite(value):
        raise _RefusedError("holds a number that no double can hold")
    return value
