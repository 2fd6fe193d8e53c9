"""The log of an honest operator, entry by entry, as a report tells it, and how excerpts are cut from it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audits import approval, log, merkle, statement
from audits.keys import SigningKey

REQUESTS: Mapping[str, str] = {
    "request-01": "approved",
    "request-02": "approved",
    "request-03": "approved",
    "request-04": "denied",
}
BATCH = [one for one, state in REQUESTS.items() if state == "approved"]
FILED, DECIDED, PLANNED = "2026-11-18T09:00:00Z", "2026-11-19T09:00:00Z", "2026-11-20T13:50:00Z"
EARLIER = ("2026-11-20T13:51:00Z", "2026-11-20T13:57:00Z", "2026-11-20T14:05:00Z")
LAST = ("2026-11-20T14:10:00Z", "2026-11-20T14:40:00Z", "2026-11-20T15:01:30Z")


def commitment(request_id: str) -> str:
    """What the log commits to for a request."""
    return _digest(f"the person behind {request_id}")


@dataclass(kw_only=True)
class Story:
    """A log as it is written, and where it has what a report names."""

    entries: list[bytes] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    since: int = 0
    plan: int = 0
    seed: int = 0

    def add(self, type: str, at: str = FILED, **data: Any) -> int:  # noqa: A002, ANN401 - an entry's own words
        """One more entry; its index."""
        salt = f"{len(self.entries):032x}"
        self.entries.append(log.entry(type=type, at=at, salt=salt, data=data))
        return len(self.entries) - 1

    def file(self, request_id: str) -> None:
        """A request arrives."""
        told: dict[str, Any] = {"regime": "gdpr", "scope": "records", "door": "web", "test": False}
        about = {"requestId": request_id, "commitment": commitment(request_id), "respondBy": "2026-12-18"}
        self.add("request.received", **about, **told)

    def decide(self, request_id: str, state: str, approver: SigningKey | None, at: str = DECIDED) -> None:
        """A request's decision, signed where there is an approver."""
        if approver is not None and state == "approved":
            about = {"request_id": request_id, "commitment": commitment(request_id)}
            raw = approval.statement(**about, approved_at=at)
            self.add(approval.REQUEST_APPROVED, at, **approval.sign(raw, approver))
        self.add("request.state", at, requestId=request_id, state=state)

    def batch(self, attempts: Sequence[Mapping[str, Any]], evidence: str, policy: Mapping[str, Any]) -> None:
        """A plan, the requests that were queued for it, and its attempts."""
        told = {"batchId": "batch-41", "modelId": "model-1", "planDigest": _digest("plan"), "items": len(BATCH)}
        self.plan = self.add("batch.planned", PLANNED, **told, rulesDigest=statement.policy_digest(policy))
        for one in BATCH:
            self.add("item.state", PLANNED, itemId=f"item-{one}", requestId=one, batchId="batch-41", state="queued")
        for attempt in attempts:
            last = attempt is attempts[-1]
            self.attempt(attempt, LAST if last else EARLIER, evidence if last else _digest("other evidence"))

    def attempt(self, attempt: Mapping[str, Any], times: tuple[str, str, str], evidence: str) -> None:
        """One attempt from its start to its end; `seed` is the log's size when the weights were fixed."""
        name, weights = attempt["attemptId"], attempt["weightsDigest"]
        run = {"batchId": "batch-41", "runId": "run-1", "epoch": 1, "rung": attempt["rung"]}
        self.add("attempt.started", times[0], attemptId=name, **run)
        self.add("attempt.weights_fixed", times[1], attemptId=name, digest=weights)
        self.seed = len(self.entries)
        told = {"outcome": attempt["outcome"], "code": attempt["code"] or "", "weightsDigest": weights}
        judged = [one["outcome"] for one in attempt["gates"]]
        self.ended[name] = self.add(
            "attempt.finished", times[2], attemptId=name, **told, evidenceDigest=evidence, gates=judged
        )


@dataclass(frozen=True, slots=True)
class Shelf:
    """A log under one checkpoint, as excerpts are cut from it."""

    all: list[bytes]
    whole: log.Log
    checkpoint: str

    def entries(self, start: int, stop: int) -> list[bytes]:
        """The entries [start, stop)."""
        return self.all[start:stop]

    def range_proof(self, start: int, stop: int) -> merkle.RangeProof:
        """The proof of that range."""
        return self.whole.range_proof(start, stop)

    def proof(self, index: int) -> str:
        """The `.tlog-proof` of one entry."""
        return self.whole.proof(index, self.checkpoint)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
