"""Tiny-ImageNet as it is published: 200 classes under WordNet's ids, 64 x 64 pixels.

    train/WNID/images/WNID_0.JPEG
    val/images/val_0.JPEG             val/val_annotations.txt: file, WNID, and a box, with tabs between them
    test/images/test_0.JPEG           without labels, and so no part here

The class is the WNID, as it stands in the folder. A part may be named by its own folder too.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engine.errors import EngineError
from engine.layouts.folders import is_picture, refuse_twins
from engine.pictures import Parts, encoded, within

IMAGES, ANNOTATIONS = "images", "val_annotations.txt"


def parts(folder: Path) -> Parts:
    """Readers of the parts that are in a folder; none where it is no such folder."""
    if (folder / ANNOTATIONS).is_file():
        return {"": partial(_validation, folder, folder)}
    if _trained(folder):
        return {"": partial(_training, folder, folder)}
    found: Parts = {}
    if _trained(folder / "train"):
        found["train"] = partial(_training, folder / "train", folder)
    if (folder / "val" / ANNOTATIONS).is_file():
        found["val"] = partial(_validation, folder / "val", folder)
    return found


def _trained(folder: Path) -> bool:
    """Whether every class of a folder keeps its pictures in `images`; one look at each, none at a picture."""
    classes = _classes(folder)
    return bool(classes) and all((path / IMAGES).is_dir() and not any(_pictures(path)) for path in classes)


def _classes(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if is_picture(path))


def _training(folder: Path, root: Path) -> Iterator[dict[str, str]]:
    for place in _classes(folder):
        found = sorted(_pictures(within(place / IMAGES, folder)))
        if not found:
            raise EngineError("bad_data", f"{place.name} holds no picture; fill the folder or remove it")
        refuse_twins([path.name for path in found])
        yield from (_fields(path, root, place.name) for path in found)


def _validation(folder: Path, root: Path) -> Iterator[dict[str, str]]:
    labels = _annotated(folder / ANNOTATIONS)
    there = {path.name: path for path in _pictures(folder / IMAGES)} if (folder / IMAGES).is_dir() else {}
    odd = min(set(labels) ^ set(there), default=None)
    if odd is not None:
        what = "is in images and has no line" if odd in there else "has a line and is not in images"
        raise EngineError("bad_data", f"{odd} {what} in {ANNOTATIONS}; every picture needs both")
    refuse_twins(list(labels))
    yield from (_fields(there[name], root, label) for name, label in labels.items())


def _annotated(path: Path) -> dict[str, str]:
    try:
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise EngineError("bad_data", f"{path.name} cannot be read as text") from error
    if not lines or any(len(line) < 2 or not line[0] or not line[1].strip() for line in lines):  # noqa: PLR2004 - name, class
        raise EngineError("bad_data", f"every line of {path.name} needs a file and its class, with a tab between them")
    found = {line[0]: line[1].strip() for line in lines}
    if len(found) != len(lines):
        raise EngineError("bad_data", f"{path.name} names a picture twice; leave one line for each")
    return found


def _fields(path: Path, root: Path, label: str) -> dict[str, str]:
    name = within(path, root).relative_to(root).as_posix()
    return {"record_id": name, "unit": name, "image": encoded(path), "label": label}
