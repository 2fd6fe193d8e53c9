"""JSON and base64 as they come from strangers: one meaning for each text, or none.

Python's own parser keeps the last of two equal keys, reads NaN and Infinity, and goes as deep as the stack. Two
programs that disagree about a signed text are how a signature is made to cover what nobody signed, so all of these
are refused, and so are numbers that not every JSON reader can hold (RFC 7493, section 2.2).
"""

import base64
import json
import math
import re
from typing import Any, NoReturn

from audits.errors import VerificationError, require

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1
_LONGEST_NUMBER = 400
# Fewer than 16 digits are below 2**53, and with an exponent of two digits a double holds them.
_LARGE = re.compile(r"[0-9]{16}|[0-9.][eE][+-]?[0-9]{3}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NEITHER = bytes(set(range(256)) - set(b'"[]{}'))


def load_json(raw: bytes, *, what: str = "The file", max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:  # noqa: ANN401 - any JSON value
    """The one JSON value in `raw` (UTF-8, no byte-order mark); `what` starts the sentence of the error."""
    require(len(raw) <= max_bytes, f"{what} is larger than {max_bytes} bytes.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise VerificationError(f"{what} is not valid UTF-8.") from fault
    require(not _deeper(raw, max_depth), f"{what} is nested deeper than {max_depth} levels.")
    # Looking at each number costs as much as all the rest, and few texts hold one that could be too large.
    numbers: dict[str, Any] = {"parse_int": _integer, "parse_float": _float} if _LARGE.search(text) else {}
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_constant, **numbers)
        if _SURROGATE.search(text):
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


def _deeper(raw: bytes, levels: int) -> bool:
    """Whether brackets outside strings nest deeper than `levels`; of what is no JSON it may say either.

    Every step runs over the whole text at once, so that a large hostile one costs no more than reading it: quotes
    that are escaped go, then everything but quotes and brackets, then strings; then one level at a time.
    """
    kept = raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_BRACKETS, _NEITHER)
    left = b"".join(kept.split(b'"')[::2])
    for _ in range(levels):
        shorter = left.replace(b"[]", b"")
        if len(shorter) == len(left):
            break
        left = shorter
    return left.count(b"[") > levels or b"[]" in left


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
