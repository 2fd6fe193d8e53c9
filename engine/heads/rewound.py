r"""Rewind-to-Delete (Mu and Klabjan 2025) of a `Stack`: full gradient steps, some of them taken again without who left.

`rewind` has the algorithm for small networks. L and G are estimated here as there, from differences of gradients and
gradients of single rows, at the ends of the training, at its start and at draws as far from the checkpoint as that is
from 0. A maximum over samples bounds nothing, which is why the class is `conditional`.
"""

import numpy as np
from scipy.special import expit

from engine.errors import EngineError
from engine.heads.rows import Vector
from engine.heads.stacked import Stack
from engine.heads.weights import Internal


def stepped(problem: Stack, start: Internal, *, rate: float, steps: int) -> Internal:
    """So many full gradient steps of size `rate`."""
    v = start.unnoised
    for _ in range(steps):
        v = v - rate * problem.gradient(v)
    return Internal(v)


def estimated(problem: Stack, around: Internal, end: Internal, *, seed: int, samples: int) -> tuple[float, float]:
    """The largest L and G seen; L with the penalty, G without, because it cancels in the difference of two sets."""
    rng, here = np.random.default_rng(seed), around.unnoised
    length = max(float(np.linalg.norm(here)), 1.0) / here.size**0.5
    others = [np.zeros(here.shape), end.unnoised]
    others += [here + length * rng.standard_normal(here.shape) for _ in range(samples)]
    apart = [float(np.linalg.norm(v - here)) for v in others]
    at = problem.gradient(here)
    ratios = [
        float(np.linalg.norm(problem.gradient(v) - at)) / one for v, one in zip(others, apart, strict=True) if one
    ]
    smoothness, slope = max(ratios), max(_largest(problem, v) for v in (here, *others))
    if not 0 < smoothness < np.inf or not 0 < slope < np.inf:
        raise EngineError("not_finite", "the smoothness of this model could not be estimated")
    return smoothness, slope


def _largest(problem: Stack, v: Vector) -> float:
    """The longest gradient of a row, over all heads together."""
    slopes = expit(-problem.signs * (problem.x @ v.T))
    lengths = np.sqrt(np.einsum("nk,nk->n", slopes, slopes) * np.einsum("nd,nd->n", problem.x, problem.x))
    return float(lengths.max())
