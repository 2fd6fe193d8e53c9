"""Newton removal: the residual is the true one, its bounds hold, and the budget decides."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from engine.errors import EngineError
from engine.heads import one_vs_rest
from engine.heads.bounds import data_dependent, exact_step, spectral_norm, worst_case
from engine.heads.inverse import Inverse, fresh
from engine.heads.logistic import Logistic, fit
from engine.heads.newton import Head, Terms, remove, train
from engine.heads.rows import Vector
from engine.methods.secret import gaussians
from tests.engine import heads

TERMS = Terms(lam=0.01, sigma=0.3, budget=0.0684)
SHORT = Terms(lam=0.01, sigma=0.3, budget=1e-7, limit=1, tolerance=2e-8)


def trained(terms: Terms = TERMS, *, n: int = 60, d: int = 5, seed: int = 0) -> Head:
    """A head on made-up rows."""
    return train(heads.made(n, d, seed=seed), terms, heads.noise())


def recomputed(head: Head, secret: bytes = heads.SECRET) -> float:
    """The residual's norm by torch, from the original rows, the secret and which rows are gone."""
    original = heads.made(len(head.rows.y), head.rows.features)
    kept = head.rows.y != 0
    x, y = torch.from_numpy(original.x[kept]), torch.from_numpy(original.y[kept])
    drawn = gaussians(secret, round_=head.perturbations - 1, count=head.rows.features)
    w = torch.from_numpy(head.published.weights.copy()).requires_grad_()
    penalty = head.terms.lam * len(y) / 2 * (w @ w)
    loss = -functional.logsigmoid(y * (x @ w)).sum() + penalty + w @ torch.from_numpy(head.terms.sigma * drawn)
    (slope,) = torch.autograd.grad(loss, w)
    return float(slope.norm())


def one_step(rows_seed: int, gone: list[int], lam: float) -> tuple[float, float, float]:
    """True residual after one exact step from the minimiser, with its two bounds."""
    rows = heads.made(40, 4, seed=rows_seed)
    b = 0.5 * np.random.default_rng(rows_seed).standard_normal(4)
    start = fit(Logistic(rows=rows, lam=lam, b=b), tolerance=1e-10).weights
    left = Logistic(rows=rows.without(np.array(gone)), lam=lam, b=b)
    step = exact_step(left, start)
    bound = data_dependent(left.rows, step, spectral=spectral_norm(rows))
    true = float(np.linalg.norm(left.gradient(start + step)))
    return true, bound, worst_case(lam=lam, rows=40, removed=len(gone))


def test_the_residual_is_the_gradient_on_what_remains() -> None:
    """Torch finds the same norm after each of 30 removals, from the original rows and the secret."""
    head = trained()
    for i in range(2, 32):
        head, outcome = remove(head, [i])

        assert outcome.residual == pytest.approx(recomputed(head), rel=1e-6, abs=1e-9)
        assert outcome.residual >= recomputed(head) - 1e-12
        assert outcome.residual <= TERMS.fraction * TERMS.budget
        assert not outcome.retrained


@given(st.integers(0, 300), st.integers(2, 39), st.floats(1e-3, 0.5))
def test_the_bounds_of_the_paper_hold(seed: int, gone: int, lam: float) -> None:
    """After one exact step: true residual <= data-dependent bound <= 1 / (lambda^2 (n - 1))."""
    true, dependent, worst = one_step(seed, [gone], lam)

    assert true <= dependent + 1e-9
    assert dependent <= worst + 1e-9
    assert worst == pytest.approx(1 / (lam**2 * 39))


@given(st.integers(0, 300), st.integers(2, 6), st.floats(1e-2, 0.5))
def test_the_bounds_hold_for_several_rows(seed: int, removed: int, lam: float) -> None:
    """The same for m rows at once, where the worst case grows with m squared."""
    true, dependent, worst = one_step(seed, list(range(2, 2 + removed)), lam)

    assert true <= dependent + 1e-9
    assert dependent <= worst + 1e-9


def test_the_weights_are_nearly_those_of_training_on_what_remains() -> None:
    """||w - w*|| <= residual / (lambda n), because the loss is strongly convex."""
    head, outcome = remove(trained(), range(2, 22))
    exact = fit(head.problem, tolerance=1e-9).weights

    assert np.linalg.norm(head.published.weights - exact) <= outcome.residual / (0.01 * 40) + 1e-8


@given(st.lists(st.integers(2, 29), min_size=1, max_size=5, unique=True))
@settings(max_examples=20)
def test_a_downdated_inverse_is_the_inverse_without_the_rows(gone: list[int]) -> None:
    """Woodbury gives what inverting the sum without their terms gives, and P + lambda k P^2 nearly the new penalty."""
    rows = heads.made(30, 8)
    problem = heads.plain(rows, 0.1)
    w = np.random.default_rng(0).standard_normal(8)
    found: Inverse | None = fresh(problem, w)
    for one in gone:  # one after the other, so that what was added is folded in as well
        found = found and found.without(rows, np.array([one]))
    left = heads.plain(rows.without(np.array(gone)), 0.1)
    same_penalty = left.hessian(w) + 0.1 * len(gone) * np.eye(8)
    g = np.ones(8)

    assert found is not None
    assert (found.matrix + found.added @ found.added.T) @ same_penalty == pytest.approx(np.eye(8), abs=1e-9)
    exact = np.linalg.solve(left.hessian(w), g)
    assert np.linalg.norm(found.times(g, present=left.rows.count) - exact) < (len(gone) / 30) ** 2 * np.linalg.norm(
        exact
    )


def test_several_rows_at_once_are_one_batch() -> None:
    """A batch takes one outcome and ends below the same fraction, whether Woodbury or a fresh inverse steered it."""
    few, first = remove(trained(n=120, d=12), [2, 3, 4])
    many, second = remove(few, range(5, 45))

    assert (first.removed, first.remaining, first.refreshed) == (3, 117, 0)
    assert (second.removed, second.remaining) == (40, 77)
    assert second.refreshed >= 1
    assert max(first.residual, second.residual) <= TERMS.fraction * TERMS.budget
    assert many.removed == 43


def test_rows_that_are_gone_cost_nothing() -> None:
    """The same batch delivered again changes no bit, and one that overlaps removes what is new only."""
    head, _ = remove(trained(), [2, 3])
    again, outcome = remove(head, [3, 2])
    overlapping, partly = remove(head, [3, 4, 4])

    assert again is head
    assert (outcome.removed, outcome.repeated, outcome.iterations, outcome.residual) == (0, 2, 0, head.residual)
    assert (partly.removed, partly.repeated) == (1, 1)
    assert overlapping.rows.count == 57


def test_an_empty_batch_changes_nothing() -> None:
    """No rows, no step."""
    head = trained()
    same, outcome = remove(head, [])

    assert same is head
    assert outcome.removed == outcome.iterations == 0


def test_a_budget_that_does_not_suffice_forces_training_with_a_fresh_perturbation() -> None:
    """The outcome says so, b is the next round's, the counts start again, and the new residual is inside the budget."""
    before = trained(SHORT)
    after, outcome = remove(before, [5])

    assert outcome.retrained
    assert outcome.perturbations == 2
    assert after.removed == 0
    assert after.b == pytest.approx(0.3 * gaussians(heads.SECRET, round_=1, count=5))
    assert not np.array_equal(after.b, before.b)
    assert outcome.residual <= SHORT.tolerance
    assert outcome.residual == pytest.approx(recomputed(after), abs=1e-9)


def test_a_stale_inverse_is_refreshed() -> None:
    """Where the rows that remain have other curvatures than those it was made with, a fresh inverse takes over."""
    strict = Terms(lam=1e-4, sigma=0.3, budget=1e-5, tolerance=1e-6, limit=20)
    head, refreshed = trained(strict, n=60, d=20), 0
    for i in range(2, 30):
        head, outcome = remove(head, [i])
        refreshed += outcome.refreshed

        assert outcome.residual <= strict.budget
        assert not outcome.retrained
    assert refreshed > 0
    assert head.perturbations == 1


@pytest.mark.parametrize("gone", ["all", "one class", "all but one"])
def test_what_leaves_no_two_classes_is_refused(gone: str) -> None:
    """Two rows, one of each class, have to stay; the refused state is as it was."""
    head = trained()
    y = head.rows.y
    chosen = {"all": np.arange(60), "one class": np.flatnonzero(y == 1), "all but one": np.arange(1, 60)}[gone]

    with pytest.raises(EngineError, match="at least two rows, and one of each class"):
        remove(head, chosen)
    assert head.rows.count == 60


@pytest.mark.parametrize(
    "wrong",
    [
        {"lam": 0.0},
        {"sigma": math.nan},
        {"budget": math.inf},
        {"budget": -1.0},
        {"fraction": 0.0},
        {"fraction": 1.5},
        {"limit": 0},
        {"tolerance": 1.0},
    ],
)
def test_terms_that_promise_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """Zero, negative, NaN and infinite settings, and a tolerance above the part of the budget that steps aim at."""
    with pytest.raises(EngineError):
        dataclasses.replace(TERMS, **wrong)


def test_a_noise_source_that_gives_no_numbers_is_refused() -> None:
    """A perturbation of NaN is no perturbation."""

    def broken(*, round_: int, count: int) -> Vector:
        return np.full(count, np.nan + round_)

    with pytest.raises(EngineError, match="noise source"):
        train(heads.made(), TERMS, broken)


def test_the_perturbation_never_shows() -> None:
    """Neither its numbers nor the secret stand in the repr of a state, an outcome, or a state of many heads."""
    head, outcome = remove(trained(), [4])
    lane = one_vs_rest.Lane(noise=heads.noise(), lane=0, lanes=3)
    said = repr(head) + repr(outcome) + repr(dataclasses.asdict(outcome)) + repr(lane)

    assert repr(heads.SECRET) not in said
    assert heads.SECRET.hex() not in said
    assert not [number for number in head.b if f"{number:.6f}"[:8] in said]


def test_many_classes_are_as_many_heads() -> None:
    """Each class has its own perturbation, a row leaves all of them, and again leaves none."""
    x = heads.features(60, 6, 3)
    labels = np.argmax(x[:, :3], axis=1)
    trio = one_vs_rest.train_all(one_vs_rest.against_the_rest(x, labels, classes=3), TERMS, heads.noise())
    after, outcomes = one_vs_rest.remove_all(trio, [0, 5])
    _, again = one_vs_rest.remove_all(after, [0, 5])

    assert len({head.b.tobytes() for head in trio}) == 3
    assert [outcome.removed for outcome in outcomes] == [2, 2, 2]
    assert all(outcome.residual <= TERMS.budget for outcome in outcomes)
    assert all(head.rows.x is after[0].rows.x for head in after)
    assert [outcome.removed for outcome in again] == [0, 0, 0]


def test_a_class_that_would_vanish_stops_every_head() -> None:
    """One against the rest refuses to lose its last row of a class, before any head has moved."""
    x = heads.features(20, 4, 3)
    labels = np.array([0] * 10 + [1] * 9 + [2])
    trio = one_vs_rest.train_all(one_vs_rest.against_the_rest(x, labels, classes=3), TERMS, heads.noise())

    with pytest.raises(EngineError, match="one of each class"):
        one_vs_rest.remove_all(trio, [19])


@pytest.mark.parametrize(("labels", "classes"), [([0, 1, 0], 2), ([0, 1, 1], 3), ([0, 1, 3], 3)])
def test_classes_without_rows_are_refused(labels: list[int], classes: int) -> None:
    """Two classes are one head; each of more has a row; no label lies outside."""
    with pytest.raises(EngineError, match="one against the rest"):
        one_vs_rest.against_the_rest(heads.features(3, 2, 0), np.array(labels), classes=classes)
