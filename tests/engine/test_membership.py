"""Membership scores and PrivLeak as published: MUSE's criterion 3, its sign and its ceiling."""

import math
import zlib

import numpy as np
import pytest

from engine.verification.membership import mean_log_prob, min_k, min_k_plus_plus, per_zlib, privleak
from engine.verification.statistics import Floats, auc


def logs(*values: float) -> Floats:
    """Log-probabilities of the tokens of a text."""
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((-1, -2, -3, -4, -5), -4.5),  # int(5 * .4) = 2
        ((-5, -1, -4, -2, -3), -4.5),  # order does not count
        ((-1, -2, -3, -4), -4.0),  # int(4 * .4) = 1: rounded down
        ((-1, -2, -3, -4, -5, -6, -7), -6.5),  # int(7 * .4) = 2
        ((-1, -2, -3, -4, -5, -6, -7, -8, -9, -10), -8.5),
    ],
)
def test_min_k_is_the_mean_of_the_lowest_two_fifths(values: tuple[float, ...], expected: float) -> None:
    """K = 40 %, k = int(0.4 T), as published."""
    assert min_k(logs(*values), 0.4) == expected


@pytest.mark.parametrize("values", [(-3.0,), (-3.0, -1.0)])
def test_a_text_of_one_or_two_tokens_has_a_score(values: tuple[float, ...]) -> None:
    """The published code takes the mean of nothing here; we take the lowest token."""
    assert min_k(logs(*values), 0.4) == -3.0


def test_min_k_plus_plus_standardises_each_token() -> None:
    """(log p - mean) / deviation before the lowest share is taken; a deviation of 0 does not divide by 0."""
    found = min_k_plus_plus(logs(-1, -2, -3, -4, -5), logs(-2, -2, -2, -2, -2), logs(1, 1, 0.5, 2, 1), 0.4)
    assert found == -2.5  # standardised 1, 0, -2, -1, -3: the lowest two
    assert math.isfinite(min_k_plus_plus(logs(-1.0), logs(-1.0), logs(0.0), 0.4))


def test_the_loss_and_zlib_scores_are_what_they_say() -> None:
    """Minus the mean loss, and the summed log-probability per compressed byte."""
    assert mean_log_prob(logs(-1, -2, -6)) == -3.0
    text = "Ada was born in Malmö."
    assert per_zlib(logs(-1, -2, -6), text) == -9 / len(zlib.compress(text.encode()))


@pytest.mark.parametrize(
    ("after", "reference", "expected"),
    [
        (0.4772, 0.4772, 0.0),
        (0.0, 0.4772, -100.0),  # everything is remembered
        (1.0, 0.4772, 109.56),  # the ceiling for News
        (1.0, 0.5393, 85.43),  # the ceiling for Books
        (0.4374, 0.5393, -18.9),  # a published run of WHP on Books
        (0.0009, 0.4772, -99.81),  # a published run of the task vector on News
    ],
)
def test_privleak_has_the_published_sign_and_size(after: float, reference: float, expected: float) -> None:
    """100 (AUC - AUC_reference) / AUC_reference: negative is remembered, positive is forgotten too much."""
    assert float(privleak(after, reference)) == pytest.approx(expected, abs=0.01)


def test_a_reference_without_an_auc_gives_no_privleak() -> None:
    """No reference of 0.5 is invented where its AUC is 0."""
    assert not math.isfinite(float(privleak(0.4, 0.0)))
    assert not math.isfinite(float(privleak(0.0, 0.0)))


def test_a_model_that_remembers_has_a_low_auc() -> None:
    """The AUC is P(a holdout text looks more like a member than a forgotten one)."""
    remembered = np.array([min_k(logs(-0.1, -0.2), 0.4), min_k(logs(-0.1, -0.3), 0.4)])
    unseen = np.array([min_k(logs(-4.0, -5.0), 0.4), min_k(logs(-3.0, -6.0), 0.4)])
    assert auc(remembered, unseen) == 0.0
    assert auc(unseen, remembered) == 1.0
