r"""K one-vs-rest logistic heads as one convex problem, in the mean form and in double precision.

    F(V) = (1/n) sum_i sum_k log(1 + exp(-y_ik v_k'x_i)) + (lambda / 2) ||V||^2        V (K, d), ||x_i|| <= 1

All K heads are published together, so V is one vector: norms are over all of it. A class that nobody is left of has a
head too, which says no to everybody. The Hessian is block-diagonal, with blocks between lambda and lambda + 1/4.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from engine.errors import EngineError
from engine.heads.rows import LARGEST_NORM, Indices, Vector

_UNIT = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stack:
    """Rows `x` (n, d), `signs` (n, K) of -1 and +1, and the penalty lambda."""

    x: Vector = field(repr=False)
    signs: Vector = field(repr=False)
    lam: float

    def __post_init__(self) -> None:
        """Refuse what the theorems do not speak of."""
        if not 0 < self.lam < np.inf:
            raise EngineError("bad_options", "the theorem needs strong convexity: a finite penalty above 0")
        norms = np.sqrt(np.einsum("nd,nd->n", self.x, self.x))
        if not bool(np.all(norms <= LARGEST_NORM)):  # NaN and infinity fail here as well
            raise EngineError(
                "bad_data", "the theorem needs rows that are finite and of norm at most 1: scale each row"
            )
        if self.signs.shape[0] != self.x.shape[0] or not bool(np.all(np.abs(self.signs) == 1)):
            raise EngineError("bad_data", "every row needs a label of -1 or +1 for each head")

    @property
    def shape(self) -> tuple[int, int]:
        """Of V: heads and features."""
        return int(self.signs.shape[1]), int(self.x.shape[1])

    def value(self, v: Vector) -> float:
        """F(V)."""
        losses = np.logaddexp(0.0, -self.signs * (self.x @ v.T))
        return float(losses.sum() / len(self.x) + 0.5 * self.lam * np.square(v).sum())

    def gradient(self, v: Vector) -> Vector:
        """The gradient of F (K, d)."""
        slopes = -self.signs * expit(-self.signs * (self.x @ v.T))
        gradient: Vector = slopes.T @ self.x / len(self.x) + self.lam * v
        return gradient

    def newton_step(self, v: Vector, gradient: Vector, head: int) -> Vector:
        """H_k^{-1} g_k (d,) of one head, by Cholesky."""
        p = expit(self.x @ v[head])
        scaled = np.sqrt(p * (1 - p) / len(self.x))[:, None] * self.x
        hessian = scaled.T @ scaled
        hessian[np.diag_indices_from(hessian)] += self.lam
        step: Vector = cho_solve(cho_factor(hessian, overwrite_a=True), gradient[head])
        return step

    def rounding(self, v: Vector) -> float:
        r"""The most by which the computed gradient can differ from the exact one, as a norm.

        A sum of k products in double precision errs by at most k u times the sum of their sizes (Higham 2002, section
        3.1); twice that is taken here. Margins are sums of d, whose errors reach a slope by a factor of 1/4; a head's
        gradient is a mean of n slopes of at most 1, and the penalty.
        """
        (n, d), lengths = self.x.shape, np.linalg.norm(v, axis=1)
        return _UNIT * float(np.linalg.norm(d * lengths / 4 + (n + 8) * (1 + self.lam * lengths)))

    def norm(self, v: Vector, gradient: Vector) -> float:
        """An upper bound of the exact gradient's norm at `v`."""
        return float(np.linalg.norm(gradient)) + self.rounding(v)


def stacked(x: Vector, labels: Indices, *, classes: int, lam: float) -> Stack:
    """The problem of rows (n, d) with `labels` (n,) from 0 to `classes` - 1; at least two of them are needed."""
    if np.unique(labels).size < 2:  # noqa: PLR2004 - one class against nothing
        raise EngineError("bad_data", "a head needs at least two rows, and of two classes, to be left")
    return Stack(x=x, signs=np.where(labels[:, None] == np.arange(classes), 1.0, -1.0), lam=lam)


def scaled_rows(features: Vector) -> Vector:
    r"""Rows (n, d + 1) of norm at most 1, with a constant at the end, each scaled without looking at the others.

    (f, sqrt d) / sqrt(2 d), or divided by its own norm where that is longer. Features that were normalised to mean
    square 1 within a picture and averaged since, like ours, are never longer, so that heads read them as they are.
    """
    d = features.shape[1]
    rows = np.concatenate([features, np.full((len(features), 1), d**0.5)], axis=1)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    scaled: Vector = rows / np.maximum(lengths, (2 * d) ** 0.5)[:, None]
    return scaled
