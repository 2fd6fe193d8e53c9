"""Small smooth models for `rewind`: a logistic head, and one hidden layer of tanh. Pure numpy, gradients by hand.

The loss of a model f is the mean of log(1 + exp(-y f(x))) over the rows that are present, plus (penalty / 2) ||w||^2.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

from engine.heads.rows import Rows, Vector


class Smooth(Protocol):
    """A model whose loss has a Lipschitz gradient."""

    @property
    def size(self) -> int:
        """How many weights it has."""
        ...

    @property
    def penalty(self) -> float:
        """The factor of ||w||^2 / 2."""
        ...

    def row_gradients(self, w: Vector, rows: Rows) -> Vector:
        """The gradients (n, size) of every row's loss, without the penalty; zeros where a row is forgotten."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """f(x) = w'x."""

    features: int
    penalty: float

    @property
    def size(self) -> int:
        """One weight a feature."""
        return self.features

    def row_gradients(self, w: Vector, rows: Rows) -> Vector:
        """As the protocol says."""
        gradients: Vector = _slopes(rows, rows.x @ w)[:, None] * rows.x
        return gradients


@dataclass(frozen=True, kw_only=True, slots=True)
class Tanh:
    """f(x) = v' tanh(W x + c) + a, with w = (W by rows, c, v, a)."""

    features: int
    hidden: int
    penalty: float

    @property
    def size(self) -> int:
        """(features + 2) hidden + 1."""
        return (self.features + 2) * self.hidden + 1

    def row_gradients(self, w: Vector, rows: Rows) -> Vector:
        """As the protocol says."""
        inner, c, v, a = self._parts(w)
        h = np.tanh(rows.x @ inner.T + c)
        slopes = _slopes(rows, h @ v + a)[:, None]
        back = slopes * v * (1 - h**2)
        outer = (back[:, :, None] * rows.x[:, None, :]).reshape(len(rows.y), -1)
        gradients: Vector = np.concatenate([outer, back, slopes * h, slopes], axis=1)
        return gradients

    def _parts(self, w: Vector) -> tuple[Vector, Vector, Vector, float]:
        first = self.features * self.hidden
        second, third = first + self.hidden, first + 2 * self.hidden
        return w[:first].reshape(self.hidden, self.features), w[first:second], w[second:third], float(w[third])


def gradient(model: Smooth, w: Vector, rows: Rows) -> Vector:
    """The gradient (size,) of the mean loss, with the penalty."""
    mean: Vector = model.row_gradients(w, rows).sum(axis=0) / rows.count + model.penalty * w
    return mean


def _slopes(rows: Rows, scores: Vector) -> Vector:
    slopes: Vector = -rows.y * expit(-rows.y * scores)
    return slopes
