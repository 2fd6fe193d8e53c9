"""An inverse Hessian that is kept between removals instead of being computed anew for each.

At one point it was exact: P = (sum_i c_i x_i x_i' + lambda n I)^{-1}, with the curvatures c of that point. Forgetting
rows takes their terms out by the Woodbury identity, with the curvatures that they went in with, so that what is left
is positive definite. What it does not follow are the other rows' curvatures, which move with the weights, and the
penalty, which shrinks with n: lambda (n0 - n) is taken out to first order, P + lambda (n0 - n) P^2, when P is applied.
It steers steps only; whether a step was good is for the residual to say.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, inv

from engine.heads.logistic import Logistic
from engine.heads.rows import Indices, Rows, Vector

_WORTH = 4  # batches of more than d / 4 rows are cheaper and better served by a fresh inverse


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Inverse:
    """P (d, d), the curvatures (n,) that it was made with, lambda, and how many rows there were then."""

    matrix: Vector
    curvatures: Vector
    lam: float
    rows: int

    def without(self, rows: Rows, gone: Indices) -> "Inverse | None":
        """P less the terms of the rows at `gone`, which `rows` still holds; None where a fresh one is the better."""
        if _WORTH * gone.size > rows.features:
            return None
        u = rows.x[gone].T * np.sqrt(self.curvatures[gone])
        pu = self.matrix @ u
        try:
            factor = cho_factor(np.eye(gone.size) - u.T @ pu)
        except LinAlgError:  # rounding ate what is positive definite
            return None
        matrix = self.matrix + pu @ cho_solve(factor, pu.T)
        return Inverse(matrix=matrix, curvatures=self.curvatures, lam=self.lam, rows=self.rows)

    def times(self, gradient: Vector, *, present: int) -> Vector:
        """About H^{-1} g (d,), for `present` rows left."""
        first = self.matrix @ gradient
        step: Vector = first + self.lam * (self.rows - present) * (self.matrix @ first)
        return step


def fresh(problem: Logistic, w: Vector) -> Inverse:
    """The exact inverse Hessian at `w`."""
    return Inverse(
        matrix=inv(problem.hessian(w), assume_a="pos"),
        curvatures=problem.curvatures(w),
        lam=problem.lam,
        rows=problem.rows.count,
    )
