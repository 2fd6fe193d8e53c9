"""What a probe found: each check with the value that was measured and the region it had to lie in.

Checks of randomness have a false alarm rate, and its sum over all of them is the `significance` (Bonferroni); the
regions below are exact for independent normal noise and independent coins, at any sample size, but for the mean and
the correlation of a whole, which need no more than that. Checks of arithmetic (a norm, a sum) have a tolerance.
A value that is not a number lies in no region.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from engine.verification.privacy.shadows import Bools
from engine.verification.statistics import Floats

NEVER = 2.0**-40  # a sample rate at which nobody joins a probe's rounds


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One property: what the mechanism's record implies, what was measured, and where that had to lie."""

    name: str
    expected: float
    measured: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Whether it lies there."""
        return self.low <= self.measured <= self.high

    def to_mapping(self) -> Mapping[str, Any]:
        """A JSON object; numbers that JSON does not have are null."""
        numbers = {"expected": self.expected, "measured": self.measured, "low": self.low, "high": self.high}
        found = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        return {"name": self.name, **found, "passed": self.passed}


def within(name: str, measured: float, *, expected: float, tolerance: float) -> Check:
    """Arithmetic: no further from what is expected than the tolerance."""
    return Check(name=name, expected=expected, measured=measured, low=expected - tolerance, high=expected + tolerance)


def deviation(measured: float, *, sigma: float, count: int, level: float) -> Check:
    """Standard deviation around a known mean of 0: chi-square on `count` degrees of freedom, two-sided."""
    low, high = stats.chi2.ppf([level / 2, 1 - level / 2], count)
    region = sigma * math.sqrt(low / count), sigma * math.sqrt(high / count)
    return Check(name="noise_deviation", expected=sigma, measured=measured, low=region[0], high=region[1])


def mean(measured: float, *, sigma: float, count: int, level: float) -> Check:
    """Mean of `count` numbers: z test, two-sided."""
    reach = sigma * float(stats.norm.isf(level / 2)) / math.sqrt(count)
    return within("noise_mean", measured, expected=0.0, tolerance=reach)


def extremes(sums: Floats, *, sigma: float, rounds: int, level: float) -> tuple[Check, Check]:
    """The quietest and the loudest coordinate, from each one's sum of squares: a layer without noise is seen here."""
    tail = level / len(sums)
    quiet, loud = (float(np.sqrt(pick(sums) / rounds)) for pick in (np.min, np.max))
    low = sigma * math.sqrt(float(stats.chi2.ppf(tail, rounds)) / rounds)
    high = sigma * math.sqrt(float(stats.chi2.isf(tail, rounds)) / rounds)
    return (
        Check(name="noise_quietest", expected=sigma, measured=quiet, low=low, high=math.inf),
        Check(name="noise_loudest", expected=sigma, measured=loud, low=0.0, high=high),
    )


def shape(sample: Floats, *, sigma: float, level: float) -> Check:
    """Largest distance between the sample's distribution and the normal one (Kolmogorov-Smirnov, exact)."""
    reach = float(stats.kstwo.isf(level, len(sample)))
    finite = bool(np.isfinite(sample).all())
    distance = float(stats.kstest(sample / sigma, "norm").statistic) if finite else math.nan
    return Check(name="noise_shape", expected=0.0, measured=distance, low=0.0, high=reach)


def correlations(name: str, found: Floats, *, dimensions: int, level: float) -> Check:
    """The largest of several correlations about a mean of 0: their squares are Beta(1/2, (dimensions - 1)/2)."""
    reach = math.sqrt(float(stats.beta.isf(level / len(found), 0.5, (dimensions - 1) / 2)))
    return Check(name=name, expected=0.0, measured=float(np.abs(found).max()), low=0.0, high=reach)


def joining(joined: Bools, *, sample_rate: float, level: float) -> tuple[Check, Check, Check]:
    """Who joined (rounds, units): how often, how many at once, and whether a round repeats the one before.

    All three are exact binomial tests. The number who join a round falls into its central half about every second
    time; a batch of fixed size always does, and one coin for everybody never.
    """
    rounds, units = joined.shape
    counts = joined.sum(1)
    inside, chance = _central(units, sample_rate)
    ahead, after = joined[0 : rounds // 2 * 2 : 2], joined[1 : rounds // 2 * 2 : 2]
    agree = sample_rate**2 + (1 - sample_rate) ** 2
    return (
        _binomial("join_rate", int(joined.sum()), joined.size, sample_rate, level),
        _binomial("join_spread", int(inside[counts].sum()), rounds, chance, level),
        _binomial("join_fresh", int((ahead == after).sum()), ahead.size, agree, level),
    )


def _central(units: int, sample_rate: float) -> tuple[Bools, float]:
    """The numbers around the mean that come up about half of the time (units + 1,), and their exact chance."""
    chances = stats.binom.pmf(np.arange(units + 1), units, sample_rate)
    distance = np.abs(np.arange(units + 1) - units * sample_rate)
    regions = [distance <= reach for reach in np.unique(distance)]
    best = min(regions, key=lambda region: abs(float(chances[region].sum()) - 0.5))
    return best, min(1.0, float(chances[best].sum()))


def _binomial(name: str, found: int, count: int, chance: float, level: float) -> Check:
    """Two-sided: each tail outside the region holds at most half of the level."""
    low = float(stats.binom.ppf(level / 2, count, chance)) / count
    high = float(stats.binom.isf(level / 2, count, chance)) / count
    return Check(name=name, expected=chance, measured=found / count, low=low, high=high)
