"""Counts and shapes of whole groups of pictures on the page: heat tables, and ellipses as inline SVG.

A table is its own text; an ellipse has its numbers in the technical appendix. Nothing is told by colour alone: cells
hold their counts, right answers are framed, and what is to be forgotten is dashed.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape

from audits.aggregates import Aggregates, Confusion, Domains, Ellipse, Representation
from audits.predicate import Evidence
from audits.render import words

_LEVELS = 5
_WIDTH, _HEIGHT, _PAD = 340.0, 300.0, 14.0
_TITLES = {"before": "Before", "after": "After", "reference": "Reference"}
_WITHHELD = "\N{MIDDLE DOT}"
_LITTLE = 0.5  # of the share before: the directions say little of a model that keeps less in them
_APART = 12.0  # units between two labels


def section(evidence: Evidence) -> str:
    """The section about groups; empty without any."""
    told = evidence.get("aggregates")
    if told is None:
        return ""
    parts = [
        _intro(told),
        _confusions(told),
        "" if told["domains"] is None else _domains(told, told["domains"]),
        "" if told["representation"] is None else _representation(told["representation"]),
    ]
    return f"<section>\n<h2>Groups of pictures, before and after</h2>\n{''.join(parts)}</section>"


def numbers(evidence: Evidence) -> list[tuple[str, ...]]:
    """The numbers behind the ellipses, a row each: model, set, group, pictures, centre, spread."""
    told = evidence.get("aggregates")
    if told is None or told["representation"] is None:
        return []
    kind = "class" if told["representation"]["of"] == "classes" else "domain"
    return [
        (
            f"{one['model']}, {_kind(one)}, {kind} {one['group']}",
            words.exact_number(one["pictures"]),
            _pair(one["centre"]),
            _pair(one["spread"]),
        )
        for one in told["representation"]["groups"]
    ]


def _pair(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values).replace("-", words.MINUS)


def _intro(told: Aggregates) -> str:
    others = told["classes"]["others"]
    shared = f" The sign + stands for the other {others} classes together." if others else ""
    left_out = f"<p>{escape(words.left_out(told['excluded']))}</p>" if told["excluded"] else ""
    domains = "" if told["domains"] is None else " Domains are numbered in the alphabetical order of their names."
    return (
        "<p>These are counts and shapes of whole groups: no picture, and nothing about a single person. Classes have "
        "numbers here and no names, which can be names of persons. The numbers follow the model's own order, so that "
        f"whoever holds the model can look them up in it.{domains}{shared}</p>{left_out}\n"
    )


def _confusions(told: Aggregates) -> str:
    removed = [one for one in told["confusions"] if one["set"] == "forget"]
    strangers = [one for one in told["confusions"] if one["set"] == "holdout"]
    if not strangers:
        return ""
    shown = {
        row for one in removed for row, cells in enumerate(one["counts"]) if any(cell is not None for cell in cells)
    }
    names = _names(told)
    some = (
        "<p>A dot is a cell that is withheld: fewer than five people are in it, none perhaps, or it would let somebody "
        "work out such a cell. A class of which all is withheld has no row.</p>"
        f'<div class="trio">{"".join(_confusion(one, names, shown) for one in removed)}</div>'
    )
    none = "<p>In no cell are there five people or more, so none is shown.</p>"
    return (
        "<h3>What the pictures to be forgotten are taken for</h3>\n<p>Down: the class that a picture shows. Across: "
        "the class that the model takes it for. Framed cells are right answers, darker ones more of their row. "
        "The reference was trained without these pictures.</p>"
        f"{some if shown else none}\n<h3>What pictures that were never trained on are taken for</h3>\n"
        f'<div class="trio">{"".join(_confusion(one, names, range(len(names))) for one in strangers)}</div>\n'
    )


def _names(told: Aggregates) -> list[str]:
    return [*map(str, told["classes"]["shown"]), *(["+"] if told["classes"]["others"] else [])]


def _confusion(one: Confusion, names: Sequence[str], shown: Iterable[int]) -> str:
    rows = []
    for i in sorted(shown):
        cells = one["counts"][i]
        total = sum(cell or 0 for cell in cells) or 1
        rows.append(
            (
                names[i],
                [_cell(cell, None if cell is None else cell / total, right=i == j) for j, cell in enumerate(cells)],
            )
        )
    return _heat(_TITLES[one["model"]], [(name, False) for name in names], rows)


def _domains(told: Aggregates, domains: Domains) -> str:
    names = _names(told)
    head = [(f"{one['number']}{' ✕' if one['forgotten'] else ''}", one["forgotten"]) for one in domains["shown"]]
    more = f" {domains['others']} more domains are not shown." if domains["others"] else ""
    sums = [sum(column) for column in zip(*domains["pictures"], strict=True)]
    tables = []
    for one in domains["right"]:
        rows = [
            (name, [_share(*pair) for pair in zip(right, pictures, strict=True)])
            for name, right, pictures in zip(names, one["counts"], domains["pictures"], strict=True)
        ]
        found = [sum(column) for column in zip(*one["counts"], strict=True)]
        rows.append(("all", [_share(*pair) for pair in zip(found, sums, strict=True)]))
        tables.append(_heat(_TITLES[one["model"]], head, rows))
    return (
        "<h3>How much of each class is read rightly in each domain, in per cent</h3>\n<p>Down: the class that a "
        "picture shows. Across: its domain, with ✕ where it is to be forgotten. All pictures are ones that no model "
        "was trained on; a dot stands "
        f'where there are none.{more}</p><div class="trio">{"".join(tables)}</div>\n'
    )


def _share(right: int, pictures: int) -> str:
    if not pictures:
        return _cell(None, None)
    return _cell(round(100 * right / pictures), right / pictures)


def _cell(value: int | None, part: float | None, *, right: bool = False) -> str:
    """A cell: its number, how dark, and whether it is a right answer."""
    kinds = ["right"] if right else []
    if value is None or part is None:
        kinds.append("empty")
    elif part > 0:
        kinds.append(f"heat{min(_LEVELS, 1 + math.floor(part * _LEVELS))}")
    else:
        kinds.append("empty")
    named = f' class="{" ".join(kinds)}"' if kinds else ""
    return f"<td{named}>{_WITHHELD if value is None else value}</td>"


def _heat(caption: str, head: Iterable[tuple[str, bool]], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    titles = "".join(
        f'<th scope="col"{" class=" + chr(34) + "gone" + chr(34) if gone else ""}>{name}</th>' for name, gone in head
    )
    body = "".join(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>' for name, cells in rows)
    return (
        f'<table class="heat"><caption>{escape(caption)}</caption>'
        f'<thead><tr><td class="corner"></td>{titles}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def _representation(told: Representation) -> str:
    kinds = {"classes": "class", "domains": "domain"}[told["of"]]
    shares = {one["model"]: one["share"] for one in told["explained"]}
    said = " and ".join(f"{100 * share:.0f} % {_WHOSE[model]}" for model, share in shares.items())
    little = shares.get("after", 1.0) < _LITTLE * shares.get("before", 0.0)
    warning = (
        " That is so much less after than before that the second picture says little: a model that was trained anew "
        "arranges pictures in its own way."
        if little
        else ""
    )
    box = _box(told["groups"])
    panels = {model: [one for one in told["groups"] if one["model"] == model] for model in shares}
    drawn = "".join(
        f'<article class="card"><h3>{_TITLES[model]}</h3>{_panel(groups, box, _TITLES[model])}</article>'
        for model, groups in panels.items()
    )
    return (
        f"<h3>Where each {kinds} lies inside the model</h3>\n<p>What arrives at the model's last layer, seen along the "
        f"two directions in which the retained pictures differed most before: these hold {said}. Each {kinds} is an "
        "ellipse that reaches one standard deviation from its middle, with its number. "
        f"Groups of fewer than five people are not drawn.{warning}</p>"
        '<p><span class="swatch"></span>retained &#160; <span class="swatch gone"></span>to be forgotten</p>'
        f'<div class="duo">{drawn}</div>\n'
    )


_WHOSE = {
    "before": "of how much features differ before",
    "after": "of how much they differ after",
    "reference": "in the reference",
}


def _box(groups: Iterable[Ellipse]) -> tuple[float, float, float]:
    """Left edge, upper edge, and units of the drawing for one of the picture's: the same for every panel."""
    edges = [
        (one["centre"][i] - math.sqrt(one["spread"][2 * i]), one["centre"][i] + math.sqrt(one["spread"][2 * i]), i)
        for one in groups
        for i in (0, 1)
    ]
    (left, right), (low, high) = (
        (min(a for a, _, axis in edges if axis == i), max(b for _, b, axis in edges if axis == i)) for i in (0, 1)
    )
    scale = min((_WIDTH - 2 * _PAD) / max(right - left, 1e-6), (_HEIGHT - 2 * _PAD) / max(high - low, 1e-6))
    across, down = (right - left) * scale, (high - low) * scale
    return left - (_WIDTH - across) / 2 / scale, high + (_HEIGHT - down) / 2 / scale, scale


def _panel(groups: Sequence[Ellipse], box: tuple[float, float, float], title: str) -> str:
    left, top, scale = box
    placed = [((one["centre"][0] - left) * scale, (top - one["centre"][1]) * scale, one) for one in groups]
    order = sorted(placed, key=lambda one: one[2]["set"] == "forget")  # what is to be forgotten lies on top
    shapes = [_ellipse(x, y, scale, one) for x, y, one in order]
    told = "; ".join(f"{_kind(one)} {one['group']} at {_pair(one['centre'])}" for one in groups)
    head = (
        f'<svg class="chart" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{escape(title)}: {told}">'
    )
    frame = f'<rect class="frame" x="0.5" y="0.5" width="{_WIDTH - 1:.1f}" height="{_HEIGHT - 1:.1f}"/>'
    return f"{head}{frame}{''.join(shapes)}{''.join(_labels(order))}</svg>"


def _kind(one: Ellipse) -> str:
    return "to be forgotten" if one["set"] == "forget" else "retained"


def _ellipse(x: float, y: float, scale: float, one: Ellipse) -> str:
    """One standard deviation around the centre; the drawing's y goes down."""
    xx, xy, yy = one["spread"]
    middle, apart = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    wide, narrow = (scale * math.sqrt(max(middle + sign * apart, 0.0)) for sign in (1, -1))
    turn = -math.degrees(math.atan2(2 * xy, xx - yy) / 2)
    kind = "gone" if one["set"] == "forget" else "stayed"
    return (
        f'<ellipse class="{kind}" cx="{x:.1f}" cy="{y:.1f}" rx="{max(wide, 1.5):.1f}" ry="{max(narrow, 1.5):.1f}" '
        f'transform="rotate({turn:.1f} {x:.1f} {y:.1f})"/>'
    )


def _labels(placed: Iterable[tuple[float, float, Ellipse]]) -> list[str]:
    """The group's number at its centre, or as near above or below it as no other number stands; a line leads back."""
    taken: list[tuple[float, float]] = []
    parts = []
    for x, y, one in placed:
        steps = [0.0, *(sign * _APART * step for step in range(1, 30) for sign in (-1, 1))]
        free = (y + step for step in steps if _PAD <= y + step <= _HEIGHT - 4)
        spot = next((at for at in free if all(abs(x - a) > _APART or abs(at - b) >= _APART for a, b in taken)), y)
        taken.append((x, spot))
        kind = "gone" if one["set"] == "forget" else "stayed"
        if abs(spot - y) > 1:
            parts.append(f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{spot:.1f}"/>')
        parts.append(f'<text class="of {kind}" x="{x:.1f}" y="{spot + 4:.1f}">{one["group"]}</text>')
    return parts
