"""Convex heads: what each theorem asks for happens, the forget set is never read, and what it excludes is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import mechanisms
from engine.catalogue import check_options
from engine.errors import EngineError
from engine.guarantees import convex as records
from engine.heads.constants import constants
from engine.heads.rows import Vector
from engine.heads.stacked import Stack, scaled_rows, stacked
from engine.heads.steps import descend, inside, newton, walk
from engine.methods import convex, secret
from tests.engine import painted
from tests.engine.convex import METHODS, QUICK, SECRET, autograd, layer, setting
from tests.engine.heads import features, noise
from tests.engine.jobs import do


def problem(seed: int = 0, *, rows: int = 60, classes: int = 3, lam: float = 1e-2) -> tuple[Stack, Vector]:
    """Rows of norm 1 with labels that planes gave, and those labels."""
    x = features(rows, 5, seed)
    planes = np.random.default_rng([seed, 2]).standard_normal((classes, 5))
    labels = np.argmax(x @ planes.T, axis=1)
    labels[:2] = 0, 1
    return stacked(x, labels, classes=classes, lam=lam), labels


def steps(name: str = records.CONTRACTED, **changes: Any) -> records.GradientSteps:  # noqa: ANN401 - any field
    """Fifty steps from a ball of radius 2."""
    told: dict[str, Any] = {"curvature": 1e-2, "smoothness": constants(1e-2).smoothness, "gradient_error": 1e-9}
    told |= {"mechanism": name, "start_radius": 2.0, "steps": 50, "noise": 0.1, "features": "fixed", **changes}
    return records.GradientSteps(**told)


@given(st.integers(0, 1000), st.floats(0.0, 30.0))
@settings(max_examples=20)
def test_the_gradient_is_that_of_autograd(seed: int, size: float) -> None:
    """In double precision, and no further off than the bound of rounding says."""
    given_, labels = problem(seed)
    v = size * np.random.default_rng(seed).standard_normal(given_.shape)
    expected = autograd(given_.x, labels, v, given_.lam).numpy()

    assert float(np.linalg.norm(given_.gradient(v) - expected)) <= 2 * given_.rounding(v)


def test_newton_ends_where_autograd_finds_a_short_gradient() -> None:
    """The residual of the certificate, computed again by other means from far and near starts."""
    given_, labels = problem(lam=1e-4)
    for start in (np.zeros(given_.shape), np.full(given_.shape, 1e6), np.full(given_.shape, 3.0)):
        found = newton(given_, start, residual=1e-10, limit=60).unnoised
        assert float(autograd(given_.x, labels, found, 1e-4).norm()) <= 1.01e-10


def test_what_the_published_layer_says_is_what_its_heads_say() -> None:
    """Our features are never longer than the root of their number, so their rows are scaled by a constant."""
    told = setting("newton-noise", sigma=1e-6)
    problem_, _ = convex.posed(told)
    convex.newton_noise(told)
    made = layer(told.model).numpy()
    d = made.shape[1] - 1
    raw = problem_.x[:, :-1] * (2 * d) ** 0.5

    heads = np.concatenate([made[:, :-1] * d**0.5, made[:, -1:]], axis=1) * 2**0.5
    assert np.allclose(problem_.x @ heads.T, raw @ made[:, :-1].T + made[:, -1], atol=1e-5)
    assert (np.argmax(problem_.x @ heads.T, axis=1) == np.argmax(problem_.signs, axis=1)).all()


def test_newton_publishes_the_measured_point_plus_one_round_of_noise() -> None:
    """Without its noise the layer is a point whose gradient autograd finds to be as short as the record says."""
    told = setting("newton-noise", sigma=0.5)
    problem_, start = convex.posed(told)
    fitted = convex.newton_noise(told)
    made = layer(told.model).numpy()
    d = made.shape[1] - 1
    heads = np.concatenate([made[:, :-1] * d**0.5, made[:, -1:]], axis=1) * 2**0.5
    z = secret.gaussians(SECRET, round_=0, count=start.size).reshape(start.shape)
    found = newton(problem_, start, residual=1e-8, limit=50).unnoised
    labels = np.argmax(problem_.signs, axis=1)

    assert np.allclose(heads, found + 0.5 * z, atol=1e-5)
    assert float(autograd(problem_.x, labels, found, 1e-3).norm()) <= 1.01e-8
    assert fitted.accountant == {
        "mechanism": "measured_gradient", "curvature": 1e-3, "residual": 1e-8, "noise": 0.5, "features": "fixed",
    }  # fmt: skip
    assert fitted.seed_commitment == secret.commitment(SECRET)


@given(st.integers(0, 1000), st.integers(1, 80))
@settings(max_examples=15)
def test_two_starts_end_no_further_apart_than_the_certificate_says(seed: int, count: int) -> None:
    """From opposite ends of the ball, whatever the data."""
    given_, _ = problem(seed)
    start = np.random.default_rng(seed).standard_normal(given_.shape)
    told = steps(steps=count)
    ends = [descend(given_, sign * 1e3 * start, told).unnoised for sign in (1.0, -1.0)]
    run = mechanisms._runs({**told.to_mapping(), "noise": 1.0})[0]

    assert float(np.linalg.norm(ends[0] - ends[1])) <= run.distance  # type: ignore[attr-defined]


def test_a_walk_is_gradient_steps_with_a_fresh_round_of_noise_in_each() -> None:
    """Start in the ball, 2 / (L + m) along the gradient, the standard deviation of the record."""
    given_, labels = problem()
    told = steps(records.LANGEVIN, steps=3)
    start = np.full(given_.shape, 9.0)
    state = start * 2.0 / np.linalg.norm(start)
    for number in range(3):
        z = noise()(round_=number, count=state.size).reshape(state.shape)
        state = state - told.rate * autograd(given_.x, labels, state, 1e-2).numpy() + 0.1 * z

    assert np.allclose(walk(given_, start, told, noise()).weights, state, atol=1e-9)


def test_starts_are_put_into_the_ball() -> None:
    """Those outside on its surface, those inside where they are."""
    far, near = np.full((2, 2), 5.0), np.full((2, 2), 0.1)

    assert float(np.linalg.norm(inside(far, 2.0))) == pytest.approx(2.0)
    assert float(np.linalg.norm(inside(far, 2.0))) <= 2.0
    assert inside(near, 2.0) is near


@pytest.mark.parametrize("method", METHODS)
def test_the_forget_set_is_never_read(method: str) -> None:
    """Whatever stands in it, the weights are the same."""
    made = []
    for forget in ((), painted.records(range(90, 94))):
        told = setting(method, forget=forget)
        getattr(convex, method.replace("-", "_"))(told)
        made.append(layer(told.model))

    assert torch.equal(made[0], made[1])


@pytest.mark.parametrize("method", METHODS)
def test_where_a_model_came_from_is_hidden(method: str) -> None:
    """Two starts under the same secret end within the distance that the noise is made for; another secret does not."""
    ends = []
    for seed, hidden in ((0, SECRET), (1, SECRET), (0, bytes(32))):
        told = setting(method, seed=seed, secret=hidden)
        ends.append((layer(told.model), getattr(convex, method.replace("-", "_"))(told), layer(told.model)))
    apart = [float((ends[0][2] - one[2]).norm()) for one in ends]

    assert float((ends[0][0] - ends[1][0]).norm()) > 0.5
    assert apart[1] < 2e-2 * float((ends[0][0] - ends[1][0]).norm())
    assert apart[2] > 1e-4
    assert ends[0][1].first_loss == ends[1][1].first_loss  # nothing that is told depends on the start


@pytest.mark.parametrize("method", METHODS)
def test_a_job_certifies_what_the_accountant_computes_again(tmp_path: Path, method: str) -> None:
    """End to end: a certified model that knows its pictures, and a bound that the verifier's accountant agrees on."""
    shape = {"labels": list(painted.LABELS), "architecture": "gabor", "size": painted.SIDE}
    do(tmp_path, "initialise", task="image", out="start", options=shape)
    told: dict[str, Any] = {
        "task": "image",
        "method": method,
        "model": "start",
        "retain": painted.records(range(4, 40)),
    }
    record = mechanisms.constants(_record(method))
    sigma = mechanisms.noise_for(_record(method), epsilon=2.0, delta=1e-4)
    evidence = do(tmp_path, "unlearn", out="new", options={**QUICK[method], "sigma": sigma}, **told)
    assert evidence.accountant is not None

    assert str(evidence.guarantee) == "certified"
    assert 1.99 < mechanisms.epsilon(evidence.accountant, delta=1e-4, group=1) <= 2.0
    assert evidence.data_digests.keys() == {"retain"}
    assert {one["name"] for one in record} <= set(evidence.accountant)
    assert evidence.training is not None
    assert evidence.training["last_loss"] < 0.6 * evidence.training["first_loss"]


def _record(method: str) -> dict[str, Any]:
    found = records.record(setting(method).options)
    assert found is not None
    return found


def test_the_records_smoothness_is_that_of_the_heads() -> None:
    """Proved once, and said in two places."""
    assert _record("langevin")["smoothness"] == constants(1e-2).smoothness
    assert records.record(object()) is None


@pytest.mark.parametrize(("architecture", "sentence"), [("cnn", "do not depend on the forgotten records")])
def test_features_that_may_have_been_fitted_on_private_records_are_refused(architecture: str, sentence: str) -> None:
    """With the condition of the theorem, until the operator says that they are public; then the record says so."""
    with pytest.raises(EngineError, match=sentence):
        convex.newton_noise(setting("newton-noise", architecture=architecture))
    fitted = convex.newton_noise(setting("newton-noise", architecture=architecture, features="public"))
    assert fitted.accountant is not None
    assert fitted.accountant["features"] == "public"


def test_a_model_that_is_not_one_layer_on_features_is_refused() -> None:
    """The theorem is about one linear layer."""
    with pytest.raises(EngineError, match="one linear layer"):
        convex.refused(torch.nn.Linear(2, 2), setting("newton-noise").options)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"residual": 1e-18}, "did not converge: the theorem needs a measured gradient"),
        ({"head_steps": 1}, "did not converge"),
        ({"retain": painted.records([0, 4, 8])}, "of two classes"),
        ({"penalty": 1e-300}, "did not converge"),
    ],
)
def test_a_run_that_the_theorem_does_not_cover_is_refused(changes: dict[str, Any], sentence: str) -> None:
    """A gradient that stays long, one step that is not enough, one class alone, a penalty that is lost in rounding."""
    with pytest.raises(EngineError, match=sentence):
        convex.newton_noise(setting("newton-noise", **changes))


@pytest.mark.parametrize("option", ["penalty", "residual", "sigma"])
def test_options_without_meaning_are_refused(option: str) -> None:
    """No strong convexity, no bound, no noise."""
    with pytest.raises(EngineError, match="above 0"):
        check_options("unlearn", "newton-noise", {"sigma": 1.0, option: 0.0}, "image")


@pytest.mark.parametrize("rows", [np.full((3, 2), 1.0), np.full((3, 2), np.nan)])
def test_rows_that_are_too_long_or_not_finite_are_refused(rows: Vector) -> None:
    """Nothing clips them silently."""
    with pytest.raises(EngineError, match="norm at most 1"):
        stacked(rows, np.array([0, 1, 1]), classes=2, lam=1.0)


def test_rows_are_scaled_one_by_one() -> None:
    """A long row is shortened to norm 1 and changes no other; a short one is scaled by a constant."""
    short, long = np.full((1, 4), 0.5), np.full((1, 4), 50.0)
    both = scaled_rows(np.concatenate([short, long]))

    assert np.array_equal(both[:1], scaled_rows(short))
    assert np.allclose(both[0], np.array([0.5, 0.5, 0.5, 0.5, 2.0]) / 8**0.5)
    assert float(np.linalg.norm(both[1])) == pytest.approx(1.0)


def test_a_step_in_which_rounding_could_do_too_much_is_refused() -> None:
    """The theorem's gradients may be off by a stated length; weights of 1e9 are off by more."""
    given_, _ = problem()
    with pytest.raises(EngineError, match="rounding may do"):
        descend(given_, np.full(given_.shape, 1e9), steps(start_radius=1e10))


def test_weights_that_single_precision_cannot_hold_are_not_published() -> None:
    """Infinity is no model."""
    with pytest.raises(EngineError, match="larger than single precision"):
        convex.newton_noise(setting("newton-noise", sigma=1e60))


def test_a_model_with_weights_that_are_not_finite_is_refused() -> None:
    """Whatever they came from."""
    model, _ = painted.network(architecture="gabor")
    with torch.no_grad():
        model.classifier.bias.fill_(torch.nan)
    with pytest.raises(EngineError, match="not all finite"):
        convex.newton_noise(setting("newton-noise", model=model))
