"""The one-run audit against the paper's numbers, scipy and coins."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import canaries


@pytest.mark.parametrize(
    ("count", "guesses", "correct", "delta", "golden"),
    [
        (1000, 1000, 600, 0.0, 0.2975),
        (1000, 1000, 600, 1e-5, 0.2972),
        (1000, 100, 100, 0.0, 3.4930),
        (1000, 100, 100, 1e-5, 3.4654),
        (1000, 100, 90, 1e-5, 1.6261),
        (100, 20, 20, 0.0, 1.8227),
        (5000, 200, 190, 1e-5, 2.3760),
        (1000, 1000, 500, 1e-5, 0.0),
        (100, 100, 75, 0.0, 0.702),
        (100, 100, 75, 1e-4, 0.699),
        (1000, 100, 75, 1e-4, 0.673),
        (100_000, 1510, 1439, 1e-5, 2.6759),
    ],
)
def test_golden_lower_bounds(count: int, guesses: int, correct: int, delta: float, golden: float) -> None:
    """The published bounds at 95 per cent."""
    found = canaries.lower_bound(canaries=count, guesses=guesses, correct=correct, delta=delta)

    assert found == pytest.approx(golden, abs=1e-3)


def test_golden_p_value() -> None:
    """75 of 100 right guesses are what epsilon ln 3 gives more often than not."""
    found = canaries.p_value(canaries=100, guesses=100, correct=75, epsilon=math.log(3), delta=0.0)

    assert found == pytest.approx(0.553, abs=1e-3)


@pytest.mark.parametrize(("count", "guesses", "golden"), [(1000, 1000, 5.78), (200, 200, 4.19), (200, 50, 2.78)])
def test_golden_ceilings(count: int, guesses: int, golden: float) -> None:
    """What an audit of this size can see at most."""
    assert canaries.ceiling(canaries=count, guesses=guesses, delta=1e-5) == pytest.approx(golden, abs=1e-2)


@given(
    st.integers(1, 400),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 8.0),
    st.sampled_from([0.0, 1e-5, 0.01]),
)
def test_p_values_agree_with_scipy(count: int, share: float, right: float, epsilon: float, delta: float) -> None:
    """The sums and the early stops give what the whole binomial distribution gives."""
    numpy, special = pytest.importorskip("numpy"), pytest.importorskip("scipy.special")
    guesses = max(1, round(count * share))
    correct = round(guesses * right)
    chance = 1 / (1 + math.exp(-epsilon))
    k = numpy.arange(correct - 1, -1, -1)
    ways = special.gammaln(guesses + 1) - special.gammaln(k + 1) - special.gammaln(guesses - k + 1)
    masses = numpy.exp(ways + k * math.log(chance) + (guesses - k) * math.log1p(-chance))
    steepest = max(numpy.cumsum(masses) / numpy.arange(1, correct + 1), default=0.0)
    tail = float(special.bdtrc(correct - 1, guesses, chance)) if correct else 1.0
    expected = min(1.0, tail + 2 * count * delta * steepest)
    found = canaries.p_value(canaries=count, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta)

    assert found == pytest.approx(expected, rel=1e-7)


def test_randomised_response_is_not_refuted_too_often() -> None:
    """Coins answered with exactly epsilon 1 are refuted at epsilon 1 in at most about 5 per cent of the audits."""
    numpy = pytest.importorskip("numpy")
    right = numpy.random.default_rng(3).binomial(200, 1 / (1 + math.exp(-1)), size=4000)
    p_values = {
        v: canaries.p_value(canaries=200, guesses=200, correct=v, epsilon=1.0, delta=0.0) for v in set(right.tolist())
    }
    refuted = sum(p_values[v] < 0.05 for v in right.tolist()) / 4000

    assert 0.02 < refuted < 0.06


@given(st.integers(1, 2000), st.floats(0.0, 1.0), st.sampled_from([0.0, 1e-6, 1e-3]))
def test_bounds_grow_with_right_guesses_and_stay_below_the_ceiling(count: int, right: float, delta: float) -> None:
    """One more right guess never lowers the bound, and no number of them passes the ceiling."""
    correct = math.floor((count - 1) * right)
    here, more = (
        canaries.lower_bound(canaries=count, guesses=count, correct=v, delta=delta) for v in (correct, correct + 1)
    )

    assert here <= more + 1e-5
    assert more <= canaries.ceiling(canaries=count, guesses=count, delta=delta) + 1e-5


@given(st.integers(1, 500), st.floats(0.0, 1.0))
def test_what_is_stated_is_refuted(guesses: int, right: float) -> None:
    """The bound is rounded down: its own p-value lies below the significance."""
    correct = round(guesses * right)
    found = canaries.lower_bound(canaries=500, guesses=guesses, correct=correct, delta=1e-5, significance=0.01)

    if found > 0:
        p = canaries.p_value(canaries=500, guesses=guesses, correct=correct, epsilon=found, delta=1e-5)
        assert p < 0.01


def test_tries_are_paid_for() -> None:
    """Ten thresholds tried cost as much as a tenth of the significance."""
    settings = {"canaries": 1000, "guesses": 100, "correct": 90, "delta": 1e-5}
    tried = canaries.lower_bound(**settings, tries=10)  # type: ignore[arg-type]

    assert tried == canaries.lower_bound(**settings, significance=0.005)  # type: ignore[arg-type]
    assert tried < canaries.lower_bound(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("correct", [50_000, 60_000, 99_000, 100_000])
def test_a_hundred_thousand_canaries_are_quick(correct: int) -> None:
    """An audit of a hundred thousand guesses takes well below a second, and as a rule below 50 ms."""
    start = time.perf_counter()
    canaries.lower_bound(canaries=100_000, guesses=100_000, correct=correct, delta=1e-7)

    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {"canaries": 0},
        {"canaries": canaries.LARGEST + 1},
        {"guesses": 0},
        {"guesses": 101},
        {"correct": -1},
        {"correct": 51},
        {"epsilon": -1.0},
        {"epsilon": math.nan},
        {"epsilon": math.inf},
        {"delta": -1e-9},
        {"delta": 1.0},
        {"delta": math.nan},
    ],
)
def test_counts_without_meaning_are_refused(changes: dict[str, float]) -> None:
    """More right guesses than guesses, more guesses than canaries and numbers that are none have no p-value."""
    good: dict[str, float] = {"canaries": 100, "guesses": 50, "correct": 40, "epsilon": 1.0, "delta": 1e-5}

    with pytest.raises(ValueError, match=r"\.$"):
        canaries.p_value(**(good | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{"significance": 0.0}, {"significance": 1.0}, {"significance": math.nan}, {"tries": 0}]
)
def test_significance_without_meaning_is_refused(changes: dict[str, float]) -> None:
    """A level lies between 0 and 1, and there was at least one try."""
    with pytest.raises(ValueError, match=r"\.$"):
        canaries.lower_bound(canaries=10, guesses=10, correct=9, delta=0.0, **changes)  # type: ignore[arg-type]
