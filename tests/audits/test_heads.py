"""What the mechanisms of convex heads promise, against laws that are known exactly."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from audits import gaussian, mechanisms

DELTA = 1e-5
MEASURED: dict[str, Any] = {
    "mechanism": mechanisms.MEASURED, "curvature": 1e-5, "residual": 1e-8, "noise": 0.01, "features": "fixed",
}  # fmt: skip
CONTRACTED: dict[str, Any] = {
    "mechanism": mechanisms.CONTRACTED,
    "startRadius": 0.1,
    "curvature": 1e-4,
    "smoothness": 0.2502,
    "gradientError": 1e-9,
    "noise": 0.3,
    "steps": 1000,
    "features": "fixed",
}
REMOVED: dict[str, Any] = {
    "mechanism": mechanisms.REMOVED, "curvature": 1e-3, "residual": 1e-3, "noise": 0.05, "problems": 10,
    "features": "fixed",
}  # fmt: skip
KEPT: dict[str, Any] = {
    "mechanism": mechanisms.KEPT,
    "curvature": 1e-3,
    "smoothness": 0.2511,
    "slope": 6.33,
    "gradientError": 1e-9,
    "points": 5000,
    "steps": 1000,
    "noise": 0.02,
    "problems": 10,
    "features": "fixed",
}
REWOUND: dict[str, Any] = {
    "mechanism": mechanisms.REWOUND,
    "smoothness": 0.25,
    "slope": 4.0,
    "learningRate": 1.0,
    "steps": 20,
    "rewound": 15,
    "share": 0.01,
    "noise": 30.0,
    "features": "fixed",
}
LANGEVIN = {**CONTRACTED, "mechanism": mechanisms.LANGEVIN, "noise": 0.02}


def exact(mu: float, epsilon: float) -> float:
    """The delta of two normal laws that lie mu standard deviations apart, by scipy."""
    log_tail = epsilon + norm.logcdf(-mu / 2 - epsilon / mu)
    return float(norm.cdf(mu / 2 - epsilon / mu) - math.exp(log_tail))


def apart(record: dict[str, Any]) -> float:
    """How far two ends can lie apart in a walk, followed step by step, and how much noise there is then."""
    m, smooth = record["curvature"], record["smoothness"]
    shrink, rate = (smooth - m) / (smooth + m), 2 / (smooth + m)
    distance, variance = 2 * record["startRadius"], 0.0
    for _ in range(record["steps"]):
        distance = shrink * distance + 2 * rate * record["gradientError"]
        variance = shrink**2 * variance + record["noise"] ** 2
    once = record["mechanism"] == mechanisms.CONTRACTED
    return float(distance / (record["noise"] if once else math.sqrt(variance)))


@pytest.mark.parametrize(("record", "golden"), [(MEASURED, 0.7255), (CONTRACTED, 1.1309), (LANGEVIN, 0.7303)])
def test_golden_epsilons(record: dict[str, Any], golden: float) -> None:
    """2g/(m sigma) = 0.2; gamma^T 2R / sigma; and the same over the noise that is left of all steps."""
    assert mechanisms.epsilon(record, delta=DELTA, group=1) == pytest.approx(golden, abs=1e-4)


@given(st.floats(1e-6, 1.0), st.floats(1e-12, 1e-3), st.floats(1e-3, 10.0))
def test_a_measured_gradient_is_never_promised_less_than_the_exact_law_of_the_worst_pair(
    curvature: float, residual: float, mu: float
) -> None:
    """On a quadratic the two points are just so far apart, and the bound is neither below that nor much above it."""
    noise = 2 * residual / (curvature * mu)
    record = {**MEASURED, "curvature": curvature, "residual": residual, "noise": noise}
    epsilon = mechanisms.epsilon(record, delta=DELTA, group=1)

    assert epsilon == 0 or exact(mu, epsilon) == pytest.approx(DELTA, rel=1e-5)
    assert exact(mu, epsilon + 1e-9) <= DELTA * (1 + 1e-6)


@given(
    st.sampled_from([CONTRACTED, LANGEVIN]), st.floats(0.01, 5.0), st.floats(1e-4, 0.5), st.integers(1, 300),
    st.floats(0.01, 2.0),
)  # fmt: skip
def test_a_walk_is_never_promised_less_than_its_worst_pair(
    record: dict[str, Any], radius: float, curvature: float, steps: int, noise: float
) -> None:
    """Step by step on a quadratic from opposite ends of the ball: a normal law, and its exact curve."""
    told = {**record, "startRadius": radius, "curvature": curvature, "smoothness": curvature + 0.25, "steps": steps}
    told["noise"] = noise
    epsilon, mu = mechanisms.epsilon(told, delta=DELTA, group=1), apart(told)

    if mu < 30:  # beyond it scipy's difference is rounding
        assert exact(mu, epsilon) <= DELTA * (1 + 1e-6)
        assert epsilon == 0 or exact(mu, epsilon) == pytest.approx(DELTA, rel=1e-5)


@pytest.mark.parametrize("record", [MEASURED, CONTRACTED, LANGEVIN, REMOVED, KEPT, REWOUND])
@pytest.mark.parametrize("target", [0.1, 1.0, 8.0])
def test_the_noise_for_a_target_keeps_it(record: dict[str, Any], target: float) -> None:
    """What is recomputed never exceeds what was asked, nor falls far below it, for a group of any size."""
    noise = mechanisms.noise_for(record, epsilon=target, delta=DELTA)
    reached = mechanisms.epsilon({**record, "noise": noise}, delta=DELTA, group=1)

    assert 0.999 * target <= reached <= target
    assert mechanisms.epsilon({**record, "noise": noise}, delta=DELTA, group=500) == reached


@pytest.mark.parametrize(
    ("record", "change"),
    [
        (MEASURED, {"noise": 0.0}),
        (MEASURED, {"curvature": 0.0}),
        (MEASURED, {"residual": math.nan}),
        (CONTRACTED, {"smoothness": 0.25}),
        (CONTRACTED, {"smoothness": 0.1}),
        (CONTRACTED, {"gradientError": 0.0}),
        (CONTRACTED, {"steps": 0}),
        (LANGEVIN, {"startRadius": math.inf}),
        (LANGEVIN, {"curvature": math.nan}),
        (LANGEVIN, {"noise": -1.0}),
    ],
)
def test_a_record_without_meaning_has_no_epsilon(record: dict[str, Any], change: dict[str, Any]) -> None:
    """No noise, no strong convexity, a loss that is smoother than a logistic one can be."""
    with pytest.raises(ValueError, match=r"\."):
        mechanisms.epsilon({**record, **change}, delta=DELTA, group=1)


def test_what_follows_from_the_penalty_is_proved_and_the_rest_enforced() -> None:
    """As the certificate shows it."""
    held = {one["name"]: one["held"] for one in mechanisms.constants(LANGEVIN)}

    assert {name for name, how in held.items() if how == "proved"} == {"curvature", "smoothness"}
    assert set(held.values()) == {"proved", "enforced"}


def test_golden_epsilons_of_what_keeps_a_state() -> None:
    """Ten budgets that add up; the published sensitivity with what rounding adds; the stretched gap over the noise."""
    share, mu = DELTA / 10, 1e-3 / 0.05
    each = max(math.sqrt(2 * math.log(1.5 / share)) * mu, gaussian.epsilon(delta=share, mu=mu))
    left = ((0.2511 - 1e-3) / (0.2511 + 1e-3)) ** 1000
    apart = 8 * 6.33 * left / (1e-3 * 5000 * (1 - left)) + 2 * 1e-9 / 1e-3
    gap = 2 * 0.01 * 4.0 / 0.25 * (1.25**5 - 1) * 1.25**15

    found = [mechanisms.epsilon(one, delta=DELTA, group=1) for one in (REMOVED, KEPT, REWOUND)]
    exact_ones = [10 * each, *(gaussian.epsilon(delta=DELTA, mu=one) for one in (apart / 0.02, gap / 30.0))]
    assert found == pytest.approx(exact_ones, rel=1e-6)
    assert found == pytest.approx([1.06662, 0.63129, 2.54618], abs=1e-5)


@pytest.mark.parametrize(
    ("record", "change"),
    [
        (REMOVED, {"residual": 0.0}),
        (REMOVED, {"residual": math.nan}),
        (REMOVED, {"noise": 0.0}),
        (REMOVED, {"curvature": 0.0}),
        (REMOVED, {"problems": 0}),
        (KEPT, {"slope": 3.0}),
        (KEPT, {"smoothness": 0.25}),
        (KEPT, {"gradientError": 0.0}),
        (KEPT, {"points": 0}),
        (KEPT, {"noise": math.nan}),
        (REWOUND, {"share": 1.0}),
        (REWOUND, {"share": 0.0}),
        (REWOUND, {"rewound": 20}),
        (REWOUND, {"learningRate": 3.0}),
        (REWOUND, {"smoothness": math.inf}),
        (REWOUND, {"noise": 0.0}),
    ],
)
def test_a_kept_record_without_meaning_has_no_epsilon(record: dict[str, Any], change: dict[str, Any]) -> None:
    """No noise, gradients that K losses can exceed, a rewinding of everything, steps too long for the theorem."""
    with pytest.raises(ValueError, match=r"\."):
        mechanisms.epsilon({**record, **change}, delta=DELTA, group=1)


def test_what_keeps_a_state_does_not_cover_it_and_what_was_guessed_is_called_estimated() -> None:
    """Smoothness and gradient bound follow from the heads in one mechanism and from samples in another."""
    held = [{one["name"]: one["held"] for one in mechanisms.constants(record)} for record in (KEPT, REWOUND)]

    assert [one["smoothness"] for one in held] == [one["slope"] for one in held] == ["proved", "estimated"]
    assert not any(mechanisms.COVERS_STATE[record["mechanism"]] for record in (REMOVED, KEPT, REWOUND))
    assert {REMOVED["mechanism"], REWOUND["mechanism"]} == mechanisms.CONDITIONAL
