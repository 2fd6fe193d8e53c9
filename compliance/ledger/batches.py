"""Batches, runs, attempts and reports: the ledger as the queue.

A run is claimed by compare-and-swap: the UPDATE names the state it expects, and raises the epoch. Whoever
holds an older epoch finds every later write refused (`_fenced`), so a worker that was only slow cannot
publish beside the one that took over.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, select, update

from audits.log import parse_entry
from compliance.errors import ConflictError
from compliance.ledger import tables
from compliance.ledger.entries import EntryKind
from compliance.ledger.lifecycle import AttemptOutcome, ItemState, RequestState, RunState
from compliance.ledger.requests import Requests
from compliance.ledger.views import AttemptView, BatchView, Claim, ItemView, ReportView

FORGOTTEN = frozenset({ItemState.SEALED, ItemState.FULFILLED})
REFUSED = frozenset({ItemState.DENIED, ItemState.WITHDRAWN})


class Batches(Requests):
    """What planning, workers and certification do."""

    def approved_items(self, model_id: str) -> list[ItemView]:
        """A model's approved items whose request is not on hold, the earliest deadline first."""
        query = (
            select(tables.Item.request_id)
            .join(tables.Request, tables.Request.id == tables.Item.request_id)
            .where(
                tables.Item.model_id == model_id,
                tables.Item.state == ItemState.APPROVED,
                tables.Request.state == RequestState.APPROVED,
            )
            .order_by(tables.Request.respond_by, tables.Request.received_at, tables.Request.id)
        )
        found = [item for request in self._session.scalars(query) for item in self.items(request)]
        return [item for item in found if item.model_id == model_id]

    def open_batch(self, model_id: str) -> BatchView | None:
        """The model's batch that has not ended: a model has at most one, so batches are sequential."""
        query = (
            select(tables.Batch.id)
            .join(tables.Run, tables.Run.batch_id == tables.Batch.id)
            .where(tables.Batch.model_id == model_id, tables.Run.state != RunState.DONE)
        )
        batch_id = self._session.scalar(query)
        return None if batch_id is None else self.batch(batch_id)

    def plan_batch(
        self,
        *,
        batch_id: str,
        run_id: str,
        model_id: str,
        items: Sequence[ItemView],
        plan: dict[str, Any],
        plan_digest: str,
        rules_digest: str,
        now: datetime,
    ) -> BatchView:
        """Log the plan, queue the items and the run; ConflictError when a batch of the model is open.

        `rules_digest` is that of the policy as the report will show it, which nobody can loosen from then on.
        """
        if self.open_batch(model_id) is not None:
            message = "this model has a batch that has not ended; the next one is planned after it"
            raise ConflictError(message, code="batch-open")
        data = {"batchId": batch_id, "modelId": model_id, "planDigest": plan_digest, "rulesDigest": rules_digest}
        index = self._append(EntryKind.BATCH_PLANNED, data | {"items": len(items)}, now)
        _, wrapped = self._vault.new_key(batch_id)
        self._session.add(
            tables.Batch(
                id=batch_id,
                model_id=model_id,
                plan=plan,
                plan_digest=plan_digest,
                plan_index=index,
                planned_at=now,
            )
        )
        self._session.flush()
        self._session.add(tables.BatchKey(batch_id=batch_id, wrapped=wrapped))
        self._session.add(
            tables.Run(
                id=run_id, batch_id=batch_id, state=RunState.QUEUED, epoch=0, progress={}, queued_at=now, woken_at=now
            )
        )
        for view in items:
            item = self._get(tables.Item, view.id, "item")
            item.batch_id = batch_id
            self._move_item(item, ItemState.QUEUED, now)
        self._session.flush()
        return self.batch(batch_id)

    def batch(self, batch_id: str) -> BatchView:
        """One batch; NotFoundError."""
        row = self._get(tables.Batch, batch_id, "batch")
        run = self._session.scalars(select(tables.Run).where(tables.Run.batch_id == batch_id)).one()
        return BatchView(
            id=row.id,
            model_id=row.model_id,
            plan=row.plan,
            plan_digest=row.plan_digest,
            plan_index=row.plan_index,
            planned_at=row.planned_at,
            challenge_ends=row.challenge_ends,
            run_id=run.id,
            run_state=RunState(run.state),
            progress=run.progress,
        )

    def batches(self, model_id: str | None = None) -> list[BatchView]:
        """Every batch (of a model), oldest first."""
        query = select(tables.Batch.id).order_by(tables.Batch.planned_at, tables.Batch.id)
        if model_id is not None:
            query = query.where(tables.Batch.model_id == model_id)
        return [self.batch(batch_id) for batch_id in self._session.scalars(query)]

    def awaits_weights(self, digest: str, *, besides: str) -> bool:
        """Whether a batch that has not ended, other than `besides`, starts from the weights with this digest.

        While a guard is in use they are no model's current version.
        """
        query = (
            select(tables.Batch.plan)
            .join(tables.Run, tables.Run.batch_id == tables.Batch.id)
            .where(tables.Batch.id != besides, tables.Run.state != RunState.DONE)
        )
        return any(plan.get("beforeDigest") == digest for plan in self._session.scalars(query))

    def batch_items(self, batch_id: str) -> list[ItemView]:
        """The items of a batch."""
        query = select(tables.Item.request_id).where(tables.Item.batch_id == batch_id).order_by(tables.Item.id)
        found = [item for request in self._session.scalars(query) for item in self.items(request)]
        return [item for item in found if item.batch_id == batch_id]

    def awaited_records(self, dataset_id: str, *, besides: str) -> set[str]:
        """Records some model trained on the data set has still to forget; batch `besides` counts as ended."""
        open_: set[tuple[str, str]] = set()
        ended: set[tuple[str, str]] = set()
        for model_id, record_id, state, batch_id in self._session.execute(_wanted(dataset_id)):
            if state in FORGOTTEN or batch_id == besides:
                ended.add((model_id, record_id))
            elif state not in REFUSED:
                open_.add((model_id, record_id))
        return {record_id for _, record_id in open_ - ended}

    def forgotten_by(self, *, model_id: str, dataset_id: str) -> set[str]:
        """Records this model has forgotten in an earlier batch."""
        rows = self._session.execute(_wanted(dataset_id))
        return {record_id for model, record_id, state, _ in rows if model == model_id and state in FORGOTTEN}

    def batch_key(self, batch_id: str) -> bytes:
        """The key that seals a batch; NotFoundError once it was destroyed."""
        return self._vault.unwrap(batch_id, self._get(tables.BatchKey, batch_id, "batch key").wrapped)

    def destroy_batch_key(self, *, batch_id: str, now: datetime) -> None:
        """End the challenge period: what was sealed under the key can never be opened again."""
        self._session.execute(delete(tables.BatchKey).where(tables.BatchKey.batch_id == batch_id))
        self._append(EntryKind.BATCH_KEY_DESTROYED, {"batchId": batch_id}, now)

    def key_destroyed(self, batch_id: str) -> tuple[int, str] | None:
        """The log entry that says that the batch's key was destroyed: its index and time; None while there is none."""
        entry = tables.LogEntry
        query = select(entry.seq, entry.payload).where(entry.kind == EntryKind.BATCH_KEY_DESTROYED)
        for index, payload in self._session.execute(query.order_by(entry.seq)):
            parsed = parse_entry(payload)
            if parsed.data.get("batchId") == batch_id:
                return index, parsed.at
        return None

    def challenge_over(self, now: datetime) -> list[str]:
        """Batches whose challenge period has ended and whose key still exists."""
        query = (
            select(tables.Batch.id)
            .join(tables.BatchKey, tables.BatchKey.batch_id == tables.Batch.id)
            .where(tables.Batch.challenge_ends.is_not(None), tables.Batch.challenge_ends <= now)
        )
        return list(self._session.scalars(query))

    def claim(self, *, run_id: str, lease: timedelta, now: datetime) -> Claim | None:
        """Take a run that is queued or whose lease ran out; None when somebody else holds or ended it."""
        run = tables.Run
        free = (run.state == RunState.QUEUED) | ((run.state == RunState.CLAIMED) & (run.leased_until < now))
        take = (
            update(run)
            .where(run.id == run_id, free)
            .values(state=RunState.CLAIMED, epoch=run.epoch + 1, leased_until=now + lease)
            .returning(run.batch_id, run.epoch)
        )
        row = self._session.execute(take).one_or_none()
        if row is None:
            return None
        return Claim(run_id=run_id, batch_id=row.batch_id, epoch=row.epoch, leased_until=now + lease)

    def heartbeat(self, claim: Claim, *, lease: timedelta, progress: dict[str, Any], now: datetime) -> bool:
        """Prolong the lease; False when the claim was superseded and the worker must stop."""
        run = tables.Run
        mine = (run.id == claim.run_id) & (run.epoch == claim.epoch) & (run.state == RunState.CLAIMED)
        prolong = update(run).where(mine).values(leased_until=now + lease, progress=progress).returning(run.id)
        return self._session.execute(prolong).one_or_none() is not None

    def lost_runs(self, *, now: datetime, queued_before: datetime) -> list[str]:
        """Runs to enqueue again: lease run out, or queued long ago and never claimed."""
        run = tables.Run
        expired = (run.state == RunState.CLAIMED) & (run.leased_until < now) & (run.woken_at < queued_before)
        forgotten = (run.state == RunState.QUEUED) & (run.woken_at < queued_before)
        return list(self._session.scalars(select(run.id).where(expired | forgotten).order_by(run.queued_at)))

    def woken(self, run_id: str, *, now: datetime) -> None:
        """A worker was sent for; the next message waits as long again, or a busy worker would drown in them."""
        self._get(tables.Run, run_id, "run").woken_at = now

    def run_epoch(self, run_id: str) -> int:
        """How often the run has been claimed."""
        return self._get(tables.Run, run_id, "run").epoch

    def batch_of(self, run_id: str) -> BatchView:
        """The batch a run executes; NotFoundError."""
        return self.batch(self._get(tables.Run, run_id, "run").batch_id)

    def release_run(self, claim: Claim, *, stuck: bool) -> None:
        """Give a claim back after a failure: to the queue, or `stuck` until an operator looks."""
        run = self._fenced(claim)
        run.state = RunState.STUCK if stuck else RunState.QUEUED
        run.leased_until = None

    def requeue(self, run_id: str) -> None:
        """Let a stuck run be claimed again."""
        run = self._get(tables.Run, run_id, "run")
        if run.state == RunState.STUCK:
            run.state = RunState.QUEUED

    def check_claim(self, claim: Claim) -> None:
        """ConflictError when another worker has taken the run over."""
        self._fenced(claim)

    def _fenced(self, claim: Claim) -> tables.Run:
        run = self._get(tables.Run, claim.run_id, "run")
        if run.epoch != claim.epoch or run.state != RunState.CLAIMED:
            message = "this run was taken over by another worker; nothing was written"
            raise ConflictError(message, code="claim-superseded")
        return run

    def move_batch_items(self, claim: Claim, *, state: ItemState, now: datetime) -> None:
        """Move every item of the claimed batch that is not there yet."""
        self._fenced(claim)
        for view in self.batch_items(claim.batch_id):
            item = self._get(tables.Item, view.id, "item")
            if item.state != state:
                self._move_item(item, state, now)

    def start_attempt(self, claim: Claim, *, attempt_id: str, rung: str, now: datetime) -> None:
        """Log that a rung is tried; attempts of a superseded claim are closed as errors first."""
        self._fenced(claim)
        running = (tables.Attempt.run_id == claim.run_id) & (tables.Attempt.outcome == AttemptOutcome.RUNNING)
        for row in self._session.scalars(select(tables.Attempt).where(running)):
            self._close_attempt(
                row,
                AttemptOutcome.ERROR,
                {"code": "worker-lost", "why": "the worker stopped before this attempt ended"},
                now,
            )
        self._session.add(
            tables.Attempt(
                id=attempt_id,
                run_id=claim.run_id,
                epoch=claim.epoch,
                rung=rung,
                outcome=AttemptOutcome.RUNNING,
                record={},
                started_at=now,
            )
        )
        self._session.flush()
        data = {"attemptId": attempt_id, "batchId": claim.batch_id, "runId": claim.run_id}
        self._append(EntryKind.ATTEMPT_STARTED, data | {"epoch": claim.epoch, "rung": rung}, now)

    def fix_weights(self, claim: Claim, *, attempt_id: str, digest: str, now: datetime) -> int:
        """Log the digest of an attempt's weights before anything is measured; the entry's index."""
        self._fenced(claim)
        return self._append(EntryKind.WEIGHTS_FIXED, {"attemptId": attempt_id, "digest": digest}, now)

    def finish_attempt(
        self, claim: Claim, *, attempt_id: str, outcome: AttemptOutcome, record: dict[str, Any], now: datetime
    ) -> None:
        """Log how an attempt ended, with the digest of its evidence."""
        self._fenced(claim)
        self._close_attempt(self._get(tables.Attempt, attempt_id, "attempt"), outcome, record, now)

    def _close_attempt(
        self, row: tables.Attempt, outcome: AttemptOutcome, record: dict[str, Any], now: datetime
    ) -> None:
        row.outcome, row.record, row.finished_at = outcome, record, now
        data = {
            "attemptId": row.id,
            "outcome": outcome.value,
            "code": record.get("code", ""),
            "evidenceDigest": record.get("evidenceDigest"),
            "weightsDigest": record.get("weightsDigest"),
            "gates": [one["outcome"] for one in record.get("gates") or ()],
        }
        row.log_index = self._append(EntryKind.ATTEMPT_FINISHED, data, now)

    def attempts(self, run_id: str) -> list[AttemptView]:
        """Every attempt of a run, in order."""
        query = select(tables.Attempt).where(tables.Attempt.run_id == run_id)
        return [
            _attempt(row)
            for row in self._session.scalars(query.order_by(tables.Attempt.started_at, tables.Attempt.log_index))
        ]

    def log_report(
        self,
        claim: Claim,
        *,
        report_id: str,
        digest: str,
        envelope: bytes,
        key_id: str,
        ledger_to: int,
        now: datetime,
    ) -> int:
        """Log a signed report's digest; it is published only after its own verification.

        A report of the batch that was never published is dropped: its bundle was rejected, or lost in a crash.
        """
        self._fenced(claim)
        data = {"reportId": report_id, "reportDigest": digest, "keyId": key_id}
        index = self._append(EntryKind.REPORT_LOGGED, data, now)
        stale = [report.id for report in self.reports_of(claim.batch_id) if not self.is_published(report)]
        self._session.execute(delete(tables.Report).where(tables.Report.id.in_(stale)))
        self._session.add(
            tables.Report(
                id=report_id,
                batch_id=claim.batch_id,
                digest=digest,
                envelope=envelope,
                log_index=index,
                ledger_to=ledger_to,
                created_at=now,
            )
        )
        return index

    def reports(self) -> list[ReportView]:
        """Every report, oldest first."""
        return [_report(row) for row in self._session.scalars(select(tables.Report).order_by(tables.Report.log_index))]

    def reports_of(self, batch_id: str) -> list[ReportView]:
        """The reports of a batch, oldest first: of a guard where there was one, then of its end."""
        return [report for report in self.reports() if report.batch_id == batch_id]

    def is_published(self, report: ReportView) -> bool:
        """Whether a version came out with this report."""
        version = tables.ModelVersion
        return self._session.scalar(select(version.id).where(version.report_digest == report.digest)) is not None

    def report(self, report_id: str) -> ReportView:
        """One report; NotFoundError."""
        return _report(self._get(tables.Report, report_id, "report"))

    def reproduced(self, *, report_id: str, outcome: str, weights_digest: str, now: datetime) -> int:
        """Log that a report's run was repeated, what came of it and the repeated weights; the entry's index."""
        self.report(report_id)
        data = {"reportId": report_id, "outcome": outcome, "weightsDigest": weights_digest}
        return self._append(EntryKind.REPORT_REPRODUCED, data, now)

    def finish_run(self, claim: Claim, *, challenge_ends: datetime, now: datetime) -> None:
        """The batch is published; `fulfil_batch` follows when everything old is sealed."""
        run = self._fenced(claim)
        run.state, run.leased_until, run.finished_at = RunState.DONE, None, now
        self._get(tables.Batch, claim.batch_id, "batch").challenge_ends = challenge_ends

    def settle_batch(self, *, batch_id: str, now: datetime) -> tuple[str, ...]:
        """Fulfil every sealed item of a batch and settle its requests; their ids."""
        views = self.batch_items(batch_id)
        for view in views:
            item = self._get(tables.Item, view.id, "item")
            if item.state == ItemState.SEALED:
                self._move_item(item, ItemState.FULFILLED, now)
        requests = tuple(dict.fromkeys(view.request_id for view in views))
        for request_id in requests:
            self._settle(request_id, now)
        return requests


def _wanted(dataset_id: str) -> Select[str, str, str, str | None]:
    """(model, record, item state, batch) for every record that an item asks a model to forget."""
    return (
        select(tables.Item.model_id, tables.Match.record_id, tables.Item.state, tables.Item.batch_id)
        .join(tables.Match, tables.Match.request_id == tables.Item.request_id)
        .where(tables.Match.dataset_id == dataset_id, tables.Item.dataset_id == dataset_id)
    )


def _attempt(row: tables.Attempt) -> AttemptView:
    return AttemptView(
        id=row.id,
        run_id=row.run_id,
        epoch=row.epoch,
        rung=row.rung,
        outcome=AttemptOutcome(row.outcome),
        record=row.record,
        log_index=row.log_index,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def _report(row: tables.Report) -> ReportView:
    return ReportView(
        id=row.id,
        batch_id=row.batch_id,
        digest=row.digest,
        envelope=row.envelope,
        log_index=row.log_index,
        ledger_to=row.ledger_to,
        created_at=row.created_at,
    )
