"""Pictures of what goes on from report to report: requirements at a glance, the privacy budget, versions in a row.

Inline SVG as in `charts`, and with the same rules: drawn for a telephone's width, told in words as well, nothing by
colour alone. Each stands beside a table that has its numbers.
"""

from collections.abc import Iterable, Sequence
from html import escape

from audits.predicate import Certificate, GateResultJson, Predicate, Version
from audits.render import charts, words

_WIDTH = 340.0
_LEFT, _RIGHT = 6.0, 334.0
_ROW, _TOP = 38.0, 20.0
_BAR = 26.0  # where in its row a line lies, below its name
_REACH = 2.6  # margins to each side; what lies further out ends in an arrow
_LOW, _HIGH = 150.0, 16.0  # the ordinates of a graph's lower and upper end
_START, _STOP = 46.0, 318.0


def glance(results: Sequence[GateResultJson]) -> str:
    """Every gate's interval in units of its own margin; empty when no gate has an interval and a margin."""
    drawn = [one for one in results if one["interval"] is not None and one["margin"] > 0]
    if not drawn:
        return ""
    bottom = _TOP + _ROW * len(drawn)
    parts = []
    for edge, text in ((-1.0, f"{words.MINUS}1 margin"), (0.0, "reference"), (1.0, "+1 margin")):
        x = _across(edge)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{_TOP - 6:.1f}">{text}</text>')
    told = []
    for index, one in enumerate(drawn):
        parts = [*_zone(one, index), *parts, *_gate(one, index)]
        told.append(f"{words.metric(one['metric']).label}: {words.OUTCOMES[one['outcome']][1]}")
    return _figure(
        f"Each requirement's interval in units of its margin. {'; '.join(told)}.",
        parts,
        bottom + 8,
        "Lines are the 95 % intervals of the difference to the reference, each in units of its own margin; a whole "
        "line inside its shaded zone holds its requirement. An arrow goes on beyond the picture.",
    )


def _across(margins: float) -> float:
    return (_LEFT + _RIGHT) / 2 + margins / _REACH * (_RIGHT - _LEFT) / 2


def _zone(one: GateResultJson, index: int) -> list[str]:
    left = _LEFT if one["direction"] == "at_most" else _across(-1)
    right = _RIGHT if one["direction"] == "at_least" else _across(1)
    top = _TOP + _ROW * index + _BAR - 8
    return [f'<rect class="zone" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="16"/>']


def _gate(one: GateResultJson, index: int) -> list[str]:
    low, high = (edge / one["margin"] for edge in one["interval"] or (0.0, 0.0))
    y, kind = _TOP + _ROW * index + _BAR, one["outcome"]
    left, right = (_across(max(-_REACH, min(_REACH, edge))) for edge in (low, high))
    ends = [
        _arrow(x, y, step, kind)
        if abs(edge) > _REACH
        else f'<line class="end {kind}" x1="{x:.1f}" y1="{y - 4:.1f}" x2="{x:.1f}" y2="{y + 4:.1f}"/>'
        for edge, x, step in ((low, left, 5), (high, right, -5))
    ]
    sign, name = words.OUTCOMES[kind][0], words.metric(one["metric"]).label
    return [
        f'<text class="of-row" x="{_LEFT:.0f}" y="{y - 12:.1f}">{sign} {escape(name)}</text>',
        f'<line class="bar {kind}" x1="{left:.1f}" y1="{y:.1f}" x2="{right:.1f}" y2="{y:.1f}"/>',
        *ends,
    ]


def _arrow(x: float, y: float, step: float, kind: str) -> str:
    points = f"{x + step:.1f},{y - 4:.1f} {x:.1f},{y:.1f} {x + step:.1f},{y + 4:.1f}"
    return f'<polyline class="arrow end {kind}" points="{points}"/>'


def budget(certificate: Certificate, earlier: Iterable[Version]) -> str:
    """Epsilon over the units deleted since the base, up to the policy's limit."""
    deleted, left, limit = certificate["unitsDeletedSinceBase"], certificate["unitsLeft"], certificate["epsilonLimit"]
    points = {one["units"]: one["epsilon"] for one in earlier if one["units"] and one["epsilon"] is not None}
    points = {units: epsilon for units, epsilon in points.items() if units < deleted}
    points |= {1: certificate["singleEpsilon"], deleted: certificate["epsilon"]}
    last = max(deleted + (left or 0), 2)
    most = max(limit, *points.values()) * 1.12
    known = sorted(points.items())
    path = " ".join(f"{_x(units, last):.1f},{_y(epsilon, most):.1f}" for units, epsilon in known)
    parts = [
        *_frame([(0, "0"), (deleted, f"{deleted} deleted"), *([(last, str(last))] if left else [])], last),
        *_heights([0.0, limit], most),
        f'<line class="limit" x1="{_START}" y1="{_y(limit, most):.1f}" x2="{_STOP}" y2="{_y(limit, most):.1f}"/>',
        f'<text class="value" x="{_STOP:.0f}" y="{_y(limit, most) - 5:.1f}">largest ε allowed</text>',
        f'<polyline class="trend" points="{path}"/>',
    ]
    for units, epsilon in known:
        kind = "after" if units == deleted else "before"
        parts.append(f'<circle class="dot {kind}" cx="{_x(units, last):.1f}" cy="{_y(epsilon, most):.1f}" r="4"/>')
    spent = words.number(certificate["epsilon"])
    parts.append(
        f'<text class="mark" x="{min(_x(deleted, last) + 8, _STOP - 60):.1f}" '
        f'y="{_y(certificate["epsilon"], most) - 8:.1f}">ε {spent}</text>'
    )
    told = f"{spent} of {words.exact_number(limit)} spent on {words.count(deleted, 'deleted unit')}"
    return _figure(
        f"Epsilon over deleted units: {told}.",
        parts,
        _LOW + 22,
        f"ε for all deleted units together: {told}. The line between the dots guides the eye; it is no bound.",
    )


def versions(predicate: Predicate) -> str:
    """The gated measurements from version to version; empty in a first report."""
    rows = row_of(predicate)
    if len(rows) < 2:  # noqa: PLR2004 - a line needs two points
        return ""
    names = [one["metric"] for one in predicate["gates"]] or [
        one["metric"] for one in predicate["evidence"]["findings"]
    ]
    return "".join(
        f'<article class="card"><h3>{escape(words.metric(name).label)}</h3>{_trend(name, rows)}</article>'
        for name in dict.fromkeys(names)
        if sum(name in one["metrics"] for one in rows) > 1
    )


def row_of(predicate: Predicate) -> list[Version]:
    """The model's versions of which something is known, oldest first, ending with this report's."""
    certificate = predicate["guarantee"]["certificate"]
    now: Version = {
        "version": predicate["model"]["after"]["version"],
        "guarantee": predicate["guarantee"]["class"],
        "reportDigest": "",
        "metrics": {one["metric"]: one["after"] for one in predicate["evidence"]["findings"]},
        "epsilon": None if certificate is None else certificate["epsilon"],
        "units": None if certificate is None else certificate["unitsDeletedSinceBase"],
    }
    return [*predicate.get("history", []), now]


def _trend(name: str, rows: Sequence[Version]) -> str:
    shown = [(one["version"], one["metrics"][name]) for one in rows if name in one["metrics"]]
    first, last = shown[0][0], shown[-1][0]
    low, high = charts.domain([one for _, one in shown], words.metric(name).scale)
    marks = [(number - first, f"v{number}") for number, _ in (shown if len(shown) < 8 else [shown[0], shown[-1]])]  # noqa: PLR2004 - labels that fit
    span = max(last - first, 1)
    path = " ".join(f"{_x(number - first, span):.1f},{_y(one['value'], high, low):.1f}" for number, one in shown)
    parts = [*_frame(marks, span), *_heights(charts.ticks(low, high), high, low)]
    parts.append(f'<polyline class="trend" points="{path}"/>')
    for number, one in shown:
        x = _x(number - first, span)
        top, bottom = (_y(edge, high, low) for edge in reversed(one["ci95"]))
        kind = "after" if number == last else "before"
        parts.append(f'<line class="bar {kind}" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>')
        parts.append(f'<circle class="dot {kind}" cx="{x:.1f}" cy="{_y(one["value"], high, low):.1f}" r="4"/>')
    told = "; ".join(f"version {number} {words.number(one['value'])}" for number, one in shown)
    return _svg(f"{words.metric(name).label}: {told}", parts, _LOW + 22)


def _x(units: float, last: float) -> float:
    return _START + 10 + units / last * (_STOP - _START - 20)


def _y(value: float, most: float, least: float = 0.0) -> float:
    return _LOW - (min(max(value, least), most) - least) / (most - least) * (_LOW - _HIGH)


def _frame(marks: Iterable[tuple[float, str]], last: float) -> list[str]:
    parts = [f'<line class="axis" x1="{_START}" y1="{_LOW}" x2="{_STOP}" y2="{_LOW}"/>']
    parts += [f'<text class="tick" x="{_x(at, last):.1f}" y="{_LOW + 15:.1f}">{text}</text>' for at, text in marks]
    return parts


def _heights(marks: Iterable[float], most: float, least: float = 0.0) -> list[str]:
    parts = []
    for mark in marks:
        y = _y(mark, most, least)
        parts.append(f'<line class="grid" x1="{_START}" y1="{y:.1f}" x2="{_STOP}" y2="{y:.1f}"/>')
        text = f"{abs(mark):.4g}"
        parts.append(
            f'<text class="name" x="{_START - 6}" y="{y + 4:.1f}">{words.MINUS if mark < 0 else ""}{text}</text>'
        )
    return parts


def _figure(told: str, parts: Iterable[str], height: float, caption: str) -> str:
    return f"<figure>{_svg(told, parts, height)}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _svg(told: str, parts: Iterable[str], height: float) -> str:
    head = f'<svg class="chart" viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="img" aria-label="{escape(told)}">'
    return head + "".join(parts) + "</svg>"
