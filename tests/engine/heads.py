"""Small made-up rows for heads, and a noise source whose secret everybody knows."""

from functools import partial

import numpy as np

from engine.heads.logistic import Logistic
from engine.heads.rows import Rows, Vector
from engine.heads.weights import Noise
from engine.methods.secret import gaussians

SECRET = bytes(range(32))


def features(n: int, d: int, seed: int) -> Vector:
    """Random rows of norm 1."""
    x = np.random.default_rng(seed).standard_normal((n, d))
    scaled: Vector = x / np.linalg.norm(x, axis=1, keepdims=True)
    return scaled


def made(n: int = 60, d: int = 5, *, seed: int = 0) -> Rows:
    """Rows whose labels a noisy plane gave; the first two are of different classes, for every seed."""
    rng = np.random.default_rng([seed, 1])
    x = features(n, d, seed)
    y = np.where(x @ rng.standard_normal(d) + 0.3 * rng.standard_normal(n) > 0, 1.0, -1.0)
    y[:2] = 1.0, -1.0
    return Rows(x=x, y=y)


def noise(secret: bytes = SECRET) -> Noise:
    """The project's own source."""
    return partial(gaussians, secret)


def plain(rows: Rows, lam: float) -> Logistic:
    """The loss without a perturbation."""
    return Logistic(rows=rows, lam=lam, b=np.zeros(rows.features))
