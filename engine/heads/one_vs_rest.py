"""K classes by K binary heads, each class against the others.

Each head has a perturbation of its own, and a residual and a budget of its own: what is certified adds up over the
K heads, epsilon and delta alike, and the caller's budget is that of one head. A row is removed from all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from engine.errors import EngineError
from engine.heads.newton import Head, Outcome, Terms, remove, settle, train
from engine.heads.rows import Indices, Rows, Vector, distinct
from engine.heads.weights import Noise

_FEWEST = 3  # two classes are one binary head


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """Every `lanes`-th round of a source, so that no two heads share one."""

    noise: Noise = field(repr=False)
    lane: int
    lanes: int

    def __call__(self, *, round_: int, count: int) -> Vector:
        """The numbers of this lane's round."""
        return self.noise(round_=round_ * self.lanes + self.lane, count=count)


def against_the_rest(x: Vector, labels: Indices, *, classes: int) -> tuple[Rows, ...]:
    """The rows of each head, +1 for its class and -1 for the others; `labels` (n,) run from 0 to `classes` - 1."""
    if classes < _FEWEST or labels.shape != x.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise EngineError(
            "bad_data", "one against the rest needs at least three classes, and a whole number for each row"
        )
    if set(np.unique(labels).tolist()) != set(range(classes)):
        raise EngineError("bad_data", "one against the rest needs at least one row of each class, and no other label")
    return tuple(Rows(x=x, y=np.where(labels == k, 1.0, -1.0)) for k in range(classes))


def train_all(rows: Sequence[Rows], terms: Terms, noise: Noise) -> tuple[Head, ...]:
    """One head for each class."""
    return tuple(train(one, terms, Lane(noise=noise, lane=k, lanes=len(rows))) for k, one in enumerate(rows))


def remove_all(heads: Sequence[Head], indices: Sequence[int] | Indices) -> tuple[tuple[Head, ...], tuple[Outcome, ...]]:
    """Forget the rows in every head or, when one of them refuses, in none; the features are overwritten once."""
    gone = heads[0].rows.present(indices)
    if not gone.size:
        done = [remove(head, indices) for head in heads]
    else:
        x = heads[0].rows.without(gone).x
        left = [Rows(x=x, y=_without(head.rows.y, gone)) for head in heads]
        repeated = int(distinct(indices).size - gone.size)
        done = [settle(head, rows, gone, repeated=repeated) for head, rows in zip(heads, left, strict=True)]
    return tuple(head for head, _ in done), tuple(outcome for _, outcome in done)


def _without(y: Vector, gone: Indices) -> Vector:
    kept = y.copy()
    kept[gone] = 0.0
    return kept
