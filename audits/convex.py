r"""Certificates for convex models: Newton removal, Descent-to-Delete, Langevin unlearning; and rewinding.

Published formulas beside what can be proved sharper (derivations in docs/guarantees.md). The sharper ones are given
as `mu`, the sensitivity in standard deviations, whose exact curve is audits/gaussian.py:

* `residual_mu`: a strongly convex objective, a published point plus fresh noise, and the *measured* gradient there.
  It needs no Lipschitz or smoothness constant and no secret state, whatever brought the point about.
* `langevin_mu`: noisy gradient descent by shifted interpolation (audits/contraction.py).
* `rewind_mu`: Rewind-to-Delete, which is `conditional`: its constants are estimated for every network.
* `Measured` and `Contracted`: both worlds run one procedure on the same remaining data, from whatever start.
* `Removed`, `Kept` and `Rewound`: what goes on from a state that is kept secret, as a run whose noise can be asked for.

Objectives are averages over points unless a docstring says sum. `points` counts what is left unless it says otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from audits import contraction, gaussian
from audits.errors import expect

_ROUNDING = 1 + 1e-12
_LARGEST_EXPONENT = 600.0
_ORDERS = tuple(1 + math.exp2(n / 8) for n in range(-64, 161))


@dataclass(frozen=True, kw_only=True, slots=True)
class Descent:
    """Descent-to-Delete: `iterations` full gradient steps of size 2 / (smoothness + curvature) a request.

    The loss of each of `points` points is `curvature`-strongly convex and `smoothness`-smooth, its gradient's norm
    at most `slope`, regulariser included. At least half of the points stay; a request is one point.
    """

    curvature: float
    smoothness: float
    slope: float
    points: int
    iterations: int

    def __post_init__(self) -> None:
        """Refuse what the theorem does not cover."""
        _check_positive(self.curvature, self.smoothness, self.slope)
        expect(self.curvature < self.smoothness, "The curvature lies below the smoothness.")
        expect(self.points >= 1, "There is at least one point.")
        expect(self.iterations >= 1, "There is at least one iteration.")

    @property
    def contraction(self) -> float:
        """What one step leaves of a distance: (L - m) / (L + m)."""
        return (self.smoothness - self.curvature) / (self.smoothness + self.curvature)

    @property
    def reach(self) -> float:
        """M gamma^I / (m n (1 - gamma^I)): an eighth of the distance to what retraining publishes."""
        left = self.iterations * math.log(self.contraction)
        return self.slope * math.exp(left) / (self.curvature * self.points * -math.expm1(left)) * _ROUNDING


@dataclass(frozen=True, kw_only=True, slots=True)
class Langevin:
    """Noisy gradient descent w <- w - eta grad F(w) + N(0, 2 eta sigma^2 I) on an average of `points` losses.

    Each loss is `curvature`-strongly convex and `smoothness`-smooth with its regulariser, and its gradient without
    the regulariser has norm at most `slope`. `noise` is sigma; eta, the learning rate, at most 1 / smoothness.
    A projection to a convex set after a step changes nothing.
    """

    curvature: float
    smoothness: float
    slope: float
    points: int
    learning_rate: float
    noise: float

    def __post_init__(self) -> None:
        """Refuse what the theorems do not cover."""
        _check_positive(self.curvature, self.smoothness, self.slope, self.learning_rate, self.noise)
        expect(self.curvature <= self.smoothness, "The curvature is at most the smoothness.")
        expect(self.learning_rate * self.smoothness <= 1, "The learning rate is at most 1 / smoothness.")
        expect(self.points >= 1, "There is at least one point.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A point where the gradient's norm was measured to be at most `residual`, however it was found, plus noise once.

    The objective is `curvature`-strongly convex. Whoever trains anew stops at the same `residual`.
    """

    residual: float
    curvature: float

    def mu(self, *, noise: float) -> float:
        """Twice the residual over curvature and noise; rounded up."""
        one = self.residual
        return residual_mu(residual=one, reference_residual=one, curvature=self.curvature, noise=noise)

    def log_delta(self, *, epsilon: float, noise: float) -> float:
        """Logarithm of the least delta at `epsilon`."""
        return gaussian.log_delta(epsilon=epsilon, mu=self.mu(noise=noise))


@dataclass(frozen=True, kw_only=True, slots=True)
class Contracted:
    """`steps` full gradient steps of size 2 / (L + m) from anywhere in a ball of `start_radius`, and noise at the end.

    The objective is m-strongly convex (`curvature`) and L-smooth (`smoothness`); a gradient may be off by
    `gradient_error` at most, which is what computing in finite precision does.
    """

    start_radius: float
    curvature: float
    smoothness: float
    gradient_error: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse what the theorem does not cover."""
        _check_positive(self.start_radius, self.curvature, self.smoothness, self.gradient_error)
        expect(self.curvature < self.smoothness, "The curvature lies below the smoothness.")
        expect(1 <= self.steps <= contraction.LONGEST, f"There are 1 to {contraction.LONGEST} steps.")

    @property
    def learning_rate(self) -> float:
        """2 / (L + m), at which a step shrinks distances by (L - m) / (L + m)."""
        return 2 / (self.smoothness + self.curvature)

    @property
    def distance(self) -> float:
        """How far apart two runs end at most: gamma^T 2 R + 2 eta e (1 - gamma^T) / (1 - gamma); rounded up."""
        pull = self.learning_rate * self.curvature
        left = self.steps * math.log1p(-pull)
        drift = 2 * self.learning_rate * self.gradient_error
        return (2 * self.start_radius * math.exp(left) + drift * -math.expm1(left) / pull) * _ROUNDING

    def mu(self, *, noise: float) -> float:
        """The distance in standard deviations; rounded up."""
        _check_positive(noise)
        return self.distance / noise * _ROUNDING

    def log_delta(self, *, epsilon: float, noise: float) -> float:
        """Logarithm of the least delta at `epsilon`."""
        return gaussian.log_delta(epsilon=epsilon, mu=self.mu(noise=noise))


@dataclass(frozen=True, kw_only=True, slots=True)
class Removed:
    """Newton removal (Guo et al. 2020) of `problems` one-vs-rest heads, each with a residual of at most `residual`.

    The noise is the standard deviation of b in the perturbed sum. Conditional (`newton_budget`).
    """

    residual: float
    problems: int

    def epsilon(self, *, noise: float, delta: float) -> float:
        """`newton_epsilon` with every residual at its limit."""
        _check_positive(self.residual)
        _check_problems(noise, self.problems)
        return newton_epsilon(residuals=[self.residual] * self.problems, noise=noise, delta=delta)

    def noise_for(self, *, epsilon: float, delta: float) -> float:
        """The least noise whose epsilon at `delta` does not exceed `epsilon`; rounded up."""
        _check_positive(self.residual)
        aim = gaussian.below(epsilon)
        return self.residual / newton_budget(epsilon=aim, delta=delta, noise=1.0, problems=self.problems) * _ROUNDING**4


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Descent-to-Delete: noise once on a state that goes on without it, computed in finite precision.

    The sensitivity is that of `descent_mu` and 2 e / m for gradients that are off by `gradient_error` e at most: a
    step then adds eta e to a distance that the step shrinks, in each of the two worlds.
    """

    run: Descent
    gradient_error: float

    def mu(self, *, noise: float) -> float:
        """The sensitivity in standard deviations; rounded up."""
        _check_positive(self.gradient_error)
        error = 2 * self.gradient_error / (self.run.curvature * noise)
        return (descent_mu(self.run, noise=noise) + error) * _ROUNDING

    def log_delta(self, *, epsilon: float, noise: float) -> float:
        """Logarithm of the least delta at `epsilon`."""
        return gaussian.log_delta(epsilon=epsilon, mu=self.mu(noise=noise))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewound:
    """Rewind-to-Delete when at most `share` of the points that were trained on are gone; conditional."""

    steps: int
    rewound: int
    learning_rate: float
    smoothness: float
    slope: float
    share: float

    @property
    def distance(self) -> float:
        """`rewind_distance`, which depends on removed and present points by their ratio alone; never 0."""
        expect(0 < self.share < 1, "The share of the points that are gone lies between 0 and 1.")
        expect(1 <= self.rewound < self.steps, "At least one step is rewound, and not all of them.")
        largest = min(1.0, 1 / (2 * (1 - self.share)))
        expect(self.learning_rate * self.smoothness <= largest, "The learning rate is too large for the smoothness.")
        return rewind_distance(
            steps=self.steps,
            rewound=self.rewound,
            learning_rate=self.learning_rate,
            smoothness=self.smoothness,
            slope=self.slope,
            points=1,
            removed=self.share,
        )

    def log_delta(self, *, epsilon: float, noise: float) -> float:
        """Logarithm of the least delta at `epsilon`."""
        return gaussian.log_delta(epsilon=epsilon, mu=rewind_mu(distance=self.distance, noise=noise))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """`steps` steps on data of which `removed` points are no longer there in the end."""

    steps: int
    removed: int


def newton_budget(*, epsilon: float, delta: float, noise: float, problems: int = 1) -> float:
    """The residual norm that each of `problems` one-vs-rest models may have under (epsilon, delta) in all.

    Guo et al. 2020 (arXiv:1911.03030, theorem 3): noise epsilon / c with c = sqrt(2 ln(1.5 / delta)), `noise` the
    standard deviation of the vector b of the perturbed sum; epsilon and delta of the problems add up. Where epsilon
    is so large that the exact Gaussian allows less, it is that which is returned.
    The class is `conditional`: the proof takes residuals to be independent of b, and Newton's are not; `residual_mu`
    needs nothing of the kind.
    """
    _check_problems(noise, problems)
    one, share = gaussian.below(epsilon) / problems, delta / problems
    return noise * min(one / _newton_factor(share), gaussian.mu_for(epsilon=one, delta=share)) / _ROUNDING


def newton_epsilon(*, residuals: Sequence[float], noise: float, delta: float) -> float:
    """Epsilon of the theorem for models with these residual norms (sums over removals), one a problem.

    For each the larger of the theorem's epsilon and the exact Gaussian's, which the theorem's argument contains.
    """
    _check_problems(noise, len(residuals))
    expect(all(0 <= residual < math.inf for residual in residuals), "A residual is finite and not below zero.")
    share = delta / len(residuals)
    factor = _newton_factor(share)
    ratios = [residual / noise * _ROUNDING for residual in residuals]
    return math.fsum(max(factor * mu, gaussian.epsilon(delta=share, mu=mu)) for mu in ratios) * _ROUNDING


def worst_case_residual(
    *, points: int, removed: int, regularisation: float, slope: float = 1.0, curvature_slope: float = 0.25
) -> float:
    """Guo et al. 2020, theorem 1: 4 gamma C^2 m^2 / (lambda^2 (n - m)), rows of norm at most 1, the sum objective.

    `slope` C bounds l', `curvature_slope` gamma the Lipschitz constant of l''; 1 and 1/4 are safe for logistic loss.
    `points` n counts those before removal.
    """
    _check_positive(regularisation, slope, curvature_slope)
    expect(1 <= removed < points, "At least one point is removed and one stays.")
    return 4 * curvature_slope * (slope * removed / regularisation) ** 2 / (points - removed) * _ROUNDING


def residual_mu(*, residual: float, reference_residual: float, curvature: float, noise: float) -> float:
    """Give the mu of publishing w + N(0, noise^2 I), where `residual` bounds |grad F(w)| on the data that stay.

    F is `curvature`-strongly convex, `reference_residual` what retraining would stop at; all three of one F, average
    or sum. |w - w*| <= |grad F(w)| / curvature, so both points lie in one ball.
    """
    _check_positive(curvature, noise)
    expect(0 <= residual < math.inf, "A residual is finite and not below zero.")
    expect(0 <= reference_residual < math.inf, "A residual is finite and not below zero.")
    return (residual + reference_residual) / (curvature * noise) * _ROUNDING


def descent_noise(run: Descent, *, epsilon: float, delta: float) -> float:
    """Noise to publish with while the un-noised state is kept secret (Neel, Roth and Sharifi-Malvajerdi 2021)."""
    log_inverse = -gaussian.log_of_delta(delta)
    _check_positive(epsilon)
    return 4 * math.sqrt(2) * run.reach / _root_difference(log_inverse, epsilon) * _ROUNDING


def descent_epsilon(run: Descent, *, noise: float, delta: float) -> float:
    """The epsilon at `delta` of `descent_noise`, inverted: rho + 2 sqrt(rho ln(1/delta))."""
    log_inverse = -gaussian.log_of_delta(delta)
    _check_positive(noise)
    root = 4 * math.sqrt(2) * run.reach / noise
    return (root * root + 2 * root * math.sqrt(log_inverse)) * _ROUNDING


def descent_mu(run: Descent, *, noise: float) -> float:
    """The sensitivity behind `descent_noise`, 8 `reach`, in standard deviations: its exact curve is lower."""
    _check_positive(noise)
    return 8 * run.reach / noise


def stateless_noise(run: Descent, *, dimension: int, epsilon: float, delta: float) -> float:
    """Noise to publish with where the published model is the only state (the paper's perfect unlearning).

    As published, not derived anew; ValueError where `iterations` are too few for it.
    """
    log_inverse = math.log(2) - gaussian.log_of_delta(delta)
    _check_positive(epsilon)
    expect(dimension >= 1, "A model has at least one parameter.")
    least = math.sqrt(2 * dimension) / ((1 - run.contraction) * _root_difference(2 * log_inverse, epsilon))
    expect(run.iterations * -math.log(run.contraction) >= math.log(least), "The iterations are too few for this delta.")
    return 8 * run.reach / _root_difference(2 * log_inverse + 2 * epsilon, epsilon) * _ROUNDING


def stateless_iterations(run: Descent, *, dimension: int, request: int, delta: float) -> int:
    """Steps that the `request`-th request (from 1) takes in the stateless variant."""
    gaussian.log_of_delta(delta)
    expect(dimension >= 1, "A model has at least one parameter.")
    expect(request >= 1, "Requests are counted from 1.")
    extra = math.log(math.log(4 * dimension * request / delta)) / -math.log(run.contraction)
    return run.iterations + max(0, math.ceil(extra))


def stateless_epsilon(run: Descent, *, dimension: int, noise: float, delta: float) -> float:
    """The least epsilon whose `stateless_noise` is at most `noise`, rounded up."""
    _check_positive(noise)

    def covered(value: float) -> bool:
        try:
            return stateless_noise(run, dimension=dimension, epsilon=value, delta=delta) <= noise
        except ValueError:
            return False

    return gaussian.least(covered)


def langevin_epsilon(run: Langevin, *, stretches: Sequence[Stretch], delta: float) -> float:
    """Epsilon of the published bound after these requests in order: points `removed`, then `steps` steps each.

    Chien, Wang, Chen and Li 2024 (arXiv:2401.10371): Renyi epsilon_0 = 4 a S^2 M^2 / (m sigma^2 n^2) once learning has
    converged, times e^(-K m eta / a) for K steps, by a weak triangle inequality from request to request; converted by
    Canonne et al. 2020, proposition 12, like audits/accountant.py. Neighbours differ by replacing points.
    """
    log_delta = gaussian.log_of_delta(delta)
    expect(stretches, "There is at least one request.")
    expect(min(s.steps for s in stretches) >= 0 <= min(s.removed for s in stretches), "A stretch counts from zero.")
    found = (
        _langevin_renyi(run, stretches, a) + math.log1p(-1 / a) - (log_delta + math.log(a)) / (a - 1) for a in _ORDERS
    )
    return max(0.0, min(found)) * _ROUNDING


def langevin_mu(run: Langevin, *, stretches: Sequence[Stretch], distance: float) -> float:
    """Give the mu of the same run against one that took every step on what stays, by shifted interpolation.

    `stretches` in order, learning first: with r points `removed` later, a step drives the two apart by at most
    eta 2 r M / n, `points` n being the fewest there ever were; their starts by `distance` (0: the same start, twice the
    radius: any two of a ball). Deleted or replaced, the bound is the same.
    """
    drift = 2 * run.learning_rate * run.slope / run.points
    return contraction.interpolated_mu(
        phases=[contraction.Phase(steps=s.steps, drift=drift * s.removed) for s in stretches],
        pull=run.learning_rate * run.curvature / _ROUNDING,
        distance=distance,
        noise=math.sqrt(2 * run.learning_rate) * run.noise / _ROUNDING,
    )


def rewind_distance(
    *, steps: int, rewound: int, learning_rate: float, smoothness: float, slope: float, points: float, removed: float
) -> float:
    """How far rewinding `rewound` of `steps` gradient steps can end from retraining.

    (2 m G / (n L)) ((1 + eta L)^(T-K) - 1) (1 + eta L)^K for m of n `points` (counted before removal), gradients of
    norm at most G and L-smooth: T - K steps that drift apart, K that may stretch the gap. Rewind-to-Delete is Mu and
    Klabjan 2025; ValueError where the factor exceeds e^600.
    """
    _check_positive(learning_rate, smoothness, slope)
    expect(0 <= rewound <= steps, "At most all steps are rewound.")
    expect(0 <= removed < points, "At least one point stays.")
    growth = math.log1p(learning_rate * smoothness)
    expect(steps * growth <= _LARGEST_EXPONENT, "The bound is beyond any noise.")
    factor = math.expm1((steps - rewound) * growth) * math.exp(rewound * growth)
    return 2 * removed * slope / (points * smoothness) * factor * _ROUNDING


def rewind_mu(*, distance: float, noise: float) -> float:
    """Give the mu of publishing with `noise` a model that lies at most `distance` from what retraining gives."""
    _check_positive(noise)
    expect(0 <= distance < math.inf, "A distance is finite and not below zero.")
    return distance / noise * _ROUNDING


def _langevin_renyi(run: Langevin, stretches: Sequence[Stretch], order: float) -> float:
    """Renyi divergence of the last request at `order`; each request before it is asked at twice the order."""
    *before, last = stretches
    decay = math.exp(-last.steps * run.curvature * run.learning_rate / order)
    if not before:
        return decay * _langevin_start(run, last.removed, order)
    both = _langevin_start(run, last.removed, 2 * order) + _langevin_renyi(run, before, 2 * order)
    return decay * (order - 0.5) / (order - 1) * both


def _langevin_start(run: Langevin, removed: int, order: float) -> float:
    ratio = removed * run.slope / (run.noise * run.points)
    return 4 * order * ratio * ratio / run.curvature


def _newton_factor(delta: float) -> float:
    gaussian.log_of_delta(delta)
    return math.sqrt(2 * math.log(1.5 / delta))


def _root_difference(base: float, more: float) -> float:
    """sqrt(base + more) - sqrt(base) without cancellation."""
    return more / (math.sqrt(base + more) + math.sqrt(base))


def _check_problems(noise: float, problems: int) -> None:
    _check_positive(noise)
    expect(problems >= 1, "There is at least one problem.")


def _check_positive(*values: float) -> None:
    expect(all(0 < value < math.inf for value in values), "Constants and noise are finite and above zero.")
