"""Langevin unlearning: every row is clipped, every step projected and noised, and its settings are the theorem's."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from engine.errors import EngineError
from engine.heads.langevin import Settings, clipped_mean, learn, projected, unlearn
from engine.heads.rows import Vector
from tests.engine import heads

SETTINGS = Settings(lam=0.05, clip=0.4, rate=1.0, sigma=0.05, radius=2.0, burn_in=60)


@given(st.integers(0, 300), st.floats(0.01, 2.0))
def test_every_row_is_clipped(seed: int, clip: float) -> None:
    """The mean is that of the rows' gradients cut one by one, over the rows that are present."""
    rows = heads.made(15, 3, seed=seed).without(np.array([4, 9]))
    w = 3 * np.random.default_rng(seed).standard_normal(3)
    cut = []
    for x, y in zip(rows.x, rows.y, strict=True):
        gradient = -y * expit(-y * (x @ w)) * x
        cut.append(gradient * min(1.0, clip / max(float(np.linalg.norm(gradient)), 1e-300)))

    assert max(np.linalg.norm(one) for one in cut) <= clip * (1 + 1e-12)
    assert clipped_mean(rows, w, clip=clip) == pytest.approx(np.sum(cut, axis=0) / 13, abs=1e-14)


@given(st.integers(0, 300), st.integers(1, 6), st.floats(0.05, 2.0))
def test_forgetting_moves_the_mean_by_less_than_the_theorem_allows(seed: int, gone: int, clip: float) -> None:
    """At most 2 k M / n, whatever the weights."""
    rows = heads.made(12, 3, seed=seed)
    left = rows.without(np.arange(2, 2 + gone))
    w = 5 * np.random.default_rng(seed).standard_normal(3)
    moved = np.linalg.norm(clipped_mean(rows, w, clip=clip) - clipped_mean(left, w, clip=clip))

    assert moved <= 2 * gone * clip / 12 + 1e-12


@given(st.integers(0, 300), st.floats(0.05, 1.0), st.floats(0.1, 3.0))
def test_two_chains_with_the_same_noise_contract(seed: int, clip: float, scale: float) -> None:
    """A clipped step brings two points closer by 1 - eta m at least: the clipped loss is still convex and smooth."""
    rows = heads.made(15, 3, seed=seed)
    rng = np.random.default_rng(seed)
    one, other = scale * rng.standard_normal((2, 3))
    stepped = [w - SETTINGS.rate * (clipped_mean(rows, w, clip=clip) + SETTINGS.lam * w) for w in (one, other)]
    apart = np.linalg.norm(one - other)

    assert np.linalg.norm(stepped[0] - stepped[1]) <= (1 - SETTINGS.rate * SETTINGS.convexity) * apart + 1e-12


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=5), st.floats(0.1, 5.0))
def test_projection_keeps_what_is_inside_and_shortens_what_is_not(w: list[float], radius: float) -> None:
    """The nearest point of the ball."""
    v = np.array(w)
    inside = projected(v, radius=radius)

    assert np.linalg.norm(inside) <= radius * (1 + 1e-12)
    if np.linalg.norm(v) <= radius:
        assert np.array_equal(inside, v)


def test_the_chain_is_projected_in_every_step() -> None:
    """With a small ball and large noise, weights never leave it."""
    tight = dataclasses.replace(SETTINGS, radius=0.1, sigma=3.0, burn_in=1)
    chain = learn(heads.made(), tight, heads.noise())
    for i in range(2, 12):
        chain, _ = unlearn(chain, [i], steps=1, noise=heads.noise())

        assert np.linalg.norm(chain.published.weights) == pytest.approx(0.1)


def test_every_step_has_noise_of_its_own_and_of_the_right_size() -> None:
    """Rounds are counted through learning and forgetting, and a step adds sqrt(2 eta) sigma z."""
    asked: list[int] = []

    def source(*, round_: int, count: int) -> Vector:
        asked.append(round_)
        return np.full(count, 0.0 if round_ < 60 else 1.0)

    chain = learn(heads.made(), SETTINGS, source)
    after, record = unlearn(chain, [3], steps=1, noise=source)
    w = chain.published.weights
    drift = clipped_mean(after.rows, w, clip=0.4) + 0.05 * w

    assert asked == list(range(61))
    assert after.published.weights == pytest.approx(w - drift + math.sqrt(2) * 0.05)
    assert (record.steps, record.rows_before, record.rows_after, record.settings) == (1, 60, 59, SETTINGS)


def test_a_chain_learns() -> None:
    """Most made-up labels are on the right side after the burn-in, and after forgetting a third of the rows."""
    rows = heads.made(200, 5)
    chain = learn(rows, SETTINGS, heads.noise())
    after, _ = unlearn(chain, range(2, 68), steps=40, noise=heads.noise())
    held = heads.made(400, 5)

    for weights in (chain.published.weights, after.published.weights):
        assert np.mean(np.sign(held.x @ weights) == held.y) > 0.8


def test_rows_that_are_gone_take_no_step() -> None:
    """A batch delivered again, or empty, leaves the chain where it was, without drawing noise."""
    chain, _ = unlearn(learn(heads.made(), SETTINGS, heads.noise()), [3], steps=2, noise=heads.noise())
    again, record = unlearn(chain, [3], steps=2, noise=heads.noise())
    empty, none = unlearn(chain, [], steps=2, noise=heads.noise())

    assert again is chain
    assert empty is chain
    assert (record.removed, record.repeated, record.steps, none.steps) == (0, 1, 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lam": 0.0},
        {"clip": 0.0},
        {"clip": math.inf},
        {"rate": 4.0},
        {"rate": math.nan},
        {"sigma": 0.0},
        {"radius": math.nan},
        {"burn_in": 0},
    ],
)
def test_settings_outside_the_theorem_are_refused(wrong: dict[str, Any]) -> None:
    """No convexity, no clip, no noise, no ball, no learning, or a step size above 1 / L."""
    with pytest.raises(EngineError):
        dataclasses.replace(SETTINGS, **wrong)


def test_forgetting_without_a_step_or_everything_is_refused() -> None:
    """K = 0 changes nothing and is no removal; two rows of both classes have to stay."""
    chain = learn(heads.made(), SETTINGS, heads.noise())

    with pytest.raises(EngineError, match="at least one step"):
        unlearn(chain, [3], steps=0, noise=heads.noise())
    with pytest.raises(EngineError, match="at least two rows"):
        unlearn(chain, range(60), steps=3, noise=heads.noise())
