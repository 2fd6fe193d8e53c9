"""The statement of a batch's report, from what the ledger and the attempts recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audits import approval, log, statement
from audits.history import FINAL, RECEIVED, STATE
from compliance import policy as policies
from compliance.certification.guarantee import guarantee_of, limits_of
from compliance.certification.versions import earlier_versions
from compliance.errors import ConflictError
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import AttemptOutcome
from compliance.ledger.views import AttemptView, BaseView, BatchView, ReportView, VersionView
from compliance.policy import Policy

MORE = ("aggregates", "runTime")  # of evidence: not every suite has groups, and older records have neither
ATTEMPT_KEYS = ("code", "why", "weightsDigest", "gates", "seconds")
EVERY_REQUEST = 1_000_000
_MOVED = (RECEIVED, STATE)
RENEWED = (
    "A new differentially private base ({digest}…) was trained on the remaining data, because the earlier one could "
    "not carry another certificate: {why}. The earlier base had {before} deleted units counted against it and is "
    "sealed. None of them, nor those of this batch, counts against the new one, whose data never held them."
)


def predicate_of(
    ledger: Ledger,
    batch: BatchView,
    attempts: Sequence[AttemptView],
    *,
    report_id: str,
    created_at: str,
    witnessed: bool = False,
) -> dict[str, Any]:
    """The predicate; `attempts` end with the one that passed, and it tells of that one.

    `witnessed` says that its checkpoint will be: the desk publishes nothing that its witnesses have not cosigned.
    """
    passed = attempts[-1]
    model = ledger.model(batch.model_id)
    policy = policies.parse(model.policy)
    before = planned_on(ledger, batch)
    span = _span(ledger)
    record = passed.record
    return {
        "reportId": report_id,
        "createdAt": created_at,
        "startedAt": record["startedAt"],
        "finishedAt": record["verifiedAt"],
        "verifiedAt": record["verifiedAt"],
        "requestBatch": _request_batch(ledger, batch, span),
        "model": {
            "name": model.name,
            "modelId": model.id,
            "before": {"version": before.number, "digest": before.digest, "files": before.files},
            "after": {
                "version": ledger.current_version(model.id).number + 1,
                "digest": record["weightsDigest"],
                "files": record["files"],
            },
        },
        "dataset": _dataset(ledger, batch, model.dataset_id, interim=is_interim(passed)),
        "method": record["method"],
        "guarantee": _guarantee(attempts, policy, ledger.base(model.id), batch),
        "policy": policy.reported(),
        "plan": {"digest": batch.plan_digest, "logIndex": batch.plan_index},
        "attempts": [_attempt(attempt) for attempt in attempts],
        "evidence": {
            key: record[key]
            for key in ("suite", "suiteVersion", "seed", "seedCheckpoint", "evidenceDigest", "findings", *MORE)
            if key in record or key not in MORE
        },
        "gates": record["gates"],
        "limits": limits_of(batch, record["notMeasured"], interim=is_interim(passed))
        + ([] if _signed(ledger, batch) else [statement.UNSIGNED]),
        "previousReportDigest": None if span.previous is None else span.previous.digest,
        "unpublishedReports": list(span.unpublished),
        "witnessed": witnessed,
        **({"history": earlier} if (earlier := earlier_versions(ledger, model.id)) else {}),
    }


def _guarantee(
    attempts: Sequence[AttemptView], policy: Policy, base: BaseView | None, batch: BatchView
) -> dict[str, Any]:
    """The guarantee, and why a new base was trained where one was: it is the start of the published model."""
    told = guarantee_of(attempts, policy=policy, base=base, batch=batch)
    made = attempts[-1].record.get("newBase")
    if made is None or base is None:
        return told
    why = next(entry["refused"] for entry in batch.plan["rungs"] if entry["rung"] == "dp2")
    renewed = RENEWED.format(why=why, before=base.units_deleted, digest=made["digest"][:16])
    return told | {"statement": f"{told['statement']} {renewed}"}


def planned_on(ledger: Ledger, batch: BatchView) -> VersionView:
    """The version that a batch starts from; while its guard is in use it is not the current one.

    ConflictError when the model has no version with those weights.
    """
    found = [version for version in ledger.versions(batch.model_id) if version.digest == batch.plan["beforeDigest"]]
    if not found:
        message = "the model has no version with the weights that the batch was planned on; nothing was done"
        raise ConflictError(message, code="version-changed")
    return found[-1]


def is_interim(attempt: AttemptView) -> bool:
    """Whether the attempt made a guard that held, which fulfils nothing."""
    return attempt.outcome is AttemptOutcome.INTERIM


def ended_attempts(ledger: Ledger, last: AttemptView) -> list[AttemptView]:
    """The attempts of a run up to `last`, in the order they ended."""
    end = _ended(last)
    return sorted((one for one in ledger.attempts(last.run_id) if 0 <= _ended(one) <= end), key=_ended)


def _ended(attempt: AttemptView) -> int:
    """Where the log has an attempt's end; -1 while it runs."""
    return -1 if attempt.log_index is None else attempt.log_index


@dataclass(frozen=True, kw_only=True, slots=True)
class _Span:
    """The log from the report before this one to now: its bounds, what was logged in it, and about whom."""

    previous: ReportView | None
    start: int
    stop: int
    unpublished: tuple[str, ...]
    moved: frozenset[str]


def _span(ledger: Ledger) -> _Span:
    """Where the last published report ended, and everything since; a writer waits, so that nothing is added."""
    published = [report for report in ledger.reports() if ledger.is_published(report)]
    previous = published[-1] if published else None
    start, stop = 0 if previous is None else previous.log_index, ledger.head().size
    known = None if previous is None else previous.digest
    unpublished, moved = [], set()
    for entry in map(log.parse_entry, ledger.entries(start, stop)):
        if entry.type == log.REPORT_LOGGED and entry.data["reportDigest"] != known:
            unpublished.append(entry.data["reportDigest"])
        elif entry.type in _MOVED:
            moved.add(entry.data["requestId"])
    return _Span(previous=previous, start=start, stop=stop, unpublished=tuple(unpublished), moved=frozenset(moved))


def _request_batch(ledger: Ledger, batch: BatchView, span: _Span) -> dict[str, Any]:
    mine = [ledger.request(request_id) for request_id in batch.plan["requests"]]
    return {
        "batchId": batch.id,
        "requests": len(mine),
        "subjects": batch.plan["subjects"],
        "records": batch.plan["records"],
        "commitmentRoot": log.commitment_root(bytes.fromhex(request.commitment) for request in mine).hex(),
        "approvals": "signed" if _signed(ledger, batch) else "unsigned",
        "ledgerRange": {"from": span.start, "to": span.stop},
        "accounted": [
            {"requestId": request.id, "state": request.state.value}
            for request in ledger.requests(limit=EVERY_REQUEST)
            if request.state.value not in FINAL or request.id in span.moved
        ],
    }


def _signed(ledger: Ledger, batch: BatchView) -> bool:
    """Whether every request of the batch was approved by a signature, before the plan."""
    told = [ledger.history(request_id) for request_id in batch.plan["requests"]]
    return all(
        any(one.kind == approval.REQUEST_APPROVED and one.index < batch.plan_index for one in entries)
        for entries in told
    )


def entries_needed(ledger: Ledger, batch: BatchView) -> set[int]:
    """The log entries that a report on the batch rests on, however old: its requests' and every key's."""
    kinds = (*_MOVED, approval.REQUEST_APPROVED)
    told = (one for request_id in batch.plan["requests"] for one in ledger.history(request_id))
    found = {one.index for one in told if one.kind in kinds}
    for key in ledger.service_keys():
        found |= {key.log_index} if key.revoked_index is None else {key.log_index, key.revoked_index}
    return found


def _dataset(ledger: Ledger, batch: BatchView, dataset_id: str, *, interim: bool) -> dict[str, Any]:
    dataset = ledger.dataset(dataset_id)
    if interim:
        return {"name": dataset.name, "beforeDigest": dataset.digest, "afterDigest": dataset.digest, "removed": 0}
    return {
        "name": dataset.name,
        "beforeDigest": dataset.digest,
        "afterDigest": batch.plan["retainDigest"],
        "removed": batch.plan["records"],
    }


def _attempt(attempt: AttemptView) -> dict[str, Any]:
    record = {key: attempt.record.get(key) for key in ATTEMPT_KEYS}
    return {
        "attemptId": attempt.id,
        "rung": attempt.rung,
        "outcome": attempt.outcome.value,
        "logIndex": attempt.log_index,
        **record,
        "code": record["code"] or None,
        "why": record["why"] or None,
        "gates": record["gates"] or [],
        "seconds": record["seconds"] or 0.0,
    }
