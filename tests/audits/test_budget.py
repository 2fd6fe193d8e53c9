"""The deletion budget: how many more units fit below a limit, and that nothing says more than fits."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import accountant, budget, mechanisms

RECORD = {
    "mechanism": mechanisms.POISSON,
    "sampleRate": 0.1,
    "noiseMultiplier": 4.0,
    "steps": 60,
    "clip": 1.0,
}
STEPS = {
    "mechanism": mechanisms.NOISY,
    "startRadius": 1.0,
    "clip": 1.0,
    "learningRate": 0.1,
    "weightDecay": 0.1,
    "noise": 2.0,
    "steps": 10,
    "projected": False,
}
DELTA = 1e-5


@settings(max_examples=15, deadline=None)
@given(
    noise=st.floats(2.0, 12.0),
    limit=st.floats(0.5, 8.0),
    points=st.integers(1, 60),
    deleted=st.integers(0, 40),
)
def test_what_is_left_fits_and_one_more_does_not(noise: float, limit: float, points: int, deleted: int) -> None:
    """The count ends at the last group below the limit and below everybody, wherever it begins."""
    record = {**RECORD, "noiseMultiplier": noise}
    given_limit: dict[str, Any] = {"delta": DELTA, "limit": limit, "points": points}
    more = budget.left(record, **given_limit, deleted=deleted)

    assert more is not None
    if more:
        assert budget.fits(record, **given_limit, group=deleted + more)
    assert not budget.fits(record, **given_limit, group=deleted + more + 1)


@pytest.mark.parametrize(("deleted", "points", "limit", "more"), [(3, 400, 8.0, 4), (0, 400, 8.0, 7), (9, 400, 8.0, 0)])
def test_golden_capacities(deleted: int, points: int, limit: float, more: int) -> None:
    """Seven units fit under epsilon 8 at this noise, and what is spent beyond is not owed back."""
    assert budget.left(RECORD, delta=DELTA, limit=limit, points=points, deleted=deleted) == more


def test_nobody_costs_nothing_and_too_many_cost_everything() -> None:
    """The bound for no deletion is 0, and a group that the accountant does not bound never fits."""
    beyond = accountant.LARGEST_GROUP + 1

    assert budget.bound(RECORD, delta=DELTA, group=0) == 0.0
    assert math.isinf(budget.bound(RECORD, delta=DELTA, group=beyond))
    assert not budget.fits(RECORD, delta=DELTA, limit=1e9, points=10**6, group=beyond)


def test_steps_that_start_anew_use_nothing_up() -> None:
    """Their bound is the same for any group, so there is no count of what is left."""
    one, many = (budget.bound(STEPS, delta=DELTA, group=group) for group in (1, 5000))

    assert one == many
    assert budget.left(STEPS, delta=DELTA, limit=8.0, points=10, deleted=3) is None
