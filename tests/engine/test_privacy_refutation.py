"""Every certified method over random small settings: what its own runs show never exceeds the certificate."""

import math

import numpy as np
import pytest

from audits import gaussian
from engine.catalogue import METHODS
from engine.contract import Guarantee
from tests.engine.refuters import COVERED, REFUTERS
from tests.engine.refuting import SETTINGS, SIGNIFICANCE, gaussian_bound, highest, lower_bound, lowest

# What teeth it has, tests/engine/test_rehearsal.py shows.
ENGINES_OWN = "DP training, real networks"
DRAWN = [(name, seed) for name, (_, count) in REFUTERS.items() for seed in range(count)]


@pytest.mark.parametrize(("name", "seed"), DRAWN)
def test_what_is_seen_never_exceeds_the_certificate(name: str, seed: int) -> None:
    """All settings share a significance of one in a thousand, and each could have been refuted by its runs."""
    found = REFUTERS[name][0](seed, 1.0)

    assert not found.refuted, found.told()
    assert found.ceiling > found.certified, found.told()


@pytest.mark.parametrize("name", [name for name in REFUTERS if name != ENGINES_OWN])
def test_nearly_no_noise_is_refuted(name: str) -> None:
    """With a fiftieth of the noise that is claimed, the same runs refute the same certificate."""
    found = REFUTERS[name][0](0, 0.02)

    assert found.refuted, found.told()


@pytest.mark.parametrize(("name", "seed"), [("newton-noise", 5), ("descent-noise", 3), ("langevin", 4)])
def test_where_the_bound_is_attained_more_than_half_of_it_is_seen(name: str, seed: int) -> None:
    """The worst case of these theorems is a shift of normal laws, which can be arranged and is nearly found."""
    found = REFUTERS[name][0](seed, 1.0)

    assert found.lower > found.certified / 2, found.told()


def test_the_significance_is_shared_by_all_settings() -> None:
    """Bonferroni over as many settings as there are, forty at least."""
    assert SETTINGS == len(DRAWN) >= 40
    assert SIGNIFICANCE / SETTINGS < 3e-5


def test_every_certified_method_has_a_refuter() -> None:
    """Whoever adds a certified method to the catalogue says here how it is put to the test."""
    certified = {spec.name for spec in METHODS if spec.guarantee is Guarantee.CERTIFIED}

    assert certified == set(COVERED)
    assert {name for names in COVERED.values() for name in names} <= set(REFUTERS)


def test_probabilities_are_bounded_as_clopper_and_pearson_do() -> None:
    """Golden: none of n is at most 1 - level^(1/n); 5 of 20 lies between 0.0866 and 0.4910 at 95 %, two-sided."""
    assert highest(0, 50, 0.05) == pytest.approx(1 - 0.05 ** (1 / 50))
    assert lowest(50, 50, 0.05) == pytest.approx(0.05 ** (1 / 50))
    assert lowest(5, 20, 0.025) == pytest.approx(0.0866, abs=5e-5)
    assert highest(5, 20, 0.025) == pytest.approx(0.4910, abs=5e-5)


def test_bounds_err_no_more_often_than_their_level() -> None:
    """At a level of one in five, over thirty pairs of normal samples whose epsilon is known."""
    delta, mu, wrong = 0.01, 1.5, {"direct": 0, "curve": 0}
    certified = gaussian.epsilon(delta=delta, mu=mu)
    for seed in range(30):
        inside, outside = np.random.default_rng(seed).normal(size=(2, 300)) + np.array([[mu / 2], [-mu / 2]])
        wrong["direct"] += lower_bound(inside, outside, delta=delta, level=0.2) > certified
        wrong["curve"] += gaussian_bound(inside, outside, delta=delta, level=0.2) > certified

    assert max(wrong.values()) <= 6 + 3 * math.sqrt(30 * 0.2 * 0.8)
