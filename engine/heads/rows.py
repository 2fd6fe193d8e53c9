"""Training rows of a binary head, and what is left when some are forgotten.

A forgotten row keeps its number and loses everything else: features and label are overwritten by zeros, with which
it adds nothing to a gradient or a Hessian. So indices stay valid for the life of a head, and what was forgotten is
in no state that came after.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError

Vector = NDArray[np.float64]
Indices = NDArray[np.intp]

# Rows are scaled to norm 1 in double precision; every constant is proved for this norm and not for 1.
LARGEST_NORM = 1 + 1e-9


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """`x` (n, d) with rows of norm at most `LARGEST_NORM`, `y` (n,) of -1 and +1; zeros in both where forgotten."""

    x: Vector = field(repr=False)
    y: Vector = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what the theorems do not speak of."""
        _shapes(self.x, self.y)
        norms = np.sqrt(np.einsum("nd,nd->n", self.x, self.x))
        if not bool(np.all(norms <= LARGEST_NORM)):  # NaN and infinity fail here as well
            raise EngineError(
                "bad_data", "the theorem needs rows that are finite and of norm at most 1: scale each row"
            )
        if not bool(np.all((np.abs(self.y) == 1) | ((self.y == 0) & (norms == 0)))):
            raise EngineError("bad_data", "labels of a binary head are -1 and +1")
        if not (bool(np.any(self.y == 1)) and bool(np.any(self.y == -1))):
            raise EngineError("bad_data", "a head needs at least two rows, and one of each class, to be left")

    @property
    def count(self) -> int:
        """How many rows are present."""
        return int(np.count_nonzero(self.y))

    @property
    def features(self) -> int:
        """The number of columns, d."""
        return int(self.x.shape[1])

    def present(self, indices: Sequence[int] | Indices) -> Indices:
        """Those of the distinct `indices` that are not forgotten yet, ascending."""
        asked = distinct(indices)
        if asked.size and not 0 <= asked[0] <= asked[-1] < len(self.y):
            raise EngineError("bad_data", "a row to forget is not among the rows of this head")
        present: Indices = asked[self.y[asked] != 0]
        return present

    def without(self, gone: Indices) -> "Rows":
        """The rows with those at `gone` overwritten; refused when no two rows, or no two classes, would be left."""
        x, y = self.x.copy(), self.y.copy()
        x[gone], y[gone] = 0.0, 0.0
        return Rows(x=x, y=y)


def distinct(indices: Sequence[int] | Indices) -> Indices:
    """The distinct row numbers, ascending; a mask of truth values is refused, because it would be read as 0 and 1."""
    asked = np.asarray(indices)
    if asked.ndim != 1 or (asked.size and not np.issubdtype(asked.dtype, np.integer)):
        raise EngineError("bad_data", "rows to forget are given by their numbers")
    return np.unique(asked).astype(np.intp)


def _shapes(x: Vector, y: Vector) -> None:
    if x.ndim != 2 or y.shape != x.shape[:1] or x.shape[1] < 1:  # noqa: PLR2004 - a matrix
        raise EngineError("bad_data", "a head needs a matrix of features, and one label for each of its rows")
    if x.dtype != np.float64 or y.dtype != np.float64:
        raise EngineError("bad_data", "features and labels of a head are double precision")
