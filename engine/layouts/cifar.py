"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their binary release.

A file is rows without a header: the label (CIFAR-100: the coarse, then the fine label), a byte each, and 3,072 bytes of
32 x 32 pixels, all red ones, then green, then blue, line by line. Which class a number is, a list of names beside the
file says; the class of CIFAR-100 is the fine one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from engine.errors import EngineError
from engine.pictures import Parts, picture, within

SIDE, CHANNELS, COARSE = 32, 3, 20
PLANE = SIDE * SIDE


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What tells one release from the other: its list of names, its files by part, the bytes before the pixels."""

    names: str
    files: tuple[tuple[str, str], ...]
    labels: int

    @property
    def row(self) -> int:
        """Bytes of one picture with its labels."""
        return self.labels + CHANNELS * PLANE


TEN = Release(names="batches.meta.txt", files=(("train", "data_batch_*.bin"), ("test", "test_batch.bin")), labels=1)
HUNDRED = Release(names="fine_label_names.txt", files=(("train", "train.bin"), ("test", "test.bin")), labels=2)


def parts(folder: Path) -> Parts:
    """Readers of the parts of a release that are in a folder; none where it is no such folder."""
    if not any(folder.glob("*.bin")):
        return {}
    release = _release(folder)
    found = {part: sorted(folder.glob(pattern)) for part, pattern in release.files}
    readers: Parts = {part: partial(_all, files, folder) for part, files in found.items() if files}
    if not readers:
        patterns = " or ".join(pattern for _, pattern in release.files)
        raise EngineError("bad_data", f"{folder.name} has {release.names} and neither {patterns}")
    return readers


def fields(path: Path) -> Iterator[dict[str, str]]:
    """The fields of a record for each picture of one file; `EngineError("bad_data")` for what is no whole file."""
    release = _release(path.parent)
    names, size = _names(path.parent / release.names), path.stat().st_size
    if size == 0 or size % release.row:
        message = f"{path.name} is cut short or of another kind: its {size} bytes are no multiple of {release.row}"
        raise EngineError("bad_data", message)
    with path.open("rb") as file:
        for number in range(size // release.row):
            row = file.read(release.row)
            place = f"{path.stem}/{number:05d}"
            label = _label(row, release, names, f"{path.name} picture {number + 1}")
            yield {"record_id": place, "unit": place, "image": _picture(row[release.labels :]), "label": label}


def _all(files: list[Path], folder: Path) -> Iterator[dict[str, str]]:
    for path in files:
        yield from fields(within(path, folder))


def _release(folder: Path) -> Release:
    found = [release for release in (TEN, HUNDRED) if (folder / release.names).is_file()]
    if len(found) != 1:
        message = f"the names of the classes stand in {TEN.names} (CIFAR-10) or {HUNDRED.names} (CIFAR-100)"
        raise EngineError("bad_data", f"{message}, and {folder.name} needs one of the two beside its .bin files")
    return found[0]


def _names(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError("bad_data", f"{path.name} cannot be read as text") from error
    names = [line for line in lines if line]
    if not names or len(set(names)) != len(names):
        raise EngineError("bad_data", f"{path.name} needs one class a line, each once")
    return names


def _label(row: bytes, release: Release, names: list[str], place: str) -> str:
    number = row[release.labels - 1]
    if number >= len(names) or (release is HUNDRED and row[0] >= COARSE):
        message = f"{place} has a label outside the range: {release.names} has {len(names)} classes"
        raise EngineError("bad_data", message)
    return names[number]


def _picture(planes: bytes) -> str:
    """A record's picture of planes, one a channel."""
    mixed = bytearray(len(planes))
    for channel in range(CHANNELS):
        mixed[channel::CHANNELS] = planes[channel * PLANE : (channel + 1) * PLANE]
    return picture(bytes(mixed), (SIDE, SIDE, CHANNELS))
