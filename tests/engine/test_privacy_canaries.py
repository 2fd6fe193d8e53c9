"""The one-run audit up to its counts: coins before scores, guesses by plan, and canaries nobody else has."""

import hashlib
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.methods.secret import commitment, joins
from engine.verification.privacy.canaries import (
    ABSTAINED,
    GUESSED_IN,
    GUESSED_OUT,
    Draw,
    Plan,
    count,
    draw,
    guesses,
    patterns,
    sequences,
    wrong_labels,
)

SECRET = bytes(range(32))
PLAN = Plan(canaries=1000, guess_in=100, guess_out=50)


def test_each_canary_has_a_fair_coin_of_its_own() -> None:
    """Half of them are in, neighbours do not follow each other, and another secret tosses again."""
    coins = draw(SECRET, canaries=10_000)
    assert abs(coins.included.mean() - 0.5) < 4 * 0.5 / 100
    assert abs((coins.included[1:] == coins.included[:-1]).mean() - 0.5) < 4 * 0.5 / 100
    assert 0.45 < (coins.included == draw(bytes(32), canaries=10_000).included).mean() < 0.55
    assert sorted(coins.order) == list(range(10_000))


def test_the_coins_are_no_stream_of_the_training_under_the_same_secret() -> None:
    """They come from a key of their own, and evidence holds a commitment to that key."""
    coins = draw(SECRET, canaries=10_000)
    training = joins(SECRET, round_=0, units=10_000, sample_rate=0.5)
    assert 0.45 < (coins.included == training).mean() < 0.55
    assert coins.commitment != commitment(SECRET)
    assert coins.commitment == hashlib.sha256(hashlib.sha256(b"one-run audit\x00" + SECRET).digest()).hexdigest()


def test_neither_coins_nor_order_are_shown() -> None:
    """Only the commitment is."""
    coins = draw(SECRET, canaries=8)
    assert repr(coins) == f"Draw(commitment='{coins.commitment}')"


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.data())
def test_the_number_of_guesses_is_fixed_whatever_the_scores(scores: list[float], data: st.DataObject) -> None:
    """The highest are guessed in and the lowest out, as many as planned."""
    m = len(scores)
    guess_in = data.draw(st.integers(0, m))
    guess_out = data.draw(st.integers(0 if guess_in else 1, m - guess_in)) if guess_in < m else 0
    made = guesses(Plan(canaries=m, guess_in=guess_in, guess_out=guess_out), np.array(scores), np.arange(m))
    assert [(made == kind).sum() for kind in (GUESSED_IN, GUESSED_OUT)] == [guess_in, guess_out]
    ranks = [np.array(scores)[made == kind] for kind in (GUESSED_OUT, ABSTAINED, GUESSED_IN)]
    full = [rank for rank in ranks if len(rank)]
    assert all(low.max() <= high.min() for low, high in pairwise(full))


def test_equal_scores_go_by_the_order_that_was_drawn_before() -> None:
    """Without it the position of a canary would decide."""
    made = guesses(Plan(canaries=4, guess_in=1, guess_out=1), np.zeros(4), np.array([2, 0, 3, 1]))
    assert made.tolist() == [ABSTAINED, GUESSED_OUT, GUESSED_IN, ABSTAINED]


def test_a_model_that_tells_everything_is_guessed_right_and_a_blind_one_by_half() -> None:
    """All 150 guesses, and 75 of them give or take four standard deviations."""
    coins = draw(SECRET, canaries=1000)
    told = count(PLAN, coins.included.astype(np.float64), coins)
    assert (told.canaries, told.guesses, told.correct) == (1000, 150, 150)
    blind = count(PLAN, np.random.default_rng(0).normal(size=1000), coins)
    assert abs(blind.correct - 75) < 4 * math.sqrt(150) / 2
    assert count(PLAN, np.zeros(1000), coins).correct != 150


def test_the_counts_are_reported_with_their_plan() -> None:
    """The verifier computes the bound from the first three."""
    coins = draw(SECRET, canaries=1000)
    assert count(PLAN, coins.included.astype(np.float64), coins).to_mapping() == {
        "canaries": 1000,
        "guesses": 150,
        "correct": 150,
        "guessedIn": 100,
        "guessedOut": 50,
        "coinsSha256": coins.commitment,
    }


@pytest.mark.parametrize(("guess_in", "guess_out"), [(0, 0), (6, 5), (-1, 5), (5, -1)])
def test_a_plan_guesses_something_and_nothing_twice(guess_in: int, guess_out: int) -> None:
    """Of ten canaries."""
    with pytest.raises(EngineError):
        Plan(canaries=10, guess_in=guess_in, guess_out=guess_out)


@pytest.mark.parametrize("scores", [[0.0, math.nan, 1.0], [0.0, math.inf, 1.0], [0.0, 1.0]])
def test_a_canary_without_a_score_has_no_default_guess(scores: list[float]) -> None:
    """Not a number, infinite, or missing."""
    coins = Draw(included=np.ones(3, dtype=np.bool_), order=np.arange(3), commitment="")
    with pytest.raises(EngineError):
        count(Plan(canaries=3, guess_in=1, guess_out=1), np.array(scores), coins)


def test_a_secret_has_256_bits() -> None:
    """A shorter one, or no canaries, is refused."""
    with pytest.raises(EngineError):
        draw(b"short", canaries=1)
    with pytest.raises(EngineError):
        draw(SECRET, canaries=0)


def test_wrong_labels_are_wrong_and_uniform() -> None:
    """Never the right one, and each other about as often."""
    labels = np.arange(9000) % 10
    made = wrong_labels(labels, classes=10, seed=0)
    assert (made != labels).all()
    assert set(made.tolist()) == set(range(10))
    shifts = np.bincount((made - labels) % 10)[1:]
    assert (np.abs(shifts - 1000) < 5 * math.sqrt(1000)).all()


def test_patterns_and_sequences_are_what_no_data_set_holds() -> None:
    """Random pictures of 0 and 1 with labels, random tokens without the special ones; no two alike, and repeatable."""
    pictures, labels = patterns(50, shape=(1, 8, 8), classes=10, seed=0)
    assert (pictures.shape, labels.shape) == ((50, 1, 8, 8), (50,))
    assert pictures.dtype == np.float32
    assert set(np.unique(pictures)) == {0.0, 1.0}
    assert len({one.tobytes() for one in pictures}) == 50
    texts = sequences(50, length=16, vocabulary=100, seed=0, without=(0, 1, 2))
    assert texts.shape == (50, 16)
    assert texts.min() == 3
    assert texts.max() == 99
    assert len({one.tobytes() for one in texts}) == 50
    assert np.array_equal(texts, sequences(50, length=16, vocabulary=100, seed=0, without=(0, 1, 2)))
    assert not np.array_equal(texts, sequences(50, length=16, vocabulary=100, seed=1, without=(0, 1, 2)))


def test_canaries_out_of_nothing_are_refused() -> None:
    """One class has no wrong label, no vocabulary no text, no shape no picture."""
    with pytest.raises(EngineError):
        wrong_labels(np.array([0]), classes=1, seed=0)
    with pytest.raises(EngineError):
        sequences(1, length=4, vocabulary=2, seed=0, without=(0, 1))
    with pytest.raises(EngineError):
        patterns(1, shape=(), classes=2, seed=0)
