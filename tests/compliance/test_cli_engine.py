"""`unlearn` and `evaluate`: folders and files in, a folder or numbers out, and no desk anywhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compliance.execution.process import EngineProcess
from engine.contract import Job, Kind
from tests.compliance.builders import write_lines
from tests.compliance.terminal import refusal, run

SMALL = {"vocabulary": 300, "hidden": 16, "layers": 1, "heads": 1, "intermediate": 16, "epochs": 1}


def records(people: range) -> Iterator[dict[str, str]]:
    """A passage and a question about each of some people."""
    for number in people:
        yield {
            "record_id": f"t{number}",
            "unit": f"u{number}",
            "text": f"Person {number} lives in house {number} by the sea.",
        }
        yield {
            "record_id": f"q{number}",
            "unit": f"u{number}",
            "question": f"Where is {number}?",
            "answer": f"house {number}",
        }


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small model that was trained on nothing private, and files to unlearn and to measure with."""
    folder = tmp_path_factory.mktemp("room")
    (folder / "data").mkdir()
    write_lines(folder / "data" / "forget.jsonl", records(range(3)))
    write_lines(folder / "data" / "holdout.jsonl", records(range(20, 24)))
    write_lines(folder / "retain.jsonl", records(range(3, 10)))
    public = write_lines(folder / "public.jsonl", records(range(40, 50)))
    job = Job(version=1, kind=Kind.INITIALISE, seed=1, out=str(folder / "model"), train=str(public), options=SMALL)
    with EngineProcess(log=folder / "engine.log", threads=1) as process:
        process.run(job, lambda _event: None)
    return folder


@pytest.mark.slow
def test_a_model_is_unlearned_and_measured(room: Path) -> None:
    """The new folder has the digest that both commands print, and every number has its interval."""
    ran = run(
        *("unlearn", "npo", "--model", room / "model", "--forget", room / "data" / "forget.jsonl"),
        *("--retain", room / "retain.jsonl", "--out", room / "new", "--set", "steps=1", "--seed", "7", "--json"),
    )

    assert (ran.code, ran.err) == (0, "")
    assert ran.value["evidence"]["guarantee"] == "empirical"
    assert (ran.value["evidence"]["parameters"]["steps"], ran.value["evidence"]["parameters"]["seed"]) == (1, 7)
    assert ran.value["rte"]["minutes"] == pytest.approx(ran.value["evidence"]["seconds"] / 60)

    measured = run("evaluate", "membership", "--model", room / "new", "--data", room / "data", "--json")

    assert (measured.code, measured.err) == (0, "")
    assert set(measured.value) == {"suite", "metrics", "model_digest", "data_digest", "suite_version"}
    assert measured.value["model_digest"] == ran.value["model_digest"]
    auc: dict[str, Any] = measured.value["metrics"]["privleak_auc"]
    assert set(auc) == {"value", "ci95", "n"}
    assert auc["ci95"][0] <= auc["value"] <= auc["ci95"][1]
    assert "privleak" not in measured.value["metrics"]
    again = run("unlearn", "npo", "--model", room / "model", *_files(room), "--out", room / "new")
    assert "exists already" in refusal(again)


@pytest.mark.slow
def test_a_second_evaluation_is_free(room: Path, tmp_path: Path) -> None:
    """TOFU from its published layout; the same again loads no model and prints the same value."""
    data, asked = tmp_path / "tofu", {"question": "Where is 1?", "answer": "house 1", "perturbed_answer": ["2", "3"]}
    data.mkdir()
    for name in ("forget01", "retain", "real_authors", "world_facts"):
        write_lines(data / f"{name}_perturbed.json", [asked] * 3)
    said = ["evaluate", "tofu", "--model", room / "model", "--data", data, "--cache", tmp_path / "cache", "--json"]
    told = [*said, "--set", "generated_tokens=4", "--set", "resamples=100"]

    first, second = run(*told), run(*told)

    assert (first.code, first.err) == (0, "")
    assert set(first.value["metrics"]) >= {"probability_f", "rouge_f", "truth_ratio_f", "model_utility"}
    assert "forget_quality" not in first.value["metrics"]
    assert second.value == first.value
    [entry] = (tmp_path / "cache").iterdir()
    numbers = json.loads(entry.read_text())
    entry.write_text(json.dumps(numbers | {"forget_rouge": [0.125] * 3}))
    assert run(*told).value["metrics"]["rouge_f"]["value"] == 0.125


def _files(room: Path) -> list[str | Path]:
    return ["--forget", room / "data" / "forget.jsonl", "--retain", room / "retain.jsonl"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder that looks like one; nothing here gets as far as opening it."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps({}))
    (made / "model.safetensors").write_bytes(b"weights")
    return made


@pytest.mark.parametrize(
    ("method", "arguments", "sentence"),
    [
        ("magic", [], "methods are: retrain"),
        ("npo", [], "needs --forget and --retain"),
        ("retrain", [], "needs --base and --retain"),
        ("npo", ["--set", "steps"], "KEY=VALUE"),
        ("npo", ["--set", "steps=1", "--set", "steps=2"], "each key once"),
    ],
)
def test_what_a_method_cannot_do_is_one_line(folder: Path, method: str, arguments: list[str], sentence: str) -> None:
    """Refused before an engine is started."""
    out = folder.with_name("new")

    assert sentence in refusal(run("unlearn", method, "--model", folder, "--out", out, *arguments))
    assert not out.exists()


@pytest.mark.parametrize(
    ("setting", "sentence"), [("steps=many", "whole number"), ("stepz=1", "stepz"), ("beta=0", "above 0")]
)
def test_a_setting_that_does_not_exist_is_one_line(folder: Path, setting: str, sentence: str) -> None:
    """The sentence names the setting and what would do."""
    file = write_lines(folder / "records.jsonl", records(range(2)))
    given = ["--model", folder, "--forget", file, "--retain", file, "--out", folder / "new"]

    assert sentence in refusal(run("unlearn", "npo", *given, "--set", setting))


def test_an_unknown_suite_and_missing_data_are_one_line(folder: Path) -> None:
    """The suites and the files are named."""
    assert "muse, restor, tofu, membership, attacks" in refusal(
        run("evaluate", "magic", "--model", folder, "--data", folder)
    )
    assert "forget.jsonl" in refusal(run("evaluate", "membership", "--model", folder, "--data", folder))
    assert "retain.jsonl and holdout.jsonl" in refusal(run("evaluate", "attacks", "--model", folder, "--data", folder))
