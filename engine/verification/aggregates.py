"""Counts of whole groups of pictures, for people to look at: no picture, and nothing about a single person.

* A confusion matrix counts pictures by true class (rows) and predicted class (columns). Of the forget set a cell is
  withheld (null) unless pictures of at least `FEWEST` data subjects are in it, and no row withholds one cell alone,
  which the others would give away. Strangers' cells are shown as they are: they say how the model reads.
* Classes and domains are numbers, counted from 1 in the model's own order, for their names can be persons'. At most
  `LARGEST` rows are shown: of more classes those that most of the forget set is of, and the others as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.verification.statistics import Ints

FEWEST = 5
LARGEST = 12
Counts = list[list[int | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """Which of `total` groups have a row of their own, by number from 0 in order; the others share the last one."""

    total: int
    own: tuple[int, ...]

    @classmethod
    def of(cls, total: int, groups: Ints, units: Sequence[str]) -> "Shown":
        """All, or those with most pictures of the forget set (`groups`, `units`) and then the first ones."""
        if total <= LARGEST:
            return cls(total=total, own=tuple(range(total)))
        people = subjects(groups, units, total)
        pictures = np.bincount(groups, minlength=total) * (people >= FEWEST)
        ranked = sorted(range(total), key=lambda i: (-pictures[i], i))
        return cls(total=total, own=tuple(sorted(ranked[: LARGEST - 1])))

    @property
    def rows(self) -> int:
        """Rows with the shared one, if there is one."""
        return len(self.own) + (self.total > len(self.own))

    def row(self, groups: Ints) -> Ints:
        """The row of each number."""
        table = np.full(self.total, len(self.own))
        table[list(self.own)] = np.arange(len(self.own))
        return table[groups]

    def mapping(self) -> dict[str, Any]:
        """As evidence holds it."""
        return {"shown": [i + 1 for i in self.own], "others": self.total - len(self.own)}


def subjects(groups: Ints, units: Sequence[str], total: int) -> Ints:
    """How many different data subjects each group has (total,)."""
    pairs = {(int(group), unit) for group, unit in zip(groups, units, strict=True)}
    return np.bincount([group for group, _ in pairs], minlength=total)


def confusion(true: Ints, predicted: Ints, shown: Shown) -> Counts:
    """Counts by true class (rows) and predicted class (columns)."""
    cells = shown.row(true) * shown.rows + shown.row(predicted)
    counts = np.bincount(cells, minlength=shown.rows**2).reshape(shown.rows, shown.rows)
    return [[int(one) for one in row] for row in counts]


def withheld(true: Ints, predicted: Ints, units: Sequence[str], shown: Shown) -> Counts:
    """The same for the forget set, null where fewer than `FEWEST` data subjects are, and one more if that is alone."""
    cells = shown.row(true) * shown.rows + shown.row(predicted)
    enough = (subjects(cells, units, shown.rows**2) >= FEWEST).reshape(shown.rows, shown.rows)
    counts: Counts = confusion(true, predicted, shown)
    for row, known in zip(counts, enough, strict=True):
        if known.sum() == len(known) - 1:
            known[min(np.flatnonzero(known), key=lambda i: row[i] or 0)] = False
        row[:] = [one if there else None for one, there in zip(row, known, strict=True)]
    return counts
