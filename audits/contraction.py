r"""Noisy clipped unlearning: a certificate for any network, because clipping and noise do all of the work.

After Koloskova et al. 2025 ("Certified unlearning for neural networks"), with the accountant derived anew: the
conversion that was released with the paper reports epsilon 1.0036 where the exact Gaussian has 6.57. The proofs are in
docs/guarantees.md. All numbers are L2 norms over all parameters that are published, taken as one vector.

`Clipped`: the start is clipped to norm C0, and each of T steps is

    theta <- rho theta - eta u + N(0, sigma^2 I)        |u| <= C1        rho = 1 - eta lambda in (0, 1]

where u is any clipped direction (a mini-batch gradient, with momentum or without) that does not use this step's noise.
By shifted interpolation (Bok, Su and Altschuler 2024, arXiv:2403.00278; the shifts are those of Feldman et al. 2018,
arXiv:1808.06651) the end is mu-Gaussian-DP with

    mu = ( rho^T 2 C0 + sum_{k<T} rho^k 2 eta C1 ) / ( sigma sqrt( sum_{k<T} rho^(2k) ) )

which constant directions attain: it can't be improved without a condition on u. It does not fall with T for ever: the
directions add up too.

`Projected`: the state is projected to the ball of radius C at every step. By Balle et al. 2019 (arXiv:1905.12264,
theorem 1; Asoodeh et al. 2020, arXiv:2001.06546), from delta_0 = 1,

    delta_{t+1} = delta_t theta(eps_t, r)        e^eps_t = 1 + (e^epsilon - 1) / delta_t

with theta the Gaussian's delta (audits/gaussian.py) and r the widest distance, in sigma, of two states before noise:

* `noise_then_project`: x in the ball, y = rho x - eta u, z = y + N, next = projection of z. |u| <= C1 and
  r = 2 (rho C + eta C1) / sigma.
* `project_then_noise`: y = projection of (x - eta u), next = y + N, which is what is published. Any u, any start,
  r = 2 C / sigma; one step is output perturbation: clip, add noise once.

Here u looks at the present state and at randomness common to both runs only: momentum would carry the past around the
noise.

`noise_then_project` satisfies the conditions of `Clipped` with C0 = C as well, so the smaller of the two bounds holds.

Between what and what: the law of the unlearned model and that of the same procedure started from any other model, one
that never saw the forget set for instance. The number of points does not occur.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from audits import gaussian
from audits.errors import expect

LONGEST = 10_000_000
LONGEST_PROJECTED = 100_000
_ROUNDING = 1 + 1e-12


class Run(Protocol):
    """Settings that were fixed before the first step, all but the noise."""

    def log_delta(self, *, epsilon: float, noise: float) -> float:
        """Logarithm of a delta that holds at `epsilon` with `noise` (standard deviation of a step)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """`steps` steps in a row, each of which drives two runs at most `drift` apart."""

    steps: int
    drift: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Clipped:
    """T `steps` of clipped directions from a clipped start: C0, C1, eta, lambda."""

    start_radius: float
    clip: float
    learning_rate: float
    weight_decay: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse what the theorem does not cover."""
        expect(0 <= self.start_radius < math.inf, "The radius of the start is finite and not below zero.")
        expect(1 <= self.steps <= LONGEST, f"There are 1 to {LONGEST} steps.")
        _check_step(self.clip, self.learning_rate, self.weight_decay)

    def mu(self, *, noise: float) -> float:
        """The sensitivity of the whole run, in standard deviations; rounded up."""
        phase = Phase(steps=self.steps, drift=2 * self.learning_rate * self.clip)
        pull = self.learning_rate * self.weight_decay
        return interpolated_mu(phases=[phase], pull=pull, distance=2 * self.start_radius, noise=noise)

    def log_delta(self, *, epsilon: float, noise: float) -> float:
        """Logarithm of the least delta at `epsilon`."""
        return gaussian.log_delta(epsilon=epsilon, mu=self.mu(noise=noise))


@dataclass(frozen=True, kw_only=True, slots=True)
class Projected:
    """`steps` steps between any two of which states before noise lie at most `width` apart."""

    width: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse what the theorem does not cover."""
        expect(0 < self.width < math.inf, "The width of the ball is finite and above zero.")
        expect(1 <= self.steps <= LONGEST_PROJECTED, f"There are 1 to {LONGEST_PROJECTED} steps.")

    def log_delta(self, *, epsilon: float, noise: float) -> float:
        """Logarithm of delta_T at `epsilon`."""
        _check_noise(noise)
        expect(0 <= epsilon < math.inf, "Epsilon is finite and not below zero.")
        ratio = self.width / noise * _ROUNDING
        excess = _log_expm1(epsilon)
        total = 0.0
        for _ in range(self.steps):
            factor = gaussian.log_delta(epsilon=_log1p_exp(excess - total) * (2 - _ROUNDING), mu=ratio)
            if factor == 0:  # rounded up to no contraction at all, and so would be every later step
                break
            total += factor
        return total


def noise_then_project(
    *, radius: float, clip: float, learning_rate: float, weight_decay: float, steps: int
) -> Projected:
    """Each step moves, adds noise and then projects to the ball of `radius`."""
    expect(0 < radius < math.inf, "The radius of the ball is finite and above zero.")
    _check_step(clip, learning_rate, weight_decay)
    return Projected(width=2 * ((1 - learning_rate * weight_decay) * radius + learning_rate * clip), steps=steps)


def project_then_noise(*, radius: float, steps: int = 1) -> Projected:
    """Each step moves, projects to the ball of `radius` and then adds noise; one step is output perturbation."""
    return Projected(width=2 * radius, steps=steps)


def epsilon(run: Run, *, noise: float, delta: float) -> float:
    """The least epsilon at `delta`, rounded up."""
    target = gaussian.log_of_delta(delta)
    if run.log_delta(epsilon=0.0, noise=noise) <= target:
        return 0.0
    return gaussian.least(lambda value: run.log_delta(epsilon=value, noise=noise) <= target)


def noise_for(run: Run, *, epsilon: float, delta: float) -> float:
    """The least noise a step, rounded up, whose epsilon at `delta` does not exceed `epsilon`."""
    target, aim = gaussian.log_of_delta(delta), gaussian.below(epsilon)
    return gaussian.least(lambda noise: run.log_delta(epsilon=aim, noise=noise) <= target)


def interpolated_mu(*, phases: Sequence[Phase], pull: float, distance: float, noise: float) -> float:
    """Give the mu of two runs of noisy steps that shrink distances by 1 - `pull` and then add at most a phase's drift.

    The runs start `distance` apart at most; drifts must not grow from phase to phase, or the proof's shifts could
    exceed the distance that there is to shift. Every step adds fresh N(0, noise^2 I). Rounded up.
    """
    _check_noise(noise)
    expect(0 <= pull < 1, "Learning rate times curvature or weight decay lies from 0 to below 1.")
    expect(0 <= distance < math.inf, "The distance of the starts is finite and not below zero.")
    drifts = [phase.drift for phase in phases]
    expect(phases and min(phase.steps for phase in phases) >= 1, "There is at least one step in every phase.")
    expect(all(0 <= drift < math.inf for drift in drifts), "A drift is finite and not below zero.")
    expect(drifts == sorted(drifts, reverse=True), "Drifts do not grow from phase to phase.")
    reach = distance
    for phase in phases:
        reach = reach * math.exp(phase.steps * math.log1p(-pull)) + phase.drift * _geometric(pull, phase.steps)
    steps = sum(phase.steps for phase in phases)
    return reach / (noise * math.sqrt(_geometric(pull * (2 - pull), steps))) * _ROUNDING


def _geometric(pull: float, steps: int) -> float:
    """The sum of (1 - pull)^k for k < steps."""
    return -math.expm1(steps * math.log1p(-pull)) / pull if pull else float(steps)


def _check_step(clip: float, learning_rate: float, weight_decay: float) -> None:
    expect(0 <= clip < math.inf, "The norm to which directions are clipped is finite and not below zero.")
    expect(0 < learning_rate < math.inf, "The learning rate is finite and above zero.")
    expect(0 <= weight_decay < math.inf, "The weight decay is finite and not below zero.")
    expect(learning_rate * weight_decay < 1, "Learning rate times weight decay lies below 1.")


def _check_noise(noise: float) -> None:
    expect(0 < noise < math.inf, "The noise of a step is finite and above zero.")


def _log_expm1(x: float) -> float:
    """log(e^x - 1) at x >= 0."""
    return x + math.log(-math.expm1(-x)) if x else -math.inf


def _log1p_exp(x: float) -> float:
    """log(1 + e^x)."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
