"""Data sets and models by name: reading a user's file, refusing what was forgotten, lineage.

A user's data set is JSONL: each line has `text`, or `question` and `answer`; an optional `record_id`
(line numbers serve where there is none); and a subject field of the user's choosing. What is stored
carries only the keyed tag of the subject as `unit`; the subject field itself is not kept.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from compliance.errors import InvalidInputError
from compliance.ledger.ledger import Ledger
from compliance.ledger.vault import Vault
from compliance.ledger.views import RecordView
from compliance.store import Store
from engine.corpus import Record, digest

SHOWN_LINES = 5
RECORD_ID_MAX = 200
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a user's file: the record, and whose it is in clear (never stored, never shown)."""

    number: int
    record: Record
    subject: str | None


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


def content_tag(vault: Vault, record: Record) -> str:
    """The keyed hash of what a record says, whatever its id: it recognises a forgotten record."""
    parts = (record.text, record.question, record.answer)
    return vault.tag("record", normalise("\n".join(part for part in parts if part is not None)))


def read_lines(path: Path, *, subject_field: str) -> tuple[Line, ...]:
    """Parse a user's JSONL; InvalidInputError names the line and the fault, never its content."""
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
    lines = tuple(_line(number, text, subject_field) for number, text in texts)
    if not lines:
        message = f"{path.name} holds no record"
        raise InvalidInputError(message, code="empty-data-set")
    _refuse_duplicates(lines)
    return lines


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
    _refuse_forgotten(ledger, lines, views)
    records = [
        _stored(line.record, view.subject_tag or f"record:{line.record.record_id}")
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


def _stored(record: Record, unit: str) -> Record:
    return Record(
        record_id=record.record_id,
        unit=unit,
        text=record.text,
        question=record.question,
        answer=record.answer,
    )


def _refuse_forgotten(ledger: Ledger, lines: Sequence[Line], views: Sequence[RecordView]) -> None:
    tags = [tag for view in views for tag in (view.content_tag, view.subject_tag) if tag is not None]
    found = ledger.suppressed(tags)
    back = [
        line.number
        for line, view in zip(lines, views, strict=True)
        if view.content_tag in found or view.subject_tag in found
    ]
    if back:
        shown = ", ".join(map(str, back[:SHOWN_LINES])) + (", …" if len(back) > SHOWN_LINES else "")
        message = f"{len(back)} records were erased on request and may not come back (lines {shown}); remove them"
        raise InvalidInputError(message, code="suppressed-record")


def _refuse_duplicates(lines: Sequence[Line]) -> None:
    seen: dict[str, int] = {}
    for line in lines:
        first = seen.setdefault(line.record.record_id, line.number)
        if first != line.number:
            message = f"lines {first} and {line.number} have the same record_id; make record ids unique"
            raise InvalidInputError(message, code="duplicate-record-id")


def _line(number: int, text: str, subject_field: str) -> Line:
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
    fields = {"text": value.get("text"), "question": value.get("question"), "answer": value.get("answer")}
    return Line(number=number, record=_record(number, record_id, fields), subject=subject)


def _record(number: int, record_id: object, fields: dict[str, Any]) -> Record:
    passage = isinstance(fields["text"], str) and fields["question"] is None and fields["answer"] is None
    pair = fields["text"] is None and isinstance(fields["question"], str) and isinstance(fields["answer"], str)
    texts = [part for part in (record_id, *fields.values()) if isinstance(part, str)]
    if any(not _storable(part) for part in texts):
        message = f"line {number} has a character that cannot be stored (NUL or half a surrogate pair); remove it"
        raise InvalidInputError(message, code="bad-character")
    if isinstance(record_id, str) and len(record_id) > RECORD_ID_MAX:
        message = f"the record_id on line {number} has more than {RECORD_ID_MAX} characters; shorten it"
        raise InvalidInputError(message, code="long-record-id")
    if not isinstance(record_id, str) or not record_id or not (passage or pair):
        message = f"line {number} needs 'text', or 'question' and 'answer', as text (and a text 'record_id' if any)"
        raise InvalidInputError(message, code="missing-field")
    return Record(record_id=record_id, unit="unknown", **fields)


def _storable(text: str) -> bool:
    """Whether both databases and a UTF-8 file can hold the text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
