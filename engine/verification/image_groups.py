"""The aggregates of the suite `image`: confusion matrices, and representations before and after."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine.corpus import Record
from engine.verification.aggregates import Shown, confusion, subjects, withheld
from engine.verification.representations import ROLES, SETS, representation
from engine.verification.statistics import Floats


def aggregates(
    models: Mapping[str, Mapping[str, Floats]], sets: Mapping[str, Sequence[Record]], *, excluded: int
) -> dict[str, Any] | None:
    """What evidence holds of groups; None where the models number their classes differently."""
    first = next(iter(models.values()))
    if any(
        not np.array_equal(first[f"{name}_classes"], one[f"{name}_classes"]) for one in models.values() for name in sets
    ):
        return None
    units = {name: [one.unit for one in chosen] for name, chosen in sets.items()}
    total, true = int(first["classes"][0]), {name: first[f"{name}_classes"].astype(np.int64) for name in sets}
    shown = Shown.of(total, true["forget"], units["forget"])
    confusions = []
    for role in (role for role in ROLES if role in models):
        said = {name: models[role][f"{name}_predicted"].astype(np.int64) for name in sets}
        removed = withheld(true["forget"], said["forget"], units["forget"], shown)
        strangers = confusion(true["holdout"], said["holdout"], shown)
        confusions.append({"set": "forget", "model": role, "counts": removed})
        confusions.append({"set": "holdout", "model": role, "counts": strangers})
    people = {name: subjects(true[name], units[name], total) for name in SETS}
    return {
        "excluded": excluded,
        "classes": shown.mapping(),
        "confusions": confusions,
        "domains": None,
        "representation": representation("classes", models, people, shown.own),
    }
