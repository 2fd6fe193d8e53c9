"""Arrays on disk without numpy: the few of NumPy's format that data sets of pictures use, and PNG to keep them in.

The desk reads data sets and must not load numpy (DESIGN section 3), so these two formats are read and written here.
NumPy's is version 1.0 to 3.0 of `numpy.lib.format`, in C order; of its types bytes, integers and texts. An array of
objects is pickled, and is refused like any other type. PNG is ISO/IEC 15948: 8 bits, grey or RGB, no filter.
"""

import ast
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.errors import EngineError

MAGIC = b"\x93NUMPY"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2  # PNG's colour types
WIDE = 4  # bytes of a character in NumPy's texts
LARGEST = 1 << 34  # bytes of one array
# What an odd zip file raises: a broken one, one with a password, one packed in an unusual way.
BROKEN = (
    OSError,
    ValueError,
    KeyError,
    SyntaxError,
    EOFError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Array:
    """Shape, type as NumPy writes it (`|u1`, `<i8`, `<U5`), and the bytes of all items in C order."""

    shape: tuple[int, ...]
    kind: str
    data: bytes

    def __len__(self) -> int:
        """Along the first axis."""
        return self.shape[0] if self.shape else 0

    def parts(self) -> Iterator[bytes]:
        """The bytes of each item along the first axis."""
        size = len(self.data) // max(1, len(self))
        return (self.data[i * size : (i + 1) * size] for i in range(len(self)))

    def texts(self) -> list[str]:
        """Integers and texts as texts; ValueError for anything else, and for more than one axis."""
        order, letter = self.kind[0], self.kind[1]
        if len(self.shape) != 1 or letter not in "iuU":
            message = "not a list of numbers or texts"
            raise ValueError(message)
        if letter == "U":
            coding = "utf-32-be" if order == ">" else "utf-32-le"
            return [part.decode(coding).rstrip("\0") for part in self.parts()]
        ends: Literal["big", "little"] = "big" if order == ">" else "little"
        return [str(int.from_bytes(part, ends, signed=letter == "i")) for part in self.parts()]


def read_npz(path: Path) -> dict[str, Array]:
    """Every array of an .npz file by name; `EngineError("bad_data")` for what is not one, or holds objects."""
    try:
        with zipfile.ZipFile(path) as file:
            entries = [info for info in file.infolist() if info.filename.endswith(".npy")]
            if any(info.file_size > LARGEST for info in entries):
                raise EngineError("bad_data", f"{path.name} holds an array of more than {LARGEST} bytes; split it")
            return {info.filename.removesuffix(".npy"): _array(file.read(info)) for info in entries}
    except BROKEN as error:
        raise EngineError("bad_data", f"{path.name} is not an .npz file of plain arrays") from error


def png(data: bytes, *, width: int, height: int, channels: int) -> bytes:
    """A PNG file of height x width x channels bytes, one or three channels."""
    line = width * channels
    rows = b"".join(b"\0" + data[i * line : (i + 1) * line] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, GREY if channels == 1 else RGB, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _array(raw: bytes) -> Array:
    if raw[:6] != MAGIC or raw[6] not in (1, 2, 3):
        message = "not NumPy's format"
        raise ValueError(message)
    size = struct.Struct("<H" if raw[6] == 1 else "<I")
    start = 8 + size.size
    (length,) = size.unpack_from(raw, 8)
    told = ast.literal_eval(raw[start : start + length].decode("utf-8"))
    shape, kind, data = tuple(told["shape"]), str(told["descr"]), raw[start + length :]
    wide = WIDE if kind[1] == "U" else 1
    if told["fortran_order"] or kind[1] not in "uiU" or math.prod(shape) * int(kind[2:]) * wide != len(data):
        message = "another order, type or length"
        raise ValueError(message)
    return Array(shape=shape, kind=kind, data=data)
