"""`expunge batch`: which requests are unlearned together, and how far that is."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from compliance.cli.desk import open_desk
from compliance.cli.engines import naming_log
from compliance.cli.failures import FailedError
from compliance.cli.options import CURRENT, Json, Workdir, example, group
from compliance.cli.output import answer, listing, sheet, table
from compliance.cli.progress import following
from compliance.errors import NotAllowedError, UnavailableError
from compliance.execution.run import run as execute
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import AttemptOutcome, RunState
from compliance.ledger.views import AttemptView, BatchView, ModelView
from compliance.planning import plan_batch
from compliance.wiring import Services

app = group()
_LABELS = {
    "id": "Batch",
    "model": "Model",
    "state": "State",
    "requests": "Requests",
    "subjects": "Data subjects",
    "records": "Records",
    "interim": "Guarded by",
    "rung": "Published by",
    "planned_at": "Planned",
    "challenge_ends": "Sealed until",
    "plan_digest": "Plan",
}
_COLUMNS = {key: _LABELS[key] for key in ("id", "model", "state", "subjects", "records", "rung")}
_COLUMNS |= {"subjects": "People", "rung": "By"}
_ID = "0123456789abcdef0123456789abcdef"

BatchId = Annotated[str, typer.Argument(metavar="ID", help="As in 'expunge batch list'.")]


@app.command("plan", epilog=example("expunge batch plan", "expunge batch plan assistant"))
def plan(
    *,
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Only this model; else every one.")] = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> int:
    """Plan and log the next batch of approved requests; exit 1 when there is nothing to plan yet.

    A model has one open batch at a time: while it has one, nothing is planned for it.
    """
    with open_desk(workdir) as desk:
        with desk.read() as ledger:
            models = ledger.models() if model is None else [ledger.model_named(model)]
        planned = [batch for one in models if (batch := _plan(desk, one)) is not None]
        if planned:
            desk.publish()
        with desk.read() as ledger:
            value = [_value(ledger, batch) for batch in planned]
    empty = "Nothing to plan: no approved requests, too few for the policy, or a batch is open."
    answer(value, as_json=as_json, people=listing(_COLUMNS, empty=empty))
    return int(not planned)


@app.command("run", epilog=example(f"expunge batch run {_ID}", f"expunge batch run {_ID} --queue"))
def run(
    *,
    batch_id: BatchId,
    queue: Annotated[bool, typer.Option("--queue", help="Only wake a worker; do not run here.")] = False,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> int:
    """Execute a batch here: unlearn, measure, judge, sign, publish, seal. Exit 1 when it is not published.

    A batch that was interrupted goes on where it was; one that is done stays as it is.
    """
    with open_desk(workdir) as desk:
        with desk.transaction() as ledger:
            batch = ledger.batch(batch_id)
            ledger.requeue(batch.run_id)
        why = None
        if queue:
            _enqueue(desk, batch)
        else:
            why = _execute(desk, batch)
        with desk.read() as ledger:
            value = _detail(ledger, ledger.batch(batch_id)) | {"why": why}
    answer(value, as_json=as_json, people=_shown)
    return int(not queue and value["state"] != RunState.DONE)


@app.command("list", epilog=example("expunge batch list --model assistant"))
def list_(
    *,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Only this model's.")] = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """List the batches, oldest first, with the rung that published each."""
    with open_desk(workdir) as desk, desk.read() as ledger:
        batches = ledger.batches(None if model is None else ledger.model_named(model).id)
        value = [_value(ledger, batch) for batch in batches]
    answer(value, as_json=as_json, people=listing(_COLUMNS, empty="There is no batch yet; see 'expunge batch plan'."))


@app.command("show", epilog=example(f"expunge batch show {_ID}"))
def show(*, batch_id: BatchId, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """Show a batch: its plan, every rung that was tried or refused, and why."""
    with open_desk(workdir) as desk, desk.read() as ledger:
        value = _detail(ledger, ledger.batch(batch_id))
    answer(value, as_json=as_json, people=_shown)


def _plan(desk: Services, model: ModelView) -> BatchView | None:
    with desk.transaction() as ledger:
        if ledger.open_batch(model.id) is not None:
            return None
        return plan_batch(ledger, desk.store, model=model, ids=desk.ids, now=desk.clock())


def _execute(desk: Services, batch: BatchView) -> str | None:
    """Run the batch; None, or why it is not published. A ladder without a rung that holds is an answer."""

    def read() -> Mapping[str, Any]:
        with desk.read() as ledger:
            return ledger.batch(batch.id).progress

    logs = desk.settings.workdir / "logs"
    try:
        with naming_log(logs / "engine-rung.log"), following(read, f"batch {batch.id[:8]}"):
            ran = execute(desk, batch.run_id)
    except NotAllowedError as error:
        return str(error)
    except UnavailableError as error:
        raise FailedError(str(error), log=logs / "desk.log") from error
    done = ran or batch.run_state is RunState.DONE
    return None if done else "another worker executes this batch"


def _enqueue(desk: Services, batch: BatchView) -> None:
    from kombu.exceptions import OperationalError  # noqa: PLC0415 - as below

    from compliance.broker import enqueue, make_app  # noqa: PLC0415 - celery, needed for this option alone

    try:
        enqueue(make_app(desk.settings), batch.run_id)
    except OperationalError:
        message = "the broker of EXPUNGE_BROKER_URL does not answer; start it, or leave the batch to 'expunge beat'"
        raise UnavailableError(message, code="broker-silent") from None


def _value(ledger: Ledger, batch: BatchView) -> dict[str, Any]:
    rungs = {one.outcome: one.rung for one in ledger.attempts(batch.run_id)}
    return {
        "id": batch.id,
        "model": ledger.model(batch.model_id).name,
        "state": batch.run_state,
        "requests": len(batch.plan["requests"]),
        "subjects": batch.plan["subjects"],
        "records": batch.plan["records"],
        "interim": rungs.get(AttemptOutcome.INTERIM),
        "rung": rungs.get(AttemptOutcome.PUBLISHED),
        "run_id": batch.run_id,
        "planned_at": batch.planned_at,
        "challenge_ends": batch.challenge_ends,
        "plan_digest": batch.plan_digest,
        "plan_index": batch.plan_index,
    }


def _detail(ledger: Ledger, batch: BatchView) -> dict[str, Any]:
    return _value(ledger, batch) | {
        "request_ids": batch.plan["requests"],
        "rungs": batch.plan["rungs"],
        "attempts": [_attempt(one) for one in ledger.attempts(batch.run_id)],
    }


def _attempt(attempt: AttemptView) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "rung": attempt.rung,
        "outcome": attempt.outcome,
        "code": attempt.record.get("code") or None,
        "why": attempt.record.get("why") or None,
        "seconds": attempt.record.get("seconds"),
        "gates": attempt.record.get("gates", []),
        "log_index": attempt.log_index,
    }


def _shown(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    yield from sheet(_LABELS)(value)
    yield table({"rung": "Rung of the ladder", "refused": "Refused in the plan because"}, value["rungs"])
    if value["attempts"]:
        yield table({"rung": "Attempt", "outcome": "Outcome", "seconds": "s", "why": "Why"}, value["attempts"])
    if value.get("why"):
        yield f"Not published: {value['why']}."
