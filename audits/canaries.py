r"""The one-run audit: a lower bound on epsilon from canaries that a coin put in or left out.

Of m canaries each was included by a fair coin of its own. Whoever sees only the result guesses for r of them, chosen
by the guesser, whether they were, and is right v times. Under (epsilon, delta)-DP, with q = e^epsilon / (1 + e^epsilon)
and W ~ Bin(r, q), Steinke, Nasr and Jagielski 2023 (arXiv:2305.08846, theorem 5.2) bound the chance of doing so well by

    p(epsilon) = P[W >= v] + 2 m delta max_{1 <= i <= v} P[v - i <= W < v] / i

An epsilon with p below the significance is refuted. The bound is the largest that is: what is (epsilon, delta)-DP is so
for every larger epsilon too, so that each refuted epsilon refutes all below it, however p behaves between them.

For unlearning the canaries are inserted, half of them at random are unlearned, and the guess is which: the bound is one
on how far "unlearned" and "never there" can be told apart. It can refute a certificate and never prove one. With all
guesses right it reaches `ceiling`, beyond which the audit sees nothing. Guesses and their number are fixed before the
coins are opened; whoever tries several thresholds divides the significance (`tries`).
"""

import math
from collections.abc import Iterator

from audits.errors import expect

LARGEST = 1_000_000
_TAIL = 40.0  # what lies beyond is below e^-40 in all
_TOLERANCE = 1e-6
_LARGEST_EPSILON = 500.0
_ROUNDING = 1e-9  # lgamma at a million is good for about as much


def p_value(*, canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The largest chance that a mechanism with this (epsilon, delta) lets `correct` of `guesses` be right."""
    _check(canaries, guesses, correct, delta)
    expect(0 <= epsilon <= _LARGEST_EPSILON, "Epsilon lies from 0 to 500.")
    if correct == 0:
        return 1.0
    tail = _at_least(correct, guesses, epsilon)
    slack = 2 * canaries * delta * _steepest(correct, guesses, epsilon) if delta else 0.0
    return min(1.0, (tail + slack) * (1 + _ROUNDING))


def lower_bound(
    *, canaries: int, guesses: int, correct: int, delta: float, significance: float = 0.05, tries: int = 1
) -> float:
    """The epsilon that these guesses refute, rounded down; 0 where they refute none. `tries`: by Bonferroni."""
    _check(canaries, guesses, correct, delta)
    expect(0 < significance < 1, "The significance lies between 0 and 1.")
    expect(tries >= 1, "There was at least one try.")
    level = significance / tries

    def refuted(epsilon: float) -> bool:
        found = p_value(canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta)
        return found < level

    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    while high - low > _TOLERANCE * high:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def ceiling(*, canaries: int, guesses: int, delta: float, significance: float = 0.05, tries: int = 1) -> float:
    """The largest epsilon that an audit of this size can refute: the bound when every guess is right."""
    return lower_bound(
        canaries=canaries, guesses=guesses, correct=guesses, delta=delta, significance=significance, tries=tries
    )


def _at_least(correct: int, guesses: int, epsilon: float) -> float:
    """P[W >= correct], summed from the side on which terms fall."""
    if correct > _mode(guesses, epsilon):
        return _sum_of_falling(_upwards(correct, guesses, epsilon))
    return max(0.0, 1 - _sum_of_falling(_downwards(correct - 1, guesses, epsilon)))


def _steepest(correct: int, guesses: int, epsilon: float) -> float:
    """The largest mean of the i probabilities below `correct`, over i.

    Going down they rise to the mode and fall from there, so their mean is largest where they fall below it. What lies
    further above the mode than Bernstein's inequality leaves e^-40 for counts as e^-40 in all.
    """
    mode, chance = _mode(guesses, epsilon), _chance(epsilon)
    variance = guesses * chance * _chance(-epsilon)
    far = mode + 1 + math.ceil(2 * _TAIL / 3 + math.sqrt(2 * _TAIL * variance))
    start = min(correct - 1, far)
    count, total, best = correct - 1 - start, math.exp(-_TAIL) if start == far else 0.0, 0.0
    for k, mass in zip(range(start, -1, -1), _downwards(start, guesses, epsilon), strict=False):
        count, total = count + 1, total + mass
        best = max(best, total / count)
        if k < mode and mass <= best:
            break
    return best


def _upwards(start: int, guesses: int, epsilon: float) -> Iterator[float]:
    """P[W = k] for k from `start` to `guesses`."""
    mass, odds = _mass(start, guesses, epsilon), math.exp(epsilon)
    for k in range(start, guesses + 1):
        yield mass
        mass *= (guesses - k) / (k + 1) * odds


def _downwards(start: int, guesses: int, epsilon: float) -> Iterator[float]:
    """P[W = k] for k from `start` to 0."""
    mass, odds = _mass(start, guesses, epsilon), math.exp(-epsilon)
    for k in range(start, -1, -1):
        yield mass
        mass *= k / (guesses - k + 1) * odds


def _mass(k: int, guesses: int, epsilon: float) -> float:
    """P[W = k], from logarithms."""
    ways = math.lgamma(guesses + 1) - math.lgamma(k + 1) - math.lgamma(guesses - k + 1)
    return math.exp(ways - (guesses - k) * epsilon - guesses * math.log1p(math.exp(-epsilon)))


def _sum_of_falling(terms: Iterator[float]) -> float:
    """The sum of terms whose ratios fall, up to a relative 2^-53."""
    total, before = 0.0, math.inf
    for term in terms:
        total += term
        if term == 0 or (term < before < math.inf and term * term / (before - term) < total * 2.0**-53):
            break
        before = term
    return total


def _chance(epsilon: float) -> float:
    return 1 / (1 + math.exp(-epsilon))


def _mode(guesses: int, epsilon: float) -> int:
    return min(guesses, math.floor((guesses + 1) * _chance(epsilon)))


def _check(canaries: int, guesses: int, correct: int, delta: float) -> None:
    expect(1 <= canaries <= LARGEST, f"There are 1 to {LARGEST} canaries.")
    expect(1 <= guesses <= canaries, "There are at least one guess and no more guesses than canaries.")
    expect(0 <= correct <= guesses, "No more guesses are right than were made, and none less than zero.")
    expect(0 <= delta < 1, "Delta lies from 0 to below 1.")
