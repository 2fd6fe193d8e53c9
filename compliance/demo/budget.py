"""What a certificate leaves for those who ask next: how many more units until the policy's limit."""

from collections.abc import Mapping
from typing import Any

from audits import budget


def budget_of(certificate: Mapping[str, Any]) -> dict[str, Any] | None:
    """The units deleted since the base was trained, their bound, its limit, and how many more units stay below it.

    None for a certificate whose mechanism uses nothing up.
    """
    deleted, left = certificate["unitsDeletedSinceBase"], certificate["unitsLeft"]
    if left is None:
        return None
    return {
        "unit": certificate["unit"],
        "deleted": deleted,
        "epsilon": certificate["epsilon"],
        "limit": certificate["epsilonLimit"],
        "left": left,
        "epsilonOfAll": budget.bound(certificate["accountant"], delta=certificate["delta"], group=deleted + left),
    }
