"""An inverse Hessian that is kept between removals instead of being computed anew for each.

At one point it was exact: P = (sum_i c_i x_i x_i' + lambda n I)^{-1}, with the curvatures c of that point. Forgetting
rows takes their terms out by the Woodbury identity, with the curvatures that they went in with, so that what is left
is positive definite. What it does not follow are the other rows' curvatures, which move with the weights, and the
penalty, which shrinks with n: lambda (n0 - n) is taken out to first order, P + lambda (n0 - n) P^2, when P is applied.
It steers steps only; whether a step was good is for the residual to say.

What Woodbury adds is kept as V in P + V V' until V is a quarter as wide as P: writing P anew for every removal would
take longer than everything else in it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import inv

from engine.heads.logistic import Logistic
from engine.heads.rows import Indices, Rows, Vector

# V is folded into P when it is wider than a quarter of it; a batch of more rows is better served by a fresh inverse.
_PART = 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Inverse:
    """P (d, d), V (d, r), the curvatures (n,) that P was made with, lambda, and how many rows there were then."""

    matrix: Vector
    added: Vector
    curvatures: Vector
    lam: float
    rows: int

    def without(self, rows: Rows, gone: Indices) -> "Inverse | None":
        """Take out the terms of the rows at `gone`, which `rows` still holds; None where a fresh one is the better."""
        if _PART * gone.size > rows.features:
            return None
        u = rows.x[gone].T * np.sqrt(self.curvatures[gone])
        pu = self._times(u)
        try:
            lower = np.linalg.cholesky(np.eye(gone.size) - u.T @ pu)
        except np.linalg.LinAlgError:  # rounding ate what is positive definite
            return None
        added = np.concatenate([self.added, np.linalg.solve(lower, pu.T).T], axis=1)
        matrix = self.matrix
        if _PART * added.shape[1] > rows.features:
            matrix, added = matrix + added @ added.T, added[:, :0]
        return Inverse(matrix=matrix, added=added, curvatures=self.curvatures, lam=self.lam, rows=self.rows)

    def times(self, gradient: Vector, *, present: int) -> Vector:
        """About H^{-1} g (d,), for `present` rows left."""
        first = self._times(gradient)
        step: Vector = first + self.lam * (self.rows - present) * self._times(first)
        return step

    def _times(self, right: Vector) -> Vector:
        product: Vector = self.matrix @ right + self.added @ (self.added.T @ right)
        return product


def fresh(problem: Logistic, w: Vector) -> Inverse:
    """The exact inverse Hessian at `w`."""
    return Inverse(
        matrix=inv(problem.hessian(w), assume_a="pos"),
        added=np.empty((w.size, 0)),
        curvatures=problem.curvatures(w),
        lam=problem.lam,
        rows=problem.rows.count,
    )
