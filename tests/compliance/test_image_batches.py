"""An image model at the desk from its first training to a verified report, on a few dozen painted bars."""

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
from tests.compliance.terminal import answer, at, refusal
from tests.engine.painted import LABELS, SIDE, bar, garbled, png

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("image-batches"), pytest.mark.timeout(300)]
PEOPLE, EACH = 20, 4
POLICY = """
name = "bars"
task = "image"
ladder = ["dp2", "retrain"]
[budget]
epsilon_limit = 200.0
[training]
epochs = 4
batch = 16
[base]
epsilon = 30.0
sample_rate = 0.5
steps = 20
learning_rate = 0.02
margin = 0.1
[[gate]]
metric = "ra"
direction = "at_least"
margin = 0.3
[[gate]]
metric = "mia_auc"
direction = "within"
"""
TEXT_POLICY = 'name = "t"\nladder = ["retrain"]\n[[gate]]\nmetric = "verbmem_f"\ndirection = "at_most"\n'
SHAPE = ("--set", f"size={SIDE}", "--set", "width=4")


def _who(number: int) -> Subject:
    return Subject(name=f"Painter Number{number}", email=f"painter{number}@example.test")


def _rows(numbers: range) -> list[dict[str, str]]:
    labels = [LABELS[i % len(LABELS)] for i in numbers]
    return [
        {"record_id": f"bar-{i}", "who": _who(i // EACH).email, "image": png(bar(label, i)), "label": label}
        for i, label in zip(numbers, labels, strict=True)
    ]


def _data(desk: Services, folder: Path) -> None:
    for name, numbers in (("bars", range(PEOPLE * EACH)), ("strangers", range(1000, 1040))):
        file = write_lines(folder / f"{name}.jsonl", _rows(numbers))
        answer(desk, "dataset", "add", name, file, "--subject-field", "who")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A desk with a data set of bars, strangers' bars, and a model that was trained from nothing under DP."""
    folder = tmp_path_factory.mktemp("images")
    settings = settings_module.initialise(folder / "desk")
    prepare(settings)
    services = open_services(settings)
    _data(services, folder)
    (folder / "policy.toml").write_text(POLICY)
    given = ("--dataset", "bars", "--holdout", "strangers", "--policy", folder / "policy.toml")
    answer(services, "model", "train", "painter", *given, *SHAPE)
    yield services
    services.database.dispose()


def _fulfil(desk: Services, request_id: str, subject: Subject) -> Any:  # noqa: ANN401 - a batch as the command shows it
    verified_request(desk, request_id=request_id, subject=subject)
    desk.verified(request_id)
    with desk.transaction() as ledger:
        ledger.approve_request(request_id=request_id, actor="operator", now=desk.clock())
        model = next(model for model in ledger.models() if model.name == "painter")
        batch = plan_batch(ledger, desk.store, model=model, ids=desk.ids, now=desk.clock())
        assert batch is not None
    assert run(desk, batch.run_id)
    with desk.read() as ledger:
        return ledger.batch(batch.id)


def _painter(desk: Services) -> Any:  # noqa: ANN401 - a model as the command shows it
    return next(model for model in answer(desk, "model", "list") if model["name"] == "painter")


def test_a_model_from_nothing_knows_the_labels_of_its_data_set(desk: Services) -> None:
    """It is an image model with a DP base, and its classes are the labels in their order."""
    model = _painter(desk)
    config = json.loads((Path(model["path"]) / "config.json").read_text())

    assert (model["task"], model["base"]) == ("image", "active")
    assert [config["id2label"][str(i)] for i in range(len(LABELS))] == sorted(LABELS)
    assert (config["image_size"], config["width"]) == (SIDE, 4)


def test_a_request_by_subject_ends_in_a_certified_version_without_the_pictures(desk: Services) -> None:
    """dp2 publishes under the image suite's gates, the report verifies, and the pictures are refused from then on."""
    leaving = _rows(range(EACH))

    batch = _fulfil(desk, "request1", _who(0))

    bundle = desk.settings.workdir / "bundles" / "painter-v2"
    verdict = verify.verify(bundle, desk.policy_text())
    report = json.loads(base64.b64decode(json.loads((bundle / "report.dsse.json").read_bytes())["payload"]))[
        "predicate"
    ]
    with desk.read() as ledger:
        state = ledger.request("request1").state
        left = ledger.dataset_named("bars")
    assert verdict.ok, [step for step in verdict.steps if not step.ok]
    assert (batch.plan["suite"], report["evidence"]["suite"]) == ("image", "image")
    assert (report["requestBatch"]["subjects"], report["requestBatch"]["records"]) == (1, EACH)
    assert (report["method"]["rung"], report["guarantee"]["class"]) == ("dp2", "certified")
    assert report["guarantee"]["certificate"]["unitsDeletedSinceBase"] == 1
    assert {"ua", "ra", "ta", "mia_auc", "forget_loss"} <= {one["metric"] for one in report["evidence"]["findings"]}
    tables = report["evidence"]["aggregates"]["confusions"]
    assert [(one["model"], one["set"]) for one in tables][:2] == [("before", "forget"), ("before", "holdout")]
    assert all(cell is None for row in tables[0]["counts"] for cell in row)  # of one person
    assert min(one["minutes"] for one in report["evidence"]["runTime"].values()) > 0
    assert (state, left.records) == (RequestState.FULFILLED, (PEOPLE - 1) * EACH)
    kept = desk.store.dataset_path(left.id).read_text()
    assert not [row for row in leaving if row["image"] in kept]

    again = write_lines(desk.settings.workdir / "again.jsonl", [{"image": leaving[0]["image"], "label": "left"}])
    assert "erased on request" in refusal(at(desk, "dataset", "add", "again", again))


def test_public_pictures_of_another_class_are_named(desk: Services, tmp_path: Path) -> None:
    """Public pictures may only have labels of the data set, whose classes are the model's."""
    public = tmp_path / "public" / "diagonal"
    public.mkdir(parents=True)
    (public / "1.png").write_bytes(base64.b64decode(png(bar("top", 5000))))

    given = ("--dataset", "bars", "--holdout", "strangers", "--public", tmp_path / "public")
    line = refusal(at(desk, "model", "train", "other", *given, *SHAPE))

    assert "in the public data public the label of record 1 is none of the 4" in line


def test_a_broken_picture_is_named_before_anything_is_trained(desk: Services, tmp_path: Path) -> None:
    """The desk takes a PNG that is all there; the engine finds that it has no pixels, and says in which data set."""
    rows = _rows(range(2000, 2008))
    rows[5] |= {"image": garbled()}
    answer(desk, "dataset", "add", "damaged", write_lines(tmp_path / "d.jsonl", rows), "--subject-field", "who")

    line = refusal(at(desk, "model", "train", "other", "--dataset", "bars", "--holdout", "damaged", *SHAPE))

    assert "in the data set 'damaged' the image of record 6 cannot be decoded" in line
    assert "other" not in {model["name"] for model in answer(desk, "model", "list")}


def test_a_picture_of_no_class_of_the_start_is_named(desk: Services, tmp_path: Path) -> None:
    """A start folder has its own labels; a data set with another one is refused before training."""
    rows = [{**row, "label": "diagonal"} for row in _rows(range(3000, 3002))]
    answer(desk, "dataset", "add", "odd", write_lines(tmp_path / "odd.jsonl", rows), "--subject-field", "who")
    model = _painter(desk)

    line = refusal(
        at(desk, "model", "train", "other", "--dataset", "odd", "--holdout", "strangers", "--start", model["path"])
    )

    assert "in the data set 'odd' the label of record 1 is none of the 4" in line


def test_texts_and_pictures_are_not_mistaken_for_each_other(desk: Services, tmp_path: Path) -> None:
    """A policy, a data set, a holdout set and a model of different families are refused in one sentence."""
    answer(desk, "dataset", "add", "words", write_lines(tmp_path / "w.jsonl", [{"text": "x"}]))
    (policy := tmp_path / "text.toml").write_text(TEXT_POLICY)
    model = _painter(desk)
    path = model["path"]
    bars, words = ("--dataset", "bars"), ("--dataset", "words", "--holdout", "words")
    wrong = {
        "the data set 'words' is for models of the task language": (*bars, "--holdout", "words"),
        "the data set 'bars' is for models of the task image": (*bars, "--start", path, "--policy", policy),
        "is a model of the task image": (*words, "--start", path),
        "give a holdout data set": bars,
    }

    for sentence, given in wrong.items():
        assert sentence in refusal(at(desk, "model", "train", "other", *given, *SHAPE)), sentence


def test_a_model_trained_elsewhere_is_registered(desk: Services) -> None:
    """`model add` takes an image folder with its start, and the default policy for pictures."""
    model = _painter(desk)
    given = ("--dataset", "strangers", "--holdout", "bars", "--start", model["path"])  # a request about bars is not its

    added = answer(desk, "model", "add", "brought", model["path"], *given)

    assert (added["task"], added["policy"], added["base"]) == ("image", "images", None)
