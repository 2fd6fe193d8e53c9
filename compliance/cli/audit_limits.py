"""What an audit with shadow models could have seen at most: numbers of examples and shadows in, sentences out.

Which rates of false alarms can be had at all follows from the number of outsiders (one false alarm among them is the
smallest rate). An AUC is told from chance when it is further from .5 than 1.96 standard deviations of the rank-sum
statistic under chance, sqrt((m + k + 1) / (12 m k)) for m members and k outsiders, both counted in units.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

RATES = {"tpr_at_0_1_percent": 1000, "tpr_at_1_percent": 100, "tpr_at_5_percent": 20}  # outsiders each takes
SPELLED = {"tpr_at_0_1_percent": "0.1 %", "tpr_at_1_percent": "1 %", "tpr_at_5_percent": "5 %"}
OWN_VARIANCES = 64  # shadows from which LiRA fits a variance to each example
Z = 1.96


def resolvable(metric: str, outsiders: int) -> bool:
    """Whether so many outsiders can show the metric's rate of false alarms; True for a metric that has none."""
    return all(outsiders >= needed for name, needed in RATES.items() if metric.endswith(name))


def limits(found: Mapping[str, Any]) -> list[str]:
    """The sentences, from what an audit rests on (`Evidence.rests_on`)."""
    return [*_rates(found["outsiders"]["records"]), _chance(found), _shadows(found), *_unlike(found), _nothing()]


def _rates(outsiders: int) -> Iterator[str]:
    for name, needed in RATES.items():
        if not resolvable(name, outsiders):
            yield (
                f"The true positive rate at {SPELLED[name]} false alarms is not resolvable with {outsiders} outsiders; "
                f"it takes {needed}."
            )


def _chance(found: Mapping[str, Any]) -> str:
    members, outsiders = found["members"]["units"], found["outsiders"]["units"]
    reach = Z * math.sqrt((members + outsiders + 1) / (12 * members * outsiders))
    return (
        f"With {members} members and {outsiders} outsiders an AUC below {0.5 + reach:.2f} cannot be told from chance."
    )


def _shadows(found: Mapping[str, Any]) -> str:
    count = found["shadows"]
    unlearning = found["method"] is not None
    held = f"in {count // 3 * 2} and out of {count // 3}" if unlearning else f"in {count // 2} and out of {count // 2}"
    third = f", and was unlearned from {count // 3}" if unlearning else ""
    few = "" if count >= OWN_VARIANCES else f"; below {OWN_VARIANCES} LiRA fits one spread to all examples"
    return f"Each example was {held} of {count} shadow models{third}{few}."


def _unlike(found: Mapping[str, Any]) -> Iterator[str]:
    """Whether the model before is surer or less sure of strangers than its shadows, by more than these differ."""
    told = found["strangers_log_prob"]
    low, high = told["shadows"]
    if not 2 * low - high <= told["before"] <= 2 * high - low:
        yield (
            f"The model before is unlike its shadows (mean log-probability of strangers {told['before']:.3g}, theirs "
            f"{low:.3g} to {high:.3g}): check --set-train, --start and --train; the attacks are weaker for it."
        )


def _nothing() -> str:
    return "An attack that finds nothing proves nothing: a stronger one may find more."
