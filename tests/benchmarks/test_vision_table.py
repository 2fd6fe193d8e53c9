"""Tables and verdicts of the vision benchmark: golden intervals, pairing by seed, and no verdict by hand."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "vision_table.py"


def _loaded() -> ModuleType:
    """The script as a module; benchmarks are no package."""
    spec = importlib.util.spec_from_file_location("vision_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # data classes look themselves up there
    spec.loader.exec_module(module)
    return module


table = _loaded()


def put(place: Path, seed: int, method: str, *, start: str = "dense", chosen: str = "class", **told: Any) -> None:  # noqa: ANN401 - numbers
    """One result as the benchmark leaves it; measures that are not given are 1, seconds 1."""
    values = {name: told.get(name, 1.0) for name in table.MEASURES}
    one = {"start": start, "chosen": chosen, "method": method, "options": {}, "seed": seed}
    folder = place / "digits" / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**one, "seconds": told.get("seconds", 1.0), "values": values})
    (folder / f"{chosen}-{start}-{method}.found.json").write_text(text)


def finding(place: Path, part: str) -> Any:  # noqa: ANN401 - a finding of the script
    """The one finding whose text has this part."""
    [found] = [one for one in table.findings(table.read(place)) if part in one.what]
    return found


def test_an_interval_is_students() -> None:
    """For 1, 2, 3, 4: mean 2.5, deviation 1.2910, t of 3 degrees of freedom at .975 is 3.1824."""
    made = table.mean([1.0, 2.0, 3.0, 4.0])

    assert made.value == pytest.approx(2.5)
    assert made.half == pytest.approx(3.1824463 * 1.2909944 / 2)
    assert made.ci95 == pytest.approx((0.4457397, 4.5542603))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=10), st.floats(-5, 5))
def test_an_interval_moves_with_its_values(values: list[float], by: float) -> None:
    """What is added to all values is added to both ends."""
    one, other = table.mean(values), table.mean([value + by for value in values])

    assert other.ci95 == pytest.approx(tuple(end + by for end in one.ci95), abs=1e-9)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf]])
def test_what_is_not_finite_has_no_mean(values: list[float]) -> None:
    """Nothing is left out in silence."""
    with pytest.raises(ValueError, match="finite"):
        table.mean(values)


@pytest.mark.parametrize(
    ("values", "above", "verdict"),
    [
        ([0.2, 0.3, 0.25], True, "replicated"),
        ([0.2, 0.3, 0.25], False, "not replicated"),
        ([-0.2, 0.3, 0.25], True, "not replicated"),
        ([-0.2, -0.3, -0.25], False, "replicated"),
        ([0.2], True, "no verdict"),
    ],
)
def test_a_verdict_needs_the_whole_interval(values: list[float], *, above: bool, verdict: str) -> None:
    """On the right side of the limit, and more than one seed."""
    made = table.Finding(paper="p", what="w", mean=table.mean(values), limit=0.0, above=above)

    assert made.verdict == verdict


def test_gaps_are_to_the_retrained_model_of_the_same_seed_set_and_start(tmp_path: Path) -> None:
    """The mean of four distances; the time is over that of dense retraining."""
    put(tmp_path, 0, "retrain", seconds=4.0)
    put(tmp_path, 0, "retrain", start="sparse", ua=0.5, seconds=8.0)
    put(tmp_path, 0, "ga", start="sparse", ua=0.9, ra=0.8, seconds=1.0)
    put(tmp_path, 1, "ga", ua=0.0)  # no reference of its seed: left out
    told = {(one.seed, one.start, one.method): one for one in table.read(tmp_path)}

    assert set(told) == {(0, "dense", "retrain"), (0, "sparse", "retrain"), (0, "sparse", "ga")}
    assert told[0, "sparse", "ga"].gap == pytest.approx((0.4 + 0.2) / 4)
    assert told[0, "sparse", "ga"].rte == pytest.approx(0.25)


def test_findings_are_paired_by_seed(tmp_path: Path) -> None:
    """A seed that has only one side of a difference does not count, and tuning seeds are not reported."""
    for seed, gain in ((0, 0.5), (1, 0.6), (2, 0.7)):
        put(tmp_path, seed, "retrain")
        put(tmp_path, seed, "l1-sparse", ua=0.1 * seed + gain)
        put(tmp_path, seed, "finetune", ua=0.1 * seed)
    put(tmp_path, 3, "retrain")
    put(tmp_path, 3, "l1-sparse", ua=1.0)
    put(tmp_path, table.TUNED, "retrain")
    put(tmp_path, table.TUNED, "finetune", ua=0.0)
    found = finding(tmp_path, "l1-sparse - finetune")

    assert (found.mean.n, found.verdict) == (3, "replicated")
    assert found.mean.value == pytest.approx(0.6)
    assert [one.seed for one in table.read(tmp_path, tuned=True)] == [table.TUNED] * 2


def test_what_the_papers_found_is_read_off_the_right_sets(tmp_path: Path) -> None:
    """Retraining on worst-case sets, relabelling there, sparse starts, label-agnostic forgetting and time."""
    for seed in range(3):
        near = 0.001 * seed
        put(tmp_path, seed, "retrain", chosen="random", ua=0.05 + near, seconds=10.0)
        put(tmp_path, seed, "retrain", chosen="worst", ua=near / 10, seconds=10.0)
        put(tmp_path, seed, "salun", chosen="random", ua=0.06 + near)
        put(tmp_path, seed, "salun", chosen="worst", ua=0.4 + near)
        put(tmp_path, seed, "retrain", seconds=10.0)
        put(tmp_path, seed, "before", ua=0.0)
        put(tmp_path, seed, "laf", ua=0.9 + near, ra=0.98, ta=0.9 + near)
        put(tmp_path, seed, "ga", ua=0.5, seconds=1.0 + near)
        put(tmp_path, seed, "retrain", start="sparse")
        put(tmp_path, seed, "ga", start="sparse", ua=0.9 + near)
    verdicts = {
        part: finding(tmp_path, part).verdict
        for part in (
            "retrain, worst-case: UA below",
            "retrain: UA random - worst-case",
            "salun: gap worst-case",
            "laf: accuracy on the class",
            "laf: accuracy on those who stay",
            "laf: accuracy on strangers",
            "ga, one class: gap dense",
            "ga: below .2",
        )
    }
    assert verdicts.pop("ga: below .2") == "reached"
    assert [part for part, verdict in verdicts.items() if verdict != "replicated"] == ["laf: accuracy on strangers"]


def test_tables_and_numbers_are_written_beside_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Markdown for people, JSON for programs, and the overlap of worst-case sets."""
    for seed in range(2):
        put(tmp_path, seed, "retrain", ua=0.5)
        put(tmp_path, seed, "ga", ua=0.25)
        search = {"training": {"overlap": 0.1 + seed / 10}}
        (tmp_path / "digits" / f"seed-{seed}" / "worst.job.json").write_text(json.dumps(search))
    table.main([str(tmp_path)])
    text = capsys.readouterr().out

    assert (
        "| ga | 25.00 ± 0.00 | 100.00 ± 0.00 | 100.00 ± 0.00 | 100.00 ± 0.00 | 6.25 ± 0.00 | 1.000 ± 0.000 | 2 |"
        in text
    )
    assert "share 0.100 to 0.200" in text
    assert (tmp_path / "table.md").read_text() == text
    rows = json.loads((tmp_path / "numbers.json").read_text())["rows"]
    assert {row["method"]: row["gap"]["value"] for row in rows} == {"retrain": 0.0, "ga": 0.0625}


def test_tuning_lists_the_best_setting_of_a_method_first(tmp_path: Path) -> None:
    """By the mean gap over sets, however many seeds each has."""
    seed = table.TUNED
    put(tmp_path, seed, "retrain")
    for name, ua in (("ga", 0.9), ("cf-k", 0.8)):
        put(tmp_path, seed, name, ua=ua)
    lines = table.tuned(table.read(tmp_path, tuned=True)).splitlines()

    assert [line.split()[0] for line in lines] == ["cf-k", "ga"]
    assert "2.50 points (digits class 2.50), RTE 1.00, 1" in lines[1]
