r"""L2-regularised binary logistic regression in the sum form, with a linear term for objective perturbation.

    L(w; D) = sum_i log(1 + exp(-y_i w'x_i)) + (lambda n / 2) ||w||^2 + b'w         (Guo et al. 2020)

n is the number of rows *present*: when rows are forgotten the penalty shrinks with them, so that the minimiser after
a removal is the one which training on the remaining rows would have had, and a residual is a gradient of that loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import expit

from engine.errors import EngineError
from engine.heads.rows import Indices, Rows, Vector

_MEMORY = 10  # pairs that L-BFGS keeps
_POLISH = 20  # Newton steps from where L-BFGS stalled


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Logistic:
    """The loss of `rows` at penalty `lam`, perturbed by `b` (d,), which is secret."""

    rows: Rows
    lam: float
    b: Vector = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a penalty or a perturbation that is none."""
        if not 0 < self.lam < np.inf:
            raise EngineError("bad_options", "the theorem needs strong convexity: a finite penalty above 0")
        if self.b.shape != (self.rows.features,) or not bool(np.all(np.isfinite(self.b))):
            raise EngineError("bad_options", "a perturbation has one finite number for each feature")

    def value(self, w: Vector) -> float:
        """L(w; D)."""
        losses = np.logaddexp(0.0, -self.rows.y * (self.rows.x @ w))
        present = self.rows.y != 0
        return float(losses[present].sum() + 0.5 * self._strength * (w @ w) + self.b @ w)

    def gradient(self, w: Vector) -> Vector:
        """The gradient of L (d,), with `b`."""
        y = self.rows.y
        slopes = -y * expit(-y * (self.rows.x @ w))
        gradient: Vector = slopes @ self.rows.x + self._strength * w + self.b
        return gradient

    def curvatures(self, w: Vector) -> Vector:
        """l''_i (n,), between 0 and 1/4; what it says of a forgotten row is multiplied by zeros everywhere."""
        p = expit(self.rows.x @ w)
        curvatures: Vector = p * (1 - p)
        return curvatures

    def hessian(self, w: Vector) -> Vector:
        """The Hessian of L (d, d)."""
        scaled = np.sqrt(self.curvatures(w))[:, None] * self.rows.x
        hessian: Vector = scaled.T @ scaled
        hessian[np.diag_indices_from(hessian)] += self._strength
        return hessian

    def norm(self, w: Vector, gradient: Vector) -> float:
        r"""An upper bound of the exact gradient's norm at `w`: the computed one's, and what rounding may have hidden.

        A sum of k products in double precision errs by at most k u times the sum of their sizes (Higham 2002, section
        3.1); twice that is taken here. The margins w'x_i are sums of d, whose errors reach a slope by a factor of 1/4;
        the gradient is a sum of n slopes of at most 1, of the penalty and of b.
        """
        length, n = np.linalg.norm(w), self.rows.count
        margins = self.rows.features * n * length / 4
        sums = (len(self.rows.y) + 8) * (n + self._strength * length + np.linalg.norm(self.b))
        return float(np.linalg.norm(gradient) + np.finfo(np.float64).eps * (margins + sums))

    @property
    def _strength(self) -> float:
        return self.lam * self.rows.count


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fit:
    """A minimiser (d,), how exact it is, and what it took."""

    weights: Vector = field(repr=False)
    gradient_norm: float
    gradients: int
    newton_steps: int


def fit(problem: Logistic, *, tolerance: float, start: Vector | None = None, iterations: int = 2000) -> Fit:
    """Minimise by L-BFGS until the gradient's norm is at most `tolerance`; where it stalls, Newton goes on.

    Raises:
        EngineError: the norm is still larger, so that the theorem, which is about the minimiser, says nothing.
    """
    if not tolerance > 0 or iterations < 0:
        raise EngineError("bad_options", "a fit needs a tolerance above 0 and no negative number of iterations")
    first = np.zeros(problem.rows.features) if start is None else start
    seen: list[float] = []

    def both(w: Vector) -> tuple[float, Vector]:
        gradient = problem.gradient(w)
        seen.append(float(np.linalg.norm(gradient)))
        return problem.value(w), gradient

    def enough(*, intermediate_result: object) -> None:
        del intermediate_result  # the point that L-BFGS has just accepted is the one it asked about last
        if seen[-1] <= tolerance:
            raise StopIteration

    options = {"gtol": 0.0, "ftol": 0.0, "maxiter": iterations, "maxfun": 10 * iterations + 1, "maxcor": _MEMORY}
    found = minimize(both, first, jac=True, method="L-BFGS-B", callback=enough, options=options)
    return _polished(problem, np.asarray(found.x, dtype=np.float64), tolerance, len(seen))


def _polished(problem: Logistic, w: Vector, tolerance: float, gradients: int) -> Fit:
    gradient = problem.gradient(w)
    steps = 0
    while steps < _POLISH and not problem.norm(w, gradient) <= tolerance:
        w, gradient = shorter(problem, w, gradient, solved(problem, w, gradient))
        steps += 1
    norm = problem.norm(w, gradient)
    if not norm <= tolerance:
        raise EngineError(
            "bad_options",
            f"the theorem needs the exact minimiser: gradient norm {norm:.3g} is above {tolerance:.3g}",
        )
    return Fit(weights=w, gradient_norm=norm, gradients=gradients, newton_steps=steps)


def solved(problem: Logistic, w: Vector, right: Vector) -> Vector:
    """H(w)^{-1} r (d,), by Cholesky."""
    solution: Vector = cho_solve(cho_factor(problem.hessian(w), overwrite_a=True), right)
    return solution


def shorter(
    problem: Logistic, w: Vector, gradient: Vector, step: Vector, *, halvings: int = 30
) -> tuple[Vector, Vector]:
    """Where a step from `w`, halved until the gradient shrinks, ends, and the gradient there; `w` if it never does."""
    norm = np.linalg.norm(gradient)
    for halving in range(halvings + 1):
        trial = w - step / 2**halving
        after = problem.gradient(trial)
        if np.linalg.norm(after) < norm:
            return trial, after
    return w, gradient


def classify(weights: Sequence[Vector], x: Vector) -> Indices:
    """The head (n,) with the largest margin for each row."""
    found: Indices = np.argmax(x @ np.stack(weights).T, axis=1)
    return found
