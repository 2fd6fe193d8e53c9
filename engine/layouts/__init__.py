"""Data sets of pictures as they are published and unpacked, and as people sort them into folders. No torch, no numpy.

    cifar-10-batches-bin/     data_batch_1.bin to _5, test_batch.bin, batches.meta.txt           `layouts.cifar`
    cifar-100-binary/         train.bin, test.bin, fine_label_names.txt (the class is the fine label)
    train_32x32.mat           the cropped digits of SVHN, or a folder with several of them       `layouts.svhn`
    tiny-imagenet-200/        train/WNID/images/*, val/images/*, val/val_annotations.txt         `layouts.tiny_imagenet`
    class/name.png            a folder a class, as many tools write them                         `layouts.folders`
    domain/class/name.png     Office-Home, DomainNet
    train/..., test/...       either of the two, below folders of these names
    name.npz                  arrays                                                             `engine.pictures`

Which one it is, the names of files and folders say. A release of several parts (train, test, ...) is read one part at
a time, and nothing is guessed where nobody says which. In none of these is it said whose a picture is: each is a unit
of its own, and its id is its place in the release. CIFAR as Python pickles is refused: reading one runs code.
"""

from collections.abc import Iterator
from pathlib import Path

from engine import pictures
from engine.errors import EngineError
from engine.layouts import cifar, folders, svhn, tiny_imagenet
from engine.pictures import Parts

FILES = frozenset({".npz", ".bin", ".mat"})
ARCHIVES = frozenset({".gz", ".tgz", ".zip", ".tar", ".xz", ".bz2", ".7z", ".rar"})
PICKLED = tuple(bytes([0x80, version]) for version in range(1, 6))  # how a pickle begins; no text in UTF-8 does
PICKLES = ("batches.meta", "meta")  # stands beside the pickled batches of CIFAR-10 and of CIFAR-100
TRAINED = ("train",)
HELD = ("test", "val", "validation", "valid")  # parts that are for testing, the best first


def holds_pictures(path: Path) -> bool:
    """Whether a path can only be pictures (or is refused as such): a folder, arrays, a release, and no JSON lines."""
    return path.is_dir() or path.suffix.lower() in FILES | ARCHIVES or _pickled(path)


def splits(path: Path) -> tuple[str, ...]:
    """The names of the parts of a release; none where there are no parts. `EngineError("bad_data")` as `fields`."""
    return tuple(name for name in _parts(path) if name)


def split_for(path: Path, *, training: bool) -> str | None:
    """The part of a release that a set of records means: what was trained on, or what nobody saw. None for no part."""
    found = splits(path)
    return next((name for name in (TRAINED if training else HELD) if name in found), None)


def fields(path: Path, split: str | None = None) -> Iterator[dict[str, str]]:
    """The fields of a record for each picture, in the order of the release.

    Raises:
        EngineError: `bad_data`, one sentence, for what is no such data set, where several parts are there and `split`
            names none, and for a part that is not there.
    """
    parts = _parts(path)
    known = ", ".join(name for name in parts if name)
    if split is None and len(parts) > 1:
        raise EngineError("bad_data", f"{path.name} has several parts; say which one to read, of: {known}")
    if split is not None and split not in parts:
        what = f"it has: {known}" if known else "it has no parts"
        raise EngineError("bad_data", f"{path.name} has no part {split!r} with labels; {what}")
    return parts[split if split is not None else next(iter(parts))]()


def _parts(path: Path) -> Parts:
    _refuse(path)
    if path.is_dir():
        found = (layout.parts(path) for layout in (cifar, svhn, tiny_imagenet))
        return next((parts for parts in found if parts), None) or folders.parts(path)
    if path.suffix.lower() == ".bin":
        return {"": lambda: cifar.fields(path)}
    if path.suffix.lower() == ".mat":
        return {"": lambda: svhn.fields(path)}
    return {"": lambda: pictures.array_fields(path)}


def _refuse(path: Path) -> None:
    pickles = [path] if _pickled(path) else [path / name for name in PICKLES if (path / name).is_file()]
    if pickles:
        message = f"{pickles[0].name} is a Python pickle, which can run code when read; take the binary release"
        raise EngineError("bad_data", f"{message} (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz)")
    if path.suffix.lower() in ARCHIVES and not path.is_dir():
        raise EngineError("bad_data", f"{path.name} is an archive; unpack it and name what is in it")


def _pickled(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() in FILES:
        return False
    try:
        with path.open("rb") as file:
            return file.read(2) in PICKLED
    except OSError:
        return False
