"""What a log's entries say about one batch and its report, folded in the order of the log.

A `History` takes in entries up to the report's own, of an excerpt or of the whole log; `claims` holds the report
against it. It knows the entries' types and fields, and judges nothing but their form and their order in time:

* clocks are allowed `SKEW`: no entry may be dated further than that before one that precedes it;
* a field that an entry of a known type must have is there and is text;
* the first entry about a request is the one that records it, where it is shown, and none moves it once it has ended.

Entries of other types are of no interest here and pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from audits import approval, log
from audits.errors import require
from audits.register import Register

SKEW = timedelta(minutes=10)
FINAL = frozenset({"fulfilled", "fulfilled_in_part", "denied", "no_match", "withdrawn", "expired", "duplicate"})
RECEIVED, STATE, ITEM, PLANNED = "request.received", "request.state", "item.state", "batch.planned"
STARTED, FIXED, FINISHED = "attempt.started", "attempt.weights_fixed", "attempt.finished"
PUBLISHED = "version.published"
_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class At:
    """An entry and its index."""

    index: int
    entry: log.Entry

    @property
    def time(self) -> datetime:
        """When the entry says that it was made."""
        return log.parse_time(self.entry.at)

    def text(self, name: str) -> str:
        """A field of the entry's data."""
        value = self.entry.data.get(name)
        require(isinstance(value, str), f"Entry {self.index} of the log, {self.entry.type}, lacks {name}.")
        return str(value)


@dataclass(kw_only=True, slots=True)
class Attempts:
    """What the log says of a batch's attempts, by attempt."""

    started: dict[str, At] = field(default_factory=dict)
    fixed: dict[str, At] = field(default_factory=dict)
    finished: dict[str, At] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class History:
    """What the entries so far say. `whole` says that none is missing; `since` is where the report's range begins."""

    batch_id: str
    plan: int
    since: int
    whole: bool
    register: Register = field(default_factory=Register)
    received: dict[str, str] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    moved: set[str] = field(default_factory=set)
    open_before: set[str] = field(default_factory=set)
    planned_as: dict[str, str] = field(default_factory=dict)
    approved: dict[str, int] = field(default_factory=dict)
    signed: dict[str, At] = field(default_factory=dict)
    plans: list[At] = field(default_factory=list)
    batches: dict[str, str] = field(default_factory=dict)
    queued: set[str] = field(default_factory=set)
    elsewhere: list[At] = field(default_factory=list)
    late: list[At] = field(default_factory=list)
    attempts: Attempts = field(default_factory=Attempts)
    strays: list[At] = field(default_factory=list)
    reports: list[At] = field(default_factory=list)
    published: set[str] = field(default_factory=set)
    versions: dict[tuple[str, int], At] = field(default_factory=dict)
    latest: datetime = _BEGINNING
    reached: bool = False

    def apply(self, index: int, entry: log.Entry) -> None:
        """Take in the next entry; `VerificationError` when it contradicts what came before."""
        at = At(index, entry)
        self.keep_time(index, entry)
        if not self.reached and index >= self.since:
            self.reached = True
            self.open_before = {one for one, state in self.states.items() if state not in FINAL}
        self.register.apply(index, entry)
        take = _TAKEN.get(entry.type)
        if take is not None:
            take(self, at)

    def keep_time(self, index: int, entry: log.Entry) -> None:
        """Refuse an entry dated before its predecessors by more than clocks may differ."""
        time = log.parse_time(entry.at)
        require(self.latest - time <= SKEW, f"Time runs backwards in the log: entry {index} is dated {entry.at}.")
        self.latest = max(self.latest, time)

    def state(self, request_id: str) -> str | None:
        """The state that a request's last entry gives; None when none was seen."""
        return self.states.get(request_id)

    def _received(self, at: At) -> None:
        request_id = at.text("requestId")
        require(request_id not in self.received, f"Entry {at.index} records a request that is in the log already.")
        # Otherwise ids that were approved in advance, before any approver's key, could be given out one by one.
        first = request_id not in self.states
        require(first, f"Entry {at.index} records a request that an older entry is about.")
        self.received[request_id] = at.text("commitment")
        self._moved(at, request_id, "received")

    def _state(self, at: At) -> None:
        request_id, state = at.text("requestId"), at.text("state")
        self._moved(at, request_id, state)
        if state == "approved" and at.index < self.plan:
            self.approved.setdefault(request_id, at.index)

    def _moved(self, at: At, request_id: str, state: str) -> None:
        ended = self.states.get(request_id) in FINAL
        require(not ended, f"Entry {at.index} moves a request that had ended: what was decided then would count again.")
        self.states[request_id] = state
        if at.index < self.plan:
            self.planned_as[request_id] = state
        if at.index >= self.since:
            self.moved.add(request_id)

    def _signed(self, at: At) -> None:
        if at.index < self.plan:
            self.signed[at.text("requestId")] = at

    def _item(self, at: At) -> None:
        if at.text("state") != "queued":
            return
        if at.entry.data.get("batchId") != self.batch_id:
            self.elsewhere.append(at)
            return
        self.queued.add(at.text("requestId"))
        if self.attempts.started:
            self.late.append(at)

    def _planned(self, at: At) -> None:
        self.batches[at.text("batchId")] = at.text("modelId")
        if at.text("batchId") == self.batch_id:
            self.plans.append(at)

    def _started(self, at: At) -> None:
        if at.text("batchId") == self.batch_id:
            _once(self.attempts.started, at)
        elif at.text("batchId") not in self.batches:
            self.strays.append(at)

    def _fixed(self, at: At) -> None:
        if at.text("attemptId") in self.attempts.started:
            _once(self.attempts.fixed, at)

    def _finished(self, at: At) -> None:
        if at.text("attemptId") in self.attempts.started:
            _once(self.attempts.finished, at)

    def _report(self, at: At) -> None:
        at.text("reportDigest")
        self.reports.append(at)

    def _published(self, at: At) -> None:
        if at.entry.data.get("reportDigest") is not None:
            self.published.add(at.text("reportDigest"))
        number = at.entry.data.get("number")
        if isinstance(number, int):
            self.versions.setdefault((at.text("modelId"), number), at)


_TAKEN: Mapping[str, Any] = {
    RECEIVED: History._received,  # noqa: SLF001 - the class's own dispatch
    STATE: History._state,  # noqa: SLF001
    approval.REQUEST_APPROVED: History._signed,  # noqa: SLF001
    ITEM: History._item,  # noqa: SLF001
    PLANNED: History._planned,  # noqa: SLF001
    STARTED: History._started,  # noqa: SLF001
    FIXED: History._fixed,  # noqa: SLF001
    FINISHED: History._finished,  # noqa: SLF001
    log.REPORT_LOGGED: History._report,  # noqa: SLF001
    PUBLISHED: History._published,  # noqa: SLF001
}


def _once(known: dict[str, At], at: At) -> None:
    attempt_id = at.text("attemptId")
    require(attempt_id not in known, f"Entry {at.index} says {at.entry.type} of an attempt a second time.")
    known[attempt_id] = at
