"""An image model whose deletion budget ends: a certificate, then a new base; and a certificate by noisy steps."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audits import verify
from compliance import settings as settings_module
from compliance.execution.run import run
from compliance.ledger.lifecycle import RequestState
from compliance.ledger.views import Subject
from compliance.planning import plan_batch
from compliance.wiring import Services, open_services, prepare
from tests.compliance.builders import write_lines
from tests.compliance.conftest import verified_request
from tests.compliance.terminal import answer
from tests.engine.painted import LABELS, SIDE, bar, png

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("image-budget"), pytest.mark.timeout(300)]
PEOPLE, EACH = 16, 4
# A gate that always holds: the noise is drawn anew each time, and what these tests are about is not accuracy.
GATE = """
[[gate]]
metric = "ra"
direction = "at_least"
margin = 1.0
"""
ONE_PERSON = f"""
name = "one"
task = "image"
ladder = ["dp2", "retrain"]
[budget]
epsilon_limit = 30.5
[training]
epochs = 3
batch = 16
[base]
epsilon = 30.0
sample_rate = 0.5
steps = 16
learning_rate = 0.03
margin = 0.02
{GATE}"""
NOISY = f"""
name = "noisy"
task = "image"
ladder = ["noisy-ft", "retrain"]
[budget]
epsilon_limit = 8.0
[training]
epochs = 3
batch = 16
[methods.noisy-ft]
noisy_steps = 3
noisy_rate = 0.1
weight_decay = 1.0
epochs = 3
batch = 16
{GATE}"""


def _who(number: int) -> Subject:
    return Subject(name=f"Budget Number{number}", email=f"budget{number}@example.test")


def _data(desk: Services, folder: Path, name: str, numbers: range) -> None:
    pictures = [(i, LABELS[i % len(LABELS)]) for i in numbers]
    rows = [
        {"record_id": f"bar-{i}", "who": _who(i // EACH).email, "image": png(bar(label, i)), "label": label}
        for i, label in pictures
    ]
    answer(desk, "dataset", "add", name, write_lines(folder / f"{name}.jsonl", rows), "--subject-field", "who")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Two data sets of other people each, and a model whose policy lets one person leave under a base."""
    folder = tmp_path_factory.mktemp("image-budget")
    settings = settings_module.initialise(folder / "desk")
    prepare(settings)
    services = open_services(settings)
    for name, first in (("bars", 0), ("others", 100), ("strangers", 1000)):
        _data(services, folder, name, range(first * EACH, (first + PEOPLE) * EACH))
    (folder / "one.toml").write_text(ONE_PERSON)
    given = ("--dataset", "bars", "--holdout", "strangers", "--policy", folder / "one.toml")
    answer(services, "model", "train", "one", *given, "--set", f"size={SIDE}", "--set", "width=4")
    yield services
    services.database.dispose()


def _leave(desk: Services, model_name: str, number: int, version: int) -> Any:  # noqa: ANN401 - a report's predicate
    """One person asks, is approved and is unlearned; the report of the version, which our verifier accepts."""
    request_id = f"request{number}"
    verified_request(desk, request_id=request_id, subject=_who(number))
    desk.verified(request_id)
    with desk.transaction() as ledger:
        ledger.approve_request(request_id=request_id, actor="operator", now=desk.clock())
        model = ledger.model_named(model_name)
        batch = plan_batch(ledger, desk.store, model=model, ids=desk.ids, now=desk.clock())
        assert batch is not None
    assert run(desk, batch.run_id)
    with desk.read() as ledger:
        assert ledger.request(request_id).state is RequestState.FULFILLED
    bundle = desk.settings.workdir / "bundles" / f"{model_name}-v{version}"
    verdict = verify.verify(bundle, desk.policy_text())
    assert verdict.ok, [step for step in verdict.steps if not step.ok]
    return json.loads(base64.b64decode(json.loads((bundle / "report.dsse.json").read_bytes())["payload"]))["predicate"]


def test_a_spent_budget_makes_a_new_base_that_owes_nothing(desk: Services) -> None:
    """The second batch is refused on dp2 and retrained with a new base, as its report says, which owes nothing."""
    first = _leave(desk, "one", 0, 2)
    spent = answer(desk, "model", "show", "one")["budget"]
    second = _leave(desk, "one", 1, 3)
    renewed = answer(desk, "model", "show", "one")["budget"]

    certificate = first["guarantee"]["certificate"]
    assert (certificate["unitsDeletedSinceBase"], certificate["unitsLeft"], certificate["points"]) == (1, 0, PEOPLE)
    assert (spent["deleted"], spent["left"]) == (1, 0)
    assert spent["says"] == "Nothing is left: the next retraining makes a new base."
    refused, made = second["attempts"]
    assert (refused["rung"], refused["outcome"], made["rung"]) == ("dp2", "refused", "retrain")
    assert "the deletion budget of the DP base does not reach" in refused["why"]
    assert (second["guarantee"]["class"], second["guarantee"]["certificate"]) == ("exact", None)
    assert "A new differentially private base" in second["guarantee"]["statement"]
    assert refused["why"] in second["guarantee"]["statement"]
    assert (renewed["units"], renewed["deleted"], renewed["left"]) == (PEOPLE - 2, 0, 1)


def test_noisy_steps_publish_a_certificate_that_uses_nothing_up(desk: Services, tmp_path: Path) -> None:
    """Without a base: approved, unlearned by noisy clipped steps, certified, and verified."""
    (tmp_path / "noisy.toml").write_text(NOISY)
    path = answer(desk, "model", "show", "one")["path"]
    given = ("--dataset", "others", "--holdout", "strangers", "--start", path, "--policy", tmp_path / "noisy.toml")
    answer(desk, "model", "add", "noisy", path, *given)

    report = _leave(desk, "noisy", 100, 2)

    certificate = report["guarantee"]["certificate"]
    tried = [(one["rung"], one["outcome"], one["why"]) for one in report["attempts"]]
    assert (tried, report["guarantee"]["class"]) == ([("noisy-ft", "published", None)], "certified")
    assert certificate["accountant"]["mechanism"] == "noisy_clipped_steps"
    assert 7.9 < certificate["epsilon"] <= 8
    assert certificate["unitsLeft"] is None
    assert answer(desk, "model", "show", "noisy")["budget"] is None
    desk.store.check(Path(path).name)  # the other model of the same weights still has them
