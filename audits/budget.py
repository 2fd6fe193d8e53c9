"""The deletion budget of a DP base: the bound for everyone deleted since it was trained, and how many more may follow.

Each deleted unit joins one group, and the bound is that group's own (`mechanisms.epsilon`), never k times the bound for
one. The budget is the largest group whose bound stays within the policy's limit; the last of all units never fits,
because a base of nobody bounds nothing. A mechanism that starts anew from every model has no budget to use up.

Bounds grow with the group, which is what lets the largest one be searched for by halving.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from audits import accountant, mechanisms

USED_UP = frozenset({mechanisms.POISSON})
Record = Mapping[str, Any]
Told = tuple[tuple[str, Any], ...]


def bound(record: Record, *, delta: float, group: int) -> float:
    """Epsilon at `delta` for `group` deleted units: 0 for nobody, infinite for more than the accountant bounds."""
    if group == 0:
        return 0.0
    if record["mechanism"] in USED_UP and group > accountant.LARGEST_GROUP:
        return math.inf
    return _epsilon(_told(record), delta, group)


def fits(record: Record, *, delta: float, limit: float, points: int, group: int) -> bool:
    """Whether `group` of the `points` units may be deleted in all: below the last one, and within `limit`."""
    return group < points and bound(record, delta=delta, group=group) <= limit


def left(record: Record, *, delta: float, limit: float, points: int, deleted: int) -> int | None:
    """How many more units fit after `deleted` ones; None for a mechanism that uses nothing up."""
    if record["mechanism"] not in USED_UP:
        return None
    return max(0, _largest(_told(record), delta, limit, points) - deleted)


def _told(record: Record) -> Told:
    """The record as a key: what is asked of one base again and again is computed once, for it can take seconds."""
    return tuple((name, value) for name, value in record.items() if isinstance(value, str | int | float))


@lru_cache(maxsize=1024)
def _epsilon(told: Told, delta: float, group: int) -> float:
    return mechanisms.epsilon(dict(told), delta=delta, group=group)


@lru_cache(maxsize=128)
def _largest(told: Told, delta: float, limit: float, points: int) -> int:
    """The largest group that fits: doubled until one does not, then halved. Small groups are quick to account for."""
    record = dict(told)

    def reached(group: int) -> bool:
        return fits(record, delta=delta, limit=limit, points=points, group=group)

    high = 1
    while reached(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if reached(middle) else (low, middle)
    return low
