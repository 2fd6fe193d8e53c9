"""The contract with the desk: strict both ways, and no way to ask for a guarantee's opposite."""

import dataclasses
import json
import math
from typing import Any

import pytest

from engine import contract
from engine.catalogue import check_options, defaults
from engine.contract import Estimate, Evidence, FileDigest, Finding, Guarantee, Job, Kind
from engine.errors import CODES, EngineError

JOB: dict[str, Any] = {
    "version": 1,
    "kind": "unlearn",
    "method": "npo",
    "seed": 7,
    "out": "new",
    "model": "old",
    "forget": "forget.jsonl",
    "retain": "retain.jsonl",
    "options": {"steps": 3},
}
EVIDENCE = Evidence(
    version=1,
    kind=Kind.UNLEARN,
    method="npo",
    variant="gd",
    guarantee=Guarantee.EMPIRICAL,
    parameters={"steps": 3, "seed": 7},
    seconds=1.5,
    cpu_seconds=1.25,
    steps=3,
    model_files={"model.safetensors": FileDigest(sha256="ab" * 32, size=12)},
    model_digests={"model": "cd" * 32},
    data_digests={"forget": "ef" * 32},
    code_digest="01" * 32,
    config_digest="23" * 32,
    environment={"threads": 1},
    findings=(Finding(metric="verbmem_f", after=Estimate(value=0.25, ci95=(0.125, 0.5), n=4)),),
)
DP = {"sigma": 1.0, "sample_rate": 0.5, "steps": 2}


def refused(job: dict[str, Any]) -> EngineError:
    """The error that a job provokes."""
    with pytest.raises(EngineError) as caught:
        Job.from_json(json.dumps(job))
    return caught.value


def test_a_job_comes_back_as_it_went() -> None:
    """A job that was written is read as the same job, without the keys that are empty."""
    job = Job.from_json(json.dumps(JOB))
    assert job.kind is Kind.UNLEARN
    assert job.threads == 1
    assert Job.from_json(job.to_json()) == job
    assert set(json.loads(job.to_json())) == {*JOB, "task", "threads", "processes", "tune"}


def test_evidence_comes_back_as_it_went() -> None:
    """Evidence survives JSON, with findings that were not measured as nulls."""
    assert Evidence.from_json(EVIDENCE.to_json()) == EVIDENCE
    finding = EVIDENCE.to_mapping()["findings"][0]
    assert finding["before"] is None
    assert finding["after"] == {"value": 0.25, "ci95": [0.125, 0.5], "n": 4}


def test_what_was_written_cannot_be_changed() -> None:
    """Evidence is frozen."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        EVIDENCE.steps = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"speed": 1}, "unknown key 'speed'"),
        ({"version": 2}, "version 1"),
        ({"version": True}, "job.version"),
        ({"seed": "7"}, "job.seed must be a whole number"),
        ({"seed": 7.0}, "job.seed must be a whole number"),
        ({"seed": -1}, "at least 0"),
        ({"threads": 0}, "at least 1"),
        ({"kind": "forget"}, "must be one of: initialise, train"),
        ({"method": None, "kind": "unlearn"}, "needs 'method'"),
        ({"out": None}, "needs 'out'"),
        ({"model": 5}, "job.model must be a text"),
        ({"options": []}, "job.options must be a JSON object"),
        ({"models": {"teacher": "x"}}, "unknown role 'teacher'"),
        ({"models": {"after": 1}}, "job.models.after must be a text"),
        ({"kind": "evaluate"}, "needs 'models'"),
        ({"kind": "dp_base", "train": "t"}, "needs 'holdout'"),
    ],
)
def test_a_job_that_is_not_quite_right_is_refused(change: dict[str, Any], sentence: str) -> None:
    """Unknown keys, other types and missing fields are each one sentence that names what to change."""
    error = refused({**JOB, **change})
    assert error.code == "bad_job"
    assert sentence in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "null", '"job"', '{"seed":1,"seed":2}', '{"seed":NaN}', "[" * 100_000, '{"a":Infinity}']
)
def test_a_line_that_is_no_job_is_refused(line: str) -> None:
    """Broken JSON, repeated keys, NaN and bottomless nesting are no jobs."""
    with pytest.raises(EngineError) as caught:
        Job.from_json(line)
    assert caught.value.code == "bad_job"


def test_a_missing_key_is_named() -> None:
    """A job without a seed is refused with the name of what is missing."""
    assert refused({key: value for key, value in JOB.items() if key != "seed"}).message == "job needs the key 'seed'"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_evidence_refuses_numbers_that_are_none(value: float) -> None:
    """NaN and infinities never leave the engine, wherever they stand."""
    estimate = Estimate(value=0.0, ci95=(0.0, value), n=3)
    for broken in (
        dataclasses.replace(EVIDENCE, seconds=value),
        dataclasses.replace(EVIDENCE, training={"last_loss": value}),
        dataclasses.replace(EVIDENCE, findings=(Finding(metric="recovery", after=estimate),)),
    ):
        with pytest.raises(EngineError) as caught:
            broken.to_json()
        assert caught.value.code == "not_finite"


@pytest.mark.parametrize(
    "change", [{"mood": 1}, {"seconds": "1"}, {"findings": [{"metric": 1}]}, {"guarantee": "sure"}]
)
def test_evidence_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    """Evidence is read as strictly as jobs are."""
    with pytest.raises(EngineError):
        Evidence.from_mapping({**EVIDENCE.to_mapping(), **change})


@pytest.mark.parametrize("switch", ["poisson", "skip_empty_rounds", "noise", "secure", "clipping", "delta", "seed"])
def test_dp_training_has_no_switch_for_what_its_theorem_needs(switch: str) -> None:
    """Sampling, clipping and noise cannot be turned off, because no such option exists."""
    with pytest.raises(EngineError, match=f"unknown key '{switch}'") as caught:
        check_options("dp_base", None, {**DP, switch: False})
    assert caught.value.code == "bad_options"


@pytest.mark.parametrize(
    "change",
    [
        {"sigma": 0},
        {"sigma": -1.0},
        {"sample_rate": 0},
        {"sample_rate": 1.5},
        {"steps": 0},
        {"steps": 2.0},
        {"clip": 0.0},
        {"margin": -0.1},
        {"sigma": True},
        {"sigma": None},
        {"rows_per_pass": "16"},
    ],
)
def test_unsound_settings_of_dp_training_are_refused(change: dict[str, Any]) -> None:
    """A mechanism under which the theorem says nothing is refused before anything is read."""
    with pytest.raises(EngineError) as caught:
        check_options("dp_base", None, {**DP, **change})
    assert caught.value.code == "bad_options"
    assert f"options.{next(iter(change))}" in caught.value.message


@pytest.mark.parametrize("missing", ["sigma", "sample_rate", "steps"])
def test_the_mechanism_has_no_defaults(missing: str) -> None:
    """What decides epsilon must be given by whoever has the accountant."""
    with pytest.raises(EngineError, match=f"needs the key '{missing}'"):
        check_options("dp_base", None, {key: value for key, value in DP.items() if key != missing})


@pytest.mark.parametrize(
    ("kind", "method", "options"),
    [
        ("unlearn", "npo", {"beta": 0}),
        ("unlearn", "npo", {"retain_term": "idk"}),
        ("unlearn", "ga", {"beta": 0.1}),
        ("unlearn", "retrain", {"forget_weight": 1.0}),
        ("unlearn", "fly", {}),
        ("unlearn", None, {}),
        ("evaluate", None, {"min_k": 1.5}),
        ("evaluate", None, {"suite": "wmdp"}),
        ("train", None, {"learning_rate": "fast"}),
        ("fly", None, {}),
    ],
)
def test_options_of_another_method_are_refused(kind: str, method: str | None, options: dict[str, Any]) -> None:
    """Each kind and method knows its own options and their ranges."""
    with pytest.raises(EngineError) as caught:
        check_options(kind, method, options)
    assert caught.value.code == "bad_options"


def test_defaults_are_applied() -> None:
    """What was not said stands in the options as it would be used, and a whole number may stand for a real one."""
    options = check_options("unlearn", "npo", {"learning_rate": 1, "steps": 2})
    assert dataclasses.asdict(options) == {**defaults("unlearn", "npo"), "learning_rate": 1.0, "steps": 2}
    assert defaults("unlearn", "npo")["beta"] == 0.1
    assert "sigma" not in defaults("dp_base")


def test_guarantees_are_the_five_classes() -> None:
    """There are five classes and no others."""
    assert list(Guarantee) == ["exact", "certified", "conditional", "empirical", "suppression"]
    assert contract.VERSION == 1
    assert {"bad_job", "bad_options", "bad_data", "bad_model", "pickle_refused", "not_finite", "internal"} <= set(CODES)
