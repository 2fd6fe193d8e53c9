"""Tools of an operator who cheats with every key: a log changed, and a report made to follow from it.

Each cheat is as consistent as such an operator can make it: the log is written, signed and cut into an excerpt anew.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import rfc8785

from audits import approval, bundle, log, register, statement, tiles, verify
from audits.keys import key_id
from audits.predicate import Predicate
from audits.strict import load_json
from tests.audits.bundles import AT, ORIGIN, Desk, hex_digest, raw_payload, signing_key, write
from tests.audits.story import BATCH, DECIDED, commitment

Entries = list[bytes]
APPROVER, STRANGER = signing_key("approver", 5), signing_key("approver", 6)
DAY = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class Told:
    """A bundle, and the log that it came out of."""

    desk: Desk
    files: dict[str, bytes]
    entries: Entries

    def first_failure(self, folder: Path, **given: Any) -> str:  # noqa: ANN401 - what `verify` takes
        """The name of the first step that fails, or an empty text."""
        found = verify.verify(write(folder / "bundle", self.files), self.desk.policy(), **given)
        return next((one.name for one in found.steps if not one.ok), "")

    def mirror(self, folder: Path) -> Path:
        """A copy of the log."""
        whole = log.Log(origin=ORIGIN, entries=self.entries)
        tiles.write_tiles(folder, self.entries, self.desk.sign_checkpoint(whole))
        return folder


def entry(type: str, at: str = AT, **data: Any) -> bytes:  # noqa: A002, ANN401 - an entry's own words
    """An entry that a cheat adds."""
    return log.entry(type=type, at=at, salt="f" * 32, data=data)


def index_of(entries: Sequence[bytes], type: str, **data: Any) -> int:  # noqa: A002, ANN401 - an entry's own words
    """The last entry that says this."""
    parsed = list(enumerate(map(log.parse_entry, entries)))
    return next(i for i, one in reversed(parsed) if one.type == type and {**one.data, **data} == one.data)


def told(
    desk: Desk,
    *,
    log_: Callable[[Entries], None] = lambda _: None,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Told:
    """The bundle of an operator who changed the log, made the report follow from it, and then changed that, too."""
    value = cast("dict[str, Any]", copy.deepcopy(desk.predicate()))
    entries = desk.entries()
    log_(entries)
    value["plan"]["logIndex"] = index_of(entries, "batch.planned", batchId="batch-41")
    for attempt in value["attempts"]:
        attempt["logIndex"] = index_of(entries, "attempt.finished", attemptId=attempt["attemptId"])
    value["requestBatch"]["ledgerRange"]["to"] = len(entries)
    if desk.second:
        start = index_of(entries, log.REPORT_LOGGED, reportDigest=hex_digest("earlier report"))
        value["requestBatch"]["ledgerRange"]["from"] = start
    size = index_of(entries, "attempt.weights_fixed", attemptId="attempt-2") + 1
    reseed(value, size, log.Log(origin=ORIGIN, entries=entries).root(size))
    report(value)
    predicate = cast("Predicate", value)
    payload = raw_payload(predicate)
    whole = [*entries, desk.logged(predicate, payload)]
    files = desk.assemble(predicate, payload, entries=whole, report=len(entries), key=0)
    return Told(desk, files, whole)


def reseed(value: dict[str, Any], size: int, root: bytes) -> None:
    """The seed that follows from a checkpoint."""
    value["evidence"]["seedCheckpoint"] = {"size": size, "root": root.hex()}
    value["evidence"]["seed"] = str(log.evaluation_seed(size=size, root=root))


def replaced(new: bytes, type: str, **data: Any) -> Callable[[Entries], None]:  # noqa: A002, ANN401 - as above
    """A change of one entry."""

    def edit(entries: Entries) -> None:
        entries[index_of(entries, type, **data)] = new

    return edit


def added(*new: bytes) -> Callable[[Entries], None]:
    """Entries just before the report's own."""
    return lambda entries: entries.extend(new)


def inserted(where: int, *new: bytes) -> Callable[[Entries], None]:
    """Entries at an index, older than the others or as old as they."""

    def edit(entries: Entries) -> None:
        entries[where:where] = new

    return edit


def moved(before: str, type: str, **data: Any) -> Callable[[Entries], None]:  # noqa: A002, ANN401 - as above
    """One entry dated and put where the next one of another type begins."""

    def edit(entries: Entries) -> None:
        parsed = log.parse_entry(entries.pop(index_of(entries, type, **data)))
        where = index_of(entries, before)
        at = log.parse_entry(entries[where]).at
        entries.insert(where, entry(parsed.type, at, **parsed.data))

    return edit


def account(request_id: str, state: str | None) -> Callable[[dict[str, Any]], None]:
    """Another state of a request in the report; None leaves the request out."""

    def edit(value: dict[str, Any]) -> None:
        rest = [one for one in value["requestBatch"]["accounted"] if one["requestId"] != request_id]
        more = [] if state is None else [{"requestId": request_id, "state": state}]
        value["requestBatch"]["accounted"] = rest + more

    return edit


def put(*path: str | int, to: object) -> Callable[[dict[str, Any]], None]:
    """Another value of one field of the report."""

    def edit(value: Any) -> None:  # noqa: ANN401 - any JSON value
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to

    return edit


def hidden_failure(value: dict[str, Any]) -> None:
    """The report tells of the attempt that went well, and of no other."""
    del value["attempts"][0]


def seed_of_another_log(value: dict[str, Any]) -> None:
    """A seed that follows from a checkpoint, which this log never had."""
    reseed(value, value["evidence"]["seedCheckpoint"]["size"], b"\7" * 32)


def called(approvals: str) -> Callable[[dict[str, Any]], None]:
    """What the report calls its approvals, with the limits that go with it."""

    def edit(value: dict[str, Any]) -> None:
        value["requestBatch"]["approvals"] = approvals
        value["limits"] = ["Nothing is certain."] + ([statement.UNSIGNED] if approvals == "unsigned" else [])

    return edit


def attempt(number: int, batch: str = "batch-41", at: str = AT) -> tuple[bytes, bytes]:
    """One more attempt, which failed."""
    name = f"attempt-{number}"
    started = entry("attempt.started", at, attemptId=name, batchId=batch, runId="run-1", epoch=1, rung="npo")
    facts: dict[str, Any] = {
        "outcome": "gates_failed",
        "code": "gates-failed",
        "evidenceDigest": None,
        "weightsDigest": None,
    }
    return started, entry("attempt.finished", at, attemptId=name, **facts, gates=[])


def signed_by(key: Any, request_id: str = BATCH[0]) -> bytes:  # noqa: ANN401 - a signing key
    """An approval of a request of the batch."""
    raw = approval.statement(request_id=request_id, commitment=commitment(request_id), approved_at=DECIDED)
    return entry(approval.REQUEST_APPROVED, DECIDED, **approval.sign(raw, key))


def revoked(key: Any, role: Any, at: str = AT) -> bytes:  # noqa: ANN401 - a signing key and its role
    """The end of a key."""
    gone = register.revocation(key_id=key_id(key.public_key), role=role, reason="compromised")
    return entry(register.KEY_REVOKED, at, **gone)


def other_report(digest: str) -> bytes:
    """The entry of another report."""
    return entry(log.REPORT_LOGGED, reportId="report-x", reportDigest=digest, keyId=Desk().report_key.key_id)


OTHER = hex_digest("another report")
NOTHING = entry("model.checked", DECIDED, modelId="model-1")
SIGNED = Desk(approver_key=APPROVER)


def without(files: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> dict[str, bytes]:
    """A bundle with a change of its excerpt, in the form that excerpts have."""
    value = load_json(files[bundle.LEDGER])
    change(value)
    return {**files, bundle.LEDGER: rfc8785.dumps(value)}
