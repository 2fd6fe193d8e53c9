"""Which training records does a request concern, and why.

A request of the scope `class` or `domain` concerns every picture of the class or domain that it names, whosever
they are. One of the scope `records` finds a person's in three ways, and each match says which: the subject field's
keyed tag equals the tag of one of the person's identifiers (`subject-field`), the text names the person
(`text:name`, `text:email`, `text:identifier`), or the person gave the id of a record that is said to be nobody's
(`record-id`), as pictures of a folder are. A scan of the text can name somebody else of the same name, and an id
can be somebody else's, so an operator approves. Matching proposes; it removes nothing.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from compliance.ledger.ledger import Ledger
from compliance.ledger.vault import Vault
from compliance.ledger.views import MatchView, RequestView, Subject
from compliance.registry import normalise, subject_tag, unit_of
from compliance.store import Store
from engine.corpus import Record

KINDS = ("class", "domain")
SHORTEST_NAME = 5  # a shorter name ("Li", "Bo") occurs inside ordinary prose and must be found by other means


def match_request(
    ledger: Ledger, store: Store, vault: Vault, *, request_id: str, ids: Callable[[], str], now: datetime
) -> RequestView:
    """Find and record a verified request's matches, and one item a model trained on them."""
    subject, scope = ledger.open_subject(request_id), ledger.request(request_id).scope
    matches: list[MatchView] = []
    items: list[tuple[str, str, str]] = []
    for dataset in ledger.datasets():
        models = ledger.models(dataset_id=dataset.id)
        if not models:
            continue
        records = store.records(dataset.id)
        if scope in KINDS:
            reasons = set(of_kind(records, scope=scope, target=subject.target))
        else:
            reasons = _of_person(ledger, vault, dataset.id, records, subject)
        found = [MatchView(dataset_id=dataset.id, record_id=one, reason=reason) for one, reason in sorted(reasons)]
        matches += found
        if found:
            items += [(ids(), model.id, dataset.id) for model in models]
    return ledger.record_matches(request_id=request_id, matches=matches, items=items, now=now)


def scan(records: Sequence[Record], subject: Subject) -> Iterator[tuple[str, str]]:
    """(record id, reason) for every record whose text holds one of the person's identifiers."""
    patterns = [(reason, _pattern(term)) for reason, term in _terms(subject)]
    for record in records:
        text = normalise(" ".join(part for part in (record.text, record.question, record.answer) if part))
        for reason, pattern in patterns:
            if pattern.search(text):
                yield record.record_id, reason


def unowned(records: Sequence[Record], subject: Subject) -> Iterator[tuple[str, str]]:
    """(record id, reason) for every record without a subject whose id is one of the person's identifiers."""
    given = {normalise(identifier) for identifier in subject.identifiers}
    for record in records:
        if record.unit == unit_of(record) and normalise(record.record_id) in given:
            yield record.record_id, "record-id"


def of_kind(records: Sequence[Record], *, scope: str, target: str) -> Iterator[tuple[str, str]]:
    """(record id, reason) for every picture of the class or domain (`scope`) of this name, in any spelling of it."""
    wanted = normalise(target)
    for record in records:
        kind = _kind(record, scope)
        if kind is not None and normalise(kind) == wanted:
            yield record.record_id, scope


def kinds(ledger: Ledger, store: Store, *, scope: str) -> list[tuple[str, str, int]]:
    """(data set, class or domain, records) of everything that models learned from: what a request can name.

    For the operator alone: a class can be a person's name.
    """
    found = []
    for dataset in ledger.datasets():
        if ledger.models(dataset_id=dataset.id):
            counts = Counter(_kind(record, scope) for record in store.records(dataset.id))
            found += [(dataset.name, kind, n) for kind, n in counts.items() if kind is not None]
    return sorted(found)


def _kind(record: Record, scope: str) -> str | None:
    return record.label if scope == "class" else record.domain


def _of_person(
    ledger: Ledger, vault: Vault, dataset_id: str, records: Sequence[Record], subject: Subject
) -> set[tuple[str, str]]:
    identifiers = (subject.email, subject.name, *subject.identifiers)
    tags = [subject_tag(vault, identifier) for identifier in identifiers if identifier.strip()]
    found = {(r.record_id, "subject-field") for r in ledger.records_of(dataset_id=dataset_id, subject_tags=tags)}
    found.update(scan(records, subject))
    found.update(unowned(records, subject))
    return found


def _terms(subject: Subject) -> Iterator[tuple[str, str]]:
    named = [("text:name", subject.name), ("text:email", subject.email)]
    for reason, raw in named + [("text:identifier", identifier) for identifier in subject.identifiers]:
        term = normalise(raw)
        if len(term) >= SHORTEST_NAME:
            yield reason, term


def _pattern(term: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(term)}(?!\w)")
