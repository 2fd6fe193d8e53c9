"""`forget-set stress`: two sets, each unlearned and retrained, measured and printed; what is refused; what goes on."""

import json
import shutil
from pathlib import Path

import pytest
from rich.table import Table

from compliance.cli import stress, stress_stages
from compliance.execution.process import Progress
from engine.checkpoints import save
from engine.contract import Evidence, Job
from engine.corpus import write_records
from engine.run import run as engine_run
from tests.compliance.terminal import Ran, refusal, run
from tests.engine import painted, tiny

QUICK = ("--set-reference", "epochs=1", "--set-measure", "resamples=100")
SEARCH = ("--set-search", "rounds=1", "--set-search", "epochs=1")


class InThisProcess:
    """An engine without a process of its own, which counts its jobs."""

    def __init__(self, *, log: Path, threads: int) -> None:
        self.jobs, self.log, self.threads = 0, log, threads

    def run(self, job: Job, progress: Progress) -> Evidence:
        """Do a job."""
        self.jobs += 1
        return engine_run(job, Path(), lambda *_: progress({}))

    def kill(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing runs."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier, a start, pictures it was trained on and pictures it was not, and a language model."""
    folder = tmp_path_factory.mktemp("stress")
    write_records(folder / "all.jsonl", painted.records(range(24)))
    write_records(folder / "strangers.jsonl", painted.records(range(40, 56)))
    save(folder / "m", *painted.network())
    save(folder / "start", *painted.network(1))
    tiny.folder(folder / "text")
    return folder


def stressed(room: Path, *more: object, methods: str = "finetune", model: str = "m", data: str = "all.jsonl") -> Ran:
    """A short test in the room; what is said again replaces what stands here."""
    files = ("--model", room / model, "--data", room / data, "--holdout", room / "strangers.jsonl")
    return run("forget-set", "stress", "--methods", methods, *files, "--count", "6", *QUICK, *SEARCH, *more)


@pytest.mark.slow
def test_methods_are_measured_on_both_sets_beside_retraining(room: Path, tmp_path: Path) -> None:
    """Sets of one size, every metric with its interval beside the reference's, and nobody's record in what is told."""
    out = tmp_path / "out"
    one_epoch = ("--set", "finetune.epochs=1")
    ran = stressed(room, "--out", out, "--reference-start", room / "start", *one_epoch, "--json")

    assert (ran.code, ran.err) == (0, "")
    value = ran.value
    assert [(row["set"], row["method"]) for row in value["rows"]] == [("random", "finetune"), ("worst", "finetune")]
    assert {name: one["forget"]["records"] for name, one in value["sets"].items()} == {"random": 6, "worst": 6}
    assert 0 <= value["sets"]["worst"]["overlap"] <= 1
    for row in value["rows"]:
        for metric in stress.METRICS:
            found = row["metrics"][metric]["after"]
            assert found["ci95"][0] <= found["value"] <= found["ci95"][1]
            assert row["metrics"][metric]["reference"] is not None
    assert json.loads((out / "stress.json").read_text()) == {k: v for k, v in value.items() if k != "out"}
    assert "picture-" not in ran.out
    shown = list(stress._people(value))
    assert isinstance(shown[0], Table)
    assert shown[0].row_count == 4  # on each set the method and retraining
    other = stressed(room, "--out", out, "--reference-start", room / "start", *one_epoch, "--seed", "5")
    assert "holds another stress test (it differs in: seed)" in refusal(other)


def test_an_interrupted_test_goes_on(room: Path, tmp_path: Path) -> None:
    """What was done is taken as it is, and what is missing is made again as it was."""
    engines: list[InThisProcess] = []

    def started(*, log: Path, threads: int) -> InThisProcess:
        engines.append(InThisProcess(log=log, threads=threads))
        return engines[-1]

    asked = stress_stages.Stress(
        methods=("ga",),
        out=tmp_path / "out",
        model=room / "m",
        data=painted.records(range(24)),
        holdout=painted.records(range(40, 56)),
        count=6,
        settings={"ga": {"epochs": 1}},
        search_settings={"rounds": 1, "epochs": 1},
        measure_settings={"resamples": 100},
    )
    rows = stress_stages.run(asked, started)
    assert engines[0].jobs == 1 + 2 * 2  # a search, and a method on two sets, made and measured
    assert len({row.measured.model_digests["after"] for row in rows}) == 2
    assert all("reference" not in row.measured.model_digests for row in rows)

    shutil.rmtree(asked.out / "models" / "worst" / "ga")
    again = stress_stages.run(asked, started)
    assert engines[1].jobs == 1
    assert [row.measured.findings for row in again] == [row.measured.findings for row in rows]


@pytest.mark.parametrize("by", stress_stages.BY)
def test_a_random_set_is_whole_groups_and_repeatable(by: str) -> None:
    """What is forgotten together leaves together, the rest stays in its order, and the seed decides."""
    records = painted.records(range(24), a_unit=2)
    made = stress_stages.drawn(records, count=2, by=by, seed=3)
    gone = {stress_stages.group(record, by) for record in made.forget}

    assert len(gone) == 2
    assert tuple(r for r in records if stress_stages.group(r, by) not in gone) == made.retain
    assert made == stress_stages.drawn(records, count=2, by=by, seed=3)
    assert made != stress_stages.drawn(records, count=2, by=by, seed=4)


@pytest.mark.parametrize(
    ("more", "given", "sentence"),
    [
        ((), {}, "--reference-start DIR, or --no-reference"),
        (("--no-reference", "--by", "person"), {}, "options.by must be one of: record, unit, class"),
        (("--no-reference", "--by", "class"), {}, "--count must be below the number of classes, which is 4"),
        (("--no-reference", "--set", "epochs=2"), {}, "--set epochs must be METHOD.KEY=VALUE"),
        (("--no-reference", "--set", "finetune.gamma=1"), {}, "unknown key 'gamma'"),
        (("--no-reference", "--set-search", "by=unit"), {}, "has an option of its own: --by"),
        (("--no-reference",), {"methods": ","}, "--methods names no method"),
        (("--no-reference",), {"methods": "finetune,retrain"}, "the method 'retrain' needs base"),
        (("--no-reference",), {"methods": "npo"}, "is for language models, and this is image"),
        (("--no-reference",), {"methods": "nope"}, "there is no method 'nope'"),
        (("--no-reference",), {"model": "text"}, "is no image classifier"),
        (("--no-reference",), {"data": "strangers.jsonl"}, "--holdout shares a record_id with --data"),
    ],
)
def test_what_cannot_be_tested_is_refused(
    room: Path, tmp_path: Path, more: tuple[str, ...], given: dict[str, str], sentence: str
) -> None:
    """In one line, before an engine is started or anything is written."""
    assert sentence in refusal(stressed(room, "--out", tmp_path / "no", *more, **given))
    assert not (tmp_path / "no").exists()
