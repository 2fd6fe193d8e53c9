"""Training records on disk: JSON lines in, frozen records out, and the digests that stand for them. No torch.

One record a line: `{"record_id", "unit", "text"}`, `{"record_id", "unit", "question", "answer"}`, or
`{"record_id", "unit", "image", "label"}`, the last with a `domain` (photograph, sketch, ...) where there are several.
`unit` is a random id or keyed tag of the data subject, never the person's name. `image` is the image file itself in
base64, so that whoever removes the line has removed the picture (`docs/adr/0018`); a manifest may have `file` in its
place (`engine.pictures`), and folders of pictures and published releases are read too (`engine.layouts`). Errors give
the line number and never the content of a line.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import layouts, pictures
from engine.errors import EngineError
from engine.layouts import whole


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A passage (`text`), a question with its answer, or an image with its label (and domain); exactly one of these."""

    record_id: str
    unit: str
    text: str | None = None
    question: str | None = None
    answer: str | None = None
    image: str | None = None
    label: str | None = None
    domain: str | None = None

    def __post_init__(self) -> None:
        """Refuse a record that is none of them, or two."""
        if frozenset(self._said()) not in FORMS:
            raise EngineError("bad_data", "a record needs either text, or question and answer, or image and label")
        if self.domain == "":
            raise EngineError("bad_data", "a domain has a name; leave it out where there is none")

    def to_mapping(self) -> dict[str, str]:
        """The JSON object of one line."""
        return {"record_id": self.record_id, "unit": self.unit, **self._said()}

    def _said(self) -> dict[str, str]:
        values = {name: getattr(self, name) for name in PARTS}
        return {name: value for name, value in values.items() if value is not None}


PARTS = ("text", "question", "answer", "image", "label", "domain")
PICTURE = frozenset({"image", "label"})
FORMS = (frozenset({"text"}), frozenset({"question", "answer"}), PICTURE, PICTURE | {"domain"})
KEYS = frozenset({"record_id", "unit", "file", *PARTS})


def read_records(path: Path, *, split: str | None = None) -> tuple[Record, ...]:
    """All records of a JSON lines file, or of pictures in any layout of `engine.layouts`, in order.

    Of a release of several parts `split` names the one to read; JSON lines have no parts.

    Raises:
        EngineError: `bad_data`, with the number of the first line that is broken.
    """
    if layouts.holds_pictures(path):
        try:
            return _distinct(tuple(Record(**one) for one in layouts.fields(path, split)), path.name)
        except OSError as error:
            raise EngineError("bad_data", f"{path.name} cannot be read") from error
    if split is not None:
        raise EngineError("bad_data", f"{path.name} has no parts; only published data sets of pictures have some")
    return _distinct(tuple(_lines(path)), path.name)


def read_set(path: Path, *, training: bool) -> tuple[Record, ...]:
    """`read_records` where a set's purpose says which part it means: what was trained on, or what nobody saw."""
    return read_records(path, split=layouts.split_for(path, training=training) if path.is_dir() else None)


def holds_pictures(path: Path) -> bool:
    """Whether a path can only be a data set of pictures: a folder, arrays, or a published release."""
    return layouts.holds_pictures(path)


def is_whole(image: bytes) -> bool:
    """Whether a picture's file is all there, as far as its form tells without decoding it."""
    return whole.is_whole(image)


def splits(path: Path) -> tuple[str, ...]:
    """The names of the parts of a published data set of pictures (train, test, ...); none where there are no parts."""
    return layouts.splits(path)


def _lines(path: Path) -> Iterator["Record"]:
    """One by one, so that a data set of pictures is in memory once."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for i, line in enumerate(file, start=1):
                if line.strip():
                    yield _record(line, f"{path.name} line {i}", path.parent)
    except UnicodeDecodeError as error:
        raise EngineError("bad_data", f"{path.name} is not valid UTF-8") from error
    except OSError as error:
        raise EngineError("bad_data", f"{path.name} cannot be read") from error


def _distinct(records: tuple[Record, ...], name: str) -> tuple[Record, ...]:
    if len({record.record_id for record in records}) != len(records):
        raise EngineError("bad_data", f"{name} holds two records with the same record_id")
    return records


def read_mapping(path: Path) -> dict[str, str]:
    """A JSON object of texts by name; `EngineError("bad_data")` for anything else, and for an empty one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError("bad_data", f"{path.name} is missing or is not valid JSON") from error
    if not isinstance(value, dict) or not value or not all(isinstance(v, str) and v for v in value.values()):
        raise EngineError("bad_data", f"{path.name} must be a JSON object whose values are texts that are not empty")
    return value


def refuse_overlap(sets: Mapping[str, Sequence[Record]]) -> None:
    """Refuse a record that stands in two sets: by its id, or word for word for the same person. Others may say it."""
    seen: dict[str, str] = {}
    for name, records in sets.items():
        for record in records:
            content = record.to_mapping()
            identity = content.pop("record_id")
            for key in (f"id {identity}", json.dumps(content, sort_keys=True)):
                if seen.setdefault(key, name) != name:
                    raise EngineError(
                        "bad_data", f"the {seen[key]} and {name} sets share a record; take it out of one of them"
                    )


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records so that equal records give equal bytes."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record.to_mapping(), ensure_ascii=False, sort_keys=True) + "\n")


def digest(records: Sequence[Record]) -> str:
    """SHA-256 (hex) of the records in canonical form; order counts, layout of the file does not."""
    hasher = hashlib.sha256()
    for record in records:
        hasher.update(json.dumps(record.to_mapping(), sort_keys=True, separators=(",", ":")).encode())
        hasher.update(b"\n")
    return hasher.hexdigest()


def by_unit(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records grouped by data subject, both in order of first appearance."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.unit, []).append(record)
    return groups


def passages(records: Iterable[Record]) -> list[Record]:
    """The records that are passages."""
    return [record for record in records if record.text is not None]


def questions(records: Iterable[Record]) -> list[Record]:
    """The records that are questions with answers."""
    return [record for record in records if record.question is not None]


def _record(line: str, where: str, root: Path) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EngineError("bad_data", f"{where} is not valid JSON") from error
    if not isinstance(value, dict):
        raise EngineError("bad_data", f"{where} is not a JSON object")
    fields = _strings(value, where)
    for name in ("record_id", "unit"):
        if not fields.get(name):
            raise EngineError("bad_data", f"{where} needs a {name}")
    try:
        return Record(**(pictures.with_image(fields, root) if "file" in fields else fields))
    except EngineError as error:
        raise EngineError("bad_data", f"{where}: {error.message}") from None


def _strings(value: Mapping[str, Any], where: str) -> dict[str, str]:
    if not set(value) <= KEYS:
        raise EngineError("bad_data", f"{where} has a field that is none of: {', '.join(sorted(KEYS))}")
    if not all(isinstance(item, str) for item in value.values()):
        raise EngineError("bad_data", f"{where} has a field that is not a text")
    return dict(value)
