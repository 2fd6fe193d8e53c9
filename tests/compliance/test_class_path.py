"""A class is forgotten, from the API to a verified report, on a few dozen painted bars.

The engine is the real one, in this process: its start is most of what a tiny batch costs (`test_image_batches` spawns).
"""

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from audits import verify
from compliance import intake
from compliance import policy as policies
from compliance import settings as settings_module
from compliance.api import create_app
from compliance.execution.process import Progress
from compliance.execution.run import run
from compliance.execution.training import register_model
from compliance.ledger.lifecycle import RequestState
from compliance.planning import plan_batch
from compliance.wiring import Services, open_services, prepare
from engine.contract import Evidence, Job, Kind
from engine.run import run as do
from tests.compliance.builders import write_lines
from tests.compliance.terminal import answer, at, refusal
from tests.compliance.test_api import BODY, file, mailed_code
from tests.engine.painted import LABELS, SIDE, bar, png

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("class-path"), pytest.mark.timeout(300)]
PEOPLE = 12
LEAVING = "Ottoline Featherstone"  # what the class of bars at the top is called
CLASSES = (LEAVING, *LABELS[1:])
POLICY = """
name = "bars"
task = "image"
ladder = ["l1-sparse", "retrain"]
[training]
epochs = 4
batch = 16
[methods.l1-sparse]
epochs = 2
[[gate]]
metric = "ra"
direction = "at_least"
margin = 1.0
"""


class Here:
    """The engine, one job at a time."""

    _one = threading.Lock()

    def run(self, job: Job, progress: Progress) -> Evidence:
        """Do a job; its paths are whole."""
        with self._one:
            return do(job, Path("/"), lambda stage, fraction, _: progress({"stage": stage, "fraction": fraction}))

    def kill(self) -> None:
        """Nothing to end."""

    def close(self) -> None:
        """Nothing is open."""


def _rows(numbers: range) -> list[dict[str, str]]:
    """Each person has one bar of each class, so that a class takes a part of everybody."""
    return [
        {
            "who": f"p{i // len(LABELS)}@example.test",
            "image": png(bar(LABELS[i % len(LABELS)], i)),
            "label": CLASSES[i % len(LABELS)],
        }
        for i in numbers
    ]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A model that tells four bars apart, at a desk with strangers' bars to compare with."""
    folder = tmp_path_factory.mktemp("class")
    settings = settings_module.initialise(folder / "desk")
    prepare(settings)
    services = open_services(settings)
    for name, numbers in (("bars", range(PEOPLE * len(LABELS))), ("strangers", range(1000, 1040))):
        lines = write_lines(folder / f"{name}.jsonl", _rows(numbers))
        answer(services, "dataset", "add", name, lines, "--subject-field", "who")
    _register(services, folder)
    yield services
    services.database.dispose()


def _register(desk: Services, folder: Path) -> None:
    """The model, from a network with random weights."""
    with desk.read() as ledger:
        bars, strangers = (ledger.dataset_named(name) for name in ("bars", "strangers"))
    options = {"labels": list(CLASSES), "size": SIDE, "width": 4}
    start, model = folder / "start", folder / "model"
    shared: dict[str, Any] = {"version": 1, "task": "image", "seed": 0}
    Here().run(Job(**shared, kind=Kind.INITIALISE, out=str(start), options=options), _quiet)
    data = str(desk.store.dataset_path(bars.id))
    learned = {"epochs": 4, "batch": 16}
    job = Job(**shared, kind=Kind.TRAIN, model=str(start), train=data, out=str(model), options=learned)
    Here().run(job, _quiet)
    policy = policies.parse(POLICY)
    register_model(desk, name="painter", folder=model, start=start, dataset=bars, holdout=strangers, policy=policy)


def _quiet(_event: object) -> None:
    """Nobody watches."""


def _confirmed(desk: Services) -> str:
    """The id of a request for the class, filed and confirmed by the API."""
    with TestClient(create_app(desk), raise_server_exceptions=False) as client:
        request_id: str = file(client, BODY | {"scope": "class", "target": LEAVING.upper()})["request"]["id"]
        code = mailed_code(desk, request_id)
        assert client.post(f"/v1/requests/{request_id}/confirm", json={"code": code}).json()["state"] == "matched"
    return request_id


def _unlearned(desk: Services, request_id: str) -> Any:  # noqa: ANN401 - a plan
    """Approved and run to the end; the plan."""
    intake.approve(desk, request_id=request_id, actor="operator")
    with desk.transaction() as ledger:
        model = ledger.model_named("painter")
        batch = plan_batch(ledger, desk.store, model=model, ids=desk.ids, now=desk.clock())
    assert batch is not None
    assert run(desk, batch.run_id, engines=lambda **_kwargs: Here())
    return batch.plan


def test_a_class_leaves_by_the_api_and_may_not_come_back(desk: Services, tmp_path: Path) -> None:
    """Approved, unlearned, published and verified; its pictures are in no training data, and new ones are refused."""
    leaving = [row["image"] for row in _rows(range(PEOPLE * len(LABELS))) if row["label"] == LEAVING]

    plan = _unlearned(desk, request_id := _confirmed(desk))

    bundle = desk.settings.workdir / "bundles" / "painter-v2"
    verdict = verify.verify(bundle, desk.policy_text())
    report = json.loads(base64.b64decode(json.loads((bundle / "report.dsse.json").read_bytes())["payload"]))
    told = report["predicate"]
    with desk.read() as ledger:
        state, left, held = (
            ledger.request(request_id).state,
            ledger.dataset_named("bars"),
            ledger.dataset_named("strangers"),
        )
    assert verdict.ok, [step for step in verdict.steps if not step.ok]
    assert (state, plan["scopes"]) == (RequestState.FULFILLED, ["class"])
    assert (plan["records"], plan["subjects"], plan["units"]) == (PEOPLE, PEOPLE, 2 * PEOPLE)
    assert (told["method"]["rung"], told["guarantee"]["class"]) == ("l1-sparse", "empirical")
    assert told["requestBatch"]["records"] == told["dataset"]["removed"] == PEOPLE
    assert left.records == PEOPLE * (len(LABELS) - 1)
    assert {record.label for record in desk.store.records(left.id)} == set(LABELS[1:])
    files = [path for path in desk.settings.workdir.rglob("*") if path.is_file()]
    holding = {path for path in files if any(image.encode() in path.read_bytes() for image in leaving)}
    assert not holding
    # Besides data sets and what models call their classes: ledger, log, bundles, letters and program logs.
    elsewhere = [path for path in files if not path.is_relative_to(desk.settings.workdir / "store")]
    assert bundle / "report.html" in elsewhere
    assert not [path for path in elsewhere if LEAVING.encode() in path.read_bytes()]

    # Nobody has ever seen this bar; it is of the class.
    again = write_lines(tmp_path / "again.jsonl", [{"image": png(bar(LABELS[0], 5000)), "label": LEAVING.lower()}])
    assert "are of a class or domain that was" in refusal(at(desk, "dataset", "add", "again", again))
    who = ("--name", "A", "--email", "a@example.org", "--regime", "gdpr")
    line = refusal(at(desk, "request", "file", *who, "--scope", "class", "--target", LEAVING))
    assert "there are 3 classes" in line
    # The strangers' bars of the class stay to measure with, and no model may be trained on them.
    assert {record.label for record in desk.store.records(held.id)} == set(CLASSES)
    given = ("--dataset", "strangers", "--holdout", "bars", "--set", f"size={SIDE}", "--set", "width=4")
    assert "no new model may learn from them" in refusal(at(desk, "model", "train", "other", *given))
