"""Arrays of numbers out of a MATLAB 5 MAT-file, read as they are asked for and never as a whole.

The format is that of The MathWorks, "MAT-File Format", chapter 1: a header of 128 bytes, then elements of a tag (type,
size) and data. An array is an element of type 14 that holds flags, dimensions, a name and its numbers, as it is or
inside an element of type 15, packed with zlib. Only real arrays of numbers are read. What else stands in a file is
skipped. MATLAB 7.3 writes HDF5, which is none of this.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

HEADER, VERSION, ENDS = 128, 0x0100, {b"IM": "<", b"MI": ">"}
MATRIX, PACKED, BYTE = 14, 15, 2
KINDS = {1: "b", BYTE: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}  # numbers, as struct has
COMPLEX, NUMBERS = 0x0800, range(6, 16)  # a flag; classes of arrays of numbers, double to uint64
SMALL, LARGE, CHUNK = 4, 1 << 12, 1 << 16  # bytes: in a small element, of a name or of dimensions, of one look
BROKEN = (ValueError, OSError, EOFError, OverflowError, struct.error, zlib.error, UnicodeDecodeError)


class Source(Protocol):
    """Where bytes come from."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or fewer at the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """One array: shape, the number of its type, and its bytes from here on, the first axis fastest."""

    shape: tuple[int, ...]
    kind: int
    order: str
    source: Source

    @property
    def count(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    def read(self, size: int) -> bytes:
        """The next bytes; ValueError when the file ends before."""
        return _exactly(self.source, size)

    def numbers(self) -> list[float]:
        """All numbers, in the order of the file."""
        letter = KINDS[self.kind]
        raw = self.read(self.count * struct.calcsize(letter))
        return list(struct.unpack(f"{self.order}{self.count}{letter}", raw))


class _Unpacked:
    """A stretch of a file, unpacked as it is read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left, self._zlib = file, size, zlib.decompressobj()

    def read(self, size: int, /) -> bytes:
        """So many bytes, or fewer at the end."""
        found = bytearray()
        while len(found) < size and not self._zlib.eof:
            packed = self._zlib.unconsumed_tail or self._more()
            fresh = self._zlib.decompress(packed, size - len(found))  # nothing goes in where only output is left
            if not packed and not fresh:
                break
            found += fresh
        return bytes(found)

    def _more(self) -> bytes:
        packed = self._file.read(min(CHUNK, self._left))
        self._left -= len(packed)
        return packed


@contextmanager
def variable(path: Path, name: str) -> Iterator[Variable]:
    """An array by its name, open as long as the context; one of BROKEN where the file has none or is another."""
    with path.open("rb") as file:
        header = _exactly(file, HEADER)
        order = ENDS.get(header[-2:], "")
        if not order or struct.unpack(f"{order}H", header[-4:-2]) != (VERSION,):
            message = "not a MATLAB 5 file"
            raise ValueError(message)
        yield _found(file, order, name)


def _found(file: IO[bytes], order: str, name: str) -> Variable:
    while True:
        kind, size, _ = _tag(file, order)
        after = file.tell() + size
        source: Source = file
        if kind == PACKED:
            source = _Unpacked(file, size)
            kind, _, _ = _tag(source, order)
        found = _array(source, order, name) if kind == MATRIX else None
        if found is not None:
            return found
        file.seek(after)


def _array(source: Source, order: str, name: str) -> Variable | None:
    """The array that stands here, if it has the name and is one of real numbers."""
    flags = struct.unpack_from(f"{order}I", _element(source, order))[0]
    sides = _element(source, order)
    shape = struct.unpack(f"{order}{len(sides) // 4}i", sides)
    if _element(source, order).decode("ascii") != name or flags & COMPLEX or flags & 0xFF not in NUMBERS:
        return None
    kind, size, inside = _tag(source, order)
    if kind not in KINDS or min(shape, default=-1) < 0 or size != math.prod(shape) * struct.calcsize(KINDS[kind]):
        message = "an array of another type or length"
        raise ValueError(message)
    return Variable(shape=shape, kind=kind, order=order, source=source if inside is None else io.BytesIO(inside))


def _element(source: Source, order: str) -> bytes:
    """The data of a short element; what fills it up to eight bytes is skipped."""
    _, size, inside = _tag(source, order)
    if inside is not None:
        return inside
    if size > LARGE:
        message = "a longer name or more dimensions than there can be"
        raise ValueError(message)
    return _exactly(source, size + -size % 8)[:size]


def _tag(source: Source, order: str) -> tuple[int, int, bytes | None]:
    """Type, size, and the data where it stands in the tag itself."""
    raw = _exactly(source, 8)
    kind, size = struct.unpack(f"{order}II", raw)
    if kind >> 16 == 0:
        return kind, size, None
    size, kind = kind >> 16, kind & 0xFFFF
    if size > SMALL:
        message = "a small element that is none"
        raise ValueError(message)
    return kind, size, raw[4 : 4 + size]


def _exactly(source: Source, size: int) -> bytes:
    raw = source.read(size)
    if len(raw) != size:
        message = "the file ends too soon"
        raise ValueError(message)
    return raw
