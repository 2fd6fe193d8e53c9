"""`python -m engine.drawing SERIES_JSON`: a series of unlearning as a chart, `.svg` and `.png` beside its numbers.

The only module that knows matplotlib. Four panels one below the other, so that a phone shows them at full width: one
a criterion, with the target, the unlearned model and the reference at each step, 95 % bars, and each line named where
it ends. A value that was not measured is a gap. Without references PrivLeak is not defined, and the membership AUC
stands in its place.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.2, 7.4  # inches; at 100 dots an inch the width of a phone
ROLES = {
    "before": ("target", "#6b6b6b", "s"),
    "reference": ("retrained", "#1b6ca8", "D"),
    "after": ("unlearned", "#c8401a", "o"),
}
PANELS = (
    ("verbmem_f", "Forgotten text, verbatim", "ROUGE-L", (0.0, 1.0)),
    ("knowmem_f", "Knowledge of the forgotten", "ROUGE-L", (0.0, 1.0)),
    ("privleak", "Privacy leakage (0 is the aim)", "PrivLeak, %", None),
    ("knowmem_r", "Knowledge that should stay", "ROUGE-L", (0.0, 1.0)),
)
WITHOUT_REFERENCE = ("privleak_auc", "Membership (.5 is chance)", "AUC", (0.0, 1.0))
SPREAD = 0.13  # between the three models of one step
GAP = 0.11  # of a panel's height: the least distance between two names

Step = Mapping[str, Any]


def main(arguments: Sequence[str]) -> None:
    """Draw the series in one file."""
    path = Path(arguments[0])
    figure = chart(json.loads(path.read_text(encoding="utf-8")))
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=200)


def chart(series: Mapping[str, Any]) -> Figure:
    """The figure of a series as `expunge series` writes it."""
    figure = Figure(figsize=(WIDTH, HEIGHT))
    steps = series["steps"]
    panels = [WITHOUT_REFERENCE if _unmeasured(steps, one[0]) else one for one in PANELS]
    axes = figure.subplots(len(panels), 1, sharex=True)
    for i, (axis, (metric, title, unit, span)) in enumerate(zip(axes, panels, strict=True)):
        _panel(axis, steps, metric, span)
        axis.set_title(title, loc="left", fontsize=9, fontweight="bold", pad=4)
        axis.set_ylabel(unit, fontsize=8)
        axis.tick_params(labelsize=8, length=2)
        axis.tick_params(axis="x", labelbottom=i == len(panels) - 1)
    _steps(axes[-1], series)
    figure.suptitle(_title(series), x=0.02, y=0.995, ha="left", va="top", fontsize=10)
    figure.text(0.02, 0.008, "Bars: 95 % intervals, resampled by unit.", fontsize=7, color="#555555")
    figure.subplots_adjust(left=0.145, right=0.80, top=0.915, bottom=0.105, hspace=0.36)
    figure.align_ylabels(axes)
    return figure


def _panel(axis: Axes, steps: Sequence[Step], metric: str, span: tuple[float, float] | None) -> None:
    ends = {}
    for i, (role, (name, colour, marker)) in enumerate(ROLES.items()):
        points = [
            (step["step"] + (i - 1) * SPREAD, found)
            for step in steps
            if (found := (step["metrics"].get(metric) or {}).get(role)) is not None
        ]
        if not points:
            continue
        _line(axis, points, colour, marker)
        ends[name] = (points[-1][1]["value"], colour)
    if metric == "privleak":
        axis.axhline(0.0, color="#bbbbbb", linewidth=0.7, zorder=0)
    if span is not None:
        axis.set_ylim(span[0] - 0.05, span[1] + 0.05)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#eeeeee", linewidth=0.7)
    axis.set_axisbelow(True)
    _names(axis, ends)


def _line(axis: Axes, points: Sequence[tuple[float, Mapping[str, Any]]], colour: str, marker: str) -> None:
    places = [place for place, _ in points]
    values = [found["value"] for _, found in points]
    low = [found["value"] - found["ci95"][0] for _, found in points]
    high = [found["ci95"][1] - found["value"] for _, found in points]
    axis.errorbar(
        places,
        values,
        yerr=[low, high],
        color=colour,
        marker=marker,
        markersize=3.5,
        linewidth=1.1,
        elinewidth=0.9,
        capsize=1.5,
    )


def _names(axis: Axes, ends: Mapping[str, tuple[float, str]]) -> None:
    """The name of each line at its right end, pushed apart where two would overlap."""
    low, high = axis.get_ylim()
    heights = apart([(value - low) / (high - low) for value, _ in ends.values()], GAP)
    for (name, (_, colour)), height in zip(ends.items(), heights, strict=True):
        axis.text(1.015, height, name, transform=axis.transAxes, color=colour, fontsize=8, va="center")


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """The same heights, moved up and then down as little as keeps every two of them `gap` apart within 0 to 1."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed: list[float] = []
    for i in order:
        placed.append(max(heights[i], placed[-1] + gap) if placed else heights[i])
    ceiling = 1.0
    for j in reversed(range(len(placed))):
        placed[j] = min(placed[j], ceiling)
        ceiling = placed[j] - gap
    result = [0.0] * len(heights)
    for j, i in enumerate(order):
        result[i] = placed[j]
    return result


def _steps(axis: Axes, series: Mapping[str, Any]) -> None:
    numbers = [step["step"] for step in series["steps"]]
    nested = series["series"] == "scalability"
    marks = [f"{'x' if nested else ''}{step['step']}\n{step['forgotten']['units']}" for step in series["steps"]]
    axis.set_xticks(numbers, marks)
    axis.set_xlim(min(numbers) - 0.4, max(numbers) + 0.4)
    axis.set_xlabel("forget set / units in it" if nested else "request / units forgotten so far", fontsize=8)


def _title(series: Mapping[str, Any]) -> str:
    what = {"scalability": "larger and larger forget sets", "sustainability": "one request after the other"}
    return f"{series['method']} ({series['guarantee']}):\n{what[series['series']]}"


def _unmeasured(steps: Sequence[Step], metric: str) -> bool:
    return metric == "privleak" and not any((s["metrics"].get(metric) or {}).get("after") for s in steps)


if __name__ == "__main__":
    main(sys.argv[1:])
