"""Real digits of MNIST in four styles, for a demo in which a style leaves: the domain `outlined`, say.

Every digit is drawn in every style, so that a class is spread over all domains, and nobody is said to own a picture.
What is written is what a user could bring: JSON lines with `image` (a PNG in base64), `label`, `domain`, `record_id`.
Plain Python, as in `digits`: numpy would be loaded into the desk.

    plain       as it is                    inverted    dark on light
    outlined    the slope's size (Sobel)    bold        ink spread to its neighbours
"""

import base64
import json
import math
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from compliance.demo.corpus import Corpus, people
from compliance.demo.digits import SIDE, Digit, read_digits

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BRIGHTEST = 255
NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))

Ink = Callable[[int, int], int]  # row, column -> 0 to 255, 0 outside
Style = Callable[[bytes], bytes]  # SIDE x SIDE bytes of grey each


def write_styles(folder: Path, *, seed: int, digits: int) -> Corpus:
    """Write `digits` digits in every style and as many others; equal arguments give equal bytes."""
    known = read_digits()
    random.Random(seed).shuffle(known)  # noqa: S311 - which digit is held out needs no secret
    folder.mkdir(parents=True, exist_ok=True)
    return Corpus(
        private=_write(folder / "private.jsonl", known[:digits]),
        holdout=_write(folder / "holdout.jsonl", known[digits : 2 * digits]),
        public=None,
        people=tuple(islice(people(seed, 1), 1)),
    )


def _write(path: Path, digits: Sequence[Digit]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for row in _rows(path.stem, digits):
            file.write(json.dumps(row) + "\n")
    return path


def _rows(stem: str, digits: Sequence[Digit]) -> Iterator[dict[str, str]]:
    for domain, style in STYLES.items():
        for i, (pixels, label) in enumerate(digits):
            image = base64.b64encode(png(style(pixels))).decode("ascii")
            record_id = f"{stem}-{domain}-{i:04d}"
            yield {"record_id": record_id, "label": WORDS[int(label)], "domain": domain, "image": image}


def png(pixels: bytes) -> bytes:
    """SIDE x SIDE pixels of grey as a PNG file (ISO/IEC 15948)."""
    lines = b"".join(b"\0" + pixels[i : i + SIDE] for i in range(0, len(pixels), SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, parts))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    body = part[0] + part[1]
    return struct.pack(">I", len(part[1])) + body + struct.pack(">I", zlib.crc32(body))


def _everywhere() -> Iterator[tuple[int, int]]:
    return ((y, x) for y in range(SIDE) for x in range(SIDE))


def _ink(pixels: bytes) -> Ink:
    return lambda y, x: pixels[y * SIDE + x] if 0 <= y < SIDE and 0 <= x < SIDE else 0


def _plain(pixels: bytes) -> bytes:
    return pixels


def _inverted(pixels: bytes) -> bytes:
    return bytes(BRIGHTEST - value for value in pixels)


def _outlined(pixels: bytes) -> bytes:
    """The size of the slope by Sobel's filters, stretched to the brightest."""
    ink = _ink(pixels)
    slopes = [_slope(ink, y, x) for y, x in _everywhere()]
    most = max(*slopes, 1.0)
    return bytes(int(BRIGHTEST * slope / most) for slope in slopes)


def _slope(ink: Ink, y: int, x: int) -> float:
    across = sum(dx * (2 - abs(dy)) * ink(y + dy, x + dx) for dy, dx in NEIGHBOURS)
    down = sum(dy * (2 - abs(dx)) * ink(y + dy, x + dx) for dy, dx in NEIGHBOURS)
    return math.hypot(across, down)


def _bold(pixels: bytes) -> bytes:
    ink = _ink(pixels)
    return bytes(max(ink(y + dy, x + dx) for dy, dx in NEIGHBOURS) for y, x in _everywhere())


STYLES: dict[str, Style] = {
    "plain": _plain,
    "inverted": _inverted,
    "outlined": _outlined,
    "bold": _bold,
}
