"""The logistic head against scipy, torch's derivatives and hand counts; and what it refuses."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import root
from scipy.special import expit
from torch.nn import functional

from engine.errors import EngineError
from engine.heads.logistic import Logistic, classify, fit
from engine.heads.rows import LARGEST_NORM, Rows, Vector
from tests.engine import heads


def by_autograd(problem: Logistic, w: Vector) -> tuple[float, Vector, Vector]:
    """Value, gradient and Hessian of the loss over the present rows, written down once more in torch."""
    kept = problem.rows.y != 0
    x, y = torch.from_numpy(problem.rows.x[kept]), torch.from_numpy(problem.rows.y[kept])
    b = torch.from_numpy(problem.b)

    def loss(v: torch.Tensor) -> torch.Tensor:
        return -functional.logsigmoid(y * (x @ v)).sum() + problem.lam * len(y) / 2 * (v @ v) + b @ v

    v = torch.from_numpy(w.copy()).requires_grad_()
    value = loss(v)
    (slope,) = torch.autograd.grad(value, v)
    hessian = torch.autograd.functional.hessian(loss, v.detach())
    return value.item(), slope.numpy(), hessian.numpy()


@given(st.integers(0, 1000), st.floats(1e-4, 1.0), st.integers(0, 5))
def test_derivatives_are_those_of_automatic_differentiation(seed: int, lam: float, gone: int) -> None:
    """Value, gradient and Hessian agree with torch's in double precision, with b and with rows forgotten."""
    rng = np.random.default_rng(seed)
    rows = heads.made(20, 4, seed=seed).without(np.arange(2, 2 + gone))
    problem = Logistic(rows=rows, lam=lam, b=rng.standard_normal(4))
    w = 3 * rng.standard_normal(4)
    value, slope, hessian = by_autograd(problem, w)

    assert problem.value(w) == pytest.approx(value, rel=1e-12)
    assert problem.gradient(w) == pytest.approx(slope, rel=1e-10, abs=1e-12)
    assert problem.hessian(w) == pytest.approx(hessian, rel=1e-10, abs=1e-12)


def test_the_minimiser_is_the_root_that_scipy_finds() -> None:
    """MINPACK's root of the gradient, written down once more, is where L-BFGS ends."""
    rows, b = heads.made(80, 6), np.linspace(-1, 1, 6)

    def slope(w: Vector) -> Vector:
        return np.asarray(-(rows.y / (1 + np.exp(rows.y * (rows.x @ w)))) @ rows.x + 0.01 * 80 * w + b)

    found = fit(Logistic(rows=rows, lam=0.01, b=b), tolerance=1e-9)

    assert found.weights == pytest.approx(root(slope, np.zeros(6), tol=1e-12).x, abs=1e-8)
    assert found.gradient_norm <= 1e-9


def test_one_feature_is_a_hand_count() -> None:
    """Two rows x = 1 of opposite labels balance at 0, and b moves them to the root of its own equation."""
    rows = Rows(x=np.ones((2, 1)), y=np.array([1.0, -1.0]))
    w = fit(Logistic(rows=rows, lam=0.5, b=np.array([0.3])), tolerance=1e-9).weights[0]

    assert 2 * expit(w) - 1 + w + 0.3 == pytest.approx(0, abs=1e-9)


def test_the_bound_on_the_gradient_holds_what_rounding_hid() -> None:
    """The norm is never below that of the same gradient in extended precision."""
    rows = heads.made(300, 8)
    problem = heads.plain(rows, 0.01)
    w = fit(problem, tolerance=1e-9).weights
    x, y, v = (np.asarray(one, dtype=np.longdouble) for one in (rows.x, rows.y, w))
    exact = (-y / (1 + np.exp(y * (x @ v)))) @ x + np.longdouble(0.01) * 300 * v

    assert problem.norm(w, problem.gradient(w)) >= float(np.linalg.norm(exact.astype(np.float64)))
    assert problem.norm(w, problem.gradient(w)) < 1e-8


def test_newton_finishes_where_lbfgs_stalls() -> None:
    """After two iterations of L-BFGS the polishing steps still reach the tolerance."""
    found = fit(heads.plain(heads.made(), 1e-3), tolerance=1e-9, iterations=2)

    assert found.newton_steps > 0
    assert found.gradient_norm <= 1e-9


def test_a_fit_that_did_not_converge_is_refused() -> None:
    """A tolerance below what double precision can show is refused with the theorem's condition."""
    with pytest.raises(EngineError, match=r"the theorem needs the exact minimiser: gradient norm .* is above 1e-30"):
        fit(heads.plain(heads.made(), 1e-3), tolerance=1e-30)


@pytest.mark.parametrize("factor", [1 + 1e-6, 2.0, np.nan, np.inf])
def test_rows_that_are_too_long_or_not_finite_are_refused(factor: float) -> None:
    """One row of norm above 1, NaN or infinity is enough."""
    x = heads.features(6, 3, 0)
    x[4] *= factor

    with pytest.raises(EngineError, match="of norm at most 1"):
        Rows(x=x, y=np.array([1.0, -1, 1, -1, 1, -1]))


def test_a_row_may_miss_norm_1_by_rounding() -> None:
    """Norm 1 + 1e-10 is accepted, and the constants are those of a little more."""
    x = heads.features(2, 3, 0) * (1 + 1e-10)

    assert Rows(x=x, y=np.array([1.0, -1.0])).count == 2
    assert LARGEST_NORM > 1 + 1e-10


@pytest.mark.parametrize("labels", [[0, 1, 1], [1, 1, 1], [-1, -1, -1], [2, -1, 1], [np.nan, -1, 1], [1, -1]])
def test_labels_that_are_none_are_refused(labels: list[float]) -> None:
    """Labels are -1 and +1, both occur, and there is one a row; 0 belongs to forgotten rows alone."""
    with pytest.raises(EngineError):
        Rows(x=heads.features(3, 2, 0), y=np.array(labels, dtype=np.float64))


def test_single_precision_is_refused() -> None:
    """Residuals are certified in double precision only."""
    with pytest.raises(EngineError, match="double precision"):
        Rows(x=heads.features(2, 2, 0).astype(np.float32), y=np.array([1.0, -1.0]))


@pytest.mark.parametrize("lam", [0.0, -1.0, np.nan, np.inf])
def test_a_penalty_that_is_none_is_refused(lam: float) -> None:
    """Without strong convexity there is no theorem."""
    with pytest.raises(EngineError, match="strong convexity"):
        heads.plain(heads.made(), lam)


def test_forgotten_rows_are_overwritten() -> None:
    """Neither features nor labels of a forgotten row are in the rows that remain, nor any row in a repr."""
    rows = heads.made()
    left = rows.without(np.array([3, 7]))

    assert not left.x[[3, 7]].any()
    assert not left.y[[3, 7]].any()
    assert left.count == 58
    assert "0." not in repr(left)


@pytest.mark.parametrize("asked", [[60], [-1], [True, False], [0.5], [[1]]])
def test_numbers_of_no_row_are_refused(asked: list[int]) -> None:
    """Out of range, negative, masks, fractions and tables."""
    with pytest.raises(EngineError, match="row"):
        heads.made().present(asked)


def test_the_largest_margin_wins() -> None:
    """A row goes to the head that it is most on the side of."""
    weights = [np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([-1.0, -1.0])]

    assert classify(weights, np.array([[2.0, 1.0], [0.0, 1.0], [-1.0, -2.0]])).tolist() == [0, 1, 2]


def test_heads_need_no_torch() -> None:
    """A fresh process that imports every module of the package holds no torch."""
    names = "bounds constants descent inverse langevin logistic networks newton one_vs_rest rewind rows weights"
    code = f"import sys, importlib\nfor n in '{names}'.split(): importlib.import_module('engine.heads.' + n)\n"
    ran = subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=False)

    assert ran.returncode == 0
