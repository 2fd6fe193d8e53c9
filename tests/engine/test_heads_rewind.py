"""Rewind-to-Delete: rewinding to the start is retraining, and its claim is conditional on constants it guessed."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from engine.errors import EngineError
from engine.heads.constants import constants
from engine.heads.networks import Linear, Smooth, Tanh, gradient
from engine.heads.rewind import Settings, estimate, publish, rewind, train
from engine.methods.secret import gaussians
from tests.engine import heads

SETTINGS = Settings(steps=40, rewound=15, rate=0.3, sigma=0.1, seed=4)
NET = Tanh(features=5, hidden=3, penalty=0.01)
MODELS: list[Smooth] = [NET, Linear(features=5, penalty=0.05)]


@given(st.integers(0, 500))
def test_gradients_are_those_of_automatic_differentiation(seed: int) -> None:
    """The network's hand-made gradient is torch's, with forgotten rows left out of sum and count."""
    rows = heads.made(12, 5, seed=seed).without(np.array([5, 6]))
    w = np.random.default_rng(seed).standard_normal(NET.size)
    v = torch.from_numpy(w.copy()).requires_grad_()
    kept = rows.y != 0
    x, y = torch.from_numpy(rows.x[kept]), torch.from_numpy(rows.y[kept])
    scores = torch.tanh(x @ v[:15].reshape(3, 5).T + v[15:18]) @ v[18:21] + v[21]
    loss = -functional.logsigmoid(y * scores).mean() + 0.005 * (v @ v)
    (slope,) = torch.autograd.grad(loss, v)

    assert gradient(NET, w, rows) == pytest.approx(slope.numpy(), abs=1e-12)


@pytest.mark.parametrize("model", MODELS)
def test_rewinding_to_the_start_is_training_anew(model: Smooth) -> None:
    """With K = T nothing of the forgotten rows is left, to the bit."""
    whole = dataclasses.replace(SETTINGS, rewound=40)
    rewound, _ = rewind(train(model, heads.made(), whole), [3, 4])
    anew = train(model, heads.made().without(np.array([3, 4])), whole)

    assert np.array_equal(rewound.internal.unnoised, anew.internal.unnoised)


@pytest.mark.parametrize("model", MODELS)
def test_more_rewinding_comes_closer_to_training_anew(model: Smooth) -> None:
    """The distance to the retrained weights falls with K, and stays below the bound with the estimated constants."""
    gone, apart = list(range(2, 12)), []
    for k in (1, 10, 25, 39):
        now = dataclasses.replace(SETTINGS, rewound=k)
        trained = train(model, heads.made(), now)
        after, record = rewind(trained, gone)
        anew = train(model, trained.rows.without(np.array(gone)), now)
        apart.append(float(np.linalg.norm(after.internal.unnoised - anew.internal.unnoised)))
        growth = 1 + now.rate * record.constants.smoothness
        factor = 2 * 10 * record.constants.gradient / (60 * record.constants.smoothness)

        assert apart[-1] <= factor * (growth ** (40 - k) - 1) * growth**k
    assert apart == sorted(apart, reverse=True)


def test_later_requests_start_from_the_same_checkpoint() -> None:
    """Two batches end where one with both would have, and the record counts the total."""
    trained = train(NET, heads.made(), SETTINGS)
    first, _ = rewind(trained, [3])
    second, record = rewind(first, [3, 8])
    at_once, _ = rewind(trained, [3, 8])

    assert np.array_equal(second.internal.unnoised, at_once.internal.unnoised)
    assert (record.removed, record.repeated, record.total, record.rows) == (1, 1, 2, 60)


def test_the_claim_is_conditional() -> None:
    """The record says `conditional`, that L and G were estimated and from how many samples, whatever the model."""
    for model in MODELS:
        _, record = rewind(train(model, heads.made(), SETTINGS), [3])

        assert record.guarantee == "conditional"
        assert (record.constants.source, record.constants.samples) == ("estimated", 50)


def test_estimates_stay_below_what_can_be_proved() -> None:
    """For the linear model sampling finds no more than the proved L, which is why it may not be called a bound."""
    found = estimate(MODELS[1], heads.made(), np.zeros(5), SETTINGS)

    assert 0 < found.smoothness <= constants(0.05).smoothness
    assert found.gradient > 0


def test_what_is_published_has_noise_and_the_rest_stays() -> None:
    """Weights and noise of the version's round; neither checkpoint nor end of training shows in a repr."""
    after, record = rewind(train(NET, heads.made(), SETTINGS), [3])
    shown = publish(after, heads.noise())
    z = gaussians(heads.SECRET, round_=1, count=NET.size)
    secret = {*after.internal.unnoised.tolist(), *after.checkpoint.unnoised.tolist()}

    assert shown.weights == pytest.approx(after.internal.unnoised + 0.1 * z)
    assert not secret & set(shown.weights.tolist())
    assert not [number for number in secret if f"{abs(number):.7f}" in repr(after) + repr(record)]


def test_rows_that_are_gone_take_no_step() -> None:
    """Delivered again, or empty, a batch changes nothing, the noise included."""
    trained, _ = rewind(train(NET, heads.made(), SETTINGS), [3])
    again, record = rewind(trained, [3])
    empty, none = rewind(trained, [])

    assert again is trained
    assert empty is trained
    assert (record.removed, record.repeated, record.total, none.removed) == (0, 1, 1, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"rewound": 0}, {"rewound": 41}, {"rate": 0.0}, {"sigma": math.nan}, {"spread": math.inf}, {"samples": 0}],
)
def test_settings_that_rewind_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """K = 0, a checkpoint before the start, and numbers that are none."""
    with pytest.raises(EngineError):
        dataclasses.replace(SETTINGS, **wrong)


def test_steps_too_long_for_the_theorem_are_refused() -> None:
    """A step size above n / (2 (n - m) L), with the estimated L: at training m is 0."""
    quick = dataclasses.replace(SETTINGS, steps=1, rewound=1)  # so that the checkpoint does not depend on the rate
    smoothness = train(NET, heads.made(), quick).constants.smoothness

    train(NET, heads.made(), dataclasses.replace(quick, rate=0.499 / smoothness))
    with pytest.raises(EngineError, match="step size of at most"):
        train(NET, heads.made(), dataclasses.replace(quick, rate=0.501 / smoothness))


def test_removing_everything_is_refused() -> None:
    """Two rows of both classes have to stay."""
    with pytest.raises(EngineError, match="at least two rows"):
        rewind(train(NET, heads.made(), SETTINGS), range(60))
