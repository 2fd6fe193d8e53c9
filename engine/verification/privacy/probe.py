"""A probe of the running mechanism: how much noise does it add, whom does it clip, whom does it sample?

An audit by canaries has a ceiling, and half of the noise can hide below it; the code that adds the noise can simply be
run and measured. The mechanism is that of `engine.guarantees.mechanism`: units join by independent coins, each joining
unit adds a vector of norm at most `clip`, and every round adds normal noise, also one that nobody joins.

    noise      rounds without anybody: deviation (chi-square), mean (z), every coordinate (chi-square), shape
               (Kolmogorov-Smirnov), correlation between any two rounds and between the halves of a round
    clipping   the difference between two runs of one round, with and without a unit, has norm at most clip (1 + 1e-4);
               a unit with a huge gradient reaches the clip, so that clipping was seen at work; units add up
    sampling   all units run together, and who joined is read off the gradient by least squares on what each adds:
               rate, spread and freshness of the coins; a round that nobody happens to join is noised like any other

The record of a mechanism can be right and its code wrong, so nothing is read from the code's own variables. What a
statistical probe cannot see: a secret that somebody else knows, and a rarely taken path.

The difference of two runs is un-noised. Probe with made-up units (`canaries`) and a secret that trains nothing: from
people's data and the training's secret the record itself would be a leak.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from engine.errors import EngineError
from engine.guarantees.mechanism import Mechanism
from engine.verification.privacy import checks
from engine.verification.privacy.checks import NEVER, Check
from engine.verification.privacy.shadows import Bools
from engine.verification.statistics import Floats

Unit = TypeVar("Unit")

SIGNIFICANCE = 1e-3
STATISTICAL = 10  # checks that chance can fail, which share the significance
CLIPPING = 1e-4  # relative to the clip
REACHED = 1e-2  # how far below the clip a huge gradient may end
ADDING = 1e-2  # of the clip, and of a unit's share in a sum: far above rounding, far below a unit
ROUNDS = 64
FEWEST = 16  # coordinates
KEPT = 4096  # coordinates, drawn by seed, whose numbers are kept; all others only as sums


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What the code is said to do, in the units of the gradient that it leaves."""

    noise: float
    clip: float
    sample_rate: float

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not 0 < self.noise < math.inf or not 0 < self.clip < math.inf or not 0 < self.sample_rate <= 1:
            raise EngineError("bad_options", "a probe needs finite noise and clip above 0, and 0 < sample rate <= 1")

    @classmethod
    def of(cls, mechanism: Mechanism) -> "Claim":
        """Of a gradient that is divided by its own noise level: unit noise, and a clip of 1 / noise multiplier."""
        return cls(noise=1.0, clip=1.0 / mechanism.noise_multiplier, sample_rate=mechanism.sample_rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Running(Generic[Unit]):
    """The mechanism that is probed.

    `gradient(units, round, sample rate)` runs one round at fixed weights and returns all it left on the parameters as
    one vector, the same for the same arguments. Without a sample rate (None) units join as in training, at the rate
    that the code has and not the one it is said to have; 1 makes all of them join. `units` are made up, at least two
    and of different gradients; `huge` is one whose gradient is far above the clip.
    """

    gradient: Callable[[Sequence[Unit], int, float | None], Floats]
    units: Sequence[Unit]
    huge: Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """All checks, the false alarm rate of all of them together, and how much was looked at."""

    claim: Claim
    checks: tuple[Check, ...]
    significance: float
    rounds: int
    coordinates: int

    @property
    def passed(self) -> bool:
        """Whether every check did."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of those that did not."""
        return tuple(check.name for check in self.checks if not check.passed)

    def to_mapping(self) -> Mapping[str, Any]:
        """The JSON object that goes into evidence."""
        return {
            "noise": self.claim.noise,
            "clip": self.claim.clip,
            "sampleRate": self.claim.sample_rate,
            "significance": self.significance,
            "rounds": self.rounds,
            "coordinates": self.coordinates,
            "checks": [dict(check.to_mapping()) for check in self.checks],
            "passed": self.passed,
        }


def probe(
    running: Running[Unit], claim: Claim, *, seed: int, rounds: int = ROUNDS, significance: float = SIGNIFICANCE
) -> Probe:
    """Measure `rounds` rounds (numbers 0, 1, ...), each once without anybody and once with all units.

    Raises:
        EngineError: `bad_options` for fewer than two units or rounds; `bad_data` for a gradient too short, or of
            a length that changes.
    """
    if rounds < 2 or len(running.units) < 2 or not 0 < significance < 1:  # noqa: PLR2004 - to compare takes two
        raise EngineError("bad_options", "a probe needs two units, two rounds and a significance between 0 and 1")
    added = np.stack([_added(running, [unit]) for unit in running.units])
    if added.shape[1] < FEWEST:
        raise EngineError("bad_data", f"a probe needs a gradient of at least {FEWEST} numbers")
    seen = _watch(running, added, rounds, seed)
    level = significance / STATISTICAL
    found = (*_clipping(running, claim, added), *_noise(seen, claim, level), *_sampling(seen, running, claim, level))
    return Probe(claim=claim, checks=found, significance=significance, rounds=rounds, coordinates=seen.squares.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """Rounds without anybody, as sums over all coordinates and as they were on some; and who joined the others."""

    total: float
    squares: Floats  # (coordinates,) summed over rounds
    kept: Floats  # (rounds, kept coordinates)
    halves: Floats  # (rounds,) correlation of a round's first half with its second
    shares: Floats  # (rounds, units) how much of each unit is in a round with all of them
    rest: float  # the largest norm of what no unit explains


def _watch(running: Running[Unit], added: Floats, rounds: int, seed: int) -> _Seen:
    size = added.shape[1]
    kept = np.sort(np.random.default_rng(seed).permutation(size)[:KEPT])
    squares: Floats = np.zeros(size)
    total, rest = 0.0, 0.0
    rows, halves, shares = [], [], []
    for round_ in range(rounds):
        noise = running.gradient([], round_, None)
        if noise.shape != (size,):
            raise EngineError("bad_data", "a round of the probed mechanism leaves a gradient of another length")
        total += float(noise.sum())
        squares += noise**2
        rows.append(noise[kept])
        halves.append(_correlation(noise[: size // 2], noise[size // 2 : size // 2 * 2]))
        found = running.gradient(running.units, round_, None) - noise
        shares.append(_shares(added, found))
        rest = max(rest, _norm(found - np.round(shares[-1]) @ added), key=_worse)
    return _Seen(
        total=total,
        squares=squares,
        kept=np.stack(rows),
        halves=np.asarray(halves),
        shares=np.stack(shares),
        rest=rest,
    )


def _noise(seen: _Seen, claim: Claim, level: float) -> tuple[Check, ...]:
    rounds, dimensions = seen.kept.shape
    count = rounds * seen.squares.size
    measured = math.sqrt(float(seen.squares.sum()) / count)
    pairs = np.asarray([_correlation(a, b) for i, a in enumerate(seen.kept) for b in seen.kept[i + 1 :]])
    return (
        checks.deviation(measured, sigma=claim.noise, count=count, level=level),
        checks.mean(seen.total / count, sigma=claim.noise, count=count, level=level),
        *checks.extremes(seen.squares, sigma=claim.noise, rounds=rounds, level=level),
        checks.shape(seen.kept.ravel(), sigma=claim.noise, level=level),
        checks.correlations("noise_between_rounds", pairs, dimensions=dimensions, level=level),
        checks.correlations("noise_between_halves", seen.halves, dimensions=seen.squares.size // 2, level=level),
    )


def _clipping(running: Running[Unit], claim: Claim, added: Floats) -> tuple[Check, ...]:
    clip, limit = claim.clip, claim.clip * (1 + CLIPPING)
    huge, again = _added(running, [running.huge]), _added(running, running.units[:1])
    together = _added(running, [*running.units, running.huge]) - added.sum(0) - huge
    largest = max(map(_norm, added), key=_worse)
    return (
        checks.within("same_round_twice", _norm(again - added[0]), expected=0.0, tolerance=CLIPPING * clip),
        Check(name="unit_norm", expected=clip, measured=largest, low=ADDING * clip, high=limit),
        Check(name="huge_unit_norm", expected=clip, measured=_norm(huge), low=clip * (1 - REACHED), high=limit),
        checks.within("units_add", _norm(together), expected=0.0, tolerance=ADDING * clip),
    )


def _sampling(seen: _Seen, running: Running[Unit], claim: Claim, level: float) -> tuple[Check, ...]:
    unclear = float(np.abs(seen.shares - np.round(np.clip(seen.shares, 0, 1))).max())
    joined: Bools = seen.shares > 0.5  # noqa: PLR2004 - all or nothing, or `shares_are_whole` fails
    alone = running.gradient([], 0, None)
    gap = _norm(running.gradient(running.units, 0, NEVER) - alone)
    quietest = min((_norm(row) / math.sqrt(len(row)) for row in seen.kept), key=_better)
    return (
        checks.within("shares_are_whole", unclear, expected=0.0, tolerance=0.1),
        checks.within("units_explain_round", seen.rest, expected=0.0, tolerance=ADDING * claim.clip),
        *checks.joining(joined, sample_rate=claim.sample_rate, level=level),
        checks.within("empty_round_is_noise", gap, expected=0.0, tolerance=CLIPPING * claim.clip),
        Check(name="empty_round_moves", expected=claim.noise, measured=quietest, low=math.ulp(0.0), high=math.inf),
    )


def _added(running: Running[Unit], units: Sequence[Unit]) -> Floats:
    """What units add to a round that all of them join."""
    return running.gradient(units, 0, 1.0) - running.gradient([], 0, 1.0)


def _shares(added: Floats, found: Floats) -> Floats:
    """How much of each unit (units,) is in a gradient; NaN where that cannot be told."""
    gram = added @ added.T
    if not np.isfinite(gram).all() or not np.isfinite(found).all() or np.linalg.matrix_rank(gram) < len(gram):
        return np.full(len(added), np.nan)
    return np.linalg.solve(gram, added @ found).astype(np.float64)


def _correlation(one: Floats, other: Floats) -> float:
    """About a mean of 0; NaN where one of them does not move."""
    scale = _norm(one) * _norm(other)
    return float(one @ other) / scale if scale > 0 else math.nan


def _norm(vector: Floats) -> float:
    return float(np.linalg.norm(vector))


def _better(value: float) -> float:
    """The same for a minimum."""
    return -math.inf if math.isnan(value) else value


def _worse(value: float) -> float:
    """An order in which what is not a number is the largest, so that a maximum cannot lose it."""
    return math.inf if math.isnan(value) else value
