"""Inline SVG charts of the evidence: values with their intervals, and the difference against its gate.

Drawn for a width of 340 units, which is a telephone's, and scaled up. Colours come from the page's style sheet, and
nothing is told by colour alone.
"""

import math
from collections.abc import Iterable
from html import escape

from audits.predicate import Estimate, Finding, GateResultJson
from audits.render import words

_WIDTH = 340.0
_LEFT, _RIGHT = 74.0, 290.0
_ROW = 24.0
_TOP = 8.0
_FEW_TICKS = 5
_DOT = 4.0


def values(finding: Finding) -> str:
    """The metric before, after and of the reference: a dot for the value, a line for its 95 % interval."""
    metric = words.metric(finding["metric"])
    rows = [("before", finding["before"]), ("after", finding["after"]), ("reference", finding["reference"])]
    shown = [(name, one) for name, one in rows if one is not None]
    low, high = domain([one for _, one in shown], metric.scale)
    bottom = _TOP + _ROW * len(shown)
    parts = list(_axis(ticks(low, high), low, high, bottom))
    for index, (name, one) in enumerate(shown):
        y, label = _TOP + _ROW * (index + 0.5), words.number(one["value"])
        parts += _row(name, one, (low, high), y, kind=name, label=label)
    told = "; ".join(f"{name} {words.number(one['value'])} ({words.interval(*one['ci95'])})" for name, one in shown)
    return _svg(f"{metric.label}: {told}", parts, bottom + 18)


def difference(finding: Finding, result: GateResultJson | None) -> str:
    """The difference to the reference, and where it has to lie."""
    one = finding["difference"]
    if one is None:
        return ""
    margin = 0.0 if result is None else result["margin"]
    reach = 1.3 * max(margin, *map(abs, (*one["ci95"], one["value"])), 1e-9)
    y, bottom = _TOP + _ROW * 0.5, _TOP + _ROW
    parts, marks = [], {0.0}
    if result is not None:
        start = -reach if result["direction"] == "at_most" else -margin
        stop = reach if result["direction"] == "at_least" else margin
        left, right = _x(start, -reach, reach), _x(stop, -reach, reach)
        parts.append(f'<rect class="zone" x="{left:.1f}" y="{_TOP - 4:.1f}" width="{right - left:.1f}" height="32"/>')
        marks |= {edge for edge in (start, stop) if abs(edge) < reach}
    parts += _axis(sorted(marks), -reach, reach, bottom + 4, sign=True)
    kind = "plain" if result is None else result["outcome"]
    label = words.number(one["value"], sign=True)
    parts += _row("difference", one, (-reach, reach), y, kind=kind, label=label)
    asks = "no gate" if result is None else f"{words.requirement(result)}: {words.OUTCOMES[result['outcome']][1]}"
    told = f"{label} ({words.interval(*one['ci95'], sign=True)})"
    return _svg(f"Difference to the reference: {told}; {asks}", parts, bottom + 22)


def _svg(told: str, parts: Iterable[str], height: float) -> str:
    head = f'<svg class="chart" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(told)}">'
    return head + "".join(parts) + "</svg>"


def _row(name: str, one: Estimate, domain: tuple[float, float], y: float, *, kind: str, label: str) -> list[str]:
    left, right = (_x(edge, *domain) for edge in one["ci95"])
    middle = _x(one["value"], *domain)
    return [
        f'<text class="name" x="{_LEFT - 8:.0f}" y="{y + 4:.1f}">{escape(name)}</text>',
        f'<line class="bar {kind}" x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}"/>',
        *(
            f'<line class="end {kind}" x1="{x:.1f}" y1="{y - 4:.1f}" x2="{x:.1f}" y2="{y + 4:.1f}"/>'
            for x in (left, right)
        ),
        f'<circle class="dot {kind}" cx="{middle:.1f}" cy="{y:.1f}" r="{_DOT}"/>',
        f'<text class="value" x="{_WIDTH:.0f}" y="{y + 4:.1f}">{label}</text>',
    ]


def _axis(marks: Iterable[float], low: float, high: float, y: float, *, sign: bool = False) -> list[str]:
    parts = [f'<line class="axis" x1="{_LEFT}" y1="{y:.1f}" x2="{_RIGHT}" y2="{y:.1f}"/>']
    for mark in marks:
        x = _x(mark, low, high)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 4:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y + 13:.1f}">{_tick(mark, sign=sign)}</text>')
    return parts


def _x(value: float, low: float, high: float) -> float:
    return _LEFT + (min(max(value, low), high) - low) / (high - low) * (_RIGHT - _LEFT)


def _tick(mark: float, *, sign: bool) -> str:
    text = f"{abs(mark):.4g}"
    return (words.MINUS if mark < 0 else "+" if sign and mark > 0 else "") + text


def domain(estimates: list[Estimate], scale: tuple[float, float] | None) -> tuple[float, float]:
    """The metric's own scale while everything fits on it; otherwise what the intervals need, and zero if near."""
    ends = [edge for one in estimates for edge in (*one["ci95"], one["value"])]
    low, high = min(ends), max(ends)
    if scale is not None and scale[0] <= low and high <= scale[1]:
        return scale
    if 0 < low < high / 2:
        low = 0.0
    room = (high - low or abs(high) or 1.0) * 0.06
    return (low if low == 0 else low - room), high + room


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between `low` and `high`, at most six."""
    rough = (high - low) / _FEW_TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * n for n in range(first, last + 1)]
