"""Descent-to-Delete: constants by proof, contraction, the two states, and what never leaves."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.heads.constants import constants
from engine.heads.descent import Terms, delete, delete_open, descend, learn, learn_open, open_steps, publish
from engine.heads.logistic import fit
from engine.heads.rows import Rows, Vector
from engine.heads.weights import Internal, Published, noised
from engine.methods.secret import gaussians
from tests.engine import heads

TERMS = Terms(lam=0.05, sigma=0.1, steps=5)


def minimiser(rows: Rows, lam: float) -> Vector:
    """Of the same loss: the sum form's minimiser is the mean form's."""
    return fit(heads.plain(rows, lam), tolerance=1e-9).weights


@given(st.integers(0, 500), st.floats(1e-3, 1.0))
def test_constants_hold_at_random_points(seed: int, lam: float) -> None:
    """Every Hessian's eigenvalues lie between m and L, every row's gradient below M, and the minimiser within reach."""
    rows = heads.made(12, 3, seed=seed)
    w = 4 * np.random.default_rng(seed).standard_normal(3)
    proved = constants(lam)
    eigenvalues = np.linalg.eigvalsh(heads.plain(rows, lam).hessian(w)) / rows.count

    assert proved.convexity - 1e-12 <= eigenvalues[0]
    assert eigenvalues[-1] <= proved.smoothness
    assert np.linalg.norm(rows.x, axis=1).max() <= proved.lipschitz
    assert np.linalg.norm(minimiser(rows, lam)) <= proved.reach


@given(st.integers(0, 200), st.integers(1, 8), st.floats(0.01, 0.5))
def test_forgetting_moves_the_minimiser_by_less_than_its_bound(seed: int, gone: int, lam: float) -> None:
    """||w*(D) - w*(D')|| <= 2 k M / (m n)."""
    rows = heads.made(20, 3, seed=seed)
    left = rows.without(np.arange(2, 2 + gone))
    moved = np.linalg.norm(minimiser(rows, lam) - minimiser(left, lam))

    assert moved <= constants(lam).shift(rows=20, removed=gone)


@given(st.integers(0, 200), st.integers(1, 30), st.floats(0.01, 0.5))
def test_steps_contract(seed: int, steps: int, lam: float) -> None:
    """After I steps the distance to the minimiser is at most gamma^I of what it was."""
    rows = heads.made(15, 3, seed=seed)
    start = 5 * np.random.default_rng(seed).standard_normal(3)
    best = minimiser(rows, lam)
    after = np.linalg.norm(descend(rows, lam, start, steps=steps) - best)

    assert after <= constants(lam).contraction ** steps * np.linalg.norm(start - best) + 1e-7


@settings(max_examples=15)
@given(st.lists(st.lists(st.integers(2, 39), min_size=1, max_size=3), min_size=1, max_size=6))
def test_the_gap_bounds_every_sequence(batches: list[list[int]]) -> None:
    """After any batches the un-noised weights are within `gap` of learning anew, and within `distance` of the best."""
    kept = learn(heads.made(40, 4), TERMS)
    for batch in batches:
        kept, _ = delete(kept, batch)
    anew = learn(kept.rows, TERMS)
    best = minimiser(kept.rows, TERMS.lam)

    assert np.linalg.norm(kept.internal.unnoised - anew.internal.unnoised) <= kept.gap
    assert np.linalg.norm(kept.internal.unnoised - best) <= kept.distance + 1e-8


def test_the_gap_is_within_that_of_the_paper() -> None:
    """For single deletions it is at most 4 M gamma^I / (m n (1 - gamma^I)), n the fewest rows there were."""
    kept = learn(heads.made(60, 4), TERMS)
    for i in range(2, 22):
        kept, _ = delete(kept, [i])
        power = TERMS.constants.contraction**TERMS.steps
        paper = 4 * TERMS.constants.lipschitz * power / (TERMS.lam * kept.rows.count * (1 - power))

        assert kept.gap <= paper


def test_learning_takes_the_steps_that_the_theorem_asks_for() -> None:
    """T = I + ceil(ln(n / 2) / ln(1 / gamma)), after which the distance is below gamma^I 2 M / (m n)."""
    gamma = TERMS.constants.contraction
    learned = learn(heads.made(60, 4), TERMS)

    assert TERMS.learning_steps(60) == 5 + math.ceil(math.log(30) / math.log(1 / gamma))
    assert learned.distance <= gamma**5 * TERMS.constants.shift(rows=60, removed=1)


def test_constants_are_those_of_the_published_example() -> None:
    """At lambda .011982: m = .011982, L = .25 + m, M = 1, up to the rounding that rows may have."""
    proved = constants(0.011982)

    assert (proved.convexity, proved.source) == (0.011982, "proved")
    assert proved.smoothness == pytest.approx(0.261982)
    assert proved.lipschitz == pytest.approx(1.0)
    assert proved.contraction == pytest.approx(0.25 / 0.273964)


def test_what_is_published_is_the_state_and_noise() -> None:
    """The weights plus sigma z with the round of the number of deletions, the same bits whenever asked."""
    kept, _ = delete(learn(heads.made(), TERMS), [3])
    shown = publish(kept, heads.noise())
    z = gaussians(heads.SECRET, round_=1, count=5)

    assert shown.weights == pytest.approx(kept.internal.unnoised + 0.1 * z)
    assert np.array_equal(shown.weights, publish(kept, heads.noise()).weights)


def test_un_noised_weights_never_leave() -> None:
    """They are in no published tensor, no repr and no record, and cannot be copied, pickled or made a mapping of."""
    before = learn(heads.made(), TERMS)
    kept, record = delete(before, [3])
    shown = publish(kept, heads.noise())
    secret = [*before.internal.unnoised, *kept.internal.unnoised]
    said = repr(kept) + repr(kept.internal) + repr(record) + repr(shown.tensors())

    assert not set(secret) & set(shown.weights.tolist())
    assert not [number for number in secret if f"{abs(number):.7f}" in said]
    assert not isinstance(kept.internal, Published)
    assert not hasattr(kept.internal, "tensors")
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(EngineError, match="secret"):
            leak(kept.internal)
    with pytest.raises(EngineError, match="secret"):
        dataclasses.asdict(kept)


def test_published_weights_are_read_only_and_finite() -> None:
    """What was published does not change with the state, and NaN is not published."""
    raw = np.zeros(3)
    shown = Published(weights=raw)
    raw[0] = 7.0

    assert shown.weights[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        shown.weights[0] = 1.0
    with pytest.raises(EngineError, match="not published"):
        noised(Internal(np.array([np.nan])), sigma=1.0, noise=heads.noise(), round_=0)


def test_the_open_state_goes_on_from_what_was_published() -> None:
    """One row at a time, each with the theorem's steps and its own noise; it holds nothing un-noised."""
    state = learn_open(heads.made(), TERMS, heads.noise())
    after, record = delete_open(state, [4, 2], delta=1e-4, noise=heads.noise())
    w = state.published.weights
    for number, rows in ((1, state.rows.without(np.array([2]))), (2, state.rows.without(np.array([2, 4])))):
        raw = descend(rows, 0.05, w, steps=open_steps(TERMS, features=5, number=number, delta=1e-4))
        w = raw + 0.1 * gaussians(heads.SECRET, round_=number, count=5)

    assert after.published.weights == pytest.approx(w)
    assert (record.removed, record.deletions, record.rows_after) == (2, 2, 58)
    assert not [name for name in after.__slots__ if isinstance(getattr(after, name), Internal)]


def test_open_steps_are_counted_by_hand() -> None:
    """I + ceil(ln(ln(4 d i / delta)) / ln(1 / gamma))."""
    gamma = TERMS.constants.contraction
    expected = 5 + math.ceil(math.log(math.log(4 * 10 * 3 / 1e-5)) / math.log(1 / gamma))

    assert open_steps(TERMS, features=10, number=3, delta=1e-5) == expected


def test_rows_that_are_gone_take_no_step() -> None:
    """Delivered again or empty, a batch changes neither state, and their noise is not drawn anew."""
    kept, _ = delete(learn(heads.made(), TERMS), [3])
    state, _ = delete_open(learn_open(heads.made(), TERMS, heads.noise()), [3], delta=0.1, noise=heads.noise())
    again, record = delete(kept, [3])
    empty, none = delete(kept, [])
    opened, also = delete_open(state, [3], delta=0.1, noise=heads.noise())

    assert again is kept
    assert empty is kept
    assert opened is state
    assert (record.removed, record.repeated, record.steps) == (0, 1, 0)
    assert (none.repeated, also.steps) == (0, 0)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"sigma": 0.0}, {"sigma": math.nan}, {"lam": 0.0}, {"lam": math.inf}])
def test_terms_that_forget_nothing_are_refused(wrong: dict[str, float]) -> None:
    """No step, no noise, no convexity."""
    with pytest.raises(EngineError):
        Terms(**{"lam": 0.05, "sigma": 0.1, "steps": 5, **wrong})  # type: ignore[arg-type]


def test_removing_everything_is_refused() -> None:
    """By either state, before a step is taken."""
    rows = heads.made()
    with pytest.raises(EngineError, match="at least two rows"):
        delete(learn(rows, TERMS), range(60))
    with pytest.raises(EngineError, match="at least two rows"):
        delete_open(learn_open(rows, TERMS, heads.noise()), range(60), delta=0.1, noise=heads.noise())
    with pytest.raises(EngineError, match="delta"):
        delete_open(learn_open(rows, TERMS, heads.noise()), [1], delta=0.0, noise=heads.noise())
