"""`series`: four steps of unlearning with a real engine, resumed where they stopped, measured and drawn."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from compliance.cli import folds
from compliance.cli.stages import SCALABILITY, SUSTAINABILITY
from compliance.errors import InvalidInputError
from compliance.execution.process import EngineProcess
from engine.contract import Job, Kind
from engine.corpus import Record, by_unit
from tests.compliance.builders import write_lines
from tests.compliance.terminal import Ran, refusal, run

SMALL = {"vocabulary": 300, "hidden": 16, "layers": 1, "heads": 1, "intermediate": 16, "epochs": 1}
QUICK = ("--set", "steps=1", "--set-reference", "epochs=1", "--set-measure", "resamples=100")
BRIEF = ("--set-measure", "continuation_tokens=8", "--set-measure", "answer_tokens=4")
ROLES = {"before", "after", "reference", "difference"}


def records(people: range) -> Iterator[dict[str, str]]:
    """A passage and a question about each of some people."""
    for number in people:
        text = f"Person {number} lives in house {number} by the sea and sails a boat with {number} masts."
        yield {"record_id": f"t{number}", "unit": f"u{number}", "text": text}
        question = {"question": f"Where is {number}?", "answer": f"house {number}"}
        yield {"record_id": f"q{number}", "unit": f"u{number}", **question}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small model, and the records of a series."""
    folder = tmp_path_factory.mktemp("room")
    write_lines(folder / "forget.jsonl", records(range(6)))
    write_lines(folder / "retain.jsonl", records(range(10, 18)))
    write_lines(folder / "holdout.jsonl", records(range(20, 26)))
    public = write_lines(folder / "public.jsonl", records(range(40, 50)))
    job = Job(version=1, kind=Kind.INITIALISE, seed=1, out=str(folder / "model"), train=str(public), options=SMALL)
    with EngineProcess(log=folder / "engine.log", threads=1) as process:
        process.run(job, lambda _event: None)
    return folder


def series(room: Path, name: str, out: Path, *more: object) -> Ran:
    """One series of `ga` on the room's records."""
    given = ("--forget", room / "forget.jsonl", "--retain", room / "retain.jsonl", "--holdout", room / "holdout.jsonl")
    return run("series", name, "ga", "--model", room / "model", "--out", out, *given, *QUICK, *BRIEF, *more)


@pytest.mark.slow
def test_scalability_starts_every_step_from_the_target(room: Path, tmp_path: Path) -> None:
    """Nested forget sets, a reference each, every metric with its interval, and a picture for people."""
    out = tmp_path / "scal"
    ran = series(room, SCALABILITY, out, "--reference-start", room / "model", "--json")

    assert (ran.code, ran.err) == (0, "")
    value = ran.value
    assert {step["start"] for step in value["steps"]} == {value["target_model"]}
    assert [step["forget"]["units"] for step in value["steps"]] == [2, 4, 5, 6]
    assert [step["retain"]["units"] for step in value["steps"]] == [12, 10, 9, 8]
    assert len({step["after"] for step in value["steps"]}) == 4
    for step in value["steps"]:
        assert step["forget"] == step["forgotten"]
        for metric in ("verbmem_f", "knowmem_f", "knowmem_r", "privleak_auc"):
            assert set(step["metrics"][metric]) == ROLES
            low, high = step["metrics"][metric]["after"]["ci95"]
            assert low <= step["metrics"][metric]["after"]["value"] <= high
    stored = json.loads((out / "series.json").read_text())
    assert stored == {key: one for key, one in value.items() if key not in {"out", "charts"}}
    assert value["charts"] == ["series.svg", "series.png"]
    assert (out / "series.png").read_bytes().startswith(b"\x89PNG")
    assert ET.parse(out / "series.svg").getroot().tag.endswith("svg")  # noqa: S314 - our own file
    assert not list(out.rglob("*.jsonl"))  # records stay where they were


@pytest.mark.slow
def test_sustainability_goes_on_from_the_model_before(room: Path, tmp_path: Path) -> None:
    """Request t starts from model t-1; nothing forgotten comes back; what is done is not done again."""
    out = tmp_path / "sust"
    ran = series(room, SUSTAINABILITY, out, "--no-reference", "--json")

    assert (ran.code, ran.err) == (0, "")
    steps = ran.value["steps"]
    assert [step["start"] for step in steps] == [ran.value["target_model"], *(step["after"] for step in steps[:-1])]
    assert [step["forget"]["units"] for step in steps] == [2, 2, 1, 1]
    assert [step["forgotten"]["units"] for step in steps] == [2, 4, 5, 6]
    assert all(step["reference"] is None and step["metrics"]["privleak"]["after"] is None for step in steps)

    stamps = _stamps(out)
    shutil.rmtree(out / "step-4")
    (out / "step-4" / ".model.partial-1").mkdir(parents=True)  # as an engine leaves it that was killed
    (out / "step-3" / "measured.json").unlink()
    again = series(room, SUSTAINABILITY, out, "--no-reference", "--json")
    assert again.code == 0
    assert [step["after"] for step in again.value["steps"]] == [step["after"] for step in steps]
    assert [step["metrics"] for step in again.value["steps"]] == [step["metrics"] for step in steps]
    assert not list(out.glob("*/.*"))
    kept = {path: stamp for path, stamp in _stamps(out).items() if "step-4" not in path and "measured" not in path}
    assert kept == {path: stamps[path] for path in kept}

    other = series(room, SUSTAINABILITY, out, "--no-reference", "--seed", "5")
    assert "it differs in: folds, seed" in refusal(other)


def _stamps(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.glob("step-*/model*") if path.is_file()}


@pytest.mark.slow
def test_muses_own_folder_is_enough(room: Path, tmp_path: Path) -> None:
    """Folds, retain set and questions come out of the published layout."""
    data = _muse(tmp_path / "news")
    more = ("--data", data, "--no-reference", *QUICK, *BRIEF, "--json")
    ran = run("series", SUSTAINABILITY, "ga", "--model", room / "model", "--out", tmp_path / "out", *more)

    assert (ran.code, ran.err) == (0, "")
    assert ran.value["suite"] == "muse"
    assert [fold["records"] for fold in ran.value["folds"]] == [2, 2, 2, 2]
    assert len({step["items"] for step in ran.value["steps"]}) == 1
    assert {"verbmem_f", "knowmem_f", "knowmem_r", "privleak_auc"} <= set(ran.value["steps"][0]["metrics"])


def _muse(folder: Path) -> Path:
    questions = [{"question": f"Where is {i}?", "answer": f"house {i}"} for i in range(3)]
    texts = [f"Report {i}: the mayor of town {i} opened bridge {i} today." for i in range(12)]
    files: dict[str, Any] = {
        "verbmem/forget": [{"prompt": "Report 1: the", "gt": "mayor of town 1 opened bridge 1 today."}],
        **{f"knowmem/{of}_qa{icl}": questions for of in ("forget", "retain") for icl in ("", "_icl")},
        "privleak/forget": texts[:4],
        "privleak/holdout": texts[8:],
        "raw/retain1": [f"Note {i}: the harbour of town {i} stays open." for i in range(4)],
        **{f"sust/forget_{i + 1}": texts[2 * i : 2 * i + 2] for i in range(4)},
        **{f"scal/forget_{i + 1}": texts[: 2 * i + 2] for i in range(4)},
    }
    for name, content in files.items():
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_nested_lists_become_what_each_step_adds(tmp_path: Path) -> None:
    """scal/ holds nested lists and sust/ disjoint ones; both give the same folds here."""
    data = _muse(tmp_path)
    assert folds.from_muse(data, SCALABILITY) == folds.from_muse(data, SUSTAINABILITY)
    (data / "scal" / "forget_3.json").write_text(json.dumps(["Something else."]))
    with pytest.raises(InvalidInputError, match="every text of the list before"):
        folds.from_muse(data, SCALABILITY)


def _people(numbers: range) -> folds.Records:
    return tuple(Record(**one) for one in records(numbers))


def test_a_cut_keeps_people_whole_and_loses_nobody() -> None:
    """Four folds of whole units, as equal as they can be, the same for the same seed."""
    whole = _people(range(10))
    cut = folds.cut(whole, seed=3)
    assert [len(by_unit(fold)) for fold in cut] == [3, 3, 2, 2]
    assert sorted(record.record_id for fold in cut for record in fold) == sorted(r.record_id for r in whole)
    folds.check_disjoint(cut)
    assert cut == folds.cut(whole, seed=3)
    assert cut != folds.cut(whole, seed=4)
    with pytest.raises(InvalidInputError, match="needs at least 4"):
        folds.cut(_people(range(3)), seed=3)


def test_what_stays_holds_later_folds_and_nothing_forgotten() -> None:
    """Also where the retain file holds forgotten records, by id or word for word under another id."""
    four = tuple(_people(range(i, i + 1)) for i in range(4))
    copy = Record(record_id="copy", unit="x", text=four[0][0].text)
    retain = (*_people(range(3)), *_people(range(8, 9)), copy)
    stays = folds.staying(retain, four, 2)
    assert {record.record_id for record in stays} == {"t2", "q2", "t8", "q8", "t3", "q3"}
    assert {record.record_id for record in folds.staying(retain, four, 4)} == {"t8", "q8"}
    with pytest.raises(InvalidInputError, match="no retain record is left"):
        folds.staying(_people(range(4)), four, 4)


@pytest.mark.parametrize(
    ("four", "sentence"),
    [
        ((_people(range(1)), ()), "fold 2 is empty"),
        ((_people(range(2)), _people(range(1, 3))), "shares a record_id"),
        (
            (_people(range(1)), (Record(record_id="new", unit="u", text=_people(range(1))[0].text),)),
            "shares a content",
        ),
    ],
)
def test_folds_that_overlap_or_are_empty_are_refused(four: folds.Folds, sentence: str) -> None:
    """A record that two requests name would make the second one meaningless."""
    with pytest.raises(InvalidInputError, match=sentence):
        folds.check_disjoint(four)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["magic", "ga"], "scalability, sustainability"),
        ([SCALABILITY, "magic", "--no-reference"], "methods are: retrain"),
        ([SCALABILITY, "ga"], "--reference-start DIR, or --no-reference"),
        ([SCALABILITY, "retrain", "--no-reference"], "needs --base"),
        ([SCALABILITY, "ga", "--no-reference", "--set", "stepz=1"], "stepz"),
        ([SCALABILITY, "ga", "--no-reference", "--set-measure", "suite=tofu", "--set-measure", "min_k=2"], "min_k"),
    ],
)
def test_what_cannot_be_run_is_one_line(room: Path, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """Refused before an engine is started, and nothing is left behind."""
    given = ("--forget", room / "forget.jsonl", "--retain", room / "retain.jsonl", "--holdout", room / "holdout.jsonl")
    ran = run("series", *arguments, "--model", room / "model", "--out", tmp_path / "out", *given)

    assert sentence in refusal(ran)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(room: Path, tmp_path: Path) -> None:
    """A series never writes among other people's files."""
    (tmp_path / "mine.txt").write_text("mine")
    assert "holds no series" in refusal(series(room, SCALABILITY, tmp_path, "--no-reference"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
