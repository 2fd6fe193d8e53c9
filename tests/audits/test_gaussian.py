"""The exact Gaussian mechanism against its definition, quadrature and scipy."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import gaussian

epsilons = st.floats(0.0, 60.0)
mus = st.floats(1e-3, 30.0)
deltas = st.floats(1e-12, 0.5)


def definition(epsilon: float, mu: float) -> float:
    """Balle and Wang's formula in fifty digits."""
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        e, m = mpmath.mpf(epsilon), mpmath.mpf(mu)
        return float(mpmath.log(mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m)))


@pytest.mark.parametrize(
    ("epsilon", "mu"),
    [(0.0, 1e-9), (0.0, 3.0), (1.0, 1.0), (0.1, 1e-2), (40.0, 2.0), (1e-4, 1e-3), (3.0, 30.0), (449.0, 30.0)],
)
def test_it_is_the_formula(epsilon: float, mu: float) -> None:
    """The logarithm of delta is that of the theorem to nine digits, far into the tails, and never below it."""
    expected = definition(epsilon, mu)
    found = gaussian.log_delta(epsilon=epsilon, mu=mu)

    assert expected - 1e-15 <= found <= expected + 1e-9


@given(st.floats(0.05, 10.0), st.floats(0.05, 6.0))
def test_it_agrees_with_scipy(epsilon: float, mu: float) -> None:
    """Where doubles suffice, delta is the difference of two normal distribution functions."""
    below = pytest.importorskip("scipy.special").ndtr
    expected = float(below(mu / 2 - epsilon / mu) - math.exp(epsilon) * below(-mu / 2 - epsilon / mu))

    assert gaussian.delta(epsilon=epsilon, mu=mu) == pytest.approx(expected, rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(("epsilon", "mu"), [(0.5, 0.7), (2.0, 1.5), (0.0, 0.4)])
def test_it_is_the_hockey_stick_divergence(epsilon: float, mu: float) -> None:
    """Delta is the integral of max(0, p - e^epsilon q) for two normal densities `mu` apart."""
    numpy = pytest.importorskip("numpy")
    x = numpy.linspace(-12, 12 + mu, 200_001)
    p, q = (numpy.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (mu, 0))
    integral = float(numpy.maximum(0, p - math.exp(epsilon) * q).sum() * (x[1] - x[0]))

    assert gaussian.delta(epsilon=epsilon, mu=mu) == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize(("coefficient", "golden"), [(0.5, 4.377178096), (1.0, 6.572970067), (10.0, 28.373473803)])
def test_golden_epsilons(coefficient: float, golden: float) -> None:
    """At delta 1e-5 a Renyi coefficient mu^2/2 of 1 is epsilon 6.57, and one of 10 is 28.4: not 1.0036 and 10.0."""
    assert gaussian.epsilon(delta=1e-5, mu=math.sqrt(2 * coefficient)) == pytest.approx(golden, rel=1e-9)


@given(epsilons, mus, st.floats(1.0, 2.0))
def test_delta_falls_with_epsilon_and_grows_with_mu(epsilon: float, mu: float, more: float) -> None:
    """A larger epsilon needs less delta, a larger sensitivity more."""
    here = gaussian.log_delta(epsilon=epsilon, mu=mu)

    assert gaussian.log_delta(epsilon=epsilon * more, mu=mu) <= here + 1e-9
    assert gaussian.log_delta(epsilon=epsilon, mu=mu * more) >= here - 1e-9


@given(deltas, mus)
def test_epsilon_is_the_least_that_delta_allows(delta: float, mu: float) -> None:
    """Delta is kept at the epsilon found and missed just below it."""
    found = gaussian.epsilon(delta=delta, mu=mu)

    assert gaussian.delta(epsilon=found, mu=mu) <= delta * (1 + 1e-12)
    if found > 0:
        assert gaussian.delta(epsilon=found * (1 - 1e-6), mu=mu) > delta


@given(st.floats(1e-3, 100.0), deltas)
def test_mu_is_the_largest_that_epsilon_allows(epsilon: float, delta: float) -> None:
    """The epsilon that is computed from the mu found does not exceed what was asked for, and wastes little."""
    found = gaussian.mu_for(epsilon=epsilon, delta=delta)

    assert gaussian.epsilon(delta=delta, mu=found) <= epsilon
    assert gaussian.epsilon(delta=delta, mu=found * (1 + 1e-6)) > epsilon * (1 - 1e-6)


@given(st.floats(0.0, 1e6))
def test_mills_ratio_is_between_its_bounds(x: float) -> None:
    """R lies between 2 / (x + sqrt(x^2 + 4)) and 4 / (3x + sqrt(x^2 + 8)), on both sides of its two branches."""
    assert 2 / (x + math.sqrt(x * x + 4)) <= gaussian.mills(x) * (1 + 1e-12)
    assert gaussian.mills(x) <= 4 / (3 * x + math.sqrt(x * x + 8)) * (1 + 1e-12)


def test_nothing_to_tell_apart_costs_nothing() -> None:
    """Without sensitivity delta and epsilon are 0; beyond what can be computed delta is 1."""
    assert gaussian.delta(epsilon=0.0, mu=0.0) == 0
    assert gaussian.epsilon(delta=1e-9, mu=0.0) == 0
    assert gaussian.delta(epsilon=1.0, mu=1e9) == 1
    assert 0 < gaussian.delta(epsilon=1e9, mu=1.0) < 1e-300


@pytest.mark.parametrize(
    ("epsilon", "mu"), [(-1.0, 1.0), (math.nan, 1.0), (math.inf, 1.0), (1.0, -1.0), (1.0, math.nan), (1.0, math.inf)]
)
def test_numbers_without_meaning_are_refused(epsilon: float, mu: float) -> None:
    """Negative, infinite and missing numbers have no delta."""
    with pytest.raises(ValueError, match=r"\.$"):
        gaussian.delta(epsilon=epsilon, mu=mu)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan, math.inf])
def test_a_delta_that_promises_nothing_is_refused(delta: float) -> None:
    """Delta lies strictly between 0 and 1."""
    with pytest.raises(ValueError, match="Delta lies"):
        gaussian.epsilon(delta=delta, mu=1.0)
    with pytest.raises(ValueError, match="Delta lies"):
        gaussian.mu_for(epsilon=1.0, delta=delta)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_a_target_without_meaning_is_refused(epsilon: float) -> None:
    """One aims at a finite epsilon above zero."""
    with pytest.raises(ValueError, match="target epsilon"):
        gaussian.mu_for(epsilon=epsilon, delta=1e-5)


def test_what_no_number_reaches_is_refused() -> None:
    """A search that finds nothing says so, and does not return its last guess."""
    with pytest.raises(ValueError, match="No value"):
        gaussian.least(lambda _: False)
