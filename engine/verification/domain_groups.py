"""The aggregates of the suite `domain`: accuracy by class and domain, and where each domain's features lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.corpus import Record
from engine.verification.aggregates import LARGEST, Shown, subjects
from engine.verification.representations import ROLES, SETS, representation
from engine.verification.statistics import Floats


def aggregates(
    models: Mapping[str, Mapping[str, Floats]], sets: Mapping[str, Sequence[Record]], domains: Sequence[str]
) -> dict[str, Any] | None:
    """What evidence holds of groups; a domain's number is its place among `domains`, the names of all.

    Strangers' pictures are counted by class and domain, and those that each model reads rightly. Of more domains than
    can be shown, those to be forgotten come first. None where the models number classes differently.
    """
    first = next(iter(models.values()))
    if any(not np.array_equal(first["classes"], one["classes"]) for one in models.values()):
        return None
    numbers = {name: i for i, name in enumerate(domains)}
    own = {name: np.array([numbers[one.domain or ""] for one in chosen]) for name, chosen in sets.items()}
    leaving = set(own["forget"].tolist())
    chosen = sorted(sorted(range(len(domains)), key=lambda i: (i not in leaving, i))[:LARGEST])
    classes = first["classes"].astype(np.int64)
    shown = Shown.of(int(first["total"][0]), classes[:0], ())

    def table(values: Floats) -> list[list[int]]:
        sums = np.zeros((shown.rows, len(domains)))
        np.add.at(sums, (shown.row(classes), own["holdout"]), values)
        return [[round(float(row[i])) for i in chosen] for row in sums]

    people = {name: subjects(own[name], [one.unit for one in sets[name]], len(domains)) for name in SETS}
    return {
        "excluded": 0,
        "classes": shown.mapping(),
        "confusions": [],
        "domains": {
            "shown": [{"number": i + 1, "forgotten": i in leaving} for i in chosen],
            "others": len(domains) - len(chosen),
            "pictures": table(np.ones(len(classes))),
            "right": [{"model": role, "counts": table(models[role]["hits"])} for role in ROLES if role in models],
        },
        "representation": representation("domains", models, people, chosen),
    }
