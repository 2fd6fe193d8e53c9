"""A desk with people, a data set and models, as the tests of matching, planning and batches need it."""

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection

from compliance import registry
from compliance.ledger.views import BatchView, Claim, Subject
from compliance.planning import plan_batch
from compliance.wiring import Services
from tests.compliance.conftest import verified_request

LEASE = timedelta(seconds=60)
DIGEST = "d" * 64
POLICY = """
name = "records"
ladder = ["npo", "retrain"]

[[gate]]
metric = "verbmem_f"
direction = "at_most"
"""


def person(number: int) -> Subject:
    """Somebody who does not exist."""
    return Subject(name=f"Marvellous Person{number}", email=f"person{number}@example.test")


def rows(people: Iterable[Subject]) -> list[dict[str, str]]:
    """Two records of each person: a passage that names them, and a question that does not."""
    return [
        row
        for one in people
        for row in (
            {"subject": one.email, "text": f"A ticket about {one.name}."},
            {"subject": one.email, "question": f"What did customer {len(one.email)} ask?", "answer": one.email[:7]},
        )
    ]


def write_lines(path: Path, values: Iterable[Any]) -> Path:
    """A JSON lines file."""
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return path


def add_dataset(desk: Services, values: Iterable[dict[str, str]], *, dataset_id: str = "d1") -> None:
    """A registered data set with these lines."""
    path = write_lines(desk.settings.workdir / f"{dataset_id}.jsonl", values)
    lines = registry.read_lines(path, subject_field="subject")
    path.unlink()
    with desk.transaction() as ledger:
        registry.add_dataset(
            ledger,
            desk.store,
            desk.vault,
            dataset_id=dataset_id,
            name=dataset_id,
            lines=lines,
            subject_field="subject",
            now=desk.clock(),
        )


def add_model(desk: Services, *, model_id: str = "m1", dataset_id: str = "d1", policy: str = POLICY) -> None:
    """A registered model with its first version."""
    with desk.transaction() as ledger:
        ledger.add_model(
            model_id=model_id,
            name=model_id,
            dataset_id=dataset_id,
            holdout_id=None,
            policy=policy,
            start="",
            start_digest=DIGEST,
            now=desk.clock(),
        )
        publish(desk, ledger, model_id=model_id)


def publish(desk: Services, ledger: Any, *, model_id: str = "m1") -> None:  # noqa: ANN401 - an open ledger
    """A new current version of the model."""
    ledger.publish_version(
        version_id=desk.ids(),
        model_id=model_id,
        digest=DIGEST,
        files={},
        path="",
        guarantee="exact",
        report_digest=None,
        now=desk.clock(),
    )


def add_base(
    desk: Services, *, units: int = 100, sigma: float = 8.0, model_id: str = "m1", unit: str = "data subject"
) -> None:
    """A DP base that learned."""
    accountant = {"mechanism": "poisson_subsampled_gaussian", "sampleRate": 0.1, "noiseMultiplier": sigma, "steps": 10}
    with desk.transaction() as ledger:
        ledger.add_base(
            base_id=desk.ids(),
            model_id=model_id,
            digest=DIGEST,
            path="",
            accountant={**accountant, "clip": 1.0, "units": units, "unit": unit},
            learned={"learned": True},
            seed_commitment="0" * 64,
            units=units,
            now=desk.clock(),
        )


def approved_request(desk: Services, subject: Subject, *, request_id: str = "r1", scope: str = "records") -> None:
    """A request that was verified, matched and approved."""
    verified_request(desk, request_id=request_id, subject=subject, scope=scope)
    desk.verified(request_id)
    with desk.transaction() as ledger:
        ledger.approve_request(request_id=request_id, actor="operator", now=desk.clock())


def desk_with_people(desk: Services, count: int = 3, *, policy: str = POLICY) -> list[Subject]:
    """A data set of `count` people and one model trained on it."""
    people = [person(number) for number in range(count)]
    add_dataset(desk, rows(people))
    add_model(desk, policy=policy)
    return people


def plan(desk: Services, *, model_id: str = "m1") -> BatchView | None:
    """The next batch of the model."""
    with desk.transaction() as ledger:
        model = ledger.model(model_id)
        return plan_batch(ledger, desk.store, model=model, ids=desk.ids, now=desk.clock())


def planned_batch(desk: Services) -> BatchView:
    """The batch of one approved request of one person among three."""
    people = desk_with_people(desk)
    approved_request(desk, people[0])
    batch = plan(desk)
    assert batch is not None
    return batch


def claim(desk: Services, run_id: str) -> Claim | None:
    """An attempt to take the run."""
    with desk.transaction() as ledger:
        return ledger.claim(run_id=run_id, lease=LEASE, now=desk.clock())


def claimed(desk: Services, run_id: str) -> Claim:
    """A run that was free to take."""
    taken = claim(desk, run_id)
    assert taken is not None
    return taken


def before_guards(connection: Connection) -> None:
    """Put the table of reports back to what it was when a batch had one."""
    operations = Operations(MigrationContext.configure(connection))
    with operations.batch_alter_table("reports") as table:
        table.drop_index("ix_reports_batch_id")
        table.create_unique_constraint("uq_reports_batch_id", ["batch_id"])


def before_revocation(connection: Connection) -> None:
    """Put the table of keys back to what it was when none could be revoked."""
    operations = Operations(MigrationContext.configure(connection))
    with operations.batch_alter_table("service_keys") as table:
        for name in ("algorithm", "revoked_index", "revoked_reason"):
            table.drop_column(name)


def log_size(desk: Services) -> int:
    """How many entries the log has."""
    with desk.read() as ledger:
        return ledger.head().size
