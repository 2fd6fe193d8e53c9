"""Means, AUCs and their 95 % intervals, resampled by unit (data subject). Pure numpy.

Items of one person are not independent, so whole persons are resampled: a cluster bootstrap, the same draws for every
model, which makes differences paired. Percentile intervals of few clusters are too short, so their levels are expanded
(Hesterberg 2015, "What teachers should know about the bootstrap", alpha' = Phi(-sqrt(n / (n - 1)) t_{n-1})). From two
to five persons even the range of all resampled means holds the truth less than 95 % of the time; there the interval is
Student's t with the bootstrap's standard error. With a single person its items are resampled, and `n` says 1.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from engine.contract import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL = 0.95
FEW = 6  # below, no resampled mean lies outside the data often enough: 1 - 2 ** (1 - n) < 95 %
EVERYTHING = (-math.inf, math.inf)


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampling:
    """Cluster of each item (`owners`), how often each draw holds each (`counts`, draws x clusters), units (`n`)."""

    owners: Ints
    counts: Floats
    n: int

    def sums(self, values: Floats) -> Floats:
        """Per cluster sum of item values (clusters,)."""
        return np.bincount(self.owners, weights=values, minlength=self.counts.shape[1]).astype(np.float64)

    def sizes(self) -> Floats:
        """Items per cluster (clusters,)."""
        return np.bincount(self.owners, minlength=self.counts.shape[1]).astype(np.float64)

    def drawn(self) -> Iterator[Ints]:
        """The items of each draw, by index, as often as their cluster was drawn."""
        for counts in self.counts:
            yield np.repeat(np.arange(len(self.owners)), counts[self.owners].astype(np.int64))

    def means(self, values: Floats) -> Floats:
        """The mean over items in each draw (draws,)."""
        means: Floats = (self.counts @ self.sums(values)) / (self.counts @ self.sizes())
        return means


def resampling(units: Sequence[str], *, resamples: int, seed: int) -> Resampling:
    """Draw whole units with replacement, `resamples` times; a single unit is taken apart into its items."""
    order = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    n = len(order)
    owners = np.arange(len(units)) if n == 1 else np.array([order[unit] for unit in units], dtype=np.int64)
    clusters = len(units) if n == 1 else n
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)
    return Resampling(owners=owners, counts=counts, n=n)


def estimate(value: float, draws: Floats, n: int, *, span: tuple[float, float] = EVERYTHING) -> Estimate | None:
    """The value and its interval within the `span` of the metric; None where it or too many draws are not finite."""
    finite = draws[np.isfinite(draws)]
    if not math.isfinite(value) or len(finite) < LEVEL * len(draws):
        return None
    low, high = _t_interval(value, finite, n) if 1 < n < FEW else _percentiles(finite, n)
    low, high = max(min(low, value), span[0]), min(max(high, value), span[1])
    return Estimate(value=float(value), ci95=(float(low), float(high)), n=n)


def _percentiles(draws: Floats, n: int) -> tuple[float, float]:
    tail = expanded_tail(n)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def _t_interval(value: float, draws: Floats, n: int) -> tuple[float, float]:
    half = t_quantile((1 + LEVEL) / 2, n - 1) * math.sqrt(n / (n - 1)) * float(draws.std())
    return value - half, value + half


def expanded_tail(n: int) -> float:
    """The percentile to read instead of 2.5 % when n clusters were resampled."""
    tail = (1 - LEVEL) / 2
    if n <= 1:
        return tail
    return NormalDist().cdf(-math.sqrt(n / (n - 1)) * t_quantile(1 - tail, n - 1))


def t_quantile(p: float, df: int) -> float:
    """Student's t: exact for 1 and 2 degrees of freedom, else CACM algorithm 396; error below 1e-3 at 97.5 %."""
    if df == 1:
        return math.tan(math.pi * (p - 0.5))
    if df == 2:  # noqa: PLR2004 - the closed form of this very case
        return (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    a = 1 / (df - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * df
    y = (2 * d * (1 - p)) ** (2 / df)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(1 - p)
        y = x**2
        c += 0.3 * (df - 4.5) * (x + 0.6) if df < 5 else 0  # noqa: PLR2004 - the algorithm's own constants
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y**2)
    else:
        tail = 1 / (((df + 6) / (df * y) - 0.089 * d - 0.822) * (df + 2) * 3) + 0.5 / (df + 4)
        y = (tail * y - 1) * (df + 1) / (df + 2) + 1 / y
    return math.sqrt(df * y)


def auc(lower: Floats, higher: Floats) -> float:
    """P(a draw from `higher` exceeds one from `lower`), ties counting half; NaN when either is empty."""
    return float(_wins(lower, higher).mean()) if len(lower) and len(higher) else math.nan


def auc_draws(lower: Floats, higher: Floats, low: Resampling, high: Resampling) -> Floats:
    """The AUC in each draw, both samples resampled by their own units (draws,)."""
    wins = _wins(lower, higher)
    by_low = np.zeros((low.counts.shape[1], wins.shape[1]))
    np.add.at(by_low, low.owners, wins)
    by_both = np.zeros((low.counts.shape[1], high.counts.shape[1]))
    np.add.at(by_both.T, high.owners, by_low.T)
    won: Floats = np.einsum("bi,ij,bj->b", low.counts, by_both, high.counts, optimize=True)
    pairs: Floats = (low.counts @ low.sizes()) * (high.counts @ high.sizes())
    return won / pairs


def _wins(lower: Floats, higher: Floats) -> Floats:
    difference = higher[np.newaxis, :] - lower[:, np.newaxis]
    wins: Floats = (difference > 0) + 0.5 * (difference == 0)
    return wins
