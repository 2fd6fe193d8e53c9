"""Lower bounds on epsilon from repeated runs of two worlds, valid whatever the mechanism is.

`inside` and `outside` are one number a run, from runs with independent noise. If the two laws are (epsilon, delta)
apart, every event E has P[E] <= e^epsilon Q[E] + delta, so that an event that is likely in one world and unlikely in
the other refutes an epsilon. The events are half-lines; where they end is chosen on the first third of the runs and
counted on the rest, each probability by its Clopper-Pearson bound (four of them share the level).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from audits import gaussian

Floats = NDArray[np.float64]
SIGNIFICANCE = 1e-3  # of all settings of all methods together
SETTINGS = 55  # how many there are; a test counts them
LEVEL = SIGNIFICANCE / SETTINGS


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What an audit of one setting found: the certificate, the lower bound, and the most it could have been."""

    certified: float
    lower: float
    ceiling: float

    @property
    def refuted(self) -> bool:
        """Whether the certificate promises less than what was seen; what is not a number refutes as well."""
        return not self.lower <= self.certified

    def told(self) -> str:
        """One line for people."""
        return f"certified {self.certified:.3f}, seen at least {self.lower:.3f} of at most {self.ceiling:.3f}"


def audited(inside: Floats, outside: Floats, *, certified: float, delta: float, curve: bool) -> Found:
    """The bound from the runs as they are, and what entirely separate worlds would have given.

    `curve`: the certificate promises a whole Gaussian curve, so that its shift can be refuted too; half the level each.
    `inside` is the world whose number is larger, and the two lie on either side of 0.
    """

    def bound(p: Floats, q: Floats) -> float:
        level = LEVEL / 2 if curve else LEVEL
        direct = lower_bound(p, q, delta=delta, level=level)
        return max(direct, gaussian_bound(p, q, delta=delta, level=level)) if curve else direct

    return Found(
        certified=certified,
        lower=bound(inside, outside),
        ceiling=bound(np.ones(len(inside)), -np.ones(len(outside))),
    )


def lower_bound(inside: Floats, outside: Floats, *, delta: float, level: float = LEVEL) -> float:
    """The epsilon at `delta` that these runs refute at `level`, rounded down; 0 where they refute none."""
    found = 0.0
    for p, q in ((inside, outside), (-outside, -inside)):
        end = _threshold(p[: len(p) // 3], q[: len(q) // 3], delta=delta, level=level)
        rest = p[len(p) // 3 :], q[len(q) // 3 :]
        found = max(found, _log_ratio(*(_count(one, end) for one in rest), delta=delta, level=level))
    return found


def gaussian_bound(inside: Floats, outside: Floats, *, delta: float, level: float = LEVEL) -> float:
    """The same for a certificate that promises a whole Gaussian curve: the shift in standard deviations is refuted.

    If the laws are mu-Gaussian-DP apart, a test errs with Phi^-1(1 - a) - Phi^-1(b) <= mu for its two error rates a
    and b (Dong, Roth and Su 2022, definition 3); what the refuted mu gives at `delta` is refuted with it. The test is
    whether the number lies above 0, which is fixed before the first run.
    """
    kept, false = _count(inside, 0.0), _count(outside, 0.0)
    shift = stats.norm.ppf(lowest(*kept, level / 2)) - stats.norm.ppf(highest(*false, level / 2))
    return gaussian.epsilon(delta=delta, mu=float(shift)) * (1 - 1e-9) if shift > 0 else 0.0


def lowest(hits: int, runs: int, level: float) -> float:
    """A probability that lies below the true one but for a chance of `level` (Clopper and Pearson 1934)."""
    return float(stats.beta.ppf(level, hits, runs - hits + 1)) if hits else 0.0


def highest(hits: int, runs: int, level: float) -> float:
    """The same from above."""
    return float(stats.beta.isf(level, hits + 1, runs - hits)) if hits < runs else 1.0


def repeated(run: Callable[[bytes], float], *, runs: int, seed: int) -> Floats:
    """One number of each of so many runs, each with a secret of its own."""
    rng = np.random.default_rng(seed)
    return np.array([run(rng.bytes(32)) for _ in range(runs)])


def promise(rng: np.random.Generator, *, low: float, high: float) -> tuple[float, float]:
    """A random delta, and an epsilon for it."""
    return float(np.exp(rng.uniform(np.log(1e-3), np.log(0.05)))), float(rng.uniform(low, high))


def _count(sample: Floats, end: float) -> tuple[int, int]:
    return int((sample > end).sum()), len(sample)


def _threshold(p: Floats, q: Floats, *, delta: float, level: float) -> float:
    """Where the bound of the runs that are used up for this would be largest."""
    ends = np.unique(np.quantile(np.concatenate([p, q]), np.linspace(0, 1, 41)))
    told = [_log_ratio(_count(p, end), _count(q, end), delta=delta, level=math.sqrt(level)) for end in ends]
    return float(ends[int(np.argmax(told))])


def _log_ratio(p: tuple[int, int], q: tuple[int, int], *, delta: float, level: float) -> float:
    likely, unlikely = lowest(*p, level / 4), highest(*q, level / 4)
    return max(0.0, math.log((likely - delta) / unlikely)) if likely > delta else 0.0
