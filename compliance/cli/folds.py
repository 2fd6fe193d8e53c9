"""What a series forgets: four folds of records, disjoint, and what stays after each. No engine is needed here.

Folds come from one file that is cut by unit (whole people, in an order drawn with the seed), from four files, or from
a folder in MUSE's layout: `sust/forget_1..4.json`, disjoint lists of texts, or `scal/forget_1..4.json`, where each
list holds the one before it. MUSE does not say who a text is about, so each is a unit of its own.
"""

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from compliance.errors import InvalidInputError
from engine.corpus import Record, by_unit, digest, read_records

STEPS = 4

Records = tuple[Record, ...]
Folds = tuple[Records, ...]
NUMBERS = range(1, STEPS + 1)


def read(path: Path) -> Records:
    """JSON lines of records, or (`.json`) a list of texts as MUSE has them."""
    if path.suffix != ".json":
        return read_records(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        values = None
    if not isinstance(values, list) or not values or not all(isinstance(value, str) and value for value in values):
        raise InvalidInputError(f"{path.name} must hold a JSON list of texts that is not empty", code="bad-texts")
    return tuple({record.record_id: record for record in map(_text, values)}.values())


def cut(records: Sequence[Record], *, seed: int) -> Folds:
    """One forget set in four folds of whole units, as equal in units as they can be."""
    groups = by_unit(records)
    if len(groups) < STEPS:
        message = f"the forget set has {len(groups)} units; a series of {STEPS} steps needs at least {STEPS}"
        raise InvalidInputError(message, code="too-few-units")
    units = list(groups)
    random.Random(seed).shuffle(units)  # noqa: S311 - repeatable by design
    return tuple(tuple(record for unit in units[i::STEPS] for record in groups[unit]) for i in range(STEPS))


def from_muse(folder: Path, series: str) -> Folds:
    """The folds of a MUSE folder for `scalability` or `sustainability`; nested lists become what each step adds."""
    kind = {"scalability": "scal", "sustainability": "sust"}[series]
    lists = [read(folder / kind / f"forget_{i}.json") for i in NUMBERS]
    return lists_apart(lists) if kind == "scal" else tuple(lists)


def lists_apart(lists: Sequence[Records]) -> Folds:
    """What each of some nested lists adds to the one before it."""
    added: list[Records] = []
    before: set[str] = set()
    for i, records in enumerate(lists, start=1):
        now = {record.record_id for record in records}
        if not before < now:
            message = f"scal/forget_{i}.json must hold every text of the list before it, and more"
            raise InvalidInputError(message, code="not-nested")
        added.append(tuple(record for record in records if record.record_id not in before))
        before = now
    return tuple(added)


def check_disjoint(folds: Folds) -> None:
    """Refuse folds that are empty or share a record, by id or by content."""
    for name, of in (("record_id", _identity), ("content", _content)):
        seen: set[str] = set()
        for i, fold in enumerate(folds, start=1):
            own = {of(record) for record in fold}
            if not own:
                raise InvalidInputError(f"fold {i} is empty; every step must forget something", code="empty-fold")
            if own & seen:
                raise InvalidInputError(f"fold {i} shares a {name} with an earlier fold", code="overlapping-folds")
            seen |= own


def forgotten(folds: Folds, step: int) -> Records:
    """Everything that is forgotten by the end of a step (1 is the first)."""
    return tuple(record for fold in folds[:step] for record in fold)


def staying(retain: Sequence[Record], folds: Folds, step: int) -> Records:
    """What stays at a step: the retain set and the later folds, without anything ever forgotten."""
    gone = forgotten(folds, step)
    ids, contents = _all(gone, _identity), _all(gone, _content)
    later = [record for fold in folds[step:] for record in fold]
    kept = {
        record.record_id: record
        for record in [*retain, *later]
        if record.record_id not in ids and _content(record) not in contents
    }
    if not kept:
        raise InvalidInputError("no retain record is left beside what is forgotten", code="empty-retain")
    return tuple(kept.values())


def described(records: Sequence[Record]) -> dict[str, object]:
    """A set of records as evidence names it: how many, about how many units, and their digest."""
    return {"records": len(records), "units": len(by_unit(records)), "digest": digest(records)}


def _text(value: str) -> Record:
    name = f"text-{hashlib.sha256(value.encode()).hexdigest()[:24]}"
    return Record(record_id=name, unit=name, text=value)


def _identity(record: Record) -> str:
    return record.record_id


def _content(record: Record) -> str:
    return json.dumps([record.text, record.question, record.answer])


def _all(records: Iterable[Record], of: Callable[[Record], str]) -> set[str]:
    return {of(record) for record in records}
