"""Pictures as users bring them: what is kept of them, and what is refused before anything is stored.

    a manifest      JSON lines with `label`, and `image` (the file in base64) or `file` (a path below its folder),
                    and with `domain` on every line or on none
    a folder        one subfolder a class, or one a domain with one a class in it; nobody says whose a picture is, so
                    each is its own
    a release       CIFAR-10 and -100, SVHN and Tiny-ImageNet as they are unpacked (`engine.layouts`); of several parts
                    the user names one
    an .npz file    as `engine.corpus` reads it; the subject field of one is its array `units`

The desk looks at a picture's form, whether its file is all there, and never decodes it: decoding is the engine's, which
refuses a broken picture by its position before it trains (`compliance.execution.training`).
"""

import base64
import binascii
import hashlib
import zipfile
from collections.abc import Mapping
from lzma import LZMAError
from pathlib import Path
from typing import Any

from compliance.errors import InvalidInputError
from engine import corpus
from engine.contract import EngineError
from engine.corpus import Record

ARRAYS = ".npz"
UNITS = "units"
BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
RIFF, WEBP = b"RIFF", b"WEBP"
UNREADABLE = (OSError, ValueError, RuntimeError, EOFError, LZMAError)  # what an odd .zip raises besides its own error
LARGEST = 64 << 20  # bytes of one picture


def holds_pictures(path: Path) -> bool:
    """Whether a path can only be a data set of pictures: a folder, arrays, or a published release."""
    return corpus.holds_pictures(path)


def read_pictures(path: Path, *, subject_field: str, split: str | None = None) -> tuple[Record, ...]:
    """The pictures of a folder, a release or an .npz file; a record's `unit` is its subject where there are subjects.

    `split` names the part of a release that has several.
    InvalidInputError names the file and the fault, or the place of the picture.
    """
    _check_subjects(path, subject_field)
    try:
        _refuse_several(path, split)
        records = corpus.read_records(path, split=split)
    except EngineError as error:
        raise InvalidInputError(error.message, code="bad-pictures") from None
    except UNREADABLE as error:
        name = Path(str(getattr(error, "filename", None) or path)).name
        raise InvalidInputError(f"{name} cannot be read; check the path", code="unreadable") from None
    for number, record in enumerate(records, start=1):
        _raw(record.image, place_of(path, number, record))
    return records


def _refuse_several(path: Path, split: str | None) -> None:
    parts = corpus.splits(path)
    if split is None and len(parts) > 1:
        message = f"{path.name} has several parts; add --split with one of: {', '.join(parts)}"
        raise InvalidInputError(message, code="several-parts")


def place_of(path: Path, number: int, record: Record) -> str:
    """Where a picture is in what the user brought: its file in a folder, its position among arrays."""
    return record.record_id if path.is_dir() else f"picture {number}"


def fields_of(value: Mapping[str, Any], place: str, root: Path) -> dict[str, Any] | None:
    """`image`, `label` and, if any, `domain` of a manifest's line, the file read in; None for a line of text."""
    if not {"file", "image"} & set(value):
        return None
    extra = {"text", "question", "answer"} & set(value)
    if extra or {"file", "image"} <= set(value):
        message = f"{place} needs 'file' or 'image', one of them, and no text beside it"
        raise InvalidInputError(message, code="missing-field")
    label = value.get("label")
    if not isinstance(label, str) or not label:
        raise InvalidInputError(f"{place} has no 'label'; every picture needs its class as text", code="missing-field")
    domain = value.get("domain")
    if domain is not None and (not isinstance(domain, str) or not domain):
        message = f"the 'domain' of {place} is no text, or empty; name the domain, or leave it out of every line"
        raise InvalidInputError(message, code="missing-field")
    raw = _file(value["file"], place, root) if "file" in value else _raw(value["image"], place)
    fields = {"image": base64.b64encode(_checked(raw, place)).decode("ascii"), "label": label}
    return fields if domain is None else {**fields, "domain": domain}


def digest_of(image: str) -> str:
    """SHA-256 (hex) of a record's picture: its bytes, however they were written in base64."""
    return hashlib.sha256(base64.b64decode(image)).hexdigest()


def _check_subjects(path: Path, subject_field: str) -> None:
    if path.suffix != ARRAYS or path.is_dir():
        if subject_field:
            what = "a folder" if path.is_dir() else "a published file"
            message = f"{path.name} is {what} and has no '{subject_field}'; a manifest can say whose is what"
            raise InvalidInputError(message, code="missing-field")
        return
    if subject_field not in ("", UNITS):
        message = f"{path.name} has no '{subject_field}'; the subjects of an .npz file are its array '{UNITS}'"
        raise InvalidInputError(message, code="missing-field")
    if (subject_field == UNITS) != _has_units(path):
        message = (
            f"{path.name} has no array '{UNITS}' to be the subject field"
            if subject_field
            else f"{path.name} says whose its pictures are; add --subject-field {UNITS}"
        )
        raise InvalidInputError(message, code="missing-field")


def _has_units(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return f"{UNITS}.npy" in file.namelist()
    except (*UNREADABLE, zipfile.BadZipFile):
        message = f"{path.name} is not an .npz file of plain arrays"
        raise InvalidInputError(message, code="bad-pictures") from None


def _file(name: object, place: str, root: Path) -> bytes:
    """The bytes of a file below the manifest's folder."""
    try:
        path = (root / str(name)).resolve()
        if not isinstance(name, str) or not path.is_relative_to(root.resolve()) or not path.is_file():
            message = f"the 'file' of {place} is no file below the manifest's folder; correct the path"
            raise InvalidInputError(message, code="bad-file")
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except (OSError, ValueError):
        raise InvalidInputError(f"the 'file' of {place} cannot be read; check the path", code="bad-file") from None


def _raw(image: object, place: str) -> bytes:
    try:
        raw = base64.b64decode(image if isinstance(image, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        message = f"the 'image' of {place} is not base64; write the picture's file in base64"
        raise InvalidInputError(message, code="bad-picture") from None
    return _checked(raw, place)


def _checked(raw: bytes, place: str) -> bytes:
    if not raw.startswith(BEGINNINGS) and not (raw.startswith(RIFF) and raw[8:12] == WEBP):
        message = f"{place} is no picture in PNG, JPEG, GIF, BMP, TIFF or WebP; save it as PNG or JPEG"
        raise InvalidInputError(message, code="bad-picture")
    if len(raw) > LARGEST:
        raise InvalidInputError(f"{place} has more than {LARGEST} bytes; make it smaller", code="bad-picture")
    if not corpus.is_whole(raw):
        raise InvalidInputError(f"{place} is cut short or damaged; save it anew as PNG or JPEG", code="bad-picture")
    return raw
