"""`audit shadows`: an audit of a small classifier on the command line, what it prints, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from compliance.cli import shadows
from compliance.cli.audit_limits import limits, resolvable
from engine.checkpoints import save
from engine.contract import Evidence
from engine.corpus import write_records
from tests.compliance.terminal import Ran, refusal, run
from tests.engine import painted

KEYS = {"evidence", "method", "shadows", "trained_now", "members", "outsiders", "strangers", "stays"}
KEYS |= {"strangers_log_prob", "rmia_slope", "metrics", "limits", "model_digests", "data_digests"}
ROLES = {"before", "after", "reference", "difference"}
FOUND: dict[str, Any] = {
    "method": None,
    "shadows": 16,
    "members": {"records": 40, "units": 20},
    "outsiders": {"records": 150, "units": 75},
    "strangers_log_prob": {"shadows": [-1.0, -0.8], "before": -0.9},
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier, another that stands for where it began, and pictures as JSON lines."""
    folder = tmp_path_factory.mktemp("audited")
    sets = {"train": range(24), "forget": range(8), "holdout": range(100, 124)}
    for name, numbers in sets.items():
        write_records(folder / f"{name}.jsonl", painted.records(numbers))
    for seed, name in enumerate(("start", "before")):
        save(folder / name, *painted.network(seed))
    return folder


def audit(room: Path, out: Path, *more: object) -> Ran:
    """An audit of the room's model; what is said again replaces what stands here."""
    sets = [part for name in ("train", "forget", "holdout") for part in (f"--{name}", room / f"{name}.jsonl")]
    brief = ("--set-train", "epochs=1", "--shadows", "4", "--resamples", "100")
    return run(
        "audit", "shadows", "--model", room / "before", "--start", room / "start", *sets, *brief, "--out", out, *more
    )


@pytest.mark.slow
def test_an_audit_leaves_evidence_and_says_what_it_could_have_seen(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stable keys, every metric with its roles, sizes, limits in words, and neither ids nor weights in the folder."""
    out = tmp_path / "audit"
    ran = audit(room, out, "--reference", room / "start", "--json")

    assert (ran.code, ran.err) == (0, "")
    value = ran.value
    assert set(value) == KEYS
    assert (value["shadows"], value["trained_now"], value["method"]) == (4, 4, None)
    assert [value[part]["units"] for part in ("members", "outsiders", "strangers", "stays")] == [8, 12, 12, 16]
    assert all(set(one) == ROLES for one in value["metrics"].values())
    assert value["metrics"]["lira_auc"]["before"]["n"] == 8
    assert value["metrics"]["rmia_tpr_at_5_percent"]["before"] is None
    evidence = Evidence.from_json(Path(value["evidence"]).read_text())
    assert evidence.rests_on == {key: value[key] for key in evidence.rests_on or {}}
    kept = [path for path in out.rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} <= {".json", ".log", ""}
    assert not any("picture-" in path.read_text() or "person-" in path.read_text() for path in kept)

    shown = list(shadows._people(value))
    assert sum("not resolvable with 12 outsiders" in str(one) for one in shown) == 6
    assert any("4 shadow models, 4 of them trained now" in str(one) for one in shown)
    assert sum(isinstance(one, Table) for one in shown) == 3  # AUC, balanced accuracy, how many of whom
    assert capsys.readouterr().out == ""


def test_limits_are_said_in_words() -> None:
    """Which rates cannot be had, which AUC is chance, who was where, and that finding nothing proves nothing."""
    few, chance, held, nothing = limits(FOUND)
    assert "at 0.1 % false alarms is not resolvable with 150 outsiders; it takes 1000" in few
    assert "With 20 members and 75 outsiders an AUC below 0.64 cannot be told" in chance
    assert "in 8 and out of 8 of 16 shadow models; below 64" in held
    assert "proves nothing" in nothing
    unlearned = limits({**FOUND, "method": "npo", "shadows": 66})
    assert unlearned[2] == "Each example was in 44 and out of 22 of 66 shadow models, and was unlearned from 22."


@pytest.mark.parametrize(("before", "warned"), [(-0.61, False), (-1.19, False), (-0.5, True), (-1.3, True)])
def test_a_model_that_is_unlike_its_shadows_is_pointed_out(before: float, *, warned: bool) -> None:
    """By more than the range of the shadows on either side of it."""
    told = {"shadows": [-1.0, -0.8], "before": before}
    said = " ".join(limits({**FOUND, "strangers_log_prob": told}))
    assert ("check --set-train" in said) == warned


def test_a_rate_needs_as_many_outsiders_as_its_inverse() -> None:
    """And other metrics need none."""
    assert [resolvable("lira_tpr_at_5_percent", count) for count in (19, 20)] == [False, True]
    assert [resolvable("rmia_tpr_at_0_1_percent", count) for count in (999, 1000)] == [False, True]
    assert resolvable("lira_auc", 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shadows", "3"], "at least 4 and a multiple of 2"),
        (["--shadows", "7"], "at least 4 and a multiple of 2"),
        (["--method", "retrain", "--after", "start", "--shadows", "4"], "at least 6 and a multiple of 3 with --method"),
        (["--method", "retrain", "--shadows", "6"], "--method needs --after"),
        (["--method", "magic", "--after", "start", "--shadows", "6"], "methods are: retrain"),
        (["--method", "npo", "--after", "start", "--shadows", "6"], "is for language models"),
        (["--set", "steps=1"], "--set is for --method"),
        (["--set-train", "epoch=1"], "unknown key 'epoch'"),
        (["--method", "retrain", "--after", "start", "--shadows", "6", "--set", "stepz=1"], "unknown key 'stepz'"),
        (["--start", "."], "config.json and"),
    ],
)
def test_what_cannot_be_audited_is_one_line(room: Path, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    """Refused before an engine is started, and nothing is left behind."""
    given = [room / one if one in ("start", ".") else one for one in arguments]

    assert sentence in refusal(audit(room, tmp_path / "out", *given))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(room: Path, tmp_path: Path) -> None:
    """An audit never writes among other people's files."""
    (tmp_path / "mine.txt").write_text("mine")

    assert "holds no audit" in refusal(audit(room, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
