"""Noisy clipped unlearning against runs whose laws can be written down or integrated."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import contraction, gaussian
from audits.contraction import Clipped, Phase, noise_then_project, project_then_noise

runs = st.builds(
    Clipped,
    start_radius=st.floats(0.0, 5.0),
    clip=st.floats(0.0, 5.0),
    learning_rate=st.floats(0.01, 0.5),
    weight_decay=st.floats(0.0, 1.9),
    steps=st.integers(1, 300),
)
RUN = Clipped(start_radius=0.5, clip=1.0, learning_rate=0.1, weight_decay=0.5, steps=3)


def hockey_stick(p: Any, q: Any, width: float, epsilon: float) -> float:  # noqa: ANN401 - arrays
    """D_{e^epsilon} of two densities on a grid."""
    numpy = pytest.importorskip("numpy")
    return float(numpy.maximum(0, p - math.exp(epsilon) * q).sum() * width)


def densities(
    step: Callable[[Any], Any], project: Callable[[Any], Any] | None, start: float, noise: float, steps: int
) -> tuple[Any, Any, float]:
    """Laws of two runs in one dimension, from `start` and -`start`, by quadrature: x -> step(x) + N, then project."""
    numpy = pytest.importorskip("numpy")
    grid = numpy.linspace(-8, 8, 1601)
    width = float(grid[1] - grid[0])
    kernel = numpy.exp(-((grid[:, None] - step(grid)[None, :]) ** 2) / (2 * noise**2)) / math.sqrt(2 * math.pi) / noise
    results = []
    for first in (start, -start):
        mean = step(numpy.array([first]))[0]
        law = numpy.exp(-((grid - mean) ** 2) / (2 * noise**2)) / math.sqrt(2 * math.pi) / noise
        for _ in range(steps - 1):
            before = law * width
            if project is not None:
                before = numpy.bincount(
                    numpy.abs(grid[None, :] - project(grid)[:, None]).argmin(axis=1), before, len(grid)
                )
            law = kernel @ before
        results.append(law)
    return results[0], results[1], width


@given(runs, st.floats(0.1, 10.0))
def test_constant_directions_attain_the_bound(run: Clipped, noise: float) -> None:
    """Runs that are pushed apart all the time are two normal laws exactly mu standard deviations apart."""
    keep = 1 - run.learning_rate * run.weight_decay
    apart, variance = 2 * run.start_radius, 0.0
    for _ in range(run.steps):
        apart = keep * apart + 2 * run.learning_rate * run.clip
        variance = keep**2 * variance + noise**2

    assert run.mu(noise=noise) == pytest.approx(apart / math.sqrt(variance), rel=1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.5])
def test_a_state_that_steers_itself_stays_within_the_bound(epsilon: float) -> None:
    """Directions that look at the state (away from zero, as hard as clipping allows) tell no more than mu does."""
    numpy = pytest.importorskip("numpy")
    p, q, width = densities(lambda x: 0.95 * x + 0.1 * numpy.sign(x), None, 0.5, 0.7, 3)
    exact = hockey_stick(p, q, width, epsilon)

    assert exact <= gaussian.delta(epsilon=epsilon, mu=RUN.mu(noise=0.7)) + 1e-6
    assert exact > 0.3 * gaussian.delta(epsilon=epsilon, mu=RUN.mu(noise=0.7))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_projected_runs_stay_within_their_bound(epsilon: float, steps: int) -> None:
    """In one dimension the laws of two projected runs are no further apart than the contraction says."""
    numpy = pytest.importorskip("numpy")
    p, q, width = densities(lambda x: 0.9 * x + 0.1 * numpy.sign(x), lambda x: numpy.clip(x, -1, 1), 1.0, 1.5, steps)
    run = noise_then_project(radius=1.0, clip=1.0, learning_rate=0.1, weight_decay=1.0, steps=steps)
    bound = math.exp(run.log_delta(epsilon=epsilon, noise=1.5))

    assert hockey_stick(p, q, width, epsilon) <= bound + 1e-6
    if steps == 1:
        assert hockey_stick(p, q, width, epsilon) == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize(("coefficient", "golden"), [(1.0, 6.572970067), (10.0, 28.373473803)])
def test_golden_epsilons(coefficient: float, golden: float) -> None:
    """The published example's noise for a coefficient gives the exact Gaussian's epsilon, not the released one's."""
    run = Clipped(start_radius=0.01, clip=100.0, learning_rate=1e-3, weight_decay=500.0, steps=17_600)
    noise = math.sqrt(0.4**2 * 0.5 * 1.5 / (2 * coefficient))

    assert run.mu(noise=noise) ** 2 / 2 == pytest.approx(coefficient, rel=1e-9)
    assert contraction.epsilon(run, noise=noise, delta=1e-5) == pytest.approx(golden, rel=1e-9)


def test_without_weight_decay_the_sums_are_counts() -> None:
    """At rho = 1 the bound is (2 C0 + 2 T eta C1) / (sigma sqrt T), and almost no decay gives almost the same."""
    plain = Clipped(start_radius=1.0, clip=1.0, learning_rate=0.01, weight_decay=0.0, steps=400)
    nearly = dataclasses.replace(plain, weight_decay=1e-12)

    assert plain.mu(noise=2.0) == pytest.approx((2 + 8) / 40, rel=1e-9)
    assert nearly.mu(noise=2.0) == pytest.approx(plain.mu(noise=2.0), rel=1e-9)


def test_one_step_is_output_perturbation() -> None:
    """Clipping to C and adding noise once is the Gaussian mechanism of sensitivity 2 C."""
    found = contraction.epsilon(project_then_noise(radius=0.5), noise=1.25, delta=1e-5)

    assert found == pytest.approx(gaussian.epsilon(delta=1e-5, mu=0.8), rel=1e-9)


@given(st.floats(0.0, 3.0), st.floats(0.3, 5.0), st.integers(1, 40))
def test_one_projected_step_is_the_clipped_bound(epsilon: float, noise: float, steps: int) -> None:
    """At T = 1 the two bounds are one, and more projected steps never cost more."""
    settings_ = {"clip": 0.5, "learning_rate": 0.2, "weight_decay": 0.3}
    clipped = Clipped(start_radius=1.0, steps=1, **settings_)
    one = noise_then_project(radius=1.0, steps=1, **settings_).log_delta(epsilon=epsilon, noise=noise)
    several = noise_then_project(radius=1.0, steps=steps, **settings_).log_delta(epsilon=epsilon, noise=noise)

    assert one == pytest.approx(clipped.log_delta(epsilon=epsilon, noise=noise), rel=1e-9)
    assert several <= one + 1e-9


@given(runs, st.floats(0.2, 10.0), st.floats(1.0, 3.0))
def test_more_noise_never_costs_more(run: Clipped, noise: float, more: float) -> None:
    """Epsilon falls with the noise of a step, for both kinds of run."""
    ball = noise_then_project(
        radius=1.0, clip=run.clip, learning_rate=0.1, weight_decay=run.weight_decay, steps=min(run.steps, 20)
    )
    for one in (run, ball):
        here = one.log_delta(epsilon=1.0, noise=noise)
        assert one.log_delta(epsilon=1.0, noise=noise * more) <= here + 1e-9


def test_directions_add_up() -> None:
    """The clipped bound is best where the start is forgotten and the directions have not added up yet."""
    mus = [
        Clipped(start_radius=1.0, clip=1.0, learning_rate=0.01, weight_decay=0.0, steps=steps).mu(noise=1.0)
        for steps in (10, 100, 1000)
    ]

    assert mus[1] < mus[0]
    assert mus[1] < mus[2]


@settings(max_examples=25)
@given(runs, st.floats(0.1, 20.0), st.floats(1e-9, 0.1))
def test_the_noise_for_an_epsilon_reaches_it_and_wastes_little(run: Clipped, epsilon: float, delta: float) -> None:
    """The noise found gives an epsilon at the target or just below it, for both kinds of run."""
    pushed = dataclasses.replace(run, clip=run.clip + 0.1)
    for one in (pushed, project_then_noise(radius=1.0, steps=3)):
        noise = contraction.noise_for(one, epsilon=epsilon, delta=delta)
        assert contraction.epsilon(one, noise=noise, delta=delta) <= epsilon
        assert contraction.epsilon(one, noise=noise * 0.999, delta=delta) > epsilon * 0.99


@pytest.mark.parametrize(
    ("steps", "golden"), [(1, 7.461263276), (2, 2.334705782), (10, 0.748777474), (1000, 0.316920225)]
)
def test_golden_noise_of_projected_runs(steps: int, golden: float) -> None:
    """The noise for epsilon 1 at delta 1e-5 in a ball of radius 1: a change here is a decision."""
    found = contraction.noise_for(project_then_noise(radius=1.0, steps=steps), epsilon=1.0, delta=1e-5)

    assert found == pytest.approx(golden, rel=1e-8)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.floats(0.0, 0.9), st.floats(0.0, 3.0))
def test_shifts_never_exceed_the_distance(lengths: list[int], pull: float, distance: float) -> None:
    """With drifts that do not grow the proof's shifts are there to be made, and reach zero at the end."""
    phases = [Phase(steps=steps, drift=1.0 / (1 + i)) for i, steps in enumerate(lengths)]
    total, keep = sum(lengths), 1 - pull
    mu = contraction.interpolated_mu(phases=phases, pull=pull, distance=distance, noise=1.0)
    scale = mu / math.sqrt(math.fsum(keep ** (2 * k) for k in range(total)))
    apart, t = distance, 0
    for phase in phases:
        for _ in range(phase.steps):
            t += 1
            apart = keep * apart + phase.drift - scale * keep ** (total - t)
            assert apart >= -1e-9
    assert apart == pytest.approx(0.0, abs=1e-8)


def test_drifts_that_grow_are_refused() -> None:
    """A drift that comes late can't be shifted early: the formula would promise too much."""
    phases = [Phase(steps=5, drift=0.0), Phase(steps=1, drift=1.0)]

    with pytest.raises(ValueError, match="do not grow"):
        contraction.interpolated_mu(phases=phases, pull=0.0, distance=0.0, noise=1.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"start_radius": -1.0},
        {"start_radius": math.nan},
        {"start_radius": math.inf},
        {"clip": math.nan},
        {"clip": math.inf},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"weight_decay": -1.0},
        {"weight_decay": 10.0},
        {"weight_decay": math.nan},
        {"steps": 0},
        {"steps": contraction.LONGEST + 1},
    ],
)
def test_runs_that_the_theorem_does_not_cover_are_refused(changes: dict[str, Any]) -> None:
    """No clipping, no start, no steps, or decay that overshoots: no run."""
    with pytest.raises(ValueError, match=r"\.$"):
        dataclasses.replace(RUN, **changes)


@pytest.mark.parametrize("noise", [0.0, -1.0, math.nan, math.inf])
def test_noise_without_meaning_is_refused(noise: float) -> None:
    """Every step adds noise of a finite standard deviation."""
    for run in (RUN, project_then_noise(radius=1.0)):
        with pytest.raises(ValueError, match="noise of a step"):
            run.log_delta(epsilon=1.0, noise=noise)


@pytest.mark.parametrize("radius", [0.0, -1.0, math.nan, math.inf])
def test_balls_without_meaning_are_refused(radius: float) -> None:
    """A ball has a finite radius above zero, and there is a limit to its steps."""
    with pytest.raises(ValueError, match=r"ball"):
        project_then_noise(radius=radius)
    with pytest.raises(ValueError, match=r"ball"):
        noise_then_project(radius=radius, clip=1.0, learning_rate=0.1, weight_decay=0.0, steps=1)
    with pytest.raises(ValueError, match="steps"):
        project_then_noise(radius=1.0, steps=contraction.LONGEST_PROJECTED + 1)
