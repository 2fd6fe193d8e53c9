"""Executing a run, from claim to fulfilment; every step can be repeated after a crash.

A run that is claimed again goes on where the ledger says it is: rungs that failed are not tried again, an
attempt that passed is certified, a published batch is sealed. The engine and the reference run beside
each other when two threads are allowed, because two single-threaded trainings beat one that is doubled.

A guard that holds its gates is published at once, as a version that fulfils nothing, and the climb goes on from
the weights without it (`docs/adr/0022`).
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from compliance import policy as policies
from compliance.certification.publishing import UNWITNESSED, certify, place_bundle, report_of
from compliance.certification.report import is_interim, planned_on
from compliance.desk import Desk
from compliance.errors import ConflictError, NotAllowedError, UnavailableError
from compliance.execution.attempts import Attempt
from compliance.execution.closing import close_batch
from compliance.execution.inputs import seal_names
from compliance.execution.lease import Lease, beat_in
from compliance.execution.process import Engine, EngineProcess, Engines
from compliance.execution.references import recipe_for, reference_path, train_reference
from compliance.execution.rungs import Rung, relay
from compliance.execution.workspace import Workspace, open_workspace
from compliance.ledger.lifecycle import AttemptOutcome, ItemState
from compliance.ledger.views import AttemptView, BatchView, Claim

MAX_EPOCHS = 5
EXHAUSTED = {  # by whether a guard was published
    False: "no rung of the ladder held its gates; nothing was published, and the batch waits for an operator",
    True: "no rung that removes anything held its gates; the guard stays in use, and the batch waits for an operator",
}
PUBLISHED = {ItemState.PUBLISHED, ItemState.SEALED, ItemState.FULFILLED}
_log = structlog.get_logger("expunge.run")


def run(desk: Desk, run_id: str, *, engines: Engines = EngineProcess) -> bool:
    """Claim and execute a run; False when another worker has it or it is done.

    Raises ComplianceError when the run failed; it is then back in the queue, or stuck after MAX_EPOCHS. A run that only
    waits for the log's witnesses is never stuck.
    """
    lease_time = timedelta(seconds=desk.settings.lease_seconds)
    with desk.transaction() as ledger:
        claim = ledger.claim(run_id=run_id, lease=lease_time, now=desk.clock())
    if claim is None:
        return False
    with ExitStack() as stack:
        execution = _Execution(desk, claim, stack, engines)
        lease = Lease(
            claim,
            beat_in(desk.transaction, desk.clock, desk.settings.lease_seconds),
            seconds=desk.settings.heartbeat_seconds,
            on_lost=execution.stop,
        )
        stack.enter_context(lease)
        try:
            execution.go(lease)
        except ConflictError as error:
            if error.code == "claim-superseded":
                _log.warning("claim superseded", run=run_id, epoch=claim.epoch)
                return False
            _give_back(desk, claim, stuck=True)
            raise
        except NotAllowedError:
            _give_back(desk, claim, stuck=True)
            raise
        except Exception as error:
            waits = isinstance(error, UnavailableError) and error.code == UNWITNESSED  # for others: never our last try
            _give_back(desk, claim, stuck=claim.epoch >= MAX_EPOCHS and not waits)
            raise
    return True


def _give_back(desk: Desk, claim: Claim, *, stuck: bool) -> None:
    """Return the run to the queue, or leave it for an operator when trying again cannot help."""
    with desk.transaction() as ledger:
        if ledger.run_epoch(claim.run_id) == claim.epoch:
            ledger.release_run(claim, stuck=stuck)


class _Execution:
    """The state of one claim's work."""

    def __init__(self, desk: Desk, claim: Claim, stack: ExitStack, engines: Engines) -> None:
        self._desk = desk
        self._claim = claim
        self._stack = stack
        self._new_engine = engines
        self._engines: list[Engine] = []
        self._rung_engine: Engine | None = None
        with desk.read() as ledger:
            self._batch: BatchView = ledger.batch(claim.batch_id)
            self._model = ledger.model(self._batch.model_id)
            self._version = planned_on(ledger, self._batch)
            self._base = ledger.base(self._model.id)
        self._policy = policies.parse(self._model.policy)

    def stop(self) -> None:
        """The claim is lost: end the engines, which makes the work fail at its next step."""
        for process in self._engines:
            process.kill()

    def go(self, lease: Lease) -> None:
        """Whatever is left to do."""
        if not self._published():
            record = self._passed() or self._climb(lease)
            lease.check()
            certify(self._desk, self._claim, self._batch, record)
        place_bundle(self._desk, self._batch)
        lease.check()
        close_batch(self._desk, self._claim)

    def _published(self) -> bool:
        with self._desk.read() as ledger:
            return {item.state for item in ledger.batch_items(self._claim.batch_id)} <= PUBLISHED

    def _attempts(self) -> list[AttemptView]:
        with self._desk.read() as ledger:
            return ledger.attempts(self._claim.run_id)

    def _passed(self) -> AttemptView | None:
        """An attempt of an earlier claim that passed and whose weights, and new base, are still there."""
        for attempt in self._attempts():
            if attempt.outcome is AttemptOutcome.PUBLISHED:
                self._check_weights(attempt)
                return attempt
        return None

    def _check_weights(self, attempt: AttemptView) -> None:
        """UnavailableError unless what an attempt made is in the store as it was."""
        for kept in (attempt.record["weightsDigest"], (attempt.record["newBase"] or {}).get("digest")):
            if kept is not None:
                self._desk.store.check(kept)

    def _guard(self, lease: Lease) -> bool:
        """Publish the guard of an interim attempt, unless that was done; whether there is one."""
        interim = next((attempt for attempt in self._attempts() if is_interim(attempt)), None)
        if interim is None:
            return False
        with self._desk.read() as ledger:
            published = report_of(ledger, self._batch, interim=True) is not None
        if not published:
            self._check_weights(interim)
            lease.check()
            certify(self._desk, self._claim, self._batch, interim)
        place_bundle(self._desk, self._batch, interim=True)
        return True

    def _climb(self, lease: Lease) -> AttemptView:
        """Try the planned rungs that have not failed yet, in order; NotAllowedError when none holds."""
        guarded = self._guard(lease)
        with self._desk.read() as ledger:
            space = open_workspace(ledger, self._desk.store, claim=self._claim, batch=self._batch, model=self._model)
            self._stack.callback(space.close)
            seal_names(self._desk, ledger, self._batch, space.parts.retain)
        reference = self._start_reference(space)
        for entry in self._left():
            if guarded and policies.suppresses(entry["rung"]):
                continue
            if entry["refused"] is not None:
                self._refuse(entry)
                continue
            if self._try(entry["rung"], space, reference, lease):
                passed = self._passed()
                if passed is not None:
                    return passed
                guarded = self._guard(lease)
        raise NotAllowedError(EXHAUSTED[guarded], code="ladder-exhausted")

    def _left(self) -> list[Mapping[str, Any]]:
        """The planned rungs that have not been judged."""
        judged = {AttemptOutcome.GATES_FAILED, AttemptOutcome.INTERIM}
        ended = {attempt.rung for attempt in self._attempts() if attempt.outcome in judged}
        return [entry for entry in self._batch.plan["rungs"] if entry["rung"] not in ended]

    def _refuse(self, entry: Mapping[str, Any]) -> None:
        """Log that the plan had refused a rung, once."""
        if any(attempt.rung == entry["rung"] for attempt in self._attempts()):
            return
        record = {
            "code": "refused-in-plan",
            "why": entry["refused"],
            "weightsDigest": None,
            "gates": [],
            "seconds": 0.0,
        }
        attempt_id, now = self._desk.ids(), self._desk.clock()
        with self._desk.transaction() as ledger:
            ledger.start_attempt(self._claim, attempt_id=attempt_id, rung=entry["rung"], now=now)
            ledger.finish_attempt(
                self._claim, attempt_id=attempt_id, outcome=AttemptOutcome.REFUSED, record=record, now=now
            )

    def _try(self, name: str, space: Workspace, reference: "_Reference", lease: Lease) -> bool:
        threads = self._desk.settings.engine_threads if reference.ready else 1
        rung = Rung(
            name=name,
            store=self._desk.store,
            space=space,
            batch=self._batch,
            model=self._model,
            policy=self._policy,
            base=self._base,
            before=Path(self._version.path),
            threads=threads,
            progress=relay(lease.note, name),
        )
        attempt = Attempt(self._desk, self._claim, rung, attempt_id=self._desk.ids())
        _log.info("attempt", run=self._claim.run_id, rung=name)
        measured = attempt.run(self._engine(), reference.wait)
        _log.info("attempt ended", run=self._claim.run_id, rung=name, code=measured.record["code"])
        return measured.passed

    def _engine(self) -> Engine:
        """The engine for the rungs, started once: most of a start is imports."""
        if self._rung_engine is None:
            self._rung_engine = self._start("rung")
        return self._rung_engine

    def _start(self, name: str) -> Engine:
        logs = self._desk.settings.workdir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        process = self._new_engine(log=logs / f"engine-{name}.log", threads=self._desk.settings.engine_threads)
        self._engines.append(process)
        self._stack.callback(process.close)
        return process

    def _start_reference(self, space: Workspace) -> "_Reference":
        recipe = recipe_for(
            start_digest=self._model.start_digest,
            retain=space.parts.retain,
            options=dict(self._policy.training),
        )
        store = self._desk.store
        path = reference_path(store, recipe)
        if path.is_dir():
            return _Reference(path, None)
        pool = self._stack.enter_context(ThreadPoolExecutor(max_workers=1))
        process = self._start("reference")
        threads = max(1, self._desk.settings.engine_threads // 2)
        future = pool.submit(
            train_reference,
            store,
            recipe,
            space.parts.retain,
            process=process,
            threads=threads,
            progress=_silent,
        )
        return _Reference(path, future)


class _Reference:
    """A reference that is there, or is being trained beside the first rung."""

    def __init__(self, path: Path, future: Future[Path] | None) -> None:
        self._path = path
        self._future = future

    @property
    def ready(self) -> bool:
        """Whether nobody else needs a processor for it any more."""
        return self._future is None or self._future.done()

    def wait(self) -> Path:
        """Its folder; raises what its training raised."""
        return self._path if self._future is None else self._future.result()


def _silent(_event: Mapping[str, Any]) -> None:
    """The rung's progress is the one shown."""
