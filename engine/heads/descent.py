r"""Descent-to-Delete (Neel, Roth and Sharifi-Malvajerdi 2021, arXiv:2007.02923): noise only when weights leave.

Full gradient descent on the mean loss at the rate 2 / (L + m) brings the weights closer to the minimiser by the factor
gamma in every step (`constants`). Learning takes T steps from 0; forgetting takes I steps on the remaining rows.

`Kept`  goes on from the weights without noise, which are secret and never published (`Internal`).
`Open`  has no secret but the source of its noise: it goes on from what was published, with more steps,
        I + ceil(ln(ln(4 d i / delta)) / ln(1 / gamma)) for the i-th deletion, one row at a time.

T is not an option: T >= I + ln(D m n / (2 M)) / ln(1 / gamma), with D = M / m the distance of the minimiser from the
start, is a condition of both theorems, and with these constants it is I + ln(n / 2) / ln(1 / gamma).

Noise has the standard deviation that the caller's accountant asked for. Its round is the number of deletions: weights
published twice are the same to the bit, because two draws of noise on the same weights would average it out.
The theorems are about requests that do not depend on what was published before.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.errors import EngineError
from engine.heads.constants import Constants, constants
from engine.heads.logistic import Logistic
from engine.heads.rows import Indices, Rows, Vector, distinct
from engine.heads.weights import Internal, Noise, Published, noised


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Penalty, standard deviation of the noise, and I, the steps of a deletion."""

    lam: float
    sigma: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse terms under which nothing is forgotten or hidden."""
        if not 0 < self.sigma < math.inf or self.steps < 1:
            raise EngineError(
                "bad_options", "descent needs noise, finite and above 0, and at least one step a deletion"
            )
        constants(self.lam)

    @property
    def constants(self) -> Constants:
        """M, m and L at this penalty."""
        return constants(self.lam)

    def learning_steps(self, rows: int) -> int:
        """T for so many rows."""
        enough = math.log(rows / 2) / -math.log(self.constants.contraction)
        return self.steps + max(0, math.ceil(enough))


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletion:
    """What may be told about one batch; `steps` in all, and `deletions` since learning, this one included."""

    removed: int
    repeated: int
    rows_before: int
    rows_after: int
    steps: int
    deletions: int
    constants: Constants


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Kept:
    """The state that goes on from un-noised weights; `distance` bounds theirs to the minimiser, by proof."""

    rows: Rows
    terms: Terms
    internal: Internal
    distance: float
    deletions: int = 0

    @property
    def gap(self) -> float:
        """How far the un-noised weights are from those of learning anew on the remaining rows, at most.

        This is the sensitivity of what is published: the Gaussian mechanism has mu = gap / sigma.
        """
        proved = self.terms.constants
        return self.distance + proved.contraction ** self.terms.learning_steps(self.rows.count) * proved.reach


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Open:
    """The state that goes on from what everybody can see."""

    rows: Rows
    terms: Terms
    published: Published
    deletions: int = 0


def learn(rows: Rows, terms: Terms) -> Kept:
    """T steps from 0."""
    steps = terms.learning_steps(rows.count)
    learned = descend(rows, terms.lam, np.zeros(rows.features), steps=steps)
    distance = terms.constants.contraction**steps * terms.constants.reach
    return Kept(rows=rows, terms=terms, internal=Internal(learned), distance=distance)


def delete(kept: Kept, indices: Sequence[int] | Indices) -> tuple[Kept, Deletion]:
    """Forget rows, in I steps from the un-noised weights; rows that are gone already take none."""
    gone = kept.rows.present(indices)
    repeated = int(distinct(indices).size - gone.size)
    if not gone.size:
        return kept, _deletion(kept, kept, repeated=repeated, steps=0)
    rows, terms = kept.rows.without(gone), kept.terms
    moved = terms.constants.shift(rows=kept.rows.count, removed=int(gone.size))
    after = replace(
        kept,
        rows=rows,
        internal=Internal(descend(rows, terms.lam, kept.internal.unnoised, steps=terms.steps)),
        distance=terms.constants.contraction**terms.steps * (kept.distance + moved),
        deletions=kept.deletions + 1,
    )
    return after, _deletion(kept, after, repeated=repeated, steps=terms.steps)


def publish(kept: Kept, noise: Noise) -> Published:
    """The weights with noise: the only way out of the state."""
    return noised(kept.internal, sigma=kept.terms.sigma, noise=noise, round_=kept.deletions)


def learn_open(rows: Rows, terms: Terms, noise: Noise) -> Open:
    """T steps from 0 and noise, after which nothing else is kept."""
    return Open(rows=rows, terms=terms, published=publish(learn(rows, terms), noise))


def delete_open(state: Open, indices: Sequence[int] | Indices, *, delta: float, noise: Noise) -> tuple[Open, Deletion]:
    """Forget rows one after the other, each in its own steps from the published weights and with its own noise."""
    if not 0 < delta < 1:
        raise EngineError("bad_options", "delta lies between 0 and 1")
    gone = state.rows.present(indices)
    repeated = int(distinct(indices).size - gone.size)
    state.rows.without(gone)  # refuses the batch as a whole, before the first step
    after, total = state, 0
    for one in gone:
        rows, number = after.rows.without(np.array([one])), after.deletions + 1
        steps = open_steps(after.terms, features=rows.features, number=number, delta=delta)
        raw = Internal(descend(rows, after.terms.lam, after.published.weights, steps=steps))
        shown = noised(raw, sigma=after.terms.sigma, noise=noise, round_=number)
        after, total = replace(after, rows=rows, published=shown, deletions=number), total + steps
    return after, _deletion(state, after, repeated=repeated, steps=total)


def open_steps(terms: Terms, *, features: int, number: int, delta: float) -> int:
    """I + ceil(ln(ln(4 d i / delta)) / ln(1 / gamma)) for the i-th deletion: the added steps pay for the noise."""
    added = math.log(math.log(4 * features * number / delta)) / -math.log(terms.constants.contraction)
    return terms.steps + max(0, math.ceil(added))


def descend(rows: Rows, lam: float, start: Vector, *, steps: int) -> Vector:
    """So many steps of gradient descent on the mean loss of the rows that are present."""
    problem = Logistic(rows=rows, lam=lam, b=np.zeros(rows.features))
    rate = constants(lam).rate / rows.count
    w = start
    for _ in range(steps):
        w = w - rate * problem.gradient(w)
    return w


def _deletion(before: Kept | Open, after: Kept | Open, *, repeated: int, steps: int) -> Deletion:
    return Deletion(
        removed=before.rows.count - after.rows.count,
        repeated=repeated,
        rows_before=before.rows.count,
        rows_after=after.rows.count,
        steps=steps,
        deletions=after.deletions,
        constants=after.terms.constants,
    )
