"""Attacks on made-up statistics whose truth is known, and on some where there is nothing to find."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from engine.errors import EngineError
from engine.verification.privacy import lira, rmia, signals, unlearnt
from engine.verification.privacy.shadows import IN, OUT, UNLEARNT, Bools, Shadows, keep_matrix, three_ways
from engine.verification.statistics import Floats, auc

EXAMPLES = 400
NAMES = tuple(f"unit-{i}" for i in range(EXAMPLES))


def world(*, shift: float, spread: float, shadows: int = 16, seed: int = 0) -> tuple[Floats, Bools, Shadows]:
    """Statistics phi = difficulty + shift if in + noise: of a target, who is in it, and of shadows."""
    generator = np.random.default_rng(seed)
    keep = keep_matrix(NAMES, shadows=shadows + 2, seed=seed)
    difficulty = spread * generator.normal(size=EXAMPLES)
    phi = difficulty + shift * keep + generator.normal(size=keep.shape)
    return phi[0], keep[0], Shadows(statistic=phi[2:], inside=keep[2:], outside=~keep[2:])


def found(score: Floats, inside: Bools) -> float:
    """AUC of an attack."""
    return auc(score[~inside], score[inside])


def test_the_margin_is_the_logit_of_the_probability() -> None:
    """Golden: probabilities .7, .2, .1; and the confidence is their logarithm."""
    logits = np.log([[0.7, 0.2, 0.1]] * 3) + 5
    labels = np.arange(3)
    np.testing.assert_allclose(signals.margin(logits, labels), np.log([0.7 / 0.3, 0.2 / 0.8, 0.1 / 0.9]))
    np.testing.assert_allclose(signals.log_prob(logits, labels), np.log([0.7, 0.2, 0.1]))


def test_the_margin_is_finite_where_a_probability_has_been_rounded_to_one() -> None:
    """Logits a thousand apart have a margin of a thousand."""
    assert signals.margin([[1000.0, 0.0]], np.array([0]))[0] == 1000
    assert signals.log_odds([0.0])[0] == math.inf


@given(st.floats(-50, -1e-6))
def test_log_odds_agree_with_two_classes(log_prob: float) -> None:
    """Of one class with this probability against another with the rest."""
    logits = [[log_prob, math.log(-math.expm1(log_prob))]]
    expected = signals.margin(logits, np.array([0]))[0]
    assert signals.log_odds([log_prob])[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("logits", "labels"), [([[1.0, 2.0]], [2]), ([[1.0]], [0]), ([[1.0, 2.0]], [0, 1])])
def test_logits_without_their_labels_are_refused(logits: list[list[float]], labels: list[int]) -> None:
    """A label that is no class, a single class, or too many labels."""
    with pytest.raises(EngineError):
        signals.margin(logits, np.array(labels))


def test_a_probability_above_one_is_refused() -> None:
    """Its logarithm would be above 0."""
    with pytest.raises(EngineError):
        signals.log_odds([0.1])


def test_each_pair_of_shadows_splits_the_units_in_two() -> None:
    """So half of the models hold each unit exactly, half of the units is in each model about, and seeds differ."""
    keep = keep_matrix(NAMES, shadows=40, seed=3)
    assert keep.shape == (40, EXAMPLES)
    assert (keep.sum(0) == 20).all()
    assert (keep[0::2] != keep[1::2]).all()
    assert (np.abs(keep.mean(1) - 0.5) < 4 * 0.5 / math.sqrt(EXAMPLES)).all()
    assert not np.array_equal(keep, keep_matrix(NAMES, shadows=40, seed=4))


def test_everything_of_a_person_is_in_a_model_or_nothing() -> None:
    """Coins are tossed for units."""
    units = ["a", "b", "a", "c", "b", "a"]
    for table in (keep_matrix(units, shadows=8, seed=0), three_ways(units, shadows=9, seed=0)):
        assert (table[:, [0, 0, 1]] == table[:, [2, 5, 4]]).all()


def test_each_unit_is_out_in_and_unlearnt_in_a_third_of_the_models() -> None:
    """Exactly, and each model has about a third of each."""
    roles = three_ways(NAMES, shadows=30, seed=0)
    for role in (OUT, IN, UNLEARNT):
        assert ((roles == role).sum(0) == 10).all()
        assert (np.abs((roles == role).mean(1) - 1 / 3) < 0.1).all()


@pytest.mark.parametrize("shadows", [0, 3])
def test_shadows_come_in_pairs_and_in_threes(shadows: int) -> None:
    """Other numbers are refused."""
    with pytest.raises(EngineError):
        keep_matrix(NAMES, shadows=shadows, seed=0)
    with pytest.raises(EngineError):
        three_ways(NAMES, shadows=shadows + 1, seed=0)


def test_an_example_cannot_be_in_and_out() -> None:
    """Nor may tables have several shapes."""
    yes = np.ones((2, 3), dtype=np.bool_)
    with pytest.raises(EngineError):
        Shadows(statistic=np.zeros((2, 3)), inside=yes, outside=yes)
    with pytest.raises(EngineError):
        Shadows(statistic=np.zeros((2, 2)), inside=yes, outside=~yes)


@pytest.mark.parametrize("attack", [lira.online, lira.offline])
def test_lira_finds_what_the_normal_distributions_hold(attack: Callable[[Floats, Shadows], Floats]) -> None:
    """With many shadows its AUC is that of two normal distributions a shift apart, Phi(shift / sqrt 2)."""
    target, inside, shadows = world(shift=1.5, spread=5.0, shadows=200)
    assert found(attack(target, shadows), inside) == pytest.approx(stats.norm.cdf(1.5 / math.sqrt(2)), abs=0.05)


@pytest.mark.parametrize("shadows", [4, 16, 80])
@pytest.mark.parametrize("attack", [lira.online, lira.offline])
def test_lira_beats_one_threshold_where_examples_differ(
    attack: Callable[[Floats, Shadows], Floats], shadows: int
) -> None:
    """Easy examples look like members to a population attack, also with few shadows and below 64 variances."""
    target, inside, shadow = world(shift=1.5, spread=5.0, shadows=shadows)
    assert found(attack(target, shadow), inside) > found(target, inside) + 0.1


def test_lira_is_the_ratio_of_two_fitted_normal_densities() -> None:
    """Golden by scipy, from 64 shadows on with each example's own variances."""
    target, _, shadows = world(shift=1.0, spread=1.0, shadows=64)
    expected = []
    for j in range(3):
        sides = [shadows.statistic[mask[:, j], j] for mask in (shadows.inside, shadows.outside)]
        logs = [stats.norm.logpdf(target[j], side.mean(), side.std(ddof=1)) for side in sides]
        expected.append(logs[0] - logs[1])
    np.testing.assert_allclose(lira.online(target, shadows)[:3], expected)


def test_below_64_shadows_the_variance_is_pooled_within_examples() -> None:
    """How much examples differ among themselves does not enter it: the offline score keeps a spread of about one."""
    target, inside, shadows = world(shift=0.0, spread=100.0, shadows=20)
    assert lira.offline(target, shadows)[~inside].std() == pytest.approx(math.sqrt(1 + 1 / 10), abs=0.15)


def test_an_example_without_models_on_one_side_gets_the_shift_of_the_others() -> None:
    """Its score stays comparable: where the shift is known exactly, it is that of a complete example."""
    statistic = np.array([[1.0, 1.0, 1.0], [1.2, 1.2, 1.2], [3.0, 3.0, 1.2], [3.2, 3.2, 1.0]])
    inside = np.array([[False] * 3, [False] * 3, [True, True, False], [True, True, False]])
    score = lira.online(np.full(3, 2.0), Shadows(statistic=statistic, inside=inside, outside=~inside))
    assert score[2] == pytest.approx(score[0])


def test_what_cannot_be_fitted_has_no_score() -> None:
    """Models that all agree, one side empty everywhere, or a statistic that is not a number."""
    flat = np.ones((4, 2))
    inside = np.array([[True] * 2, [True] * 2, [False] * 2, [False] * 2])
    target = np.zeros(2)
    assert np.isnan(lira.online(target, Shadows(statistic=flat, inside=inside, outside=~inside))).all()
    assert np.isnan(lira.offline(target, Shadows(statistic=flat, inside=inside, outside=~inside))).all()
    varied = np.random.default_rng(0).normal(size=(4, 2))
    assert np.isnan(lira.online(target, Shadows(statistic=varied, inside=inside, outside=inside & ~inside))).all()
    varied[0, 0] = np.nan
    assert np.isnan(lira.online(target, Shadows(statistic=varied, inside=inside, outside=~inside))).all()


def probabilities(*, shift: float, shadows: int, seed: int = 0) -> tuple[Floats, Bools, Floats, rmia.References]:
    """Log-probabilities of the world above, with 300 strangers: target, who is in it, its strangers, references."""
    generator = np.random.default_rng(seed)
    keep = keep_matrix(NAMES, shadows=shadows + 2, seed=seed)
    phi = 2 * generator.normal(size=EXAMPLES) + shift * keep + generator.normal(size=keep.shape)
    other = 2 * generator.normal(size=300) + generator.normal(size=(len(keep), 300))
    log_p, log_z = (-np.logaddexp(0, -values) for values in (phi, other))
    return log_p[0], keep[0], log_z[0], rmia.References(log_probs=log_p[2:], inside=keep[2:], strangers=log_z[2:])


def test_rmia_is_its_formula() -> None:
    """Golden by hand: two models, one example out of the second, two strangers, slope .5, gamma 1 and 2."""
    references = rmia.References(
        log_probs=np.log([[0.9], [0.4]]),
        inside=np.array([[True], [False]]),
        strangers=np.log([[0.2, 0.6], [0.4, 0.4]]),
    )
    target, strangers = np.log([0.6]), np.log([0.3, 0.45])
    p_x = (1.5 * 0.4 + 0.5) / 2
    p_z = (1.5 * 0.3 + 0.5) / 2, (1.5 * 0.5 + 0.5) / 2
    for gamma in (1.0, 1.6):
        expected = np.mean([0.6 / p_x / (0.3 / p_z[0]) > gamma, 0.6 / p_x / (0.45 / p_z[1]) > gamma])
        assert rmia.offline(target, strangers, references, slope=0.5, gamma=gamma)[0] == expected


def test_rmia_beats_one_threshold_with_two_models() -> None:
    """A single pair of references, which leaves each example out once."""
    target, inside, strangers, references = probabilities(shift=2.0, shadows=2)
    score = rmia.offline(target, strangers, references, slope=0.3)
    assert found(score, inside) > found(target, inside) + 0.05
    assert ((score >= 0) & (score <= 1)).all()


def test_the_slope_is_chosen_on_a_model_that_is_not_audited() -> None:
    """On the grid, and the attack with it finds more than with the worst of the grid."""
    target, inside, strangers, references = probabilities(shift=2.0, shadows=6)
    slope = rmia.choose_slope(references)
    assert slope in rmia.SLOPES
    aucs = [found(rmia.offline(target, strangers, references, slope=a), inside) for a in rmia.SLOPES]
    assert aucs[rmia.SLOPES.index(slope)] > min(aucs)
    with pytest.raises(EngineError, match="another pair"):
        rmia.choose_slope(probabilities(shift=2.0, shadows=2)[3])


def test_rmia_without_a_reference_has_no_score() -> None:
    """An example that every reference was trained on, and strangers that are not numbers."""
    target, _, strangers, references = probabilities(shift=1.0, shadows=2)
    inside = references.inside.copy()
    inside[:, 0] = True
    full = rmia.References(log_probs=references.log_probs, inside=inside, strangers=references.strangers)
    score = rmia.offline(target, strangers, full, slope=0.5)
    assert np.isnan(score[0])
    assert np.isfinite(score[1:]).all()
    assert np.isnan(rmia.offline(target, np.full(300, np.nan), references, slope=0.5)).all()


@pytest.mark.parametrize(("slope", "gamma"), [(-0.1, 1.0), (1.1, 1.0), (0.5, 0.0), (0.5, math.nan)])
def test_rmia_refuses_what_its_formula_does_not_know(slope: float, gamma: float) -> None:
    """A slope outside [0, 1], or a gamma that is not above 0."""
    target, _, strangers, references = probabilities(shift=1.0, shadows=2)
    with pytest.raises(EngineError):
        rmia.offline(target, strangers, references, slope=slope, gamma=gamma)


UnlearningAttack = Callable[[Floats, Floats, np.ndarray], Floats]


def unlearning(*, trace: float, seed: int = 0) -> tuple[Floats, Bools, Floats, np.ndarray]:
    """A target after unlearning that left a trace on the statistic: it, who was forgotten, shadows and their roles."""
    generator = np.random.default_rng(seed)
    roles = three_ways(NAMES, shadows=30, seed=seed)
    after = 5 * generator.normal(size=EXAMPLES) + generator.normal(size=(31, EXAMPLES))
    forgotten = generator.random(EXAMPLES) < 0.5
    after += np.vstack([forgotten, roles == UNLEARNT]) * trace + np.vstack([forgotten * 0, roles == IN]) * 3
    return after[0], forgotten, after[1:], roles


@pytest.mark.parametrize("attack", [unlearnt.u_lira, unlearnt.ruli])
def test_traces_of_unlearning_are_found_example_by_example(attack: UnlearningAttack) -> None:
    """Also one of over-forgetting, below what a model that never saw the example says; not where there is none."""
    for trace in (1.5, -1.5):
        target, forgotten, shadows, roles = unlearning(trace=trace)
        assert found(attack(target, shadows, roles), forgotten) > 0.75
    target, forgotten, shadows, roles = unlearning(trace=0.0)
    assert found(attack(target, shadows, roles), forgotten) == pytest.approx(0.5, abs=0.08)


def test_ruli_is_the_ratio_of_two_kernel_densities() -> None:
    """Golden by scikit-learn's kernel density of bandwidth 1."""
    neighbours = pytest.importorskip("sklearn.neighbors")
    target, _, shadows, roles = unlearning(trace=1.0)
    for attack, one in ((unlearnt.ruli, UNLEARNT), (unlearnt.ruli_reference, IN)):
        logs = []
        for role in (one, OUT):
            kernel = neighbours.KernelDensity(bandwidth=1.0).fit(shadows[roles[:, 0] == role, :1])
            logs.append(kernel.score_samples([[target[0]]])[0])
        assert attack(target, shadows, roles)[0] == pytest.approx(logs[0] - logs[1])


def test_ruli_needs_a_kernel_and_models_of_both_kinds() -> None:
    """A bandwidth of 0 is refused, and an example that was never left out has no score."""
    target, _, shadows, roles = unlearning(trace=1.0)
    with pytest.raises(EngineError):
        unlearnt.ruli(target, shadows, roles, bandwidth=0)
    roles[:, 0] = UNLEARNT
    assert np.isnan(unlearnt.ruli(target, shadows, roles)[0])


ATTACKS: tuple[Callable[[Floats, Shadows], Floats], ...] = (
    lira.online,
    lira.offline,
    lambda target, shadows: unlearnt.u_lira(
        target, shadows.statistic, np.where(shadows.inside, UNLEARNT, OUT).astype(np.int8)
    ),
    lambda target, shadows: rmia.offline(
        -np.logaddexp(0, -target),
        np.full(20, -1.0),
        rmia.References(
            log_probs=-np.logaddexp(0, -shadows.statistic),
            inside=shadows.inside,
            strangers=-1 - np.arange(20) / 20 + np.zeros((len(shadows.statistic), 1)),
        ),
        slope=0.5,
    ),
)


@settings(max_examples=20)
@given(st.permutations(range(12)), st.integers(0, 5))
def test_the_order_of_the_examples_does_not_matter(order: list[int], seed: int) -> None:
    """Every attack's scores move with their examples."""
    target, _, shadows = world(shift=1.0, spread=1.0, seed=seed)
    some = Shadows(statistic=shadows.statistic[:, :12], inside=shadows.inside[:, :12], outside=shadows.outside[:, :12])
    moved = Shadows(statistic=some.statistic[:, order], inside=some.inside[:, order], outside=some.outside[:, order])
    for attack in ATTACKS:
        np.testing.assert_allclose(attack(target[:12][order], moved), attack(target[:12], some)[order])


@pytest.mark.parametrize("attack", ATTACKS, ids=["online", "offline", "u-lira", "rmia"])
def test_targets_and_shadows_are_asked_about_the_same_examples(attack: Callable[[Floats, Shadows], Floats]) -> None:
    """Another number of them is refused."""
    target, _, shadows = world(shift=1.0, spread=1.0)
    with pytest.raises(EngineError):
        attack(target[1:], shadows)
