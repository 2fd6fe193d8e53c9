"""The verifier's accountant against the literature, opacus and brute force."""

import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import accountant

SINGLE = [
    (0.1, 4.0, 60, 1e-5),
    (0.02, 1.2, 400, 1e-5),
    (0.3, 6.0, 100, 1e-6),
    (0.5, 1.0, 10, 1e-3),
    (1.0, 2.0, 5, 1e-5),
    (0.01, 0.8, 1000, 1e-5),
    (0.3, 0.7, 3, 1e-4),
]
GROUPS = [(0.1, 4.0, 60, 1e-5, 3), (0.3, 6.0, 40, 1e-6, 5), (0.5, 3.0, 5, 1e-4, 2), (1.0, 8.0, 4, 1e-5, 4)]
rates = st.floats(1e-4, 1.0)
noises = st.floats(0.5, 20.0)


def brute_force(rate: float, noise: float, order: float, group: int, *, forward: bool) -> float:
    """A Renyi divergence by a much finer and wider sum than the accountant's own."""
    numpy = pytest.importorskip("numpy")
    x = numpy.linspace(-order * group - 40 * noise, order * group + 40 * noise, 400_001)
    terms = [
        math.log(math.comb(group, j)) + j * math.log(rate) + (group - j) * math.log1p(-rate)
        + (2 * j * x - j * j) / (2 * noise**2)
        for j in range(group + 1)
    ]  # fmt: skip
    ratio = numpy.logaddexp.reduce(terms, axis=0)
    logs = -(x**2) / (2 * noise**2) + (order if forward else 1 - order) * ratio
    total = float(numpy.logaddexp.reduce(logs)) + math.log(x[1] - x[0]) - 0.5 * math.log(2 * math.pi * noise**2)
    return total / (order - 1)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0, 8.0])
def test_single_units_agree_with_opacus(rate: float, noise: float) -> None:
    """At integer orders the divergence is that of opacus' RDP accountant."""
    analysis = pytest.importorskip("opacus.accountants.analysis.rdp")
    orders = [2, 3, 4, 5, 8, 16, 32, 64, 128]
    theirs = analysis.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=orders)

    for order, expected in zip(orders, theirs, strict=True):
        ours = accountant.rdp_forward(sample_rate=rate, noise_multiplier=noise, order=order)
        assert ours == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.filterwarnings("ignore:Optimal order is the largest alpha")
@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.1, 4.0, 60), (0.02, 1.2, 400), (0.3, 6.0, 100)])
def test_the_bound_is_above_what_numerical_composition_finds(rate: float, noise: float, steps: int) -> None:
    """Our epsilon is not below opacus' PRV epsilon less that method's own error."""
    prv = pytest.importorskip("opacus.accountants.prv")
    found = prv.PRVAccountant()
    found.history = [(noise, rate, steps)]
    error = 0.01
    ours = accountant.epsilon(sample_rate=rate, noise_multiplier=noise, steps=steps, delta=1e-5)

    assert ours.epsilon >= found.get_epsilon(delta=1e-5, eps_error=error) - error


def theirs(accountant_: Any, event: Any, steps: int, delta: float) -> float:  # noqa: ANN401 - an untyped library
    """The epsilon of one of dp-accounting's accountants for an event repeated `steps` times."""
    event_module = pytest.importorskip("dp_accounting")
    return float(accountant_.compose(event_module.SelfComposedDpEvent(event, steps)).get_epsilon(delta))


def sampled(rate: float, noise: float) -> Any:  # noqa: ANN401 - an untyped library
    """A round of DP training in dp-accounting's words."""
    event = pytest.importorskip("dp_accounting")
    return event.PoissonSampledDpEvent(rate, event.GaussianDpEvent(noise))


@pytest.mark.parametrize(("rate", "noise", "steps", "delta"), SINGLE)
def test_the_bound_lies_between_the_two_of_dp_accounting(rate: float, noise: float, steps: int, delta: float) -> None:
    """Not below the tight composition of privacy loss, not above that library's Renyi bound at the order it took."""
    tight = pytest.importorskip("dp_accounting.pld.pld_privacy_accountant")
    renyi = pytest.importorskip("dp_accounting.rdp.rdp_privacy_accountant")
    ours = accountant.epsilon(sample_rate=rate, noise_multiplier=noise, steps=steps, delta=delta)
    below = theirs(tight.PLDAccountant(value_discretization_interval=1e-3), sampled(rate, noise), steps, delta)
    above = theirs(renyi.RdpAccountant(orders=[ours.order]), sampled(rate, noise), steps, delta)

    assert below <= ours.epsilon <= above * (1 + 1e-6)


@pytest.mark.parametrize(("rate", "noise", "steps", "delta"), SINGLE)
def test_the_bound_wastes_less_than_a_hundredth_of_the_usual_one(
    rate: float, noise: float, steps: int, delta: float
) -> None:
    """Their accountant tries orders that lie between ours, and is lower by 1 % at most."""
    renyi = pytest.importorskip("dp_accounting.rdp.rdp_privacy_accountant")
    ours = accountant.epsilon(sample_rate=rate, noise_multiplier=noise, steps=steps, delta=delta).epsilon
    orders = [*(k / 5 for k in range(10, 55)), *range(11, 64)]  # below 2 its series does not always converge
    usual = theirs(renyi.RdpAccountant(orders=orders), sampled(rate, noise), steps, delta)

    assert ours <= 1.01 * usual


@pytest.mark.parametrize(("rate", "noise", "steps", "delta", "group"), GROUPS)
def test_groups_are_not_below_the_tight_composition(
    rate: float, noise: float, steps: int, delta: float, group: int
) -> None:
    """A group of k is a mixture of Gaussians, which dp-accounting composes without loss."""
    event = pytest.importorskip("dp_accounting.dp_event")
    tight = pytest.importorskip("dp_accounting.pld.pld_privacy_accountant")
    chances = [math.comb(group, j) * rate**j * (1 - rate) ** (group - j) for j in range(group + 1)]
    mixture = event.MixtureOfGaussiansDpEvent(noise, list(range(group + 1)), chances)
    ours = accountant.epsilon(sample_rate=rate, noise_multiplier=noise, steps=steps, delta=delta, group=group).epsilon
    found = theirs(tight.PLDAccountant(value_discretization_interval=1e-2), mixture, steps, delta)

    assert found <= ours <= 1.5 * found


@given(noises, st.integers(2, 40), st.integers(1, 8))
def test_without_sampling_it_is_the_gaussian_mechanism(noise: float, order: int, group: int) -> None:
    """At sampling rate 1 both directions are a k^2 / (2 sigma^2) exactly."""
    expected = order * group**2 / (2 * noise**2)

    for direction in (accountant.rdp_forward, accountant.rdp_reverse):
        found = direction(sample_rate=1, noise_multiplier=noise, order=order, group=group)
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("rate", "noise", "group", "order"),
    [(0.1, 4.0, 16, 3), (0.3, 1.0, 4, 7), (0.9, 1.0, 4, 3), (0.01, 2.0, 16, 12), (0.99, 0.5, 8, 2), (0.5, 3.0, 2, 9)],
)
def test_groups_agree_with_brute_force(rate: float, noise: float, group: int, order: int) -> None:
    """Exact convolution and quadrature give what a direct integral of the definition gives, both ways."""
    both = {"sample_rate": rate, "noise_multiplier": noise}
    forward = accountant.rdp_forward(**both, order=order, group=group)
    reverse = accountant.rdp_reverse(**both, order=order, group=group)

    assert forward == pytest.approx(brute_force(rate, noise, order, group, forward=True), rel=1e-8)
    assert reverse == pytest.approx(brute_force(rate, noise, order, group, forward=False), rel=1e-8)


@pytest.mark.parametrize("order", [1.0625, 1.5, 2.75, 7.5])
def test_orders_between_integers_agree_with_brute_force(order: float) -> None:
    """The quadrature of the forward direction is right at fractional orders, for small and large groups."""
    for rate, noise, group in ((0.1, 4.0, 16), (0.3, 1.0, 2), (0.02, 1.0, 1)):
        step = accountant._Step(sample_rate=rate, noise_multiplier=noise, group=group)
        expected = brute_force(rate, noise, order, group, forward=True)

        assert step.forward_between(order) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@given(rates, noises, st.integers(1, 12), st.integers(2, 6))
def test_what_is_taken_is_never_below_either_direction(rate: float, noise: float, group: int, order: int) -> None:
    """The divergence used is at least both directions, also where a ceiling stands in for an integral."""
    step = accountant._Step(sample_rate=rate, noise_multiplier=noise, group=group)
    forward = accountant.rdp_forward(sample_rate=rate, noise_multiplier=noise, order=order, group=group)
    reverse = step.reverse(order)
    taken = step.larger(order, forward)

    assert taken >= forward
    assert taken >= reverse * (1 - 1e-9) - 1e-9


@settings(max_examples=25)
@given(st.floats(0.01, 1.0), st.floats(1.0, 10.0), st.integers(1, 200), st.integers(1, 8))
def test_more_deletions_never_cost_less(rate: float, noise: float, steps: int, group: int) -> None:
    """Epsilon grows with the group, and with the number of steps."""

    def epsilon(steps: int, group: int) -> float:
        return accountant.epsilon(
            sample_rate=rate, noise_multiplier=noise, steps=steps, delta=1e-5, group=group
        ).epsilon

    assert epsilon(steps, group) <= epsilon(steps, group + 1) + 1e-9
    assert epsilon(steps, group) <= epsilon(steps + 1, group) + 1e-9


@pytest.mark.parametrize(
    ("group", "epsilon"),
    [(1, 0.8316118994788297), (3, 2.7898970748), (8, 8.666160040955663), (16, 20.557974390901393)],
)
def test_golden_epsilons(group: int, epsilon: float) -> None:
    """The bounds that reports state stay what they are: a change here is a decision."""
    found = accountant.epsilon(sample_rate=0.1, noise_multiplier=4, steps=60, delta=1e-5, group=group)

    assert found.epsilon == pytest.approx(epsilon, rel=1e-9)


@pytest.mark.parametrize(("target", "group"), [(0.5, 1), (8.0, 1), (8.0, 16), (50.0, 4)])
def test_the_noise_for_an_epsilon_reaches_it_and_wastes_little(target: float, group: int) -> None:
    """The noise multiplier found gives an epsilon at the target or just below it."""
    noise = accountant.noise_multiplier_for(target_epsilon=target, sample_rate=0.1, steps=60, delta=1e-5, group=group)
    reached = accountant.epsilon(sample_rate=0.1, noise_multiplier=noise, steps=60, delta=1e-5, group=group)

    assert 0.995 * target <= reached.epsilon <= target


def test_groups_are_accounted_for_quickly() -> None:
    """Sixteen units over sixty steps take well under two seconds, and so does the largest group that is accepted."""
    for group, noise in ((16, 4.0), (accountant.LARGEST_GROUP, 4.0)):
        start = time.perf_counter()
        accountant.epsilon(sample_rate=0.1, noise_multiplier=noise, steps=60, delta=1e-5, group=group)
        assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    "changes",
    [
        {"sample_rate": 0.0},
        {"sample_rate": 1.1},
        {"sample_rate": math.nan},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": math.nan},
        {"noise_multiplier": math.inf},
        {"steps": 0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"group": 0},
        {"group": accountant.LARGEST_GROUP + 1},
    ],
)
def test_settings_without_meaning_are_refused(changes: dict[str, float]) -> None:
    """No noise, no sampling, no delta and groups beyond the limit have no epsilon."""
    good: dict[str, float] = {"sample_rate": 0.1, "noise_multiplier": 1.0, "steps": 10, "delta": 1e-5}

    with pytest.raises(ValueError, match=r"\."):
        accountant.epsilon(**(good | changes))  # type: ignore[arg-type]
