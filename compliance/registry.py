"""Data sets and models by name: reading a user's file, refusing what was forgotten, lineage.

A user's data set is JSONL: each line has `text`, or `question` and `answer`, or a picture; an optional `record_id`
(line numbers serve where there is none); and a subject field of the user's choosing. Pictures also come as a folder,
a published release or an .npz file (`compliance.pictures`). What is stored is JSONL with the picture inside, and
carries only the keyed tag of the subject as `unit`; the subject field itself is not kept. A data set holds texts or
pictures, and of pictures either all have a `domain` (photograph, sketch, ...) or none has.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from compliance import pictures
from compliance.errors import InvalidInputError
from compliance.ledger.ledger import Ledger
from compliance.ledger.vault import Vault
from compliance.ledger.views import DataSetView, RecordView
from compliance.store import Store
from engine.corpus import FORMS, Record, digest

SHOWN_LINES = 5
RECORD_ID_MAX = 200
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a user's file: the record, and whose it is in clear (never stored, never shown).

    `place` is how the user finds it where there are no lines: a file of a folder, a position among arrays.
    """

    number: int
    record: Record
    subject: str | None
    place: str = ""


def check_name(name: str) -> None:
    """InvalidInputError unless `name` can stand in a path and a report."""
    if not NAME.fullmatch(name):
        message = "a name has 1 to 64 letters, digits, '.', '_' or '-', and begins with a letter or digit"
        raise InvalidInputError(message, code="bad-name")


def normalise(identifier: str) -> str:
    """One spelling of an identifier: NFKC, case-folded, single spaces. Equal people get equal tags."""
    folded = unicodedata.normalize("NFKC", identifier).casefold()
    # Case folding can undo the normal form (U+0390 and others), so that once is not enough.
    return " ".join(unicodedata.normalize("NFKC", folded).casefold().split())


def subject_tag(vault: Vault, identifier: str) -> str:
    """The keyed hash under which a subject field is stored and found."""
    return vault.tag("subject", normalise(identifier))


def kind_tag(vault: Vault, scope: str, name: str) -> str:
    """The keyed hash by which a forgotten class or domain (`scope`) is recognised in every data set."""
    return vault.tag(scope, normalise(name))


def kind_tags(vault: Vault, record: Record) -> set[str]:
    """The tags of the class and of the domain that a record says it is of."""
    said = {"class": record.label, "domain": record.domain}
    return {kind_tag(vault, scope, name) for scope, name in said.items() if name is not None}


def content_tag(vault: Vault, record: Record) -> str:
    """The keyed hash of what a record says, whatever its id: it recognises a forgotten record.

    Of a picture it is what the file holds, whatever its label: a forgotten picture that was sorted anew is the same.
    """
    if record.image is not None:
        return vault.tag("picture", pictures.digest_of(record.image))
    parts = (record.text, record.question, record.answer)
    return vault.tag("record", normalise("\n".join(part for part in parts if part is not None)))


def read_lines(path: Path, *, subject_field: str, split: str | None = None) -> tuple[Line, ...]:
    """Parse a user's JSONL, folder, release or .npz file; InvalidInputError names the place and the fault, not content.

    `split` names the part of a published release of pictures that has several.
    """
    of_pictures = pictures.holds_pictures(path)
    if split is not None and not of_pictures:
        message = f"{path.name} has no parts; --split is for published data sets of pictures"
        raise InvalidInputError(message, code="no-parts")
    lines = tuple(_pictures(path, subject_field, split) if of_pictures else _lines(path, subject_field))
    if not lines:
        message = f"{path.name} holds no record"
        raise InvalidInputError(message, code="empty-data-set")
    _refuse_duplicates(lines)
    _refuse_mixture(lines)
    return lines


def _pictures(path: Path, subject_field: str, split: str | None) -> Iterator[Line]:
    records = pictures.read_pictures(path, subject_field=subject_field, split=split)
    for number, record in enumerate(records, start=1):
        place = pictures.place_of(path, number, record)
        subject = record.unit if subject_field else None
        if subject is not None and (not subject.strip() or not _storable(subject)):
            raise InvalidInputError(f"{place} has no '{subject_field}'; every picture needs one", code="missing-field")
        fields = {"image": record.image, "label": record.label}
        fields |= {} if record.domain is None else {"domain": record.domain}
        yield Line(number=number, record=_record(place, record.record_id, fields), subject=subject, place=place)


def _lines(path: Path, subject_field: str) -> Iterator[Line]:
    try:
        raw = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        number = path.read_bytes()[: error.start].count(b"\n") + 1
        message = f"line {number} of {path.name} is not valid UTF-8; save the file as UTF-8"
        raise InvalidInputError(message, code="not-utf-8") from None
    except OSError:
        message = f"{path.name} cannot be read; check the path"
        raise InvalidInputError(message, code="unreadable") from None
    texts = ((number, text) for number, text in enumerate(raw.split("\n"), start=1) if text.strip())
    return (_line(number, text, subject_field, path.parent) for number, text in texts)


def unit_of(record: Record) -> str:
    """The unit of a record that is said to be nobody's: itself."""
    return f"record:{record.record_id}"


def add_dataset(
    ledger: Ledger,
    store: Store,
    vault: Vault,
    *,
    dataset_id: str,
    name: str,
    lines: Sequence[Line],
    subject_field: str,
    now: datetime,
) -> None:
    """Register a data set and store its records; InvalidInputError when a forgotten record comes back."""
    views = [_view(vault, line) for line in lines]
    _refuse_forgotten(ledger, vault, lines, views)
    records = [
        replace(line.record, unit=view.subject_tag or unit_of(line.record))
        for line, view in zip(lines, views, strict=True)
    ]
    check_name(name)
    ledger.add_dataset(
        dataset_id=dataset_id, name=name, subject_field=subject_field, digest=digest(records), records=views, now=now
    )
    ledger.on_rollback(lambda: store.dataset_path(dataset_id).unlink(missing_ok=True))
    store.write_dataset(dataset_id, records)


def _view(vault: Vault, line: Line) -> RecordView:
    tag = None if line.subject is None else subject_tag(vault, line.subject)
    return RecordView(record_id=line.record.record_id, content_tag=content_tag(vault, line.record), subject_tag=tag)


def _refuse_forgotten(ledger: Ledger, vault: Vault, lines: Sequence[Line], views: Sequence[RecordView]) -> None:
    own = [{tag for tag in (view.content_tag, view.subject_tag) if tag is not None} for view in views]
    kinds = [kind_tags(vault, line.record) for line in lines]
    found = ledger.suppressed({tag for tags in (*own, *kinds) for tag in tags})
    back = [line for line, tags, more in zip(lines, own, kinds, strict=True) if (tags | more) & found]
    of_kind = any(tags & found for tags in kinds)
    why = "were erased on request" + (", or are of a class or domain that was," if of_kind else "")
    if back:
        shown = ", ".join(line.place or str(line.number) for line in back[:SHOWN_LINES])
        shown = ("" if back[0].place else "lines ") + shown + (", …" if len(back) > SHOWN_LINES else "")
        message = f"{len(back)} records {why} and may not come back ({shown}); remove them"
        raise InvalidInputError(message, code="suppressed-record")


def refuse_erased(ledger: Ledger, store: Store, vault: Vault, dataset: DataSetView) -> None:
    """InvalidInputError where a model would learn from what was erased after the data set was registered.

    A data set without a model is not searched for a request, and a model's holdout set is not either: no model learned
    from them. They become a way back only where a model is trained on them, which is refused here: for a person's
    records, for a class or domain, and for records that another model has still to forget.
    """
    gone = ledger.forgotten_ids(dataset.id)
    tags = {record.record_id: {record.unit, *kind_tags(vault, record)} for record in store.records(dataset.id)}
    found = ledger.suppressed({tag for own in tags.values() for tag in own})
    back = sum(record_id in gone or bool(own & found) for record_id, own in tags.items())
    if back:
        message = (
            f"{back} records of the data set '{dataset.name}' were erased on request, or are of a person, class or "
            "domain that was; no new model may learn from them"
        )
        raise InvalidInputError(message, code="suppressed-record")


def _refuse_duplicates(lines: Sequence[Line]) -> None:
    seen: dict[str, int] = {}
    for line in lines:
        first = seen.setdefault(line.record.record_id, line.number)
        if first != line.number:
            message = f"lines {first} and {line.number} have the same record_id; make record ids unique"
            raise InvalidInputError(message, code="duplicate-record-id")


def _refuse_mixture(lines: Sequence[Line]) -> None:
    first = lines[0].record.image is None
    other = next((line for line in lines if (line.record.image is None) != first), None)
    if other is not None:
        kinds = ("text", "picture") if first else ("picture", "text")
        message = (
            f"line {lines[0].number} is a {kinds[0]} and line {other.number} a {kinds[1]}; "
            "make two data sets of them, each for models of its kind"
        )
        raise InvalidInputError(message, code="mixed-data-set")
    _refuse_some_domains(lines)


def _refuse_some_domains(lines: Sequence[Line]) -> None:
    named = lines[0].record.domain is not None
    other = next((line for line in lines if (line.record.domain is not None) != named), None)
    if other is not None:
        one, two = (lines[0], other) if named else (other, lines[0])
        places = [line.place or f"line {line.number}" for line in (one, two)]
        message = f"{places[0]} has a domain and {places[1]} has none; name one for every picture, or for none"
        raise InvalidInputError(message, code="mixed-domains")


def _line(number: int, text: str, subject_field: str, root: Path) -> Line:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        message = f"line {number} is not valid JSON; write one JSON object a line"
        raise InvalidInputError(message, code="not-json") from None
    if not isinstance(value, dict):
        message = f"line {number} is not a JSON object; write one JSON object a line"
        raise InvalidInputError(message, code="not-an-object")
    subject = value.get(subject_field) if subject_field else None
    if subject_field and (not isinstance(subject, str) or not subject.strip() or not _storable(subject)):
        message = f"line {number} has no '{subject_field}'; every record needs the subject field as text"
        raise InvalidInputError(message, code="missing-field")
    record_id = value.get("record_id", f"line-{number}")
    fields = pictures.fields_of(value, f"line {number}", root) or {
        name: value[name] for name in ("text", "question", "answer") if value.get(name) is not None
    }
    return Line(number=number, record=_record(f"line {number}", record_id, fields), subject=subject)


def _record(place: str, record_id: object, fields: dict[str, Any]) -> Record:
    said = all(isinstance(part, str) for part in fields.values()) and frozenset(fields) in FORMS
    texts = [part for name, part in (("", record_id), *fields.items()) if isinstance(part, str) and name != "image"]
    if any(not _storable(part) for part in texts):
        message = f"{place} has a character that cannot be stored (NUL or half a surrogate pair); remove it"
        raise InvalidInputError(message, code="bad-character")
    if isinstance(record_id, str) and len(record_id) > RECORD_ID_MAX:
        message = f"the record_id on {place} has more than {RECORD_ID_MAX} characters; shorten it"
        raise InvalidInputError(message, code="long-record-id")
    if not isinstance(record_id, str) or not record_id or not said:
        message = (
            f"{place} needs 'text', or 'question' and 'answer', or 'file' and 'label', as text "
            "(and a text 'record_id' if any)"
        )
        raise InvalidInputError(message, code="missing-field")
    return Record(record_id=record_id, unit="unknown", **fields)


def _storable(text: str) -> bool:
    """Whether both databases and a UTF-8 file can hold the text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
