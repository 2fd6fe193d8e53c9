"""The attacks on a classifier that was really trained, and the one-run audit against certificates of known worth."""

from functools import cache

import numpy as np
import pytest

from audits import canaries as one_run
from audits import gaussian
from engine.verification.findings import by_metric
from engine.verification.privacy import lira, rmia, signals
from engine.verification.privacy.canaries import Plan, count, draw
from engine.verification.privacy.performance import findings
from engine.verification.privacy.shadows import Bools, Shadows, keep_matrix
from engine.verification.statistics import Floats, Ints, auc

DELTA = 1e-5
EXAMPLES = 300
NAMES = tuple(f"unit-{i}" for i in range(EXAMPLES))
CLASSES = 10


@cache
def pictures() -> tuple[Floats, Ints]:
    """Digits of 8 by 8; every fourth has a random label, so that some examples can only be learned by heart."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    labels = digits.target.astype(np.int64)
    generator = np.random.default_rng(0)
    labels[::4] = generator.integers(0, CLASSES, size=len(labels[::4]))
    return digits.data / 16, labels


def trained(mask: Bools, steps: int = 60) -> Floats:
    """Weights (64, classes) of softmax regression by gradient descent on the examples of the mask."""
    x, y = pictures()
    x, y = x[:EXAMPLES][mask], y[:EXAMPLES][mask]
    weights = np.zeros((64, CLASSES))
    for _ in range(steps):
        z = x @ weights
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        weights -= 8.0 * x.T @ p / len(y)
    return weights


def asked(weights: Floats) -> Floats:
    """Logits of all pictures: the first 300 may have been trained on, the others never were."""
    return pictures()[0] @ weights


def test_members_of_a_real_classifier_are_found_and_a_retrained_model_has_none() -> None:
    """Ten shadows: LiRA and RMIA find more than one threshold does, and nothing in a model that never saw them."""
    _, labels = pictures()
    keep = keep_matrix(NAMES, shadows=12, seed=1)
    forgotten = keep[0] & (np.random.default_rng(0).random(EXAMPLES) < 0.3)
    asked_about = forgotten | ~keep[0]
    masks = [keep[0], keep[0] & ~forgotten, *keep[2:]]
    logits = np.stack([asked(trained(mask, steps=300)) for mask in masks])

    phi = np.stack([signals.margin(one, labels) for one in logits])[:, :EXAMPLES][:, asked_about]
    inside, units = forgotten[asked_about], np.array(NAMES)[asked_about].tolist()
    shadows = Shadows(statistic=phi[2:], inside=keep[2:, asked_about], outside=~keep[2:, asked_about])
    scores = {role: lira.online(phi[i], shadows) for i, role in enumerate(("before", "reference"))}
    made = by_metric(findings("lira", scores, inside=inside, units=units, resamples=200, seed=1))["lira_auc"]
    one_threshold = auc(phi[0][~inside], phi[0][inside])
    assert made.before is not None
    assert made.reference is not None
    assert made.before.value > one_threshold + 0.03
    assert made.before.ci95[0] > 0.5
    assert made.reference.ci95[0] <= 0.5 <= made.reference.ci95[1]

    log_p = np.stack([signals.log_prob(one, labels) for one in logits])
    references = rmia.References(log_probs=log_p[2:, :EXAMPLES], inside=keep[2:], strangers=log_p[2:, EXAMPLES:])
    slope = rmia.choose_slope(references)
    score = rmia.offline(log_p[0, :EXAMPLES], log_p[0, EXAMPLES:], references, slope=slope)[asked_about]
    assert auc(score[~inside], score[inside]) > one_threshold


def bound(sigma: float, *, seed: int) -> tuple[float, float]:
    """The audit's lower bound and its ceiling for 1000 canaries seen through normal noise of this size."""
    plan = Plan(canaries=1000, guess_in=100, guess_out=100)
    coins = draw(seed.to_bytes(32, "big"), canaries=plan.canaries)
    noise = sigma * np.random.default_rng(seed).normal(size=plan.canaries)
    counts = count(plan, coins.included + noise, coins)
    lower = one_run.lower_bound(canaries=counts.canaries, guesses=counts.guesses, correct=counts.correct, delta=DELTA)
    return lower, one_run.ceiling(canaries=counts.canaries, guesses=counts.guesses, delta=DELTA)


def test_an_honest_certificate_is_never_refuted_and_one_without_noise_is() -> None:
    """Normal noise of sigma 2 on canaries that move the score by 1: the exact epsilon stays above every bound."""
    certified = gaussian.epsilon(delta=DELTA, mu=1 / 2)
    assert all(bound(2.0, seed=seed)[0] <= certified for seed in range(20))
    lower, ceiling = bound(0.01, seed=0)
    assert certified < lower == ceiling


def test_half_the_noise_hides_below_the_audit() -> None:
    """Which is why the probe measures it: the bound rises and stays below the certificate that is now false."""
    certified = gaussian.epsilon(delta=DELTA, mu=1 / 2)
    halved = [bound(1.0, seed=seed)[0] for seed in range(5)]
    assert np.mean(halved) > np.mean([bound(2.0, seed=seed)[0] for seed in range(5)])
    assert gaussian.epsilon(delta=DELTA, mu=1) > 1.5 * certified
    assert max(halved) < certified
