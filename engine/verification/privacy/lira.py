"""LiRA: the likelihood ratio of an example's statistic under models that held it and models that did not.

Carlini et al. 2022 (arXiv 2112.03570), algorithm 1: per example, normal distributions are fitted to the statistic
over shadow models with the example (in) and without it (out). The online score is the log of the densities' ratio at
the target model's statistic. The offline score asks only how far the statistic lies above the out-models,

    1 - Pr[ N(mu_out, s_out^2) > phi ]

of which the standardised distance is returned: the same order, without the ties of a probability that rounds to 1.

Below 64 shadow models a variance an example is too noisy (section VI.B), and each side has one variance, pooled
*within* examples; the published code takes the spread over all examples and so counts how much these differ among
themselves. An example without models on one side gets that side's mean from the other by the mean shift of all
examples that have both. Where nothing can be fitted the score is NaN, and no finding comes of it.
"""

from dataclasses import dataclass

import numpy as np

from engine.errors import EngineError
from engine.verification.privacy.shadows import Bools, Shadows
from engine.verification.statistics import Floats

MANY = 64  # shadow models from which an example has variances of its own


@dataclass(frozen=True, kw_only=True, slots=True)
class _Side:
    """Mean and variance of one side (examples,); NaN where no model is on it."""

    mean: Floats
    variance: Floats


def online(target: Floats, shadows: Shadows) -> Floats:
    """Log-likelihood ratio in over out (examples,) of the target model's statistic (examples,)."""
    _check(target, shadows)
    inside, outside = _fit(shadows.statistic, shadows.inside), _fit(shadows.statistic, shadows.outside)
    both = np.isfinite(inside.mean) & np.isfinite(outside.mean)
    shift = float((inside.mean - outside.mean)[both].mean()) if both.any() else np.nan
    mean_in = np.where(shadows.inside.any(0), inside.mean, outside.mean + shift)
    mean_out = np.where(shadows.outside.any(0), outside.mean, inside.mean - shift)
    return _log_density(target, mean_in, inside.variance) - _log_density(target, mean_out, outside.variance)


def offline(target: Floats, shadows: Shadows) -> Floats:
    """Standard deviations by which the statistic lies above models that did not hold the example (examples,)."""
    _check(target, shadows)
    outside = _fit(shadows.statistic, shadows.outside)
    score: Floats = (target - outside.mean) / np.sqrt(_positive(outside.variance))
    return score


def _check(target: Floats, shadows: Shadows) -> None:
    if target.shape != shadows.statistic.shape[1:]:
        raise EngineError("bad_data", "the target model has one statistic for each example of the shadow models")


def _fit(statistic: Floats, mask: Bools) -> _Side:
    count = mask.sum(0).astype(np.float64)
    mean = _ratio(np.where(mask, statistic, 0.0).sum(0), count)
    squares = np.where(mask, (statistic - np.where(count > 0, mean, 0.0)) ** 2, 0.0).sum(0)
    pooled = _ratio(squares.sum(keepdims=True), np.maximum(count - 1, 0).sum(keepdims=True))
    shared = np.broadcast_to(pooled, count.shape)
    if len(statistic) < MANY:
        return _Side(mean=mean, variance=shared)
    return _Side(mean=mean, variance=np.where(count > 1, _ratio(squares, count - 1), shared))


def _log_density(x: Floats, mean: Floats, variance: Floats) -> Floats:
    known = _positive(variance)
    density: Floats = -0.5 * (np.log(2 * np.pi * known) + (x - mean) ** 2 / known)
    return density


def _positive(variance: Floats) -> Floats:
    """A variance of 0 is no fit: models that all say the same leave nothing to compare with."""
    return np.where(variance > 0, variance, np.nan)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
