"""Pictures in the forms people have them, as records that hold the picture itself. No torch.

    a folder        one subfolder a class; `class/name.png` is the record's id and, as nobody says whose it is, its unit
    an .npz file    `images` (n x height x width, or n x height x width x 3, uint8) and `labels` (n); `units` and
                    `record_ids` if there are any
    a manifest      JSON lines with `file`, a path below the manifest's folder, in the place of `image`

A file's bytes go into the record as they are and are decoded where they are used. Arrays become PNG.
"""

import base64
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import EngineError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
PLAIN, COLOURED = 3, 4  # dimensions of an array of grey and of coloured pictures


def folder_fields(folder: Path) -> Iterator[dict[str, str]]:
    """The fields of a record for each picture of a folder of classes, sorted by name."""
    found = False
    for path in sorted(folder.glob("*/*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            found = True
            name = path.relative_to(folder).as_posix()
            yield {"record_id": name, "unit": name, "image": _read(path), "label": path.parent.name}
    if not found:
        raise EngineError("bad_data", f"{folder.name} holds no pictures; it needs one subfolder a class")


def array_fields(path: Path) -> Iterator[dict[str, str]]:
    """The fields of a record for each picture of an .npz file."""
    arrays = _arrays(path)
    count = len(arrays["images"])
    names = arrays.get("record_ids", range(count))
    units = arrays.get("units", names)
    for image, label, name, unit in zip(arrays["images"], arrays["labels"], names, units, strict=True):
        yield {"record_id": str(name), "unit": str(unit), "image": png(image), "label": str(label)}


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


def _read(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode("ascii")


def _arrays(path: Path) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - who reads text needs no arrays

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("images", "labels", "units", "record_ids") if name in file}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise EngineError("bad_data", f"{path.name} is not an .npz file of plain arrays") from error
    images = arrays.get("images")
    shaped = images is not None and images.ndim in (PLAIN, COLOURED) and images.dtype == np.uint8
    if images is None or not shaped or "labels" not in arrays:
        message = f"{path.name} needs images (uint8, n x height x width, or with 3 channels behind) and labels"
        raise EngineError("bad_data", message)
    if any(len(array) != len(images) for array in arrays.values()):
        raise EngineError("bad_data", f"{path.name} has arrays of different lengths")
    return arrays


def png(image: Any) -> str:  # noqa: ANN401 - an array, which needs numpy to be named
    """A picture (height x width, or height x width x 3, uint8) as PNG in base64: what a record holds."""
    from PIL import Image  # noqa: PLC0415 - as above

    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
