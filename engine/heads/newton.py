r"""Certified removal by Newton steps (Guo, Goldstein, Hannun and van der Maaten 2020, arXiv:1911.03030).

A head is trained on L(w; D) + b'w with b ~ N(0, sigma^2 I) (`logistic`). After a removal the weights w of the state
are the exact minimiser for another vector, b - r, where r is the gradient at w of the loss of the *remaining* rows,
perturbed by b: the residual. While ||r|| <= budget, theorem 3 makes w indistinguishable from what training on the
remaining rows gives. The budget, sigma epsilon / sqrt(2 ln(1.5 / delta)), is the caller's, who has the accountant.

* The residual is computed directly, in double precision, from every remaining row and b, plus a bound of the rounding.
  It is not a sum over removals, because w is compared with the minimiser as it is now. It covers what the optimiser
  left over. It depends on the data and on b, as corollary 1 of the paper does: the certificate is data-dependent.
* A removal takes Newton steps on the full gradient, so that what earlier removals left over does not add up, until
  the residual is at most a fraction of the budget. Where it stays above the budget the head is trained anew on what
  remains, with a fresh b, and the outcome says so.
* Rows that are already gone cost nothing and are not removed twice.
* One published w is certified. That of *several* versions with the same b seen together is not: they differ by what
  was removed between them.

b, the source of the noise and the inverse Hessian are secret; weights are `Published`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engine.errors import EngineError
from engine.heads.inverse import Inverse, fresh
from engine.heads.logistic import Logistic, fit, shorter
from engine.heads.rows import Indices, Rows, Vector, distinct
from engine.heads.weights import Noise, Published, normals

_SLOW = 0.5  # a step that leaves more of the residual than this was steered by an inverse out of date


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What was promised, and how hard to try: penalty, standard deviation of b, budget of the residual's norm.

    Steps end at `fraction` of the budget or after `limit`; `tolerance` is the gradient norm at which training ends.
    """

    lam: float
    sigma: float
    budget: float
    fraction: float = 0.25
    limit: int = 10
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse numbers that promise nothing."""
        if not all(0 < one < np.inf for one in (self.lam, self.sigma, self.budget, self.tolerance)):
            raise EngineError("bad_options", "penalty, noise, budget and tolerance are finite and above 0")
        if not 0 < self.fraction <= 1 or self.limit < 1:
            raise EngineError(
                "bad_options", "steps end at a fraction of the budget, at most 1, and at least one is taken"
            )
        if self.tolerance > self.fraction * self.budget:
            raise EngineError("bad_options", "training has to end well inside the budget: lower the tolerance")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Head:
    """The state between removals. All of it but `published` is secret; `perturbations` counts the b drawn so far."""

    rows: Rows
    terms: Terms
    weights: Vector = field(repr=False)
    b: Vector = field(repr=False)
    noise: Noise = field(repr=False)
    inverse: Inverse = field(repr=False)
    residual: float
    removed: int  # since b was drawn
    perturbations: int

    @property
    def published(self) -> Published:
        """The weights; the noise is inside them since training."""
        return Published(weights=self.weights)

    @property
    def problem(self) -> Logistic:
        """The loss of the rows that remain."""
        return Logistic(rows=self.rows, lam=self.terms.lam, b=self.b)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What may be told about one batch. `residual` is an upper bound of the norm, for the state after the batch."""

    removed: int
    repeated: int
    remaining: int
    residual: float
    budget: float
    iterations: int
    refreshed: int
    retrained: bool
    perturbations: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Found:
    weights: Vector
    residual: float
    inverse: Inverse
    iterations: int
    refreshed: int


def train(rows: Rows, terms: Terms, noise: Noise, *, round_: int = 0) -> Head:
    """Train a head with the perturbation of round `round_` of the noise."""
    b = terms.sigma * normals(noise, round_=round_, count=rows.features)
    problem = Logistic(rows=rows, lam=terms.lam, b=b)
    found = fit(problem, tolerance=terms.tolerance)
    return Head(
        rows=rows,
        terms=terms,
        weights=found.weights,
        b=b,
        noise=noise,
        inverse=fresh(problem, found.weights),
        residual=found.gradient_norm,
        removed=0,
        perturbations=round_ + 1,
    )


def remove(head: Head, indices: Sequence[int] | Indices) -> tuple[Head, Outcome]:
    """Forget the rows with these numbers; the state that was given still holds them, and is to be dropped.

    Raises:
        EngineError: a number is out of range, or no two rows of both classes would be left. Nothing was spent.
    """
    gone = head.rows.present(indices)
    repeated = int(distinct(indices).size - gone.size)
    if not gone.size:
        return head, _outcome(head, None, removed=0, repeated=repeated, retrained=False)
    return settle(head, head.rows.without(gone), gone, repeated=repeated)


def settle(head: Head, rows: Rows, gone: Indices, *, repeated: int) -> tuple[Head, Outcome]:
    """`remove`, given the rows that remain: heads that share features overwrite them once."""
    inverse = head.inverse.without(head.rows, gone)
    moved = replace(head, rows=rows, removed=head.removed + int(gone.size))
    found = _descend(moved, inverse)
    moved = replace(moved, weights=found.weights, residual=found.residual, inverse=found.inverse)
    # Not `>`: a residual that is NaN trains anew as well.
    retrained = not found.residual <= head.terms.budget
    if retrained:
        moved = train(rows, head.terms, head.noise, round_=head.perturbations)
    return moved, _outcome(moved, found, removed=int(gone.size), repeated=repeated, retrained=retrained)


def _descend(head: Head, inverse: Inverse | None) -> _Found:
    """Newton steps from the head's weights, at least one and at most `limit`.

    A step that the kept inverse steered counts if it shortens the residual, and where it does so by less than half the
    inverse is made anew. A step of a new one is halved until it shortens: far away from the minimiser it overshoots.
    """
    problem, terms, present = head.problem, head.terms, head.rows.count
    w, gradient = head.weights, problem.gradient(head.weights)
    residual, iterations, refreshed = problem.norm(w, gradient), 0, 0
    while iterations < terms.limit:
        iterations += 1
        exact = inverse is None
        if inverse is None:
            inverse, refreshed = fresh(problem, w), refreshed + 1
        step = inverse.times(gradient, present=present)
        trial, slope = shorter(problem, w, gradient, step, halvings=30 if exact else 0)
        after = problem.norm(trial, slope)
        if (after <= terms.fraction * terms.budget) or (exact and not after < residual):
            w, residual = trial, after
            break
        if not after <= _SLOW * residual:
            inverse = None
        w, gradient, residual = trial, slope, after
    kept = inverse or fresh(problem, w)
    return _Found(weights=w, residual=residual, inverse=kept, iterations=iterations, refreshed=refreshed)


def _outcome(head: Head, found: _Found | None, *, removed: int, repeated: int, retrained: bool) -> Outcome:
    return Outcome(
        removed=removed,
        repeated=repeated,
        remaining=head.rows.count,
        residual=head.residual,
        budget=head.terms.budget,
        iterations=found.iterations if found else 0,
        refreshed=found.refreshed if found else 0,
        retrained=retrained,
        perturbations=head.perturbations,
    )
