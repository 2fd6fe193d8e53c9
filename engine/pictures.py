"""Pictures in the forms people make, as records that hold the picture itself. No torch.

    an .npz file    `images` (n x height x width, or n x height x width x 3, uint8) and `labels` (n); `units`,
                    `record_ids` and `domains` if there are any
    a manifest      JSON lines with `file`, a path below the manifest's folder, in the place of `image`

Folders and published releases are read by `engine.layouts`, from what is here. A file's bytes go into the record as
they are and are decoded where they are used. Arrays become PNG.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from engine.arrays import Array, png, read_npz
from engine.errors import EngineError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
PLAIN, CHANNELS = 3, 3  # dimensions of an array of grey pictures; channels of coloured ones
BYTES = "|u1"
COLUMNS = ("labels", "units", "record_ids", "domains")
LARGEST = 64 << 20  # bytes of one picture's file

Parts = dict[str, Callable[[], Iterator[dict[str, str]]]]  # readers of the parts of a data set; one without, by ""


def array_fields(path: Path) -> Iterator[dict[str, str]]:
    """The fields of a record for each picture of an .npz file."""
    arrays = read_npz(path)
    images = arrays.get("images")
    if images is None or images.kind != BYTES or not _pictures(images.shape) or "labels" not in arrays:
        message = f"{path.name} needs images (uint8, n x height x width, or with 3 channels behind) and labels"
        raise EngineError("bad_data", message)
    columns = _columns(path, {name: array for name, array in arrays.items() if name in COLUMNS})
    if any(len(column) != len(images) for column in columns.values()):
        raise EngineError("bad_data", f"{path.name} has arrays of different lengths")
    names = columns.get("record_ids") or [str(i) for i in range(len(images))]
    parts = zip(images.parts(), columns["labels"], names, columns.get("units") or names, strict=True)
    for i, (data, label, name, unit) in enumerate(parts):
        fields = {"record_id": name, "unit": unit, "image": picture(data, images.shape[1:]), "label": label}
        yield fields | ({"domain": columns["domains"][i]} if "domains" in columns else {})


def picture(data: bytes, shape: tuple[int, ...]) -> str:
    """What a record holds of height x width bytes, or height x width x 3: a PNG file in base64."""
    file = png(data, width=shape[1], height=shape[0], channels=shape[2] if len(shape) > PLAIN - 1 else 1)
    return base64.b64encode(file).decode("ascii")


def with_image(fields: Mapping[str, str], root: Path) -> dict[str, str]:
    """A manifest's line with the picture in the place of its path, which must lie below `root`."""
    path = root / fields["file"]
    if not path.resolve().is_relative_to(root.resolve()):
        raise EngineError("bad_data", "its file lies outside the manifest's folder")
    if "image" in fields:
        raise EngineError("bad_data", "a record has file or image, not both")
    try:
        image = _read(path)
    except OSError as error:
        raise EngineError("bad_data", "its file cannot be read") from error
    return {**{name: value for name, value in fields.items() if name != "file"}, "image": image}


def encoded(path: Path) -> str:
    """What a record holds of a file; `EngineError("bad_data")` for one that cannot be read or is too large."""
    try:
        if path.stat().st_size > LARGEST:
            raise EngineError("bad_data", f"{path.name} has more than {LARGEST} bytes; make it smaller")
        return _read(path)
    except OSError as error:
        raise EngineError("bad_data", f"{path.name} cannot be read") from error


def within(path: Path, folder: Path) -> Path:
    """The path, refused if a link in it leads out of the folder."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise EngineError("bad_data", f"{path.name} is a link out of {folder.name}; put the file itself there")
    return path


def _read(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def _pictures(shape: tuple[int, ...]) -> bool:
    return all(shape[1:]) and (len(shape) == PLAIN or (len(shape) == PLAIN + 1 and shape[-1] == CHANNELS))


def _columns(path: Path, arrays: Mapping[str, Array]) -> dict[str, list[str]]:
    try:
        return {name: array.texts() for name, array in arrays.items()}
    except ValueError as error:
        message = f"in {path.name} labels, units, record_ids and domains are lists of whole numbers or texts"
        raise EngineError("bad_data", message) from error
