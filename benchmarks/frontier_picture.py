"""The frontier of epsilon against utility on text, as SVG, from the numbers that `text_frontier.py` leaves.

    .venv/bin/python benchmarks/frontier_picture.py work/text/frontier.json docs/images/text_frontier.svg

Above, what the bases learned as a share of what training without privacy learns, of authors never seen and of the
forty; below, a membership attack on the base. Colours follow the reader's scheme, bars are 95 % intervals, and each
line is named where it ends. A hollow dot is a base of more rounds.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

STYLE = """
text { font: 12px sans-serif; fill: #24292f } .head { font-weight: bold } .small { font-size: 11px }
.back { fill: #ffffff } .grid { stroke: #d8dee4 } .mark { stroke: #57606a; stroke-dasharray: 4 3 }
.strangers { stroke: #0969da; fill: #0969da } .customers { stroke: #bc4c00; fill: #bc4c00 }
.attack { stroke: #8250df; fill: #8250df } text.strangers, text.customers, text.attack { stroke: none }
.line { fill: none; stroke-width: 1.8 } .bar { stroke-width: 1.4 } .hollow { fill: #ffffff; stroke-width: 1.8 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .back { fill: #0d1117 } .grid { stroke: #30363d } .mark { stroke: #9198a1 }
.strangers { stroke: #58a6ff; fill: #58a6ff } .customers { stroke: #f0883e; fill: #f0883e }
.attack { stroke: #bc8cff; fill: #bc8cff } .line { fill: none } .hollow { fill: #0d1117 }
}
"""
WIDTH, HEIGHT, LEFT, RIGHT = 680, 500, 56, 530
APART = 70  # between the largest epsilon and what has no noise
MARK = 3.6  # radius
SHIFT = {"strangers": -3.5, "customers": 3.5, "attack": 0.0}
NAMES = {"strangers": "authors never seen", "customers": "the forty", "attack": "the forty"}

Base = Mapping[str, Any]  # level, passed; [value, low, high] or nothing under strangers, customers, attack


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """Values from `low` to `high` between two heights of the picture."""

    top: float
    bottom: float
    low: float
    high: float

    def y(self, value: float) -> float:
        """The height of a value; what lies outside stands at the edge."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.bottom - share * (self.bottom - self.top)


SHARES = Panel(top=62, bottom=262, low=-0.2, high=1.1)
ATTACKS = Panel(top=326, bottom=442, low=0.4, high=1.0)


def main(arguments: Sequence[str]) -> None:
    """Draw the numbers of one file into another."""
    numbers, out = map(Path, arguments)
    out.write_text(picture(json.loads(numbers.read_text())))


def picture(frontier: Mapping[str, Any]) -> str:
    """The whole SVG."""
    shortest = min(base["steps"] for base in frontier["bases"])
    bases, longer = (
        [base for base in frontier["bases"] if (base["steps"] > shortest) is long] for long in (False, True)
    )
    levels = sorted(base["level"] for base in bases)
    parts = [
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        _text(LEFT, 20, "DP bases on forty TOFU authors: epsilon against utility", "head"),
        *_axes(SHARES, (0.0, 0.5, 1.0), "Learned, as a share of what training without privacy learns", levels),
        *_axes(ATTACKS, (0.5, 0.75, 1.0), "Membership attack on the base: AUC of the answers' losses", levels),
        *_gate(bases, levels),
        *_level(frontier["start_attack"]),
        *_series(bases, "strangers", SHARES, levels),
        *_series(bases, "customers", SHARES, levels),
        *_series(longer, "strangers", SHARES, levels, hollow=True),
        *_series(longer, "customers", SHARES, levels, hollow=True),
        *_series(bases, "attack", ATTACKS, levels),
        *_series(longer, "attack", ATTACKS, levels, hollow=True),
        _text(LEFT, HEIGHT - 10, f"epsilon for one author, delta 1e-5; {shortest} rounds{_rounds(longer)}", "small"),
    ]
    told = "Epsilon against what a DP base learned, and against a membership attack; the figures stand in the table."
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def _x(level: int, levels: Sequence[int]) -> float:
    """Logarithmic in epsilon; what has no noise (level 0) stands apart, at the right."""
    if not level:
        return float(RIGHT)
    lowest, highest = (log(of(one for one in levels if one)) for of in (min, max))
    return LEFT + 24 + (log(level) - lowest) / (highest - lowest) * (RIGHT - LEFT - 24 - APART)


def _text(x: float, y: float, said: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{said}</text>'


def _line(x: tuple[float, float], y: tuple[float, float], kind: str) -> str:
    return f'<line class="{kind}" x1="{x[0]:.1f}" x2="{x[1]:.1f}" y1="{y[0]:.1f}" y2="{y[1]:.1f}"/>'


def _axes(panel: Panel, marks: Sequence[float], title: str, levels: Sequence[int]) -> Iterator[str]:
    yield _text(LEFT, panel.top - 12, title, "head")
    for mark in marks:
        y = panel.y(mark)
        yield _line((LEFT, RIGHT + 12), (y, y), "grid")
        yield _text(LEFT - 8, y + 4, f"{mark:g}", "small", "end")
    for level in levels:
        yield _text(_x(level, levels), panel.bottom + 18, str(level or "no noise"), "small", "middle")


def _rounds(longer: Sequence[Base]) -> str:
    return "".join(f", hollow: {base['steps']}" for base in longer) + "; bars: 95 % intervals, resampled by author"


def _gate(bases: Sequence[Base], levels: Sequence[int]) -> Iterator[str]:
    passed = [base["level"] for base in bases if base["level"] and base["passed"]]
    if passed:
        x = _x(min(passed), levels) - 16
        for panel in (SHARES, ATTACKS):
            yield _line((x, x), (panel.top, panel.bottom), "mark")
        yield _text(x - 6, SHARES.top + 12, "the smallest epsilon to pass the utility gate", "small", "end")


def _level(start: Sequence[float] | None) -> Iterator[str]:
    """The attack on the model that saw none of them."""
    if start is not None:
        y = ATTACKS.y(start[0])
        yield _line((LEFT, RIGHT + 12), (y, y), "mark")
        yield _text(RIGHT + 18, y + 4, "public start", "small")


def _series(
    bases: Sequence[Base], kind: str, panel: Panel, levels: Sequence[int], *, hollow: bool = False
) -> Iterator[str]:
    """A line, a bar and a dot a base, and its name at the end unless `hollow`; what has no value is left out."""
    shift = SHIFT[kind] + (7.0 if hollow else 0.0)
    found = [(_x(base["level"], levels) + shift, base[kind]) for base in bases if base[kind] is not None]
    if not found:
        return
    noisy = [point for point in found if point[0] < RIGHT - APART / 2]  # what has no noise is no end of the line
    yield f'<polyline class="line {kind}" style="fill:none" points="{" ".join(_corners(noisy, panel))}"/>'
    for x, (value, low, high) in found:
        yield _line((x, x), (panel.y(low), panel.y(high)), f"bar {kind}")
        shape = f"{kind} hollow" if hollow else kind
        yield f'<circle class="{shape}" cx="{x:.1f}" cy="{panel.y(value):.1f}" r="{MARK}"/>'
    if not hollow:
        x, last = found[-1]
        yield _text(x + 10, panel.y(last[0]) + 4, NAMES[kind], kind)


def _corners(found: Sequence[tuple[float, Sequence[float]]], panel: Panel) -> Iterator[str]:
    return (f"{x:.1f},{panel.y(value[0]):.1f}" for x, value in found)


if __name__ == "__main__":
    main(sys.argv[1:])
