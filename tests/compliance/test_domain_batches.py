"""A model of domains at the desk: trained from nothing, a domain held back by prompts at once, then trained away."""

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from audits import verify
from compliance import settings as settings_module
from compliance.execution.looking import BLANK
from compliance.execution.training import default_policy
from compliance.ledger.lifecycle import RequestState
from compliance.ledger.views import Subject
from compliance.wiring import Services, open_services, prepare
from tests.compliance.builders import write_lines
from tests.compliance.conftest import verified_request
from tests.compliance.terminal import answer, at, refusal
from tests.engine import styled
from tests.engine.painted import garbled

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("domain-batches"), pytest.mark.timeout(300)]
LEAVES, STAY = "negative", ("photo", "tinted")
POLICY = """
name = "bars"
task = "vision-language"
ladder = ["adu", "retrain"]
[training]
epochs = 2
batch = 16
[methods.adu]
epochs = 1
shots = 2
prompts = 2
[[gate]]
metric = "for"
direction = "at_least"
margin = 0.99
[[gate]]
metric = "mem"
direction = "at_least"
margin = 0.99
"""
SHAPE = ("--set", "size=12", "--set", "patch=4", "--set", "width=16", "--set", "layers=2")


def rows(numbers: Sequence[int], domains: Sequence[str] = styled.DOMAINS) -> list[dict[str, str]]:
    """Lines of pictures, as a user brings them."""
    return [
        {"record_id": one.record_id, "image": one.image or "", "label": one.label or "", "domain": one.domain or ""}
        for one in styled.records(numbers, domains)
    ]


def given(desk: Services, name: str, values: list[dict[str, str]]) -> str:
    """A data set with these lines; its name."""
    answer(desk, "dataset", "add", name, write_lines(desk.settings.workdir / f"{name}.jsonl", values))
    return name


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A desk with pictures of bars in three domains, others that no model has seen, and a policy."""
    folder = tmp_path_factory.mktemp("domains")
    settings = settings_module.initialise(folder / "desk", engine_threads="1")
    prepare(settings)
    services = open_services(settings)
    given(services, "bars", rows(range(12)))
    given(services, "strangers", rows(range(100, 108)))
    (folder / "desk" / "policy.toml").write_text(POLICY)
    yield services
    services.database.dispose()


def trained(desk: Services, name: str, *arguments: object, dataset: str = "bars", holdout: str = "strangers") -> Any:  # noqa: ANN401 - a terminal's answer
    """What `model train` says."""
    sets = ("--dataset", dataset, "--holdout", holdout, "--policy", desk.settings.workdir / "policy.toml")
    return at(desk, "model", "train", name, *sets, *SHAPE, *arguments, "--json")


def report(desk: Services, number: int, model: Path | None) -> Any:  # noqa: ANN401 - a report's predicate
    """What the verified report on a version says."""
    bundle = desk.settings.workdir / "bundles" / f"painter-v{number}"
    verdict = verify.verify(bundle, desk.policy_text(), model=model)
    assert verdict.ok, [step for step in verdict.steps if not step.ok]
    return json.loads(base64.b64decode(json.loads((bundle / "report.dsse.json").read_bytes())["payload"]))["predicate"]


def test_a_domain_is_held_back_at_once_and_then_trained_away(desk: Services) -> None:
    """From a request to two verified reports; the weights that were guarded are sealed with those before them."""
    model = trained(desk, "painter").value
    config = json.loads((Path(model["path"]) / "config.json").read_text())
    subject = Subject(name="Painter Number1", email="painter1@example.test", target=LEAVES)
    verified_request(desk, request_id="r1", subject=subject, scope="domain")
    desk.verified("r1")
    with desk.transaction() as ledger:
        ledger.approve_request(request_id="r1", actor="operator", now=desk.clock())
    (batch,) = answer(desk, "batch", "plan")

    done = answer(desk, "batch", "run", batch["id"])
    versions = answer(desk, "model", "versions", "painter")
    guard, end = report(desk, 2, None), report(desk, 3, Path(versions[-1]["path"]))

    assert (model["task"], config["architectures"], len(config["id2label"])) == ("vision-language", ["CLIPModel"], 4)
    assert [(one["rung"], one["outcome"]) for one in done["attempts"]] == [("adu", "interim"), ("retrain", "published")]
    assert [(one["state"], one["guarantee"]) for one in versions] == [
        ("sealed", "none"),
        ("sealed", "suppression"),
        ("current", "exact"),
    ]
    assert {"guard/guard.json", "guard/guard.safetensors"} == set(guard["model"]["after"]["files"]) - set(
        guard["model"]["before"]["files"]
    )
    assert not [name for name in end["model"]["after"]["files"] if name.startswith("guard/")]
    assert {"mem", "for", "h", "domain_probe"} == {one["metric"] for one in guard["evidence"]["findings"]}
    assert end["dataset"]["removed"] == 12
    with desk.read() as ledger:
        assert ledger.request("r1").state is RequestState.FULFILLED
        left = desk.store.records(ledger.dataset_named("bars").id)
    assert {one.domain for one in left} == set(STAY)


def test_what_could_not_be_measured_is_refused_before_training(desk: Services) -> None:
    """A broken picture by its position, a holdout set of other domains, one domain, none at all, and no holdout."""
    calm = given(desk, "calm", rows(range(600, 604), STAY))
    broken = rows(range(200, 204), STAY)
    broken[5]["image"] = garbled()
    plain = [{key: row[key] for key in ("record_id", "image", "label")} for row in rows(range(500, 504))]
    one = given(desk, "one", rows(range(400, 404), STAY[:1]))
    sets = {
        "in the data set 'damaged' the image of record 6 cannot be decoded": given(desk, "damaged", broken),
        "the data sets 'calm' and 'one' have other domains (2 and 1)": one,
        "is for models of the task image": given(desk, "plain", plain),
    }
    for sentence, name in sets.items():
        assert sentence in refusal(trained(desk, "other", dataset=calm, holdout=name)), sentence
    assert "has one domain" in refusal(trained(desk, "other", dataset=one, holdout=one))
    missing = at(desk, "model", "train", "other", "--dataset", calm, *SHAPE)
    assert "its measurements compare with people no model has seen; give a holdout" in refusal(missing)
    assert "other" not in {model["name"] for model in answer(desk, "model", "list")}
    runs = desk.store.root / "runs"
    assert not [path for path in runs.rglob("*") if path.is_file()]


def test_the_default_policy_guards_first_and_then_trains_anew() -> None:
    """Both gates are about the model that never saw the domain."""
    policy = default_policy("vision-language")

    assert policy.ladder == ("adu", "retrain")
    assert [(gate.metric, gate.direction, gate.margin) for gate in policy.gates] == [
        ("for", "at_least", 0.05),
        ("mem", "at_least", 0.05),
    ]
    assert base64.b64decode(BLANK).startswith(b"\x89PNG")
