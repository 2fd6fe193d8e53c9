"""What a report claims about the log, held against the log's entries.

Each check takes what the entries say (`Shown`, of an excerpt or of the whole log) and the report, and returns one
sentence or raises `VerificationError` with what does not agree. What an excerpt can't show is said and passed: requests
that were open before its first entry, keys revoked earlier. Over the whole log nothing is passed.

The rules (compliance threats 1, 3, 4, 8, 9):

* the report's range ends at its own entry and begins at the report before it, so ranges follow without a gap; every
  report logged in between is named as one that had not been published;
* every request that was open at some time in the range is accounted for, with the state that its last entry gives;
* the batch's requests were queued before its first attempt, and for no other batch of this model;
* they stood approved when the plan was logged; where an approver's key was in force, by its signature;
* the model before, and every earlier version that is told of, is one that the log published under that number;
* the plan's entry fixes ladder, reference and gates of the report's policy;
* the attempts are all those that were started for the batch, ended as reported; the weights were fixed before the
  checkpoint that gave the seed, and that checkpoint is one of this very log;
* times of the report are those of its entries, and of the witnesses' cosignatures, within `SKEW`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from audits import approval, keys, log, statement
from audits.errors import VerificationError, require
from audits.history import FINAL, SKEW, At, History
from audits.predicate import Attempt, Predicate

LONGEST_UNWITNESSED = timedelta(days=1)
_SHOWN = 3
_DIGITS = 16
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_LATEST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What the entries up to the report's own, at `index`, say; `root_at` is the root at a size, where it is known."""

    history: History
    index: int
    at: str
    root_at: Callable[[int], bytes | None]

    @property
    def reach(self) -> str:
        """How far this goes, for sentences."""
        return "in the whole log" if self.history.whole else "as far as the excerpt shows"


def show(
    entries: Iterable[tuple[int, log.Entry]],
    predicate: Predicate,
    *,
    index: int,
    root_at: Callable[[int], bytes | None],
    whole: bool,
) -> Shown:
    """Fold the entries up to `index`, the report's own; of those after it, only that time does not run backwards.

    They come in the order of the log.
    """
    history = History(
        batch_id=predicate["requestBatch"]["batchId"],
        plan=predicate["plan"]["logIndex"],
        since=predicate["requestBatch"]["ledgerRange"]["from"],
        whole=whole,
    )
    at = ""
    for position, entry in entries:
        if position <= index:
            history.apply(position, entry)
            at = entry.at
        else:
            history.keep_time(position, entry)
    return Shown(history=history, index=index, at=at, root_at=root_at)


def key_validity(shown: Shown, public_key: bytes, log_keys: Iterable[bytes]) -> str:
    """The report's key was in force at the report's entry, and so was one of the checkpoint's signers, `log_keys`."""
    register = shown.history.register
    found = register.valid(keys.key_id(public_key), "report", shown.index)
    gone = [register.revoked(keys.key_id(one), shown.index) for one in log_keys]
    require(None in gone, "The checkpoint is signed by a log key that an entry under it revokes.")
    return (
        f"The report key, registered by entry {found.index}, was not revoked before entry {shown.index}, {shown.reach}."
    )


def earlier_reports(shown: Shown, predicate: Predicate) -> str:
    """The report follows the one before it without a gap."""
    history, span = shown.history, predicate["requestBatch"]["ledgerRange"]
    require(span["to"] == shown.index, "The ledger range does not end at the report's own entry.")
    earlier = [one for one in history.reports if one.index < shown.index]
    previous = predicate["previousReportDigest"]
    if previous is None:
        require(span["from"] == 0, "The ledger range begins after the log, and no earlier report is named.")
    else:
        named = any(one.index == span["from"] and one.text("reportDigest") == previous for one in earlier)
        require(named, "The ledger range does not begin at the entry of the previous report.")
        require(previous in history.published, "The previous report that is named was never published.")
    inside = [one for one in earlier if one.index > span["from"] or previous is None]
    skipped = [one for one in inside if one.text("reportDigest") in history.published]
    require(not skipped, f"The report of entry {_first(skipped)} was published in between, and is not named.")
    dropped = [one.text("reportDigest") for one in inside]
    told = predicate["unpublishedReports"]
    require(dropped == told, "The log holds other unpublished reports in the range than the report names.")
    _require_versions(history, predicate)
    after = "the first one" if previous is None else f"after the one of entry {span['from']}"
    return f"It is {after}; {len(told)} other(s) were logged in its range and not published."


def _require_versions(history: History, predicate: Predicate) -> None:
    """The model before and the earlier versions are those that the log published under these numbers."""
    model = predicate["model"]
    told = [(model["before"]["version"], "digest", model["before"]["digest"])]
    told += [(one["version"], "reportDigest", one["reportDigest"]) for one in predicate.get("history", [])]
    for number, name, value in told:
        logged = history.versions.get((model["modelId"], number))
        require(logged or not history.whole, f"The log never published version {number} of this model.")
        agree = logged is None or logged.entry.data.get(name) == value
        require(agree, f"Version {number} of the model is another one by the log.")


def requests(shown: Shown, predicate: Predicate) -> str:
    """Every request of the range is accounted for as it stands, and the batch is of those that were queued for it."""
    history, batch = shown.history, predicate["requestBatch"]
    accounted = {one["requestId"]: one["state"] for one in batch["accounted"]}
    missing = sorted(history.moved - accounted.keys())
    require(not missing, f"The log's range is about request(s) that are not accounted for: {_few(missing)}.")
    if history.whole:
        left = sorted(history.open_before - accounted.keys())
        require(not left, f"Request(s) open since before the range are not accounted for: {_few(left)}.")
    unseen = 0
    for request_id, state in accounted.items():
        known = history.state(request_id)
        if known is None:
            require(not history.whole, f"Request {request_id} is accounted for, and the log does not know it.")
            unseen += 1
            continue
        require(known == state, f"Request {request_id} is '{known}' by the log, and '{state}' by the report.")
        ended = request_id not in history.moved and known in FINAL
        require(not ended, f"Request {request_id} had ended before the range, and is accounted for.")
    _require_batch(history, predicate)
    note = f" {unseen} of them have no entry in the excerpt." if unseen else ""
    return f"All {len(accounted)} accounted for are as the log has them, {shown.reach}.{note}"


def _require_batch(history: History, predicate: Predicate) -> None:
    batch = predicate["requestBatch"]
    accounted = {one["requestId"] for one in batch["accounted"]}
    require(history.queued <= accounted, "A request that was queued for the batch is not accounted for.")
    _require_once(history, predicate["model"]["modelId"])
    late = f"The request of entry {_first(history.late)} was queued for the batch after its first attempt."
    require(not history.late, late)
    count = len(history.queued)
    require(count == batch["requests"], f"The log queued {count} request(s) for the batch, not {batch['requests']}.")
    unknown = sorted(history.queued - history.received.keys())
    require(not unknown, f"The entries that recorded the batch's request(s) are not shown: {_few(unknown)}.")
    try:
        root = log.commitment_root(bytes.fromhex(history.received[one]) for one in history.queued)
    except ValueError as fault:
        raise VerificationError("A request's commitment in the log is not in hex.") from fault
    agree = root.hex() == batch["commitmentRoot"]
    require(agree, "The batch's commitments are not those of the requests that were queued for it.")


def _require_once(history: History, model_id: str) -> None:
    """A request is in one batch of a model: a second one would leave the first one's failures out of its report."""
    others = [one for one in history.elsewhere if one.text("requestId") in history.queued]
    again = [one for one in others if history.batches.get(str(one.entry.data.get("batchId"))) == model_id]
    why = f"The request of entry {_first(again)} was queued for another batch of this model, too."
    require(not again, why)


def approvals(shown: Shown, predicate: Predicate) -> str:
    """Each request of the batch was approved before the plan, and signed where a key for that was in force."""
    signed = [_signed(shown.history, one) for one in sorted(shown.history.queued)]
    told, found = predicate["requestBatch"]["approvals"], "signed" if all(signed) else "unsigned"
    require(told == found, f"The report calls its approvals {told}, and by the log they are {found}.")
    if found == "signed":
        by = {shown.history.signed[one].text("keyId")[:_DIGITS] for one in shown.history.queued}
        keys_of = ", ".join(sorted(by))
        return f"All {len(signed)} request(s) were approved before the plan, by signatures of approvers ({keys_of})."
    return (
        f"unsigned: {len(signed)} request(s) were approved before the plan, {sum(signed)} of them by an approver's "
        f"signature; no approver's key was in force for the others, {shown.reach}."
    )


def _signed(history: History, request_id: str) -> bool:
    """Whether a request's approval is signed; `VerificationError` when it must be, or is there and does not hold."""
    approved, statement = history.approved.get(request_id), history.signed.get(request_id)
    if approved is None:
        raise VerificationError(f"Request {request_id} was not approved before the plan, or this is not shown.")
    stood = history.planned_as[request_id]
    require(stood == "approved", f"Request {request_id} was approved, and '{stood}' when the plan was logged.")
    if statement is None:
        in_force = history.register.in_force("approver", approved)
        unsigned = f"Request {request_id} was approved without a signature, when an approver's key was in force."
        require(not in_force, unsigned)
        return False
    key = history.register.valid(statement.text("keyId"), "approver", statement.index)
    commitment = history.received[request_id]
    approval.verify(statement.entry.data, key.public_key, request_id=request_id, commitment=commitment)
    return True


def attempts(shown: Shown, predicate: Predicate) -> str:
    """The plan, every attempt that was started for it, and the seed, as the log has them."""
    found, told = shown.history.attempts, {one["attemptId"]: one for one in predicate["attempts"]}
    _require_plan(shown.history, predicate)
    hidden = sorted(found.started.keys() - told.keys())
    require(not hidden, f"The log holds attempt(s) of this batch that the report hides: {_few(hidden)}.")
    for attempt_id, attempt in told.items():
        require(attempt_id in found.started, f"The log does not say that attempt {attempt_id} was started.")
        require(attempt_id in found.finished, f"The log does not say how attempt {attempt_id} ended.")
        _require_attempt(attempt, found.started[attempt_id], found.finished[attempt_id], predicate)
    strays = shown.history.strays if shown.history.whole else []
    require(not strays, f"The attempt of entry {_first(strays)} is of a batch that was never planned.")
    last = predicate["attempts"][-1]["attemptId"]
    _require_seed(shown, predicate, found.fixed.get(last), found.finished[last])
    size = predicate["evidence"]["seedCheckpoint"]["size"]
    return (
        f"All {len(told)} attempt(s) of the batch are told as logged; the seed is from the log's first {size} entries."
    )


def _require_plan(history: History, predicate: Predicate) -> None:
    plan = predicate["plan"]
    require([one.index for one in history.plans] == [plan["logIndex"]], "The log has the batch's plan elsewhere.")
    (logged,) = history.plans
    require(logged.text("planDigest") == plan["digest"], "The log has another plan of the batch than the report.")
    require(logged.text("modelId") == predicate["model"]["modelId"], "The batch was planned for another model.")
    # The plan itself stays with the desk. Its gates must not: they could be loosened once the results are known.
    rules = statement.policy_digest(predicate["policy"])
    require(logged.text("rulesDigest") == rules, "The batch was planned under another policy than the report's.")


def _require_attempt(attempt: Attempt, started: At, finished: At, predicate: Predicate) -> None:
    name, data = attempt["attemptId"], finished.entry.data
    ordered = predicate["plan"]["logIndex"] < started.index < finished.index == attempt["logIndex"]
    require(ordered, f"Attempt {name} was not logged where the report says, or not in that order.")
    require(started.text("rung") == attempt["rung"], f"Attempt {name} was of another rung by the log.")
    outcome = finished.text("outcome")
    require(outcome == attempt["outcome"], f"Attempt {name} ended as '{outcome}' by the log.")
    require(finished.text("code") == (attempt["code"] or ""), f"Attempt {name} ended for another reason by the log.")
    agree = data.get("weightsDigest") == attempt["weightsDigest"]
    require(agree, f"Attempt {name} made other weights by the log.")
    judged = [one["outcome"] for one in attempt["gates"]]
    require(data.get("gates") == judged, f"Attempt {name} had other gate results by the log.")


def _require_seed(shown: Shown, predicate: Predicate, fixed: At | None, finished: At) -> None:
    evidence, digest = predicate["evidence"], predicate["model"]["after"]["digest"]
    same = finished.entry.data.get("evidenceDigest") == evidence["evidenceDigest"]
    require(same, "The last attempt was logged with other evidence.")
    if fixed is None:
        raise VerificationError("The log does not say that the weights were fixed before they were measured.")
    require(fixed.text("digest") == digest, "The weights that the log fixed are not those of the model after.")
    size = evidence["seedCheckpoint"]["size"]
    ordered = fixed.index < size <= finished.index
    require(ordered, "The checkpoint of the seed does not lie between the weights and their evidence.")
    root = shown.root_at(size)
    agree = root is not None and root.hex() == evidence["seedCheckpoint"]["root"]
    require(agree, "The checkpoint of the seed is not one of this log.")


def times(shown: Shown, predicate: Predicate, cosigned: Sequence[int], agreed: int | None) -> str:
    """The report's times are those of its entries, and not far from the witnesses'.

    `cosigned` are these in POSIX seconds, and by `agreed` the policy's quorum of them had seen it.
    """
    found, last = shown.history.attempts, predicate["attempts"][-1]["attemptId"]
    created = log.parse_time(predicate["createdAt"])
    _require_near(predicate["startedAt"], found.started[last].time, "startedAt")
    _require_near(predicate["verifiedAt"], found.finished[last].time, "verifiedAt")
    _require_near(predicate["createdAt"], log.parse_time(shown.at), "createdAt")
    seen = seen_at(cosigned)
    if seen is None:
        return "Start, end and creation are dated as their log entries are; no witness says when that was."
    require(created <= seen + SKEW, f"The report is dated after {seen:{_TIME}}, when a witness had seen it.")
    last_seen = seen_at([] if agreed is None else [agreed]) or seen
    early = created >= last_seen - LONGEST_UNWITNESSED
    require(early, f"The report is dated more than a day before its witnesses saw it, at {last_seen:{_TIME}}.")
    return f"Dated as its log entries are; a witness had seen it at {seen:{_TIME}}."


def seen_at(cosigned: Sequence[int]) -> datetime | None:
    """When the first of the witnesses saw a checkpoint, from their times in POSIX seconds; None without any."""
    if not cosigned:
        return None
    require(min(cosigned) <= _LATEST, "A cosignature's time is not in the calendar.")
    return datetime.fromtimestamp(min(cosigned), UTC)


def require_after(index: int, entry: log.Entry, seen: datetime) -> None:
    """Refuse an entry that a checkpoint seen at that time did not hold yet, and that is dated before."""
    later = log.parse_time(entry.at) >= seen - SKEW
    require(later, f"Entry {index} is dated {entry.at}, and at {seen:{_TIME}} the log did not hold it.")


def _require_near(told: str, logged: datetime, name: str) -> None:
    near = abs(log.parse_time(told) - logged) <= SKEW
    require(near, f"{name} is not the time of its log entry.")


def _first(found: Sequence[At]) -> str:
    return str(found[0].index) if found else ""


def _few(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more
