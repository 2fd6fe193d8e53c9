"""Counts and shapes of groups as a report on pictures holds them, made up: ten classes, the seventh forgotten whole."""

import json
from typing import Any, cast

from audits.predicate import Predicate
from tests.audits.bundles import Desk, estimate

CLASSES, GONE, EACH = 10, 6, 40
WRONG = (9, 1)  # what most pictures of the forgotten class are read as afterwards


def strangers(model: str) -> list[list[int]]:
    """A model that reads 38 of 40 rightly, and of the forgotten class none where it was removed."""
    counts = [[38 if i == j else 2 if j == (i + 3) % CLASSES else 0 for j in range(CLASSES)] for i in range(CLASSES)]
    if model != "before":
        counts[GONE] = [0] * CLASSES
        counts[GONE][WRONG[0]], counts[GONE][WRONG[1]] = 31, 9
    return counts


def removed(model: str) -> list[list[int | None]]:
    """What the forgotten class is read as; everything else is of no pictures, and withheld."""
    counts: list[list[int | None]] = [[None] * CLASSES for _ in range(CLASSES)]
    if model == "before":
        counts[GONE][GONE] = 40
    else:
        counts[GONE][WRONG[0]], counts[GONE][WRONG[1]] = 30, 8
    return counts


def shape(model: str, name: str, group: int) -> dict[str, Any]:
    """An ellipse somewhere on a ring; the forgotten class moves to its neighbour."""
    moved = group - 1 == GONE and model == "after"
    x, y = (1.6, -0.4) if moved else (((group * 37) % 40) / 10 - 2, ((group * 23) % 30) / 10 - 1.5)
    told = {"model": model, "set": name, "group": group, "pictures": EACH}
    return {**told, "centre": [x, y], "spread": [0.09, 0.02 - group / 250, 0.05]}


def aggregates() -> dict[str, Any]:
    """Of a suite on classifiers."""
    models = ("before", "after", "reference")
    tables = [
        {"set": name, "model": model, "counts": made(model)}
        for model in models
        for name, made in (("forget", removed), ("holdout", strangers))
    ]
    groups = [
        shape(model, name, group)
        for model in models[:2]
        for name in ("forget", "retain")
        for group in range(1, CLASSES + 1)
        if (group - 1 == GONE) == (name == "forget")
    ]
    explained = [{"model": "before", "share": 0.81}, {"model": "after", "share": 0.74}]
    return {
        "excluded": 1,
        "classes": {"shown": list(range(1, CLASSES + 1)), "others": 0},
        "confusions": tables,
        "domains": None,
        "representation": {"of": "classes", "explained": explained, "groups": groups},
    }


def by_domain() -> dict[str, Any]:
    """Of a suite on domains: three, of which the second was to be forgotten."""
    pictures = [[20, 20, 20] for _ in range(4)]
    right = [
        {"model": model, "counts": [[19, 3 if model == "after" else 18, 17 + i % 2] for i in range(4)]}
        for model in ("before", "after")
    ]
    shown = [{"number": i, "forgotten": i == 2} for i in (1, 2, 3)]
    return {
        "excluded": 0,
        "classes": {"shown": [1, 2, 3], "others": 5},
        "confusions": [],
        "domains": {"shown": shown, "others": 0, "pictures": pictures, "right": right},
        "representation": None,
    }


class Counted(Desk):
    """An operator whose reports have groups, and say how long it took."""

    def report(self, groups: dict[str, Any]) -> Predicate:
        """A report on pictures with these groups."""
        value = cast("dict[str, Any]", self.predicate())
        found = value["evidence"]["findings"]
        found += [
            {"metric": metric, **dict.fromkeys(("before", "reference", "difference")), "after": estimate(0.9, 0.8, 1.0)}
            for metric in ("ta", "ta_forgotten", "gap")
        ]
        value["evidence"] |= {"suite": "image", "aggregates": groups}
        reference = {"minutes": 43.23, "cpuMinutes": 86.1}
        value["evidence"]["runTime"] = {"method": {"minutes": 2.52, "cpuMinutes": 5.01}, "reference": reference}
        return self.rejudged(cast("Predicate", value))

    def evidence(self, found: list[dict[str, Any]]) -> bytes:
        """The evidence file, with the groups of a suite on classifiers."""
        return json.dumps({"version": 1, "findings": found, "aggregates": aggregates()}, indent=1).encode()
