"""Certificates of convex models against the literature, and against runs whose end is known."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import convex, gaussian
from audits.convex import Descent, Langevin, Stretch

# The constants of the published MNIST experiments: 3 against 8, lambda n = m.
POINTS = 11_982
DESCENT = Descent(curvature=0.011982, smoothness=0.261982, slope=1.0, points=POINTS, iterations=5)
LANGEVIN = Langevin(
    curvature=0.011982, smoothness=0.261982, slope=1.0, points=POINTS, learning_rate=1 / 0.261983, noise=0.03
)
EICU: dict[str, Any] = {"learning_rate": 0.01, "smoothness": 0.2065, "slope": 0.5946, "points": 94_449, "removed": 944}

epsilons = st.floats(0.05, 20.0)
deltas = st.floats(1e-9, 0.1)


@pytest.mark.parametrize(("delta", "noise", "golden"), [(1e-4, 10.0, 2.280), (1e-5, 10.0, 2.048), (1e-4, 0.3, 0.0684)])
def test_golden_newton_budgets(delta: float, noise: float, golden: float) -> None:
    """The budget for epsilon 1 is noise / c, with c 4.385 at delta 1e-4."""
    assert convex.newton_budget(epsilon=1.0, delta=delta, noise=noise) == pytest.approx(golden, rel=5e-4)


@given(epsilons, deltas, st.integers(1, 10))
def test_newton_budgets_and_epsilons_are_inverse(epsilon: float, delta: float, problems: int) -> None:
    """Models that all spend their budget have no more than the epsilon asked for, and not much less."""
    budget = convex.newton_budget(epsilon=epsilon, delta=delta, noise=2.0, problems=problems)
    found = convex.newton_epsilon(residuals=[budget] * problems, noise=2.0, delta=delta)

    assert 0.999999 * epsilon <= found <= epsilon


@given(epsilons, deltas)
def test_newton_budgets_stay_within_the_exact_gaussian(epsilon: float, delta: float) -> None:
    """A fixed residual of the budget's norm shifts a normal law, and its delta at epsilon is no larger than stated."""
    budget = convex.newton_budget(epsilon=epsilon, delta=delta, noise=1.0)

    assert gaussian.delta(epsilon=epsilon, mu=budget) <= delta


def test_the_published_budget_is_cut_where_it_would_promise_too_much() -> None:
    """At epsilon 10 and delta 1e-4 the theorem's residual would need twice the delta: less is allowed."""
    factor = math.sqrt(2 * math.log(1.5e4))

    assert gaussian.delta(epsilon=10.0, mu=10.0 / factor) > 1e-4
    assert convex.newton_budget(epsilon=10.0, delta=1e-4, noise=1.0) < 0.99 * 10.0 / factor


@pytest.mark.parametrize(("regularisation", "golden"), [(1e-3, 1251.6), (1e-2, 12.516), (1e-1, 0.12516)])
def test_golden_worst_case_residuals(regularisation: float, golden: float) -> None:
    """The worst case of one logistic point among 800 is 1251 at lambda 1e-3: far above any budget."""
    found = convex.worst_case_residual(points=800, removed=1, regularisation=regularisation)

    assert found == pytest.approx(golden, rel=1e-3)
    assert convex.worst_case_residual(points=800, removed=2, regularisation=regularisation) > 4 * found


@pytest.mark.parametrize("steps", [0, 3, 40])
def test_the_gradient_bounds_the_distance_to_the_minimum(steps: int) -> None:
    """A logistic model stopped anywhere lies within gradient / curvature of its minimum."""
    numpy = pytest.importorskip("numpy")
    generator = numpy.random.default_rng(7)
    rows = generator.normal(size=(40, 3))
    rows *= generator.choice([-1, 1], size=(40, 1)) / numpy.linalg.norm(rows, axis=1, keepdims=True)

    def gradient(w: Any) -> Any:  # noqa: ANN401 - arrays
        return -(rows / (1 + numpy.exp(rows @ w))[:, None]).mean(axis=0) + 0.1 * w

    points = []
    for count in (steps, 2000):
        w = numpy.ones(3)
        for _ in range(count):
            w = w - gradient(w)
        points.append(w)
    distance, residual = (float(numpy.linalg.norm(v)) for v in (points[0] - points[1], gradient(points[0])))

    assert distance <= convex.residual_mu(residual=residual, reference_residual=1e-12, curvature=0.1, noise=1.0)


def test_a_small_residual_can_carry_a_secret() -> None:
    """Two solvers whose residuals are a millionth of the noise, and whose outputs tell the data sets apart."""
    numpy = pytest.importorskip("numpy")
    b = numpy.random.default_rng(5).normal(size=1000)  # F(w) = w^2 / 2 + b w, so that the minimum is -b
    grid = 1e-6
    outputs = [2 * grid * numpy.round(-b / (2 * grid)) + bit * grid for bit in (0, 1)]

    for bit, w in enumerate(outputs):
        assert numpy.abs(w + b).max() <= 2.001 * grid
        assert (numpy.round(w / grid) % 2 == bit).all()
    assert convex.newton_epsilon(residuals=[2.001 * grid], noise=1.0, delta=1e-5) < 1e-4


def test_newtons_residual_depends_on_b_and_costs_more_than_a_shift() -> None:
    """Over b, b.u has a mean, which the Jacobian cancels; the log-ratio spreads more than that of a shift by u."""
    numpy = pytest.importorskip("numpy")
    generator = numpy.random.default_rng(11)
    rows = generator.normal(size=(60, 8))
    rows /= numpy.linalg.norm(rows, axis=1, keepdims=True)
    products, determinants, ratios, mus = numpy.array([_newton_loss(rows, 12, 6.0, generator) for _ in range(200)]).T

    assert products.mean() > 3 * products.std() / math.sqrt(200)
    assert determinants.mean() == pytest.approx(-products.mean(), abs=4 * products.std() / math.sqrt(200))
    assert 1.1 < ratios.std() / math.sqrt((mus**2).mean()) < 1.6


def _newton_loss(rows: Any, gone: int, weight: float, generator: Any) -> tuple[float, float, float, float]:  # noqa: ANN401
    """One draw of b at noise 1: b.u, log |det db-/db|, log density ratio, |u| (docs/guarantees.md, section 9)."""
    numpy = pytest.importorskip("numpy")
    kept, identity = rows[:-gone], numpy.eye(rows.shape[1])

    def gradient(w: Any, x: Any) -> Any:  # noqa: ANN401 - arrays
        return -x.T @ (1 / (1 + numpy.exp(x @ w))) + weight * w

    def hessian(w: Any, x: Any) -> Any:  # noqa: ANN401 - arrays
        p = 1 / (1 + numpy.exp(-x @ w))
        return (x * (p * (1 - p))[:, None]).T @ x + weight * identity

    b, w = generator.normal(size=rows.shape[1]), numpy.zeros(rows.shape[1])
    for _ in range(30):
        w = w - numpy.linalg.solve(hessian(w, rows), gradient(w, rows) + b)
    before = hessian(w, kept)
    step = -numpy.linalg.solve(before, gradient(w, kept) + b)
    p = 1 / (1 + numpy.exp(-kept @ w))
    turn = (kept * (p * (1 - p) * (1 - 2 * p) * (kept @ step))[:, None]).T @ kept
    after = -gradient(w + step, kept)
    full = hessian(w, rows)
    jacobian = hessian(w + step, kept) @ numpy.linalg.solve(before, full - turn) @ numpy.linalg.inv(full)
    determinant = float(numpy.linalg.slogdet(jacobian)[1])
    ratio = float(after @ after - b @ b) / 2 - determinant
    return float(b @ (b - after)), determinant, ratio, float(numpy.linalg.norm(b - after))


@pytest.mark.parametrize(("iterations", "golden"), [(1, 2.585), (2, 1.233), (5, 0.427), (20, 0.0473), (50, 0.0026)])
def test_golden_descent_noise(iterations: int, golden: float) -> None:
    """Descent-to-Delete's noise with the published constants, at epsilon 1 and delta 1/n."""
    run = dataclasses.replace(DESCENT, iterations=iterations)

    assert convex.descent_noise(run, epsilon=1.0, delta=1 / POINTS) == pytest.approx(golden, abs=5e-4 * golden + 5e-5)


@given(epsilons, deltas, st.integers(1, 200))
def test_descent_inverts(epsilon: float, delta: float, iterations: int) -> None:
    """Epsilon from the noise for an epsilon is that epsilon, and the exact curve of its sensitivity is lower."""
    run = dataclasses.replace(DESCENT, iterations=iterations)
    noise = convex.descent_noise(run, epsilon=epsilon, delta=delta)

    assert convex.descent_epsilon(run, noise=noise, delta=delta) == pytest.approx(epsilon, rel=1e-9)
    assert gaussian.epsilon(delta=delta, mu=convex.descent_mu(run, noise=noise)) <= epsilon


@given(st.integers(1, 100), st.integers(1, 50), st.floats(0.001, 1.0), st.floats(1.01, 3.0))
def test_more_descent_and_more_noise_never_cost_more(iterations: int, further: int, noise: float, more: float) -> None:
    """Epsilon falls with the iterations and with the noise."""
    run = dataclasses.replace(DESCENT, iterations=iterations)
    longer = dataclasses.replace(DESCENT, iterations=iterations + further)
    here = convex.descent_epsilon(run, noise=noise, delta=1e-5)

    assert convex.descent_epsilon(longer, noise=noise, delta=1e-5) < here
    assert convex.descent_epsilon(run, noise=noise * more, delta=1e-5) < here


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_the_stateless_variant_inverts(epsilon: float) -> None:
    """Epsilon of the noise that perfect unlearning asks for is that epsilon, and the noise exceeds that of a secret."""
    run = dataclasses.replace(DESCENT, iterations=200)
    noise = convex.stateless_noise(run, dimension=784, epsilon=epsilon, delta=1e-5)

    assert convex.stateless_epsilon(run, dimension=784, noise=noise, delta=1e-5) == pytest.approx(epsilon, rel=1e-9)
    assert noise > convex.descent_noise(run, epsilon=epsilon, delta=1e-5)


def test_the_stateless_variant_needs_its_iterations() -> None:
    """Too few iterations are refused, and each request adds some that grow very slowly."""
    extra = [
        convex.stateless_iterations(DESCENT, dimension=784, request=i, delta=1e-5) - DESCENT.iterations
        for i in (1, 10, 1000)
    ]

    with pytest.raises(ValueError, match="iterations are too few"):
        convex.stateless_noise(DESCENT, dimension=784, epsilon=1.0, delta=1e-5)
    assert extra == [33, 34, 36]


@pytest.mark.parametrize(
    ("epsilon", "noise"), [(0.05, 0.1872), (0.1, 0.094), (0.5, 0.019), (1.0, 0.0096), (2.0, 0.0049), (5.0, 0.0021)]
)
def test_published_langevin_noise_follows_from_its_formula(epsilon: float, noise: float) -> None:
    """The published noise is that of one step with the simple conversion; ours, and the sharper bound, are lower."""
    run = dataclasses.replace(LANGEVIN, noise=noise)
    renyi = 4 / (run.curvature * (noise * POINTS) ** 2)
    delta = 1 / POINTS
    published = renyi + 2 * math.sqrt(renyi * math.log(1 / delta))
    converted = convex.langevin_epsilon(run, stretches=[Stretch(steps=1, removed=1)], delta=delta)
    mu = convex.langevin_mu(
        run, stretches=[Stretch(steps=10_000, removed=1), Stretch(steps=1, removed=0)], distance=0.0
    )

    assert published == pytest.approx(epsilon, rel=5e-3)
    assert gaussian.epsilon(delta=delta, mu=mu) < converted < published


@pytest.mark.parametrize(
    ("steps", "published", "sharp"), [(10, 44.948, 16.138), (100, 13.254, 0.118927), (2000, 0.67338, 0.0)]
)
def test_golden_langevin_epsilons(steps: int, published: float, sharp: float) -> None:
    """A hundred points at noise 0.03: the published bound wants thousands of steps, shifted interpolation a hundred."""
    found = convex.langevin_epsilon(LANGEVIN, stretches=[Stretch(steps=steps, removed=100)], delta=1 / POINTS)
    phases = [Stretch(steps=10_000, removed=100), Stretch(steps=steps, removed=0)]
    mu = convex.langevin_mu(LANGEVIN, stretches=phases, distance=0.0)

    assert found == pytest.approx(published, rel=1e-3)
    assert gaussian.epsilon(delta=1 / POINTS, mu=mu) == pytest.approx(sharp, rel=1e-3)


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 30))
def test_a_quadratic_attains_the_langevin_bound(learning: int, unlearning: int, removed: int) -> None:
    """Where removed points pull with full slope to one side, and others to the other, the bound is exact."""
    keep = 1 - LANGEVIN.learning_rate * LANGEVIN.curvature
    apart, variance = 0.5, 0.0
    for step in range(learning + unlearning):
        drift = 2 * LANGEVIN.learning_rate * removed / POINTS if step < learning else 0.0
        apart = keep * apart + drift
        variance = keep**2 * variance + 2 * LANGEVIN.learning_rate * LANGEVIN.noise**2
    phases = [Stretch(steps=learning, removed=removed)]
    phases += [Stretch(steps=unlearning, removed=0)] if unlearning else []
    mu = convex.langevin_mu(LANGEVIN, stretches=phases, distance=0.5)

    assert mu == pytest.approx(apart / math.sqrt(variance), rel=1e-9)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(10, 3000), st.floats(1.0, 3.0))
def test_langevin_epsilon_falls_with_steps_and_noise(removed: list[int], steps: int, more: float) -> None:
    """More steps for every request, or more noise, never cost more; another request is never free."""
    requests = [Stretch(steps=steps, removed=count) for count in removed]
    longer = [Stretch(steps=2 * steps, removed=count) for count in removed]
    louder = dataclasses.replace(LANGEVIN, noise=LANGEVIN.noise * more)
    here = convex.langevin_epsilon(LANGEVIN, stretches=requests, delta=1e-5)

    assert convex.langevin_epsilon(LANGEVIN, stretches=longer, delta=1e-5) <= here
    assert convex.langevin_epsilon(louder, stretches=requests, delta=1e-5) <= here
    assert here <= convex.langevin_epsilon(LANGEVIN, stretches=[requests[0], *requests], delta=1e-5)


@pytest.mark.parametrize(("steps", "low", "high"), [(78 * 47, 530.0, 541.0), (78, 0.045, 0.052)])
def test_golden_rewinding(steps: int, low: float, high: float) -> None:
    """The published eICU constants want noise 536 at 7 % rewind and epsilon 1, and 0.05 only if steps are epochs."""
    distance = convex.rewind_distance(steps=steps, rewound=int(0.07 * steps), **EICU)
    classic = distance * math.sqrt(2 * math.log(1.25e5))
    exact = distance / gaussian.mu_for(epsilon=1.0, delta=1e-5)

    assert low <= classic <= high
    assert 0.7 * classic < exact < classic
    assert gaussian.epsilon(delta=1e-5, mu=convex.rewind_mu(distance=distance, noise=exact)) <= 1.0 + 1e-6


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 100))
def test_rewinding_is_its_recursion(learning: int, rewound: int, removed: int) -> None:
    """The closed form is that of steps that drift apart and stretch the gap, then of steps that only stretch it."""
    settings = EICU | {"removed": removed}
    gap, growth = 0.0, 1 + 0.01 * 0.2065
    for step in range(learning + rewound):
        gap = growth * gap + (0.01 * 2 * removed * 0.5946 / 94_449 if step < learning else 0.0)

    found = convex.rewind_distance(steps=learning + rewound, rewound=rewound, **settings)

    assert found == pytest.approx(gap, rel=1e-9, abs=1e-15)
    if learning:
        assert convex.rewind_distance(steps=learning + rewound, rewound=rewound + 1, **settings) <= found


def test_rewinding_everything_is_retraining() -> None:
    """With all steps rewound nothing is left to tell; a deep network's bound is beyond any noise and is refused."""
    assert convex.rewind_distance(steps=50, rewound=50, **EICU) == 0
    with pytest.raises(ValueError, match="beyond any noise"):
        convex.rewind_distance(steps=3666, rewound=256, **EICU | {"smoothness": 20.0})


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_constants_without_meaning_are_refused(bad: float) -> None:
    """Noise and the constants of a loss are finite numbers above zero."""
    for name in ("curvature", "smoothness", "slope"):
        change: dict[str, Any] = {name: bad}
        for run in (DESCENT, LANGEVIN):
            with pytest.raises(ValueError, match=r"\.$"):
                dataclasses.replace(run, **change)
    with pytest.raises(ValueError, match="finite and above zero"):
        convex.newton_budget(epsilon=1.0, delta=1e-5, noise=bad)
    with pytest.raises(ValueError, match="finite and above zero"):
        convex.residual_mu(residual=1.0, reference_residual=0.0, curvature=1.0, noise=bad)
    with pytest.raises(ValueError, match="finite and above zero"):
        convex.descent_epsilon(DESCENT, noise=bad, delta=1e-5)
    with pytest.raises(ValueError, match="finite and above zero"):
        convex.rewind_mu(distance=1.0, noise=bad)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_residuals_without_meaning_are_refused(bad: float) -> None:
    """A residual that was not measured never passes."""
    with pytest.raises(ValueError, match="residual is finite"):
        convex.newton_epsilon(residuals=[0.1, bad], noise=1.0, delta=1e-5)
    with pytest.raises(ValueError, match="residual is finite"):
        convex.residual_mu(residual=bad, reference_residual=0.0, curvature=1.0, noise=1.0)
    with pytest.raises(ValueError, match="residual is finite"):
        convex.residual_mu(residual=0.0, reference_residual=bad, curvature=1.0, noise=1.0)


def test_runs_that_no_theorem_covers_are_refused() -> None:
    """Steps that overshoot, curvature above smoothness, more removed than there were, and no requests have no bound."""
    with pytest.raises(ValueError, match="learning rate is at most"):
        dataclasses.replace(LANGEVIN, learning_rate=4.0)
    with pytest.raises(ValueError, match="curvature"):
        dataclasses.replace(DESCENT, curvature=1.0)
    with pytest.raises(ValueError, match="At least one point"):
        convex.worst_case_residual(points=3, removed=3, regularisation=0.1)
    with pytest.raises(ValueError, match="at least one request"):
        convex.langevin_epsilon(LANGEVIN, stretches=[], delta=1e-5)
    with pytest.raises(ValueError, match="one point stays"):
        convex.rewind_distance(steps=5, rewound=1, **EICU | {"removed": 94_449})
    with pytest.raises(ValueError, match="steps are rewound"):
        convex.rewind_distance(steps=5, rewound=6, **EICU)
    with pytest.raises(ValueError, match="one problem"):
        convex.newton_epsilon(residuals=[], noise=1.0, delta=1e-5)
