"""The cropped digits of SVHN (Netzer et al. 2011): `train_32x32.mat`, `test_32x32.mat`, `extra_32x32.mat`.

A file holds X (height x width x 3 x n, uint8, the first axis fastest) and y (n labels, 1 to 10). The label 10 is the
digit 0, and becomes "0" here; a 0 in a file is an error. Pictures are read one by one, so that only records are held.
"""

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine.errors import EngineError
from engine.layouts.matlab import BROKEN, BYTE, Variable, variable
from engine.pictures import LARGEST, Parts, picture, within

FILES = (("train", "train_32x32.mat"), ("test", "test_32x32.mat"), ("extra", "extra_32x32.mat"))
CHANNELS, AXES, ZERO, MOST = 3, 4, 10, 10_000_000


def parts(folder: Path) -> Parts:
    """Readers of the files that are in a folder; none where it is no such folder."""
    return {part: partial(fields, within(folder / name, folder)) for part, name in FILES if (folder / name).is_file()}


def fields(path: Path) -> Iterator[dict[str, str]]:
    """The fields of a record for each digit of one file; `EngineError("bad_data")` for another file."""
    try:
        with variable(path, "y") as found:
            labels = _labels(found)
        with variable(path, "X") as found:
            height, width, size = _sides(found, len(labels))
            for number, label in enumerate(labels):
                place = f"{path.stem}/{number:05d}"
                image = picture(_rows(found.read(size), height, width), (height, width, CHANNELS))
                yield {"record_id": place, "unit": place, "image": image, "label": _digit(label, path.name, number)}
    except BROKEN as error:
        message = f"{path.name} is no MATLAB 5 file with X and y; take the cropped digits as they are published"
        raise EngineError("bad_data", message) from error


def _labels(found: Variable) -> list[float]:
    if found.count > MOST or found.count != max(found.shape):
        message = "no list of labels"
        raise ValueError(message)
    return found.numbers()


def _sides(found: Variable, count: int) -> tuple[int, int, int]:
    """Height, width and bytes of a picture. MATLAB drops a last axis of length 1."""
    shape = (*found.shape, 1) if len(found.shape) == AXES - 1 else found.shape
    fits = len(shape) == AXES and shape[2:] == (CHANNELS, count) and 0 < math.prod(shape[:3]) <= LARGEST
    if found.kind != BYTE or not fits or not count:
        message = "no coloured pictures, one a label"
        raise ValueError(message)
    return shape[0], shape[1], shape[0] * shape[1] * CHANNELS


def _rows(columns: bytes, height: int, width: int) -> bytes:
    """Lines of pixels in colour, of planes that stand column by column."""
    line, mixed = width * CHANNELS, bytearray(len(columns))
    for i in range(width * CHANNELS):
        channel, column = divmod(i, width)
        mixed[column * CHANNELS + channel :: line] = columns[i * height : (i + 1) * height]
    return bytes(mixed)


def _digit(label: float, name: str, number: int) -> str:
    if label not in range(1, ZERO + 1):
        message = f"the label of picture {number + 1} of {name} is outside the range 1 to {ZERO}, where {ZERO} is a 0"
        raise EngineError("bad_data", message)
    return str(int(label) % ZERO)
