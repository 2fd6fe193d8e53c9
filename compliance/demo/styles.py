"""Real digits of MNIST in six styles, for a demo in which a style leaves: the domain `outlined`, say.

Every digit is drawn in every style, so that a class is spread over all domains, and nobody is said to own a picture.
What is written is what a user could bring: JSON lines with `image` (a PNG in base64), `label`, `domain`, `record_id`.
Plain Python, as in `digits`: numpy would be loaded into the desk.

    plain       as it is                    bold        ink spread to its neighbours
    inverted    dark on light               coloured    ink and ground in two colours, half the range apart
    outlined    the slope's size (Sobel)    turned      by up to 45 degrees, on noise
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
NOISE = 160  # brightest grey of the ground under `turned`
TILT = math.pi / 4
NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1))

Ink = Callable[[int, int], int]  # row, column -> 0 to 255, 0 outside
Style = Callable[[bytes, random.Random], bytes]  # SIDE x SIDE bytes -> three times as many


def write_styles(folder: Path, *, seed: int, digits: int) -> Corpus:
    """Write `digits` digits in every style and a quarter as many others; equal arguments give equal bytes."""
    known = read_digits()
    random.Random(seed).shuffle(known)  # noqa: S311 - which digit is held out needs no secret
    folder.mkdir(parents=True, exist_ok=True)
    return Corpus(
        private=_write(folder / "private.jsonl", known[:digits], seed),
        holdout=_write(folder / "holdout.jsonl", known[digits : digits + digits // 4], seed),
        public=None,
        people=tuple(islice(people(seed, 1), 1)),
    )


def _write(path: Path, digits: Sequence[Digit], seed: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for row in _rows(path.stem, digits, seed):
            file.write(json.dumps(row) + "\n")
    return path


def _rows(stem: str, digits: Sequence[Digit], seed: int) -> Iterator[dict[str, str]]:
    for domain, style in STYLES.items():
        rng = random.Random(f"{seed}/{stem}/{domain}")  # noqa: S311 - colours and angles need no secret
        for i, (pixels, label) in enumerate(digits):
            image = base64.b64encode(png(style(pixels, rng))).decode("ascii")
            record_id = f"{stem}-{domain}-{i:04d}"
            yield {"record_id": record_id, "label": WORDS[int(label)], "domain": domain, "image": image}


def png(pixels: bytes) -> bytes:
    """SIDE x SIDE pixels of red, green and blue as a PNG file (ISO/IEC 15948)."""
    width = 3 * SIDE
    lines = b"".join(b"\0" + pixels[i : i + width] for i in range(0, len(pixels), width))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, parts))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    body = part[0] + part[1]
    return struct.pack(">I", len(part[1])) + body + struct.pack(">I", zlib.crc32(body))


def _grey(values: Iterator[int]) -> bytes:
    return bytes(value for grey in values for value in (grey, grey, grey))


def _everywhere() -> Iterator[tuple[int, int]]:
    return ((y, x) for y in range(SIDE) for x in range(SIDE))


def _ink(pixels: bytes) -> Ink:
    return lambda y, x: pixels[y * SIDE + x] if 0 <= y < SIDE and 0 <= x < SIDE else 0


def _plain(pixels: bytes, _: random.Random) -> bytes:
    return _grey(iter(pixels))


def _inverted(pixels: bytes, _: random.Random) -> bytes:
    return _grey(BRIGHTEST - value for value in pixels)


def _outlined(pixels: bytes, _: random.Random) -> bytes:
    """The size of the slope by Sobel's filters, stretched to the brightest."""
    ink = _ink(pixels)
    slopes = [_slope(ink, y, x) for y, x in _everywhere()]
    most = max(*slopes, 1.0)
    return _grey(int(BRIGHTEST * slope / most) for slope in slopes)


def _slope(ink: Ink, y: int, x: int) -> float:
    across = sum(dx * (2 - abs(dy)) * ink(y + dy, x + dx) for dy, dx in NEIGHBOURS)
    down = sum(dy * (2 - abs(dx)) * ink(y + dy, x + dx) for dy, dx in NEIGHBOURS)
    return math.hypot(across, down)


def _bold(pixels: bytes, _: random.Random) -> bytes:
    ink = _ink(pixels)
    return _grey(max(ink(y + dy, x + dx) for dy, dx in NEIGHBOURS) for y, x in _everywhere())


def _coloured(pixels: bytes, rng: random.Random) -> bytes:
    ground = [rng.randrange(BRIGHTEST + 1) for _ in range(3)]
    pairs = [(one, (one + 128) % (BRIGHTEST + 1)) for one in ground]
    return bytes((low * (BRIGHTEST - value) + high * value) // BRIGHTEST for value in pixels for low, high in pairs)


def _turned(pixels: bytes, rng: random.Random) -> bytes:
    ink, angle, middle = _ink(pixels), rng.uniform(-TILT, TILT), (SIDE - 1) / 2
    sine, cosine = math.sin(angle), math.cos(angle)

    def shade(y: int, x: int) -> int:
        dy, dx = y - middle, x - middle
        source = ink(round(middle + cosine * dy - sine * dx), round(middle + sine * dy + cosine * dx))
        return max(source, rng.randrange(NOISE))

    return _grey(shade(y, x) for y, x in _everywhere())


STYLES: dict[str, Style] = {
    "plain": _plain,
    "inverted": _inverted,
    "outlined": _outlined,
    "bold": _bold,
    "coloured": _coloured,
    "turned": _turned,
}
