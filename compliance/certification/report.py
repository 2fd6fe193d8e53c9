"""The statement of a batch's report, from what the ledger and the attempts recorded."""

from collections.abc import Sequence
from typing import Any

from audits import log
from compliance import policy as policies
from compliance.certification.guarantee import guarantee_of, limits_of
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import AttemptOutcome
from compliance.ledger.views import AttemptView, BaseView, BatchView, ReportView, RequestView
from compliance.policy import Policy

ATTEMPT_KEYS = ("code", "why", "weightsDigest", "gates", "seconds")
EVERY_REQUEST = 1_000_000
RENEWED = (
    "A new differentially private base ({digest}…) was trained on the remaining data, because the earlier one could "
    "not carry another certificate: {why}. The earlier base had {before} deleted units counted against it and is "
    "sealed. None of them, nor those of this batch, counts against the new one, whose data never held them."
)


def predicate_of(
    ledger: Ledger, batch: BatchView, attempts: Sequence[AttemptView], *, report_id: str, created_at: str
) -> dict[str, Any]:
    """The predicate; `attempts` end with the one that passed."""
    passed = attempts[-1]
    model = ledger.model(batch.model_id)
    policy = policies.parse(model.policy)
    before = ledger.current_version(model.id)
    previous = _previous(ledger, batch)
    record = passed.record
    return {
        "reportId": report_id,
        "createdAt": created_at,
        "startedAt": record["startedAt"],
        "finishedAt": record["verifiedAt"],
        "verifiedAt": record["verifiedAt"],
        "requestBatch": _request_batch(ledger, batch, previous),
        "model": {
            "name": model.name,
            "modelId": model.id,
            "before": {"version": before.number, "digest": before.digest, "files": before.files},
            "after": {
                "version": before.number + 1,
                "digest": record["weightsDigest"],
                "files": record["files"],
            },
        },
        "dataset": _dataset(ledger, batch, model.dataset_id),
        "method": record["method"],
        "guarantee": _guarantee(attempts, policy, ledger.base(model.id), batch),
        "policy": {
            "name": policy.name,
            "digest": policy.digest,
            "ladder": list(policy.ladder),
            "reference": policy.reference,
            "gates": [gate.to_json() for gate in policy.gates],
        },
        "plan": {"digest": batch.plan_digest, "logIndex": batch.plan_index},
        "attempts": [_attempt(attempt) for attempt in attempts],
        "evidence": {
            key: record[key]
            for key in ("suite", "suiteVersion", "seed", "seedCheckpoint", "evidenceDigest", "findings")
        },
        "gates": record["gates"],
        "limits": limits_of(batch, record["notMeasured"]),
        "previousReportDigest": None if previous is None else previous.digest,
        "witnessed": False,
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


def ended_attempts(ledger: Ledger, run_id: str) -> list[AttemptView]:
    """The run's attempts in the order they ended, the published one last."""
    ended = [a for a in ledger.attempts(run_id) if a.outcome is not AttemptOutcome.RUNNING]
    return sorted(ended, key=lambda a: (a.outcome is AttemptOutcome.PUBLISHED, a.log_index))


def _previous(ledger: Ledger, batch: BatchView) -> ReportView | None:
    earlier = [report for report in ledger.reports() if report.batch_id != batch.id]
    return earlier[-1] if earlier else None


def _request_batch(ledger: Ledger, batch: BatchView, previous: ReportView | None) -> dict[str, Any]:
    mine = [ledger.request(request_id) for request_id in batch.plan["requests"]]
    return {
        "batchId": batch.id,
        "requests": len(mine),
        "subjects": batch.plan["subjects"],
        "records": batch.plan["records"],
        "commitmentRoot": log.commitment_root(bytes.fromhex(request.commitment) for request in mine).hex(),
        "ledgerRange": {"from": 0 if previous is None else previous.ledger_to, "to": ledger.head().size},
        "accounted": _accounted(ledger.requests(limit=EVERY_REQUEST), previous),
    }


def _accounted(requests: Sequence[RequestView], previous: ReportView | None) -> list[dict[str, str]]:
    """Every request that was open at some time since the previous report."""
    since = None if previous is None else previous.created_at
    return [
        {"requestId": request.id, "state": request.state.value}
        for request in requests
        if since is None or request.closed_at is None or request.closed_at >= since
    ]


def _dataset(ledger: Ledger, batch: BatchView, dataset_id: str) -> dict[str, Any]:
    dataset = ledger.dataset(dataset_id)
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
