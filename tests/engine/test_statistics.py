"""Intervals and AUCs against hand counts, brute force and simulation."""

import math

import numpy as np
import pytest

from engine.verification.statistics import (
    Floats,
    Resampling,
    auc,
    auc_draws,
    estimate,
    expanded_tail,
    resampling,
    t_quantile,
)


def floats(*values: float) -> Floats:
    """An array."""
    return np.array(values, dtype=np.float64)


def coverage(*, clusters: int, runs: int = 300, most: int = 6, clustered: bool = True) -> float:
    """How often the interval holds the true mean 0, of people with 1 to `most` items that share half their variance."""
    rng = np.random.default_rng(5)
    owners = np.repeat(np.arange(clusters), 1 + np.arange(clusters) % most)
    units = [str(owner if clustered else i) for i, owner in enumerate(owners)]
    held = 0
    for run in range(runs):
        values = rng.normal(size=clusters)[owners] + rng.normal(size=len(owners))
        room = resampling(units, resamples=400, seed=run)
        found = estimate(float(values.mean()), room.means(values), room.n)
        assert found is not None
        held += found.ci95[0] <= 0 <= found.ci95[1]
    return held / runs


@pytest.mark.parametrize(
    ("forgotten", "holdout", "expected"),
    [
        ((1, 2, 3), (4, 5), 1.0),
        ((4, 5), (1, 2, 3), 0.0),
        ((1, 1), (1,), 0.5),
        ((1, 3), (2,), 0.5),
        ((1, 2, 2, 5), (2, 4), 5 / 8),  # 1 + 2 * .5 of four for 2, and 3 of four for 4
        ((-math.inf, 0), (0,), 0.75),
    ],
)
def test_the_auc_counts_pairs_and_half_of_the_ties(
    forgotten: tuple[float, ...], holdout: tuple[float, ...], expected: float
) -> None:
    """The AUC is the share of pairs that the second sample wins, counted by hand."""
    assert auc(floats(*forgotten), floats(*holdout)) == expected


def test_an_auc_of_nothing_is_no_number() -> None:
    """An empty sample has no AUC and gets no default."""
    assert math.isnan(auc(floats(), floats(1)))
    assert math.isnan(auc(floats(1), floats()))


def test_each_draw_of_an_auc_is_the_auc_of_the_units_drawn() -> None:
    """The fast formula equals writing every drawn person's texts out and counting."""
    rng = np.random.default_rng(1)
    low, high = rng.integers(0, 5, 7).astype(float), rng.integers(2, 7, 5).astype(float)
    left = resampling(list("aabbbcd"), resamples=40, seed=1)
    right = resampling(list("xxyzz"), resamples=40, seed=2)

    def written_out(values: Floats, room: Resampling, draw: int) -> Floats:
        return np.repeat(values, room.counts[draw].astype(int)[room.owners])

    expected = [auc(written_out(low, left, i), written_out(high, right, i)) for i in range(40)]
    assert np.allclose(auc_draws(low, high, left, right), expected)


def test_a_draw_takes_whole_units() -> None:
    """Each draw's mean is that of all items of the drawn units, and n counts units."""
    room = resampling(["a", "b", "a", "a"], resamples=50, seed=3)
    assert room.n == 2
    assert set(np.round(room.means(floats(0, 4, 0, 0)), 6)) <= {0.0, 1.0, 4.0}
    assert (room.counts.sum(axis=1) == 2).all()


def test_a_single_unit_is_taken_apart_into_its_items() -> None:
    """One person's items are resampled, and n still says 1."""
    room = resampling(["a"] * 40, resamples=2000, seed=3)
    found = estimate(0.5, room.means(floats(*([0.0, 1.0] * 20))), room.n)
    assert found is not None
    assert found.n == 1
    assert found.ci95[0] == pytest.approx(0.5 - 1.96 * 0.5 / math.sqrt(40), abs=0.04)
    assert found.ci95[1] == pytest.approx(0.5 + 1.96 * 0.5 / math.sqrt(40), abs=0.04)


def test_draws_are_a_function_of_the_seed() -> None:
    """The same seed draws the same units, another draws others."""
    first, second, other = (resampling(list("abcdef"), resamples=20, seed=seed).counts for seed in (1, 1, 2))
    assert (first == second).all()
    assert (first != other).any()


def test_the_mean_is_weighted_by_items_and_not_by_units() -> None:
    """A person with more items counts as often as there are items, as in the published means."""
    room = resampling(["a", "a", "a", "b"], resamples=10, seed=1)
    assert room.sums(floats(1, 1, 1, 5)).tolist() == [3.0, 5.0]
    assert room.sizes().tolist() == [3.0, 1.0]


@pytest.mark.parametrize(("clusters", "most"), [(10, 1), (12, 4), (30, 6)])
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(clusters: int, most: int) -> None:
    """From ten people on, also when they have different numbers of items."""
    assert 0.9 <= coverage(clusters=clusters, most=most) <= 0.99


def test_items_of_one_person_are_no_independent_evidence() -> None:
    """Resampling items as if they were people would claim 95 % and hold far less often."""
    assert coverage(clusters=30, clustered=False) < 0.9


def test_differences_are_paired() -> None:
    """Two models that differ by 0.1 everywhere differ surely, however much people differ from each other."""
    values = np.random.default_rng(1).normal(size=20)
    room = resampling([str(i) for i in range(20)], resamples=500, seed=1)
    found = estimate(0.1, room.means(values + 0.1) - room.means(values), room.n)
    assert found is not None
    assert found.ci95 == pytest.approx((0.1, 0.1))


def test_what_is_not_finite_is_no_estimate() -> None:
    """A value that is no number, or draws of which more than one in twenty are none, have no estimate."""
    draws = np.zeros(100)
    draws[:5] = np.nan
    assert estimate(0.0, draws, 3) is not None
    draws[:6] = np.inf
    assert estimate(0.0, draws, 3) is None
    assert estimate(math.nan, np.zeros(100), 3) is None


def test_the_interval_holds_its_value() -> None:
    """A value outside its own draws stretches the interval instead of standing beside it."""
    found = estimate(2.0, np.zeros(100), 10)
    assert found is not None
    assert found.ci95 == (0.0, 2.0)


@pytest.mark.parametrize(
    ("df", "quantile"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (4, 2.77645), (5, 2.57058), (9, 2.26216), (30, 2.04227), (999, 1.96234)],
)
def test_students_quantiles_are_those_of_the_tables(df: int, quantile: float) -> None:
    """97.5 % quantiles of Student's t to three digits."""
    assert t_quantile(0.975, df) == pytest.approx(quantile, abs=1e-3)


def test_the_tail_is_expanded_for_few_and_plain_for_many() -> None:
    """The more people, the nearer to 2.5 %; a single person's items are many and are read as they are."""
    tails = [expanded_tail(n) for n in (2, 3, 5, 10, 100, 100_000)]
    assert tails == sorted(tails)
    assert expanded_tail(1) == pytest.approx(0.025)
    assert expanded_tail(5) == pytest.approx(0.00095, abs=2e-4)
    assert expanded_tail(10) == pytest.approx(0.0086, abs=2e-4)
    assert expanded_tail(100_000) == pytest.approx(0.025, abs=1e-5)
