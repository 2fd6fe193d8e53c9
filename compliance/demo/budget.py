"""What a certificate leaves for those who ask next: how many more units until the policy's limit."""

from collections.abc import Mapping
from typing import Any

from audits import mechanisms


def budget_of(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """The units deleted since the base was trained, their bound, its limit, and how many more units stay below it.

    The bound grows with the group, so the first group above the limit ends the count, as does the last unit but one.
    """
    deleted, limit = certificate["unitsDeletedSinceBase"], certificate["epsilonLimit"]
    left = 0
    while deleted + left + 1 < certificate["points"] and _bound(certificate, deleted + left + 1) <= limit:
        left += 1
    return {
        "unit": certificate["unit"],
        "deleted": deleted,
        "epsilon": certificate["epsilon"],
        "limit": limit,
        "left": left,
        "epsilonOfAll": _bound(certificate, deleted + left),
    }


def _bound(certificate: Mapping[str, Any], group: int) -> float:
    return mechanisms.epsilon(certificate["accountant"], delta=certificate["delta"], group=group)
