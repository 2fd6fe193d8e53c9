"""Certified and image jobs on the command line: noise from a bound, the bound of what ran, pictures in three forms."""

from pathlib import Path

import pytest

from audits import mechanisms
from compliance.cli import certified
from compliance.errors import InvalidInputError
from compliance.execution.process import EngineProcess
from engine.catalogue import check_options
from engine.contract import Job, Kind
from engine.corpus import write_records
from engine.guarantees.convex import record
from tests.compliance.terminal import refusal, run
from tests.engine import painted

STEPS = ("--set", "noisy_steps=3", "--set", "epochs=2", "--set", "start_radius=0.1", "--set", "batch=8")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier from nothing, and pictures as JSON lines."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "data").mkdir()
    sets = {"forget": range(4), "retain": range(4, 28), "holdout": range(100, 112)}
    for name, numbers in sets.items():
        write_records(folder / "data" / f"{name}.jsonl", painted.records(numbers))
    options = {"labels": list(painted.LABELS), "size": painted.SIDE, "width": 4}
    job = Job(version=1, kind=Kind.INITIALISE, task="image", seed=1, out=str(folder / "start"), options=options)
    with EngineProcess(log=folder / "engine.log", threads=1) as process:
        process.run(job, lambda _event: None)
    return folder


@pytest.mark.slow
def test_a_classifier_forgets_within_the_bound_that_was_asked_for(room: Path) -> None:
    """The noise follows from epsilon, the epsilon of what ran never exceeds it, and the result can be measured."""
    files = ("--model", room / "start", "--retain", room / "data" / "retain.jsonl", "--out", room / "new")
    ran = run("unlearn", "noisy-ft", *files, "--epsilon", "4", "--delta", "1e-4", *STEPS, "--json")

    assert (ran.code, ran.err) == (0, "")
    assert ran.value["evidence"]["guarantee"] == "certified"
    assert 3.9 < ran.value["epsilon"] <= 4
    assert ran.value["delta"] == 1e-4
    assert ran.value["evidence"]["accountant"]["noise"] == ran.value["evidence"]["parameters"]["sigma"]

    both = ("--model", room / "new", "--reference", room / "start")
    measured = run("evaluate", "image", *both, "--data", room / "data", "--json")

    assert (measured.code, measured.err) == (0, "")
    assert {"ua", "ra", "ta", "mia_efficacy"} <= set(measured.value["metrics"])
    assert set(measured.value["difference"]) == set(measured.value["metrics"])
    assert measured.value["excluded_classes"] == 0


def test_next_to_no_noise_has_no_bound_and_stops_nothing() -> None:
    """The model is made by then; what it may claim is that there is no number."""
    made = record(check_options("unlearn", "newton-noise", {"sigma": 1e-30}, "image"))
    assert certified.bound(made, delta=1e-4) == {"epsilon": None, "delta": 1e-4}
    assert certified.bound(None, delta=1e-4) == {}


@pytest.mark.parametrize("method", ["newton-noise", "descent-noise", "langevin"])
def test_the_noise_of_a_convex_head_follows_from_the_bound(method: str) -> None:
    """The least that keeps it, by the mechanism that the engine will report."""
    options = certified.with_noise(method, {"penalty": 1e-3}, task="image", epsilon=1.0, delta=1e-4)
    made = record(check_options("unlearn", method, options, "image"))
    assert made is not None

    assert 0.999 < mechanisms.epsilon(made, delta=1e-4, group=1) <= 1
    assert options["penalty"] == 1e-3


@pytest.mark.parametrize("method", ["newton-removal", "descent-to-delete", "rewind"])
def test_the_noise_of_what_keeps_a_state_follows_from_the_bound_and_the_files(room: Path, method: str) -> None:
    """Classes are the model's, and points the records that stay, unless they are given."""
    files = {"model": room / "start", "retain": room / "data" / "retain.jsonl"}
    told = certified.told_of(method, {}, **files)
    options = certified.with_noise(method, told, task="image", epsilon=1.0, delta=1e-4)
    made = record(check_options("unlearn", method, options, "image"))
    assert made is not None

    assert 0.999 < mechanisms.epsilon(made, delta=1e-4, group=1) <= 1
    assert told == {"classes": 4} | ({"points": 24} if method == "descent-to-delete" else {})
    assert certified.told_of(method, {"classes": 9, "points": 8}, **files) == {"classes": 9, "points": 8}
    assert certified.told_of("newton-noise", {}, **files) == {}


def test_a_model_that_does_not_name_its_classes_is_refused(tmp_path: Path) -> None:
    """With what to give in their place."""
    with pytest.raises(InvalidInputError, match="--set classes=NUMBER"):
        certified.told_of("rewind", {}, model=tmp_path, retain=tmp_path)


@pytest.mark.parametrize(
    ("method", "extra", "sentence"),
    [
        ("newton-noise", ("--epsilon", "1", "--delta", "0.042"), "needs a delta below 1/N"),
        ("noisy-ft", ("--epsilon", "1", "--delta", "0.042"), "needs a delta below 1/N, and with the 24 people"),
        ("descent-to-delete", ("--set", "sigma=1", "--delta", "0.5"), "needs a delta below 1/N"),
        ("newton-noise", (), "either --epsilon or --set sigma"),
        ("newton-noise", ("--epsilon", "1", "--set", "residual=0"), "above 0"),
        ("langevin", ("--epsilon", "1", "--delta", "1"), "elta"),
        ("noisy-ft", (), "either --epsilon or --set sigma"),
        ("noisy-ft", ("--epsilon", "1", "--set", "sigma=2"), "either --epsilon or --set sigma"),
        ("noisy-ft", ("--epsilon", "0"), "psilon"),
        ("noisy-ft", ("--epsilon", "1", "--set", "weight_decay=1e9"), "below 1"),
        ("task-vector", ("--epsilon", "1", "--forget", "retain.jsonl"), "has no such bound"),
        ("npo", ("--forget", "retain.jsonl"), "is for language models"),
    ],
)
def test_a_bound_that_cannot_be_kept_is_refused(room: Path, method: str, extra: tuple[str, ...], sentence: str) -> None:
    """In one sentence, before anything runs."""
    given = [str(room / "data" / one) if one.endswith(".jsonl") else one for one in extra]
    files = ("--model", room / "start", "--retain", room / "data" / "retain.jsonl", "--out", room / "never")

    assert sentence in refusal(run("unlearn", method, *files, *given))
    assert not (room / "never").exists()


def test_pictures_that_are_missing_are_named(room: Path, tmp_path: Path) -> None:
    """The suite says what it needs."""
    ran = run("evaluate", "image", "--model", room / "start", "--data", tmp_path)

    assert "--data lacks forget.jsonl" in refusal(ran)
