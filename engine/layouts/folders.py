"""Pictures in folders: `class/name.png`, or `domain/class/name.png` as Office-Home and DomainNet have them.

Below folders called train, test, val, ... and no others there is one data set a folder, which are the parts. Every
picture stands at the same depth and every class has some; what is no picture is passed over, and so is what is hidden.
A link may not lead out of the folder, and two pictures may not have one name but for upper and lower case: a person who
asks for one of them by its name would mean both.
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from engine.errors import EngineError
from engine.pictures import SUFFIXES, Parts, encoded, within

PARTS = frozenset({"train", "test", "val", "valid", "validation"})
FLAT, DEEP = 2, 3  # names in the path of a picture: class and file; domain, class and file


def parts(folder: Path) -> Parts:
    """Readers of the parts of a folder, or of the one data set it is."""
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    split = bool(inside) and all(path.name in PARTS and not any(map(is_picture, path.iterdir())) for path in inside)
    return {path.name: partial(fields, path, folder) for path in inside} if split else {"": partial(fields, folder)}


def fields(folder: Path, root: Path | None = None) -> Iterator[dict[str, str]]:
    """The fields of a record for each picture of a folder, sorted by name; ids are paths below `root`.

    Raises:
        EngineError: `bad_data` for no pictures, for several depths, an empty class, a link out, or two of one name.
    """
    found, folders = _below(folder)
    depth = _depth(folder, found)
    told = {path.relative_to(folder).parts[:i] for path in found for i in range(1, depth)}
    empty = next((one for one in folders if len(one) < depth and one not in told), None)
    if empty is not None:
        raise EngineError("bad_data", f"{'/'.join(empty)} holds no picture; fill the folder or remove it")
    refuse_twins([path.relative_to(folder).as_posix() for path in found])
    for path in found:
        name = path.relative_to(root or folder).as_posix()
        one = {"record_id": name, "unit": name, "image": encoded(path), "label": path.parent.name}
        yield one | ({"domain": path.parent.parent.name} if depth == DEEP else {})


def is_picture(path: Path) -> bool:
    """Whether a file is called like a picture, and not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def refuse_twins(names: Sequence[str]) -> None:
    """Refuse two names that are one when upper and lower case and ways to write a letter are put aside."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if other != name:
            raise EngineError("bad_data", f"{other} and {name} are two pictures of one name; rename one of them")


def _below(folder: Path) -> tuple[list[Path], list[tuple[str, ...]]]:
    """Every picture below a folder and, as names from there, every folder; both sorted."""
    found: list[Path] = []
    folders: list[tuple[str, ...]] = []
    for place, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if not name.startswith("."))
        here = Path(place)
        links = [here / name for name in (*names, *files) if (here / name).is_symlink()]
        for link in links:
            within(link, folder)
        if any(link.is_dir() for link in links):
            raise EngineError("bad_data", f"{links[0].name} is a link to a folder; put the folder itself there")
        folders += [(here / name).relative_to(folder).parts for name in names]
        found += [path for path in (here / name for name in files) if is_picture(path)]
    return sorted(found), sorted(folders)


def _depth(folder: Path, found: Sequence[Path]) -> int:
    depths = {len(path.relative_to(folder).parts) for path in found}
    if not depths:
        raise EngineError("bad_data", f"{folder.name} holds no pictures; it needs one subfolder a class")
    if len(depths) > 1 or not depths <= {FLAT, DEEP}:
        how = "pictures at two depths" if len(depths) > 1 else "pictures that are in no class, or too deep"
        message = f"{folder.name} holds {how}; it needs class/name, or domain/class/name, throughout"
        raise EngineError("bad_data", message)
    return depths.pop()
