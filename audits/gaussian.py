r"""The Gaussian mechanism, exactly, and the search that every bound of this package rounds with.

Two normal laws of one standard deviation whose means lie `mu` standard deviations apart (mu = sensitivity / sigma)
are (epsilon, delta)-indistinguishable exactly when delta is at least

    delta(epsilon, mu) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)

(Balle and Wang 2018, arXiv:1805.06530, theorem 8). With a = epsilon/mu - mu/2, b = epsilon/mu + mu/2 and Mills'
ratio R(x) = (1 - Phi(x)) / phi(x) this is phi(a) (R(a) - R(b)), because e^epsilon phi(b) = phi(a): no power of e
that could overflow, and nothing that is lost in the tails. Logarithms throughout, so that a delta of 1e-5000 is a
number; what rounding can do is added, so that a delta or an epsilon is never below its true value.

`mu` is the coin in which this package pays: whatever is mu-Gaussian-DP (Dong, Roth and Su 2022, arXiv:1905.02383) has
this curve. `math` is the only import besides the package's own error.
"""

import math
from collections.abc import Callable

from audits.errors import expect

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_FAR = 1e5
_LARGEST_MU = 1e6  # beyond it nothing is promised: delta is 1
_SERIES = 20.0  # from here on Mills' asymptotic series, below it erfc, which has not yet left the normal doubles
_ROUNDING = 2.0**-49
_TOLERANCE = 1e-12
_SLACK = 1e-9
_LIMIT = 2.0**64


def delta(*, epsilon: float, mu: float) -> float:
    """The least delta at `epsilon`, rounded up; at most 1."""
    found = log_delta(epsilon=epsilon, mu=mu)
    return min(1.0, math.nextafter(math.exp(found), 2.0)) if mu else 0.0


def log_delta(*, epsilon: float, mu: float) -> float:
    """The natural logarithm of the least delta at `epsilon`, rounded up; -inf only where mu is 0."""
    expect(0 <= epsilon < math.inf, "Epsilon is finite and not below zero.")
    expect(0 <= mu < math.inf, "Mu is a sensitivity in standard deviations, finite and not below zero.")
    if mu == 0 or mu > _LARGEST_MU:
        return 0.0 if mu else -math.inf
    a, b = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    if a > _FAR:
        return max(-a * a / 2, -1e300)  # delta <= 1 - Phi(a) <= e^(-a^2/2)
    log_density = -a * a / 2 - _HALF_LOG_TAU
    whole = mills(a) if a > 0 else math.erfc(a / math.sqrt(2)) / 2
    part = mills(b) if a > 0 else math.exp(log_density) * mills(b)
    # The mean value theorem with -R' = 1 - xR <= 1 / (1 + x^2): what is left where the subtraction leaves nothing.
    ceiling = mu * (1 / (1 + a * a) if a > 0 else (math.exp(log_density) - a * whole))
    difference = whole - part
    if difference > 2.0**-30 * whole:
        margin = _ROUNDING * (1 + abs(a)) * (1 + b) * whole / difference
        value = math.log(difference) + margin
    else:
        value = math.log(ceiling) + _ROUNDING * (1 + abs(a)) * (1 + b)
    return min(0.0, value + (log_density if a > 0 else 0.0))


def epsilon(*, delta: float, mu: float) -> float:
    """The least epsilon at `delta`, rounded up; 0 where delta(0, mu) is no larger."""
    target = log_of_delta(delta)
    if log_delta(epsilon=0.0, mu=mu) <= target:
        return 0.0
    return least(lambda value: log_delta(epsilon=value, mu=mu) <= target)


def mu_for(*, epsilon: float, delta: float) -> float:
    """The largest mu whose epsilon at `delta` does not exceed `epsilon`, rounded down."""
    target, aim = log_of_delta(delta), below(epsilon)
    return 1 / least(lambda noise: log_delta(epsilon=aim, mu=1 / noise) <= target)


def mills(x: float) -> float:
    """Mills' ratio (1 - Phi(x)) / phi(x) at x >= 0: sqrt(pi/2) e^(x^2/2) erfc(x / sqrt 2)."""
    if x < _SERIES:
        return math.sqrt(math.pi / 2) * math.exp(x * x / 2) * math.erfc(x / math.sqrt(2))
    term = total = 1.0
    for k in range(1, 20):
        term *= -(2 * k - 1) / (x * x)
        total += term
    return total / x


def log_of_delta(delta: float) -> float:
    """The logarithm of a delta that can be promised."""
    expect(0 < delta < 1, "Delta lies between 0 and 1.")
    return math.log(delta)


def below(epsilon: float) -> float:
    """What to aim at so that an epsilon that is computed again, and rounded up, does not exceed `epsilon`."""
    expect(0 < epsilon < math.inf, "The target epsilon is finite and above zero.")
    return epsilon * (1 - _SLACK)


def least(holds: Callable[[float], bool]) -> float:
    """The least x above 0 at which `holds`, which stays true from there on; rounded up by at most 1e-12 of x.

    `holds` is true at what is returned. ValueError where it is false up to 2^64.
    """
    high = 1.0
    while not holds(high):
        high *= 2
        expect(high <= _LIMIT, "No value that can be used reaches this target.")
    low = high / 2
    while low > 1 / _LIMIT and holds(low):
        low, high = low / 2, low
    while high - low > _TOLERANCE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
