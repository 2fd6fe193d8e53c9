r"""The verifier's own accountant: the (epsilon, delta) of DP training, in plain Python.

Mechanism: each of `steps` steps adds Gaussian noise of standard deviation `noise_multiplier` (in units of the
clipping norm) to a sum over units that each joined independently with probability q (Poisson sampling). Neighbours
differ by adding or removing a group of k units. A step is dominated by the pair

    P = sum_j Bin(k, q)(j) N(j, sigma^2)        against        Q = N(0, sigma^2)

(Ganesh 2024, arXiv:2401.10294, "mixture of Gaussians"; k = 1 is Mironov, Talwar and Zhang 2019, arXiv:1908.10530).
Both directions are needed, D(P||Q) when the group is removed and D(Q||P) when it is added; only for k = 1 is the
first known to be the larger (Mironov et al., theorem 5), so here the maximum of the two is taken.

Renyi divergences compose by adding up, and convert by Canonne, Kamath and Steinke 2020 (arXiv:2004.00010,
proposition 12):

    epsilon = min over a of  RDP(a) + log(1 - 1/a) - (log delta + log a) / (a - 1)

Integer orders are exact; a fixed set of orders between them (large groups have their best order below 2) and the
reverse direction are integrated numerically, with the error control stated at each. Every order gives a valid
bound, so trying fewer orders, which large groups do to stay fast, makes the result larger and never wrong.

What voids the result is not visible from here: sampling that is not Poisson, a gradient that escaped clipping,
noise whose seed is known, or hyper-parameters chosen on the units' data. `math` is the only import: an auditor can
read this file and needs nothing else.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audits.errors import expect

LARGEST_ORDER = 256
LARGEST_GROUP = 1024
# Between the integers; sixteenths near 1, where the best order of a large group lies.
FRACTIONS = (
    *(1 + n / 64 for n in (1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 48, 56)),
    *(n / 4 for n in (9, 10, 11, 13, 14, 15, 18, 22, 26, 30)),
)
_FRACTIONS_MATTER = 9
_LONGEST = 2048
# Quadrature: cut 12 standard deviations out, a step that makes the relative error e^-36, and a margin for rounding.
_RADIUS = 12.0
_EXPONENT = 36.0
_ROUNDING = 1e-12
_HALF_LOG_2 = 0.5 * math.log(2.0)
_WORK = 4_000_000
_SMALLEST_NOISE = 0.05
_LARGEST_NOISE = 2.0**20
_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """A proved `epsilon` and the Renyi order that gave it; 0 when there is nothing to bound."""

    epsilon: float
    order: float


def epsilon(*, sample_rate: float, noise_multiplier: float, steps: int, delta: float, group: int = 1) -> Bound:
    """The epsilon at `delta` for a group of `group` units over `steps` steps, against adding and removing it."""
    _check(sample_rate, noise_multiplier, steps, delta, group)
    step = _Step(sample_rate=sample_rate, noise_multiplier=noise_multiplier, group=group)
    promises = _integer_promises(step, steps, delta)
    if min(promises)[1] < _FRACTIONS_MATTER:
        forwards = ((order, step.forward_between(order)) for order in FRACTIONS if step.affords(order))
        promises += [(_convert(steps * forward, order, delta), order, forward) for order, forward in forwards]
    best = Bound(epsilon=math.inf, order=0)
    # The forward direction alone promises no more than what both directions give, so once a value is no larger than
    # the next promise, no order left can do better.
    for promised, order, forward in sorted(promises):
        if promised >= best.epsilon:
            break
        value = max(0.0, _convert(steps * step.larger(order, forward), order, delta))
        if value < best.epsilon:
            best = Bound(epsilon=value, order=order)
    return best


def noise_multiplier_for(
    *,
    target_epsilon: float,
    sample_rate: float,
    steps: int,
    delta: float,
    group: int = 1,
) -> float:
    """The smallest noise multiplier (to 5 digits, rounded up) whose epsilon does not exceed `target_epsilon`."""
    expect(math.isfinite(target_epsilon) and target_epsilon > 0, "The target epsilon is finite and above zero.")

    def reached(noise: float) -> bool:
        bound = epsilon(sample_rate=sample_rate, noise_multiplier=noise, steps=steps, delta=delta, group=group)
        return bound.epsilon <= target_epsilon

    high = 1.0
    while not reached(high):
        high *= 2
        expect(high <= _LARGEST_NOISE, "No noise that can be used reaches this epsilon.")
    low = high / 2
    while low > _SMALLEST_NOISE and reached(low):
        low, high = low / 2, low
    while high - low > _TOLERANCE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def rdp_forward(*, sample_rate: float, noise_multiplier: float, order: int, group: int = 1) -> float:
    """D(P||Q) of one step at an integer `order` >= 2, exact up to rounding."""
    _check(sample_rate, noise_multiplier, 1, 0.5, group)
    expect(order > 1, "An integer Renyi order is at least 2.")
    step = _Step(sample_rate=sample_rate, noise_multiplier=noise_multiplier, group=group)
    return next(value for current, value in step.forward() if current == order)


def rdp_reverse(*, sample_rate: float, noise_multiplier: float, order: float, group: int = 1) -> float:
    """D(Q||P) of one step at any `order` above 1, by quadrature."""
    _check(sample_rate, noise_multiplier, 1, 0.5, group)
    expect(order > 1, "A Renyi order lies above 1.")
    return _Step(sample_rate=sample_rate, noise_multiplier=noise_multiplier, group=group).reverse(order)


def _check(sample_rate: float, noise_multiplier: float, steps: int, delta: float, group: int) -> None:
    expect(0 < sample_rate <= 1, "The sample rate lies above 0 and at most at 1.")
    expect(_SMALLEST_NOISE / 2 <= noise_multiplier <= 2 * _LARGEST_NOISE, "The noise multiplier is out of range.")
    expect(steps >= 1, "There is at least one step.")
    expect(0 < delta < 1, "Delta lies between 0 and 1.")
    expect(1 <= group <= LARGEST_GROUP, f"A group has 1 to {LARGEST_GROUP} units.")


def _convert(divergence: float, order: float, delta: float) -> float:
    """Epsilon at `delta` from a composed Renyi divergence (Canonne et al. 2020, proposition 12)."""
    return divergence + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)


def _integer_promises(step: "_Step", steps: int, delta: float) -> list[tuple[float, float, float]]:
    """(epsilon by the forward direction alone, order, forward divergence) for every integer order worth trying."""
    found: list[tuple[float, float, float]] = []
    largest = max(2, min(LARGEST_ORDER, _LONGEST // step.group))
    for order, forward in step.forward():
        found.append((_convert(steps * forward, order, delta), order, forward))
        # Divergences grow with the order, and so does what is added to them once the term in delta is left out:
        # when this floor reaches the best epsilon, every later order is worse.
        floor = steps * forward + math.log1p(-1 / order) - math.log(order) / (order - 1)
        if order >= largest or floor >= min(found)[0]:
            break
    return found


class _Step:
    """One step of the mechanism, seen by a group: P, Q, and the divergences between them."""

    def __init__(self, *, sample_rate: float, noise_multiplier: float, group: int) -> None:
        self.sample_rate = sample_rate
        self.sigma = noise_multiplier
        self.group = group
        self.scale = 2 * noise_multiplier**2
        self.logs = _log_binomial(group, sample_rate)
        # Half the height at which two terms of L = P/Q could first cancel, and never so high that Q grows much.
        self.strip = min(math.pi * noise_multiplier**2 / (2 * group), 6 * noise_multiplier)
        self._ratios: list[float] = []

    def log_ratio(self, x: float) -> float:
        """The logarithm of L(x), L = P/Q: increasing and convex in x."""
        return _log_sum([b + (2 * j * x - j * j) / self.scale for j, b in enumerate(self.logs)])

    def forward(self) -> Iterator[tuple[int, float]]:
        """(order, D(P||Q)) for the orders 2, 3, 4, ...

        E_Q[L^a] is the sum over S of w^{*a}(S) exp(S^2 / (2 sigma^2)) with w_j = b_j exp(-j^2 / (2 sigma^2)): one
        more convolution gives the next order. All in logarithms, because the terms that decide are those that a
        double would have lost as zero many orders before.
        """
        weights = [b - j * j / self.scale for j, b in enumerate(self.logs)]
        power, order = weights, 1
        while True:
            power, order = _convolve(power, weights), order + 1
            moment = _log_sum([value + s * s / self.scale for s, value in enumerate(power)])
            yield order, max(0.0, moment / (order - 1))

    def forward_between(self, order: float) -> float:
        r"""D(P||Q) = log( \int Q L^a dx ) / (a - 1) at any order, by the trapezoidal rule.

        * Cutting: with c_j = b_j^a e^((a^2-a) j^2 / (2 s^2)) the integral is at least C = sum c_j, and the integrand
          at most (k+1)^(a-1) times the mixture of c_j N(a j, s^2). What lies 12 s outside [0, a k] is below
          (k+1)^(a-1) erfc(12 / sqrt 2) C: a relative 1e-12 for k = 1024 and a = 7.5, far less for all smaller.
        * Step: in the strip |y| <= pi s^2 / (2k) L has no zero and |L(x + iy)| <= L(x), so the integral grows there
          at most by e^(y^2 / (2 s^2)).
        """
        if self.sample_rate == 1:
            return order * self.group**2 / self.scale
        width, count = self._grid(order)
        start = -_RADIUS * self.sigma
        # All orders share one grid, so L is computed once.
        self._ratios += [self.log_ratio(start + width * i) for i in range(len(self._ratios), count + 1)]
        ratios = enumerate(self._ratios[: count + 1])
        logs = [order * ratio - (start + width * i) ** 2 / self.scale for i, ratio in ratios]
        return self._divergence(logs, width, order)

    def reverse(self, order: float) -> float:
        r"""D(Q||P) = log( \int Q L^(1-a) dx ) / (a - 1) at any order, by the trapezoidal rule.

        * Cutting: log L is convex, so the logarithm of the integrand is concave, with a curvature from 1 / s^2 up to
          (1 + (a-1) k^2 / (4 s^2)) / s^2. Beyond 12 s from the mode lies a relative
          erfc(12 / sqrt 2) sqrt(1 + (a-1) k^2 / (4 s^2)): below 1e-26 for every input that is accepted.
        * Step: for |y| <= pi s^2 / (2k) the phases of the terms of L(x + iy) lie within a right angle, so
          |L(x + iy)| >= L(x) / sqrt 2, and the integral grows there at most by 2^((a-1)/2) e^(y^2 / (2 s^2)).
        """
        if self.sample_rate == 1:
            return order * self.group**2 / self.scale
        count = self._reverse_points(order)
        width = 2 * _RADIUS * self.sigma / count
        start = self._mode(order) - _RADIUS * self.sigma
        nodes = (start + width * i for i in range(count + 1))
        return self._divergence([(1 - order) * self.log_ratio(x) - x * x / self.scale for x in nodes], width, order)

    def larger(self, order: float, forward: float) -> float:
        """The larger of D(P||Q), given, and D(Q||P).

        Two ceilings of D(Q||P) cost nothing: L is never below b_0, and log L never below its chord by Jensen,
        (2 E[j] x - E[j^2]) / (2 s^2). Where they settle it, or where integrating would take too long, they stand in.
        """
        mean = self.group * self.sample_rate
        square = mean * (1 - self.sample_rate) + mean**2
        ceiling = min(-self.logs[0], (square + (order - 1) * mean**2) / self.scale)
        if ceiling <= forward:
            return forward
        if self._reverse_points(order) * (self.group + 1) > _WORK:
            return ceiling
        return max(forward, min(ceiling, self.reverse(order)))

    def affords(self, order: float) -> bool:
        """Whether `forward_between` is quick enough."""
        return self._grid(order)[1] * (self.group + 1) <= _WORK

    def _grid(self, order: float) -> tuple[float, int]:
        """Step and number of steps of `forward_between`."""
        width = 2 * math.pi * self.strip / self._exponent(growth=0)
        return width, math.ceil((order * self.group + 2 * _RADIUS * self.sigma) / width)

    def _reverse_points(self, order: float) -> int:
        """Number of steps of `reverse`."""
        exponent = self._exponent(growth=(order - 1) * _HALF_LOG_2)
        return math.ceil(2 * _RADIUS * self.sigma * exponent / (2 * math.pi * self.strip))

    def _exponent(self, *, growth: float) -> float:
        """2 pi y / h for a strip of height y in which the integral grows by e^growth, and by Q's own growth.

        The trapezoidal rule with step h errs relatively by 2 e^growth e^(y^2/(2s^2)) / (e^(2 pi y / h) - 1) at most
        (Trefethen and Weideman 2014, theorem 5.1).
        """
        return growth + self.strip**2 / self.scale + _EXPONENT

    def _divergence(self, logs: Sequence[float], width: float, order: float) -> float:
        moment = _log_sum(logs) + math.log(width) - math.log(self.sigma * math.sqrt(2 * math.pi))
        return max(0.0, (moment + _ROUNDING * (1 + abs(moment))) / (order - 1))

    def _mode(self, order: float) -> float:
        """Where the reverse integrand peaks: the root of x + (a - 1) E[j], E under the weights tilted by x.

        The left side increases with x, is not above 0 at -(a - 1) k and not below 0 at 0.
        """
        low, high = -(order - 1.0) * self.group, 0.0
        while high - low > 1e-3 * self.sigma:
            x = (low + high) / 2
            tilted = [b + (2 * j * x - j * j) / self.scale for j, b in enumerate(self.logs)]
            largest = max(tilted)
            weights = [math.exp(one - largest) for one in tilted]
            mean = sum(j * w for j, w in enumerate(weights)) / sum(weights)
            low, high = (x, high) if x + (order - 1) * mean < 0 else (low, x)
        return (low + high) / 2


def _log_binomial(group: int, sample_rate: float) -> list[float]:
    """The logarithms of Bin(group, sample_rate)(j) for j from 0 to `group`."""
    joins = math.log(sample_rate)
    stays = math.log1p(-sample_rate) if sample_rate < 1 else -math.inf
    choices = math.lgamma(group + 1)
    ways = [choices - math.lgamma(j + 1) - math.lgamma(group - j + 1) for j in range(group + 1)]
    return [ways[j] + j * joins + ((group - j) * stays if j < group else 0.0) for j in range(group + 1)]


def _convolve(left: Sequence[float], right: Sequence[float]) -> list[float]:
    """The convolution of two sequences given by their logarithms."""
    last, width = len(left) - 1, len(right) - 1
    backwards = right[::-1]
    result = []
    for s in range(last + width + 1):
        start, stop = max(0, s - width), min(last, s) + 1
        offset = width - s
        pairs = zip(left[start:stop], backwards[start + offset : stop + offset], strict=True)
        result.append(_log_sum([a + b for a, b in pairs]))
    return result


def _log_sum(logs: Sequence[float]) -> float:
    """log(sum(exp(logs))) without overflow."""
    largest = max(logs)
    if largest == -math.inf:
        return largest
    return largest + math.log(math.fsum([math.exp(one - largest) for one in logs]))
