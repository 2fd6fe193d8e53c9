"""Tables of the benchmark of domains: golden intervals over choices, and differences that are paired."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "domains_table.py"


def _loaded() -> ModuleType:
    """The script as a module; benchmarks are no package."""
    spec = importlib.util.spec_from_file_location("domains_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # data classes look themselves up there
    spec.loader.exec_module(module)
    return module


table = _loaded()


def told(row: str, domain: str, seed: int, h: float) -> Any:  # noqa: ANN401 - a class of the script
    """One measurement of one forgotten domain."""
    values = {"h": h, "mem": 0.5, "for": 0.25, "domain_probe": 0.75}
    return table.Told(row=row, choice=(domain,), seed=seed, values=values)


MEASURED = [
    told("baseline", "raw", 0, 0.4), told("baseline", "raw", 1, 0.6), told("baseline", "edge", 0, 0.7),
    told("adu", "edge", 0, 0.8), told("adu", "raw", 0, 0.6), told("adu", "raw", 2, 1.0),
]  # fmt: skip


def test_golden_intervals() -> None:
    """Worked by hand: mean 2, deviation 1, Student's 4.303 with 2 degrees of freedom; one value has no interval."""
    assert table.interval([1.0, 2.0, 3.0]) == "2.000 [-0.484, 4.484]"
    assert table.interval([0.25], signed=True) == "+0.250"


def test_differences_are_paired_by_choice_and_seed() -> None:
    """A seed that one row lacks counts for neither, and seeds are averaged before choices are."""
    assert table.by_choice(MEASURED, "baseline", "h") == pytest.approx({("raw",): 0.5, ("edge",): 0.7})
    assert sorted(table.differences(MEASURED, "adu", "baseline", "h")) == pytest.approx([0.1, 0.2])


@settings(max_examples=25, deadline=None)
@given(st.floats(-0.5, 0.5))
def test_what_all_choices_share_cancels(shift: float) -> None:
    """A constant on every measurement changes no difference."""
    moved = [told(one.row, one.choice[0], one.seed, one.values["h"] + shift) for one in MEASURED]

    assert table.differences(moved, "adu", "baseline", "h") == pytest.approx(
        table.differences(MEASURED, "adu", "baseline", "h")
    )


def test_a_table_for_each_number_of_forgotten_domains() -> None:
    """Rows in the order measured, the difference below them, and every choice by name."""
    lines = list(table.tables(MEASURED, ours="adu", baseline="baseline"))

    assert lines[0] == "\n1 forgotten, 2 choices\n"
    assert lines[1] == "| row | seeds | H | Mem | For | domain probe |"
    assert lines[5].startswith("| adu - baseline |  | +0.150 [")
    assert lines[-2:] == ["| raw | 0.500 | 0.800 |", "| edge | 0.700 | 0.800 |"]
