"""The upper level: weights that move towards what stays well fitted although it is forgotten. Pure numpy.

    min over w in S of  sum_i w_i l_i(theta(w)) + gamma |w|^2,   S = {w in [0, 1]^n : sum w = m}

(Fan et al. 2024, arXiv 2403.07362, equations 2 and 3.) The lower level steps by the sign of a gradient, whose
derivative is 0 almost everywhere, so the gradient in w is l + 2 gamma w and no implicit term is left (section 4).

Published step sizes of 10^-3 on losses cannot reorder weights that start at 0 and 1: the set that comes out is the
random one that went in. Here losses are replaced by their ranks in [0, 1], so that one `step` means the same for every
model; `published` leaves them as they are, to show it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from engine.errors import EngineError
from engine.verification.worst_case.simplex import Floats, project

Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """How weights move: how many groups are `count`ed out, by which `step`, with which gamma, on ranks or on losses."""

    count: int
    step: float
    penalty: float = 0.0
    ranked: bool = True
    easiest: bool = False

    def moved(self, weights: Floats, losses: Floats) -> Floats:
        """One projected step (n,) from `weights` (n,), down the losses (n,), or up for the easiest set."""
        if not np.isfinite(losses).all():
            raise EngineError("not_finite", "a loss of the lower level is not finite; lower its rate")
        toll = in_ranks(losses) if self.ranked else losses
        gradient = (-toll if self.easiest else toll) + 2.0 * self.penalty * weights
        return project(weights - self.step * gradient, self.count)

    def chosen(self, weights: Floats, losses: Floats) -> Places:
        """The `count` groups of largest weight, in order of place; ties go to the loss, then to the first place."""
        toll = -losses if self.easiest else losses
        order = np.lexsort((np.arange(len(weights)), toll, -weights))
        return np.asarray(np.sort(order[: self.count]), dtype=np.int64)


def in_ranks(losses: Floats) -> Floats:
    """Ranks (n,) in [0, 1], the smallest loss at 0; equal losses share the mean of their ranks."""
    if len(losses) == 1:
        return np.zeros(1)
    return np.asarray((rankdata(losses) - 1.0) / (len(losses) - 1), dtype=np.float64)


def begun(size: int, places: Places, *, binary: bool) -> Floats:
    """Where weights (size,) start: 1 at the `places`, or their share everywhere."""
    weights = np.full(size, len(places) / size)
    if binary:
        weights[:] = 0.0
        weights[places] = 1.0
    return weights


def overlap(one: Places, other: Places) -> float:
    """The share of the places of `one` that are in `other`; two random sets of m out of n share m / n."""
    return len(np.intersect1d(one, other)) / len(one)


def travelled(weights: Floats, start: Floats) -> float:
    """How much of the weight lies elsewhere than at the start: 0 for none of it, 1 for all."""
    return float(np.abs(weights - start).sum() / (2.0 * start.sum()))


def mean_by(groups: Places, values: Floats) -> Floats:
    """The mean of `values` (records,) in each group (groups,)."""
    return np.asarray(np.bincount(groups, values) / np.bincount(groups), dtype=np.float64)
