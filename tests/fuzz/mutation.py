"""Mutations that know what they spoil: bytes, lines, numbers, base64 with what lies in it, and JSON.

Blind noise dies in the first check of a strict parser. A hostile file is a good one with a small, well-formed lie, so
most of these keep the outer form and change what is inside, down to JSON inside base64 inside JSON. Everything is
drawn from one `random.Random`, so that a number brings back the input.
"""

import base64
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

LARGEST = 256 * 1024  # a mutation does not make its input larger than this, or the parsers only count bytes
TOKENS = (
    b"\x00", b"\r", b"\n", b"\n\n", b"\x1b[2J", b"\x1b]0;title\x07", b"\x7f", b"\xff", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", "\u202e".encode(), "\u2028".encode(), "\u00a0".encode(), "\u0661".encode(), b" ", b"\t", b"+",
    b"=", b"-", "\u2014 ".encode(), b"{", b"}", b"[", b"]", b'"', b"\\", b"\\u0000", b"\\ud800", b"NaN", b"Infinity",
    b"null", b"true", b"1e999", b"../", b"<script>", b"&amp;", b"A" * 5000, b"[" * 40, b'{"a":' * 40, b"0" * 500,
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 7, 31, 32, 63, 64, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**32, 2**53 - 1, 2**53, 2**63 - 1,
    2**63, 2**64, 10**30, 10**400,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, "", " ", "x", "\x1b[31m", "\u202e", "A" * 3000, [], {}, [[]], {"": ""}, 0.5, -0.5, 1e-9,
    1e-300, 5e-324, 1e300, 1.5e308, -1.5e308, 1e6, 0.999999999, "NaN", "2026-11-20T15:04:05Z", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z", "00" * 32, "AAAA", "../../etc/passwd", "<script>alert(1)</script>", "{{7*7}}",
    *NUMBERS[:-2],
)  # fmt: skip
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{12,}={0,2}")
_DECIMAL = re.compile(rb"\d+")
_DEEP = 3  # JSON in base64 in JSON

Random = random.Random
Mutation = Callable[[Random, bytes], bytes]


def mutate(rng: Random, raw: bytes, others: tuple[bytes, ...] = ()) -> bytes:
    """`raw` with one mutation, often two, seldom more; `others` are good inputs to take pieces from."""
    result = raw
    for _ in range(1 + min(int(rng.expovariate(1.2)), 6)):
        if others and rng.random() < 0.1:
            result = _spliced(rng, result, rng.choice(others))
        else:
            result = rng.choice(MUTATIONS)(rng, result)[:LARGEST]
    return result


def mutate_json(rng: Random, value: Any, deep: int = _DEEP) -> Any:  # noqa: ANN401 - any JSON value
    """`value` with one of its values replaced, removed, added, swapped with another or spoiled inside."""
    places = list(_places(value))
    if not places:
        return rng.choice(VALUES)
    holder, key = rng.choice(places)
    kind = rng.randrange(9)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[_text(rng, str(key))] = holder.pop(key)
    elif kind == 2:
        other, at = rng.choice(places)
        holder[key], other[at] = other[at], holder[key]
    elif kind == 3 and isinstance(holder, dict):
        holder[_text(rng, "more")] = rng.choice(VALUES)
    elif kind == 4 and isinstance(holder, list):
        holder.extend([holder[key]] * rng.choice((1, 2, 70)))
    elif kind == 5:
        holder[key] = rng.choice(VALUES)
    else:
        holder[key] = _near(rng, holder[key], deep)
    return value


def _near(rng: Random, value: Any, deep: int) -> Any:  # noqa: ANN401 - any JSON value
    """A value of the same kind that is a little different."""
    match value:
        case bool():
            return not value
        case int():
            return rng.choice((value + 1, value - 1, -value, value * 2, value << 40, rng.choice(NUMBERS[:-2])))
        case float():
            return rng.choice((value + 1e-6, -value, value * 1e9, value / 1e9, 1.0 - value, float(round(value, 1))))
        case str() if deep and _BASE64.fullmatch(_raw(value)) and rng.random() < 0.6:
            return _inside_base64(rng, _raw(value), deep - 1).decode("utf-8", "replace")
        case str():
            return _text(rng, value)
        case _:
            return rng.choice(VALUES)


def _text(rng: Random, text: str) -> str:
    changed = rng.choice(PLAIN)(rng, _raw(text)).decode("utf-8", "replace")
    return rng.choice((changed, text + "\n", text.upper(), text[:-1], text[1:], text * 2))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - any JSON value
    """Every (container, key) inside a JSON value."""
    stack = [value]
    while stack:
        holder = stack.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            yield holder, key
            stack.append(holder[key])


def _json(rng: Random, raw: bytes) -> bytes:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return _bytes(rng, raw)
    return _written(rng, mutate_json(rng, value))


def _written(rng: Random, value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """JSON as we write it, mostly; at times as others do."""
    plain = rng.random() < 0.2
    text = json.dumps(value, ensure_ascii=plain, sort_keys=not plain, separators=None if plain else (",", ":"))
    return text.encode("utf-8", "surrogatepass")


def _duplicate_key(rng: Random, raw: bytes) -> bytes:
    """One pair of a JSON object written twice, which two readers read differently."""
    pairs = list(re.finditer(rb'"[A-Za-z_]+":("[^"]*"|[\d.]+|true|false|null)', raw))
    if not pairs:
        return _bytes(rng, raw)
    pair = rng.choice(pairs)
    value = rng.choice((b"null", b"0", b'""', b"true", pair[1]))
    again = pair[0][: pair.start(1) - pair.start()] + value
    first, second = rng.choice(((again, pair[0]), (pair[0], again)))
    return raw[: pair.start()] + first + b"," + second + raw[pair.end() :]


def _base64(rng: Random, raw: bytes) -> bytes:
    found = list(_BASE64.finditer(raw))
    if not found:
        return _bytes(rng, raw)
    one = rng.choice(found)
    return raw[: one.start()] + _inside_base64(rng, one[0], _DEEP) + raw[one.end() :]


def _inside_base64(rng: Random, text: bytes, deep: int) -> bytes:
    """Base64 with other bytes in it, or the same bytes in another spelling."""
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice((text.rstrip(b"="), text + b"=", text.translate(bytes.maketrans(b"+/", b"-_")), text[:-1]))
    try:
        inner = base64.b64decode(text, validate=True)
    except ValueError:
        return _bytes(rng, text)
    if kind == 1:  # stray bits behind the last byte
        return text[:-3] + bytes([text[-3] ^ 1]) + text[-2:]
    changed = _json(rng, inner) if deep and inner[:1] in b"{[" and rng.random() < 0.7 else _bytes(rng, inner)
    return base64.b64encode(changed)


def _number(rng: Random, raw: bytes) -> bytes:
    found = list(_DECIMAL.finditer(raw))
    if not found:
        return _bytes(rng, raw)
    one = rng.choice(found)
    value = rng.choice((int(one[0][:300]) + rng.choice((-1, 1, 2, 256)), rng.choice(NUMBERS)))
    text = rng.choice((b"%d" % value, b"0%d" % value, b"+%d" % value, b"%d.0" % value, b"%de3" % value, b"%d" % value))
    return raw[: one.start()] + text + raw[one.end() :]


def _lines(rng: Random, raw: bytes) -> bytes:
    lines = raw.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            lines[first], lines[second] = lines[second], lines[first]
        case 1:
            lines.insert(second, lines[first])
        case 2:
            del lines[first]
        case 3:
            lines[first:first] = [lines[second]] * rng.choice((2, 70, 130))
        case _:
            lines[first] = _bytes(rng, lines[first])
    return b"\n".join(lines)


def _flip(rng: Random, raw: bytes) -> bytes:
    changed = bytearray(raw or b"\0")
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(rng: Random, raw: bytes) -> bytes:
    changed = bytearray(raw or b"\0")
    changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _insert(rng: Random, raw: bytes) -> bytes:
    at = rng.randint(0, len(raw))
    return raw[:at] + rng.choice(TOKENS) + raw[at:]


def _cut(rng: Random, raw: bytes) -> bytes:
    start = rng.randint(0, len(raw))
    stop = min(len(raw), start + rng.choice((1, 2, 4, 16, len(raw))))
    return raw[:start] + raw[stop:]


def _repeat(rng: Random, raw: bytes) -> bytes:
    start = rng.randint(0, len(raw))
    piece = raw[start : start + rng.choice((1, 2, 8, 64, len(raw)))]
    return raw[:start] + piece * rng.choice((2, 3, 20)) + raw[start + len(piece) :]


def _spliced(rng: Random, raw: bytes, other: bytes) -> bytes:
    """The head of one good input and the tail of another; by lines at times."""
    if rng.random() < 0.5:
        ours, theirs = raw.split(b"\n"), other.split(b"\n")
        at = rng.randint(0, min(len(ours), len(theirs)))
        return b"\n".join(ours[:at] + theirs[at:])[:LARGEST]
    return (raw[: rng.randint(0, len(raw))] + other[rng.randint(0, len(other)) :])[:LARGEST]


def _bytes(rng: Random, raw: bytes) -> bytes:
    return rng.choice(PLAIN)(rng, raw)


PLAIN: tuple[Mutation, ...] = (_flip, _overwrite, _insert, _cut, _repeat)
MUTATIONS: tuple[Mutation, ...] = (*PLAIN, _lines, _number, _base64, _base64, _json, _json, _json, _duplicate_key)
