"""One attempt, in the order that keeps the numbers honest.

1. The rung's weights are made and moved under their digest.
2. The digest is logged, and a checkpoint over it is signed: from here on the weights cannot change.
3. The test items are drawn with the seed of that checkpoint, and the models are measured.
4. The gates are judged on the intervals, and the outcome is logged, whatever it is. A guard that holds is `interim`.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import audits.log
from audits.gates import Result, blocks, judge_all
from compliance import policy as policies
from compliance.certification.guarantee import not_learned
from compliance.desk import Desk
from compliance.execution.process import Engine, EngineFailedError
from compliance.execution.references import run_time, training_time
from compliance.execution.rungs import Rung, Unlearned
from compliance.ledger.entries import rfc3339
from compliance.ledger.lifecycle import AttemptOutcome, ItemState
from compliance.ledger.views import Claim
from engine.contract import Evidence, Job, Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """An attempt's logged record and whether its gates let it be published."""

    record: dict[str, Any]
    passed: bool


class Attempt:
    """A rung under a claim."""

    def __init__(self, desk: Desk, claim: Claim, rung: Rung, *, attempt_id: str) -> None:
        self._desk = desk
        self._claim = claim
        self._rung = rung
        self._id = attempt_id

    def run(self, process: Engine, reference: Callable[[], Path]) -> Measured:
        """Try the rung; the outcome is in the ledger when this returns. `reference` waits for the reference."""
        started, clock = time.monotonic(), rfc3339(self._desk.clock())
        with self._desk.transaction() as ledger:
            ledger.start_attempt(self._claim, attempt_id=self._id, rung=self._rung.name, now=self._desk.clock())
            ledger.move_batch_items(self._claim, state=ItemState.UNLEARNING, now=self._desk.clock())
        try:
            unlearned = self._rung.unlearn(process, self._rung.space.folder / self._id)
        except EngineFailedError as error:
            return self._fail(error, time.monotonic() - started)
        digest, files = self._desk.store.adopt(unlearned.path)
        if digest == self._rung.batch.plan["beforeDigest"]:
            # Published or discarded, the version in use would be sealed or deleted with it.
            unchanged = EngineFailedError("the method left the weights exactly as they were", code="unchanged")
            return self._fail(unchanged, time.monotonic() - started)
        seed, origin = self._fix(digest)
        beside = reference()
        evidence = self._measure(process, digest, beside, seed)
        record = self._record(unlearned, digest, files, evidence, seed, origin)
        record |= {
            "runTime": {"method": _spent(unlearned), "reference": training_time(beside)},
            "startedAt": clock,
            "verifiedAt": rfc3339(self._desk.clock()),
            "seconds": round(time.monotonic() - started, 3),
        }
        return self._judge(record, evidence)

    def _fail(self, error: EngineFailedError, seconds: float) -> Measured:
        record: dict[str, Any] = {
            "code": error.code,
            "why": str(error),
            "weightsDigest": None,
            "gates": [],
            "seconds": round(seconds, 3),
        }
        self._finish(AttemptOutcome.ERROR, record)
        return Measured(record=record, passed=False)

    def _fix(self, digest: str) -> tuple[int, dict[str, Any]]:
        """Log the weights' digest, sign a checkpoint over it, and derive the test seed from that."""
        now = self._desk.clock()
        with self._desk.transaction() as ledger:
            ledger.fix_weights(self._claim, attempt_id=self._id, digest=digest, now=now)
            ledger.move_batch_items(self._claim, state=ItemState.VERIFYING, now=now)
        log = self._desk.publish()
        return audits.log.evaluation_seed(size=log.size, root=log.root), {"size": log.size, "root": log.root.hex()}

    def _measure(self, process: Engine, digest: str, reference: Path, seed: int) -> Evidence:
        space = self._rung.space
        job = Job(
            version=1,
            kind=Kind.EVALUATE,
            task=self._rung.policy.task,
            seed=seed,
            threads=self._rung.threads,
            models={
                "before": str(self._rung.before),
                "after": str(self._desk.store.model_path(digest)),
                "reference": str(reference),
            },
            forget=str(space.forget),
            retain=str(space.retain),
            holdout=str(space.holdout) if space.holdout.exists() else None,
            cache=str(self._desk.store.cache),
            options={"suite": self._rung.batch.plan["suite"]},
        )
        return process.run(job, self._rung.progress)

    def _record(
        self,
        unlearned: Unlearned,
        digest: str,
        files: dict[str, Any],
        evidence: Evidence,
        seed: int,
        origin: dict[str, Any],
    ) -> dict[str, Any]:
        made = unlearned.evidence
        findings, missing = measured(evidence.to_mapping()["findings"])
        groups = {} if evidence.aggregates is None else {"aggregates": evidence.aggregates}
        told = {"findings": findings, "notMeasured": missing, **groups}
        numbers = json.dumps(told, sort_keys=True, indent=1) + "\n"
        base = None
        if unlearned.base is not None:
            base_digest, _ = self._desk.store.adopt(unlearned.base.path)
            base = {
                "digest": base_digest,
                "accountant": unlearned.base.evidence.accountant,
                "learned": unlearned.base.evidence.learned,
                "seedCommitment": unlearned.base.evidence.seed_commitment,
            }
        return {
            "code": "",
            "why": "",
            "weightsDigest": digest,
            "files": files,
            "newBase": base,
            "method": {
                "rung": self._rung.name,
                "name": self._rung.name,
                "variant": made.variant or None,
                "parameters": made.parameters,
                "codeDigest": made.code_digest,
                "configDigest": made.config_digest,
                "environment": made.environment,
            },
            "suite": evidence.suite,
            "suiteVersion": evidence.suite_version,
            "seed": str(seed),
            "seedCheckpoint": origin,
            "findings": findings,
            **groups,
            "notMeasured": missing,
            "numbers": numbers,
            "evidenceDigest": hashlib.sha256(numbers.encode()).hexdigest(),
            "class": self._rung.guarantee,
            "mechanism": {"accountant": made.accountant, "seedCommitment": made.seed_commitment},
            "state": {name: (made.training or {}).get(name) for name in ("state", "because")},
        }

    def _judge(self, record: dict[str, Any], evidence: Evidence) -> Measured:
        results = judge_all(self._rung.policy.gates, evidence.to_mapping()["findings"])
        blocking = [result for result in results if blocks(record["class"], result.outcome)]
        record["gates"] = [result.to_json() for result in results]
        if not blocking:
            guards = policies.suppresses(self._rung.name)
            self._finish(AttemptOutcome.INTERIM if guards else AttemptOutcome.PUBLISHED, record)
            return Measured(record=record, passed=True)
        record["code"], record["why"] = "gates-failed", _why(blocking)
        if self._rung.name == "dp2" and record["class"] == "empirical" and self._rung.base is not None:
            record["why"] += ". " + not_learned(self._rung.base.learned)
        self._finish(AttemptOutcome.GATES_FAILED, record)
        self._discard(record)
        return Measured(record=record, passed=False)

    def _finish(self, outcome: AttemptOutcome, record: dict[str, Any]) -> None:
        with self._desk.transaction() as ledger:
            ledger.finish_attempt(
                self._claim, attempt_id=self._id, outcome=outcome, record=record, now=self._desk.clock()
            )

    def _discard(self, record: dict[str, Any]) -> None:
        """Weights that failed their gates still hold what was to be forgotten, if no model is of these very bytes."""
        made = (record["weightsDigest"], (record["newBase"] or {}).get("digest"))
        with self._desk.read() as ledger:
            batch = self._rung.batch.id
            unused = [
                digest
                for digest in made
                if digest is not None and not ledger.in_use(digest) and not ledger.awaits_weights(digest, besides=batch)
            ]
        for digest in unused:
            shutil.rmtree(self._desk.store.model_path(digest), ignore_errors=True)


def _spent(unlearned: Unlearned) -> dict[str, float]:
    """Minutes of the unlearning, and of the base that was trained for it, without measuring."""
    return run_time(*(one.evidence for one in (unlearned, unlearned.base) if one is not None))


def measured(findings: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """The findings that have a value for the new model, and the metrics of those that have none.

    A ratio whose denominator is too close to 0 has none. A gate on such a metric has failed already; a report has no
    place for a value that is not there, and names the metric among its limits.
    """
    return (
        [finding for finding in findings if finding["after"] is not None],
        [str(finding["metric"]) for finding in findings if finding["after"] is None],
    )


def _why(blocking: list[Result]) -> str:
    return "; ".join(f"{result.gate.metric} is {result.outcome}" for result in blocking)
