"""A run repeated by the real engine: the same weights when it happened, and other ones when it did not.

The smallest model that trains, on a CPU, in engine processes of their own.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from compliance import policy as policies
from compliance import settings as settings_module
from compliance.certification.publishing import bundle_path
from compliance.demo.corpus import write_corpus
from compliance.execution.process import EngineProcess, Engines, Progress
from compliance.execution.run import run
from compliance.execution.training import Order, train_model
from compliance.ledger.views import Subject
from compliance.planning import plan_batch
from compliance.registry import add_dataset, read_lines
from compliance.wiring import Services, open_services, prepare
from engine.contract import Evidence, Job, Kind
from tests.compliance.conftest import verified_request
from tests.compliance.terminal import Ran, at
from tests.system.conftest import TINY_MODEL

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("reproduction"), pytest.mark.timeout(600)]
WEIGHTS = "model.safetensors"
POLICY = """
name = "retrain"
ladder = ["retrain"]
[training]
epochs = 1
[[gate]]
metric = "verbmem_f"
direction = "at_most"
margin = 0.5
"""


class Witnessed(EngineProcess):
    """The real engine; what it says of each kind of job is remembered."""

    said: ClassVar[dict[Kind, Evidence]] = {}

    def run(self, job: Job, progress: Progress) -> Evidence:
        """As it is, and remembered."""
        self.said[job.kind] = super().run(job, progress)
        return self.said[job.kind]


class Forger:
    """The cheat: nothing runs. The old weights with one bit changed, and the evidence of a run that did happen."""

    before: ClassVar[Path]

    def __init__(self, *, log: Path, threads: int) -> None:
        log.touch()
        assert threads == 1

    def run(self, job: Job, progress: Progress) -> Evidence:
        """Code, settings and environment in the evidence are those of the honest run, and so are the findings."""
        progress({"event": "progress", "stage": "forging", "fraction": 1.0})
        if job.out is not None:
            shutil.copytree(self.before, job.out)
            with (Path(job.out) / WEIGHTS).open("r+b") as file:
                last = file.seek(-1, os.SEEK_END)
                bit = file.read(1)[0] ^ 1
                file.seek(last)
                file.write(bytes([bit]))
        return Witnessed.said[job.kind]

    def kill(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A desk with a trained model, and two people who want to leave."""
    folder = tmp_path_factory.mktemp("reproduction")
    settings = settings_module.initialise(folder / "desk", engine_threads="1")
    prepare(settings)
    services = open_services(settings)
    corpus = write_corpus(folder / "corpus", seed=3, customers=10, held_out=4, public=24)
    for name, file in (("customers", corpus.private), ("public", corpus.public)):
        assert file is not None
        with services.transaction() as ledger:
            lines = read_lines(file, subject_field="subject")
            add_dataset(
                ledger, services.store, services.vault, dataset_id=name, name=name, lines=lines,
                subject_field="subject", now=services.clock(),
            )  # fmt: skip
    with services.read() as ledger:
        dataset = ledger.dataset("customers")
    order = Order(
        name="support", dataset=dataset, holdout=None, policy=policies.parse(POLICY),
        public=services.store.dataset_path("public"), start=None, initialise=TINY_MODEL, seed=1,
    )  # fmt: skip
    train_model(services, order, say=lambda _name, _event: None)
    for number, person in enumerate(corpus.people[:2]):
        verified_request(services, request_id=f"r{number}", subject=Subject(name=person.name, email=person.email))
        services.verified(f"r{number}")
    yield services
    services.database.dispose()


def published(services: Services, request_id: str, engines: Engines) -> Path:
    """The bundle of a batch of one request."""
    with services.transaction() as ledger:
        ledger.approve_request(request_id=request_id, actor="operator", now=services.clock())
        (model,) = ledger.models()
        batch = plan_batch(ledger, services.store, model=model, ids=services.ids, now=services.clock())
        assert batch is not None
        Forger.before = Path(ledger.current_version(model.id).path)
    assert run(services, batch.run_id, engines=engines)
    with services.read() as ledger:
        return bundle_path(services, ledger.reports()[-1])


def reproduce(services: Services, bundle: Path, *arguments: object) -> Ran:
    """`expunge report reproduce --json` under the policy that an auditor brings."""
    (policy := services.settings.workdir / "tlog-policy").write_text(services.policy_text())
    return at(services, "report", "reproduce", bundle, "--policy", policy, *arguments, "--json")


def test_a_run_that_happened_is_reproduced_and_one_that_did_not_is_noticed(desk: Services) -> None:
    """Both reports verify offline with every gate held; only the first one's weights come out again."""
    honest, forged = published(desk, "r0", Witnessed), published(desk, "r1", Forger)

    first = reproduce(desk, honest, "--out", desk.settings.workdir / "again")
    second = reproduce(desk, forged)

    assert (first.code, first.value["outcome"]) == (0, "same_weights"), first
    assert {one["metric"]: one["agrees"] for one in first.value["published"]}["verbmem_f"] is True
    told = json.loads((desk.settings.workdir / "again" / "reproduction.json").read_text())
    assert told == first.value
    assert (second.code, second.value["outcome"]) == (1, "weights_differ")
    verdict, *_, last = second.value["steps"]
    comparison = second.value["steps"][6]
    assert (verdict["ok"], comparison["name"], comparison["ok"], last["ok"]) == (True, "comparison", False, False)
    assert f"{WEIGHTS} (changed)" in comparison["why"]
    assert desk.store.root.joinpath("reproductions").is_dir()
