"""The chart of a series: what was measured is in it, what was not is a gap, and every line has its name."""

from typing import Any

import numpy as np
import pytest

from engine.drawing import apart, chart


def series(*, reference: bool = True) -> dict[str, Any]:
    """Two steps with every role, or without references."""
    roles = ("before", "after", "reference") if reference else ("before", "after")

    def found(value: float) -> dict[str, Any]:
        return {role: {"value": value + i / 10, "ci95": [value, value + 0.3], "n": 12} for i, role in enumerate(roles)}

    metrics = {name: found(0.3) for name in ("verbmem_f", "knowmem_f", "knowmem_r", "privleak_auc")}
    metrics["privleak"] = found(-40.0) if reference else dict.fromkeys(roles)
    steps = [{"step": i, "forgotten": {"units": 3 * i}, "metrics": metrics} for i in (1, 2)]
    return {"series": "scalability", "method": "npo", "guarantee": "empirical", "steps": steps}


def names(value: dict[str, Any]) -> list[list[str]]:
    """The names of lines in each panel."""
    return [[text.get_text() for text in axis.texts] for axis in chart(value).axes]


def test_every_panel_names_its_lines_and_its_unit() -> None:
    """Four panels, three models each, and steps with how much was forgotten."""
    axes = chart(series()).axes
    assert names(series()) == [["target", "retrained", "unlearned"]] * 4
    assert [axis.get_ylabel() for axis in axes] == ["ROUGE-L", "ROUGE-L", "PrivLeak, %", "ROUGE-L"]
    assert [label.get_text() for label in axes[-1].get_xticklabels()] == ["x1\n3", "x2\n6"]


def test_without_references_the_auc_stands_for_privleak() -> None:
    """PrivLeak is not defined without one, and no line pretends to be it."""
    axes = chart(series(reference=False)).axes
    assert names(series(reference=False)) == [["target", "unlearned"]] * 4
    assert axes[2].get_ylabel() == "AUC"


def test_a_value_that_was_not_measured_is_a_gap() -> None:
    """One step less in that line, and nothing in its place."""
    value = series()
    value["steps"][1] = {**value["steps"][1], "metrics": {**value["steps"][1]["metrics"], "verbmem_f": None}}
    lines = [line for line in chart(value).axes[0].get_lines() if line.get_marker() == "o"]
    assert [np.size(line.get_xdata()) for line in lines] == [1]


def test_names_of_lines_are_kept_apart() -> None:
    """Two models that end at one value are still both named."""
    assert apart([0.2, 0.8], 0.1) == [0.2, 0.8]
    assert apart([0.5, 0.5], 0.1) == pytest.approx([0.5, 0.6])
    assert apart([0.97, 1.0, 0.99], 0.1) == pytest.approx([0.8, 1.0, 0.9])
