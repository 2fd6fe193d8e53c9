"""How long a deletion budget lasts: what a forecast rests on, and when it says nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance import policy as policies
from compliance.forecast import Forecast, Queue, cost_of, forecast
from compliance.ledger.views import BaseView
from compliance.web import create_pages
from compliance.wiring import Services
from tests.compliance.browsing import sign_in, text_of
from tests.compliance.builders import POLICY, add_base, approved_request, desk_with_people, plan
from tests.compliance.conftest import Clock
from tests.compliance.terminal import answer, at

DP2 = POLICY.replace('"npo"', '"dp2"').replace(
    "[[gate]]", "[base]\nepsilon = 8\nsample_rate = 0.1\nsteps = 10\n[[gate]]"
)
TABLE = policies.parse(DP2)
DUE = datetime(2027, 1, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
CAPACITY = 14  # units under this base until its bound passes epsilon 20


def _base(**changes: Any) -> BaseView:  # noqa: ANN401 - any field
    values: dict[str, Any] = {
        "id": "b",
        "model_id": "m1",
        "state": "active",
        "digest": "0" * 64,
        "path": "",
        "accountant": {"sampleRate": 0.1, "noiseMultiplier": 2.0, "steps": 10, "unit": "record"},
        "learned": {"learned": True},
        "seed_commitment": "0" * 64,
        "units": 100,
        "units_deleted": 0,
    }
    return BaseView(**values | changes)


def _queue(**changes: Any) -> Queue:  # noqa: ANN401 - any field
    nothing: dict[str, Any] = {"ended": (), "open": None, "approved": 0, "first": 1, "every": None, "due": None}
    return Queue(**nothing | changes)


def _told(queue: Queue, **changes: Any) -> Forecast:  # noqa: ANN401 - any field of the base
    return forecast(_base(**changes), policy=TABLE, queue=queue)


def test_nothing_known_is_nothing_told() -> None:
    """Without a batch that ended, and with room for what waits, there is no forecast."""
    told = _told(_queue(approved=2))

    assert (told.deleted, told.epsilon, told.left, told.waiting) == (0, 0.0, CAPACITY, 2)
    assert (told.end, told.says) == (None, "")


@pytest.mark.parametrize(
    ("queue", "batch", "why"),
    [
        (_queue(ended=(9, 9, 2, 3, 4), first=6), 10, "At the pace of the last 3 batches (3 records a batch)"),
        (_queue(ended=(1,), first=2), 16, "At the pace of the last batch (1 record a batch)"),
        (_queue(ended=(3, 3, 3), open=5, approved=6, first=4), 7, "At the pace of the last 3 batches"),
        (_queue(ended=(1, 1, 1), open=17, first=4), 4, "The open batch costs 17 records"),
        (_queue(ended=(1, 1, 1), open=10, approved=7, first=4), 5, "The requests approved so far cost 7 records"),
        (_queue(approved=17), 1, "The requests approved so far cost 17 records"),
    ],
    ids=["pace", "last", "open and approved fit", "open", "approved", "first"],
)
def test_a_forecast_says_what_it_rests_on(queue: Queue, batch: int, why: str) -> None:
    """The open batch, then the approved requests, then the pace of the last batches."""
    told = _told(queue)

    assert told.end is not None
    assert (told.end.batch, told.end.not_before) == (batch, None)
    assert told.says.startswith(why)
    assert told.says.endswith(f"batch {batch} will find too little left.")


def test_a_schedule_gives_the_earliest_day() -> None:
    """One period a batch from the next due time on; the open batch has its day behind it."""
    pace = _told(_queue(ended=(4, 4), first=3, every=WEEK, due=DUE))
    later = _told(_queue(ended=(4, 4), open=4, first=3, every=WEEK, due=DUE))
    now = _told(_queue(ended=(4, 4), open=99, first=3, every=WEEK, due=DUE))

    assert [one.end and one.end.batch for one in (pace, later, now)] == [6, 6, 3]
    assert [one.end and one.end.not_before for one in (pace, later, now)] == [DUE + 3 * WEEK, DUE + 2 * WEEK, None]
    assert pace.says.endswith("too little left, not before 2027-01-22.")


@pytest.mark.parametrize("changes", [{"state": "spent"}, {"units_deleted": CAPACITY}, {"units_deleted": 16}])
def test_a_spent_budget_names_what_renews_it(changes: dict[str, Any]) -> None:
    """Nothing is left, and the next retraining makes a new base if the ladder has one."""
    only = policies.parse(DP2.replace('"dp2", "retrain"', '"dp2"'))

    assert _told(_queue(ended=(1,)), **changes).says == "Nothing is left: the next retraining makes a new base."
    assert "no rung of the policy" in forecast(_base(**changes), policy=only, queue=_queue()).says


def test_a_group_that_nobody_can_bound_has_no_bound() -> None:
    """More units than the accountant takes: no epsilon, nothing left, and nothing breaks."""
    told = _told(_queue(), units=9000, units_deleted=1025)

    assert (told.epsilon, told.left) == (None, 0)


@settings(max_examples=40, deadline=None)
@given(
    ended=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    waiting=st.tuples(st.none() | st.integers(1, 9), st.integers(0, 9)),
    deleted=st.integers(0, CAPACITY - 1),
)
def test_at_the_pace_it_names_the_batch_is_the_first_that_does_not_fit(
    ended: list[int], waiting: tuple[int | None, int], deleted: int
) -> None:
    """Adding up batch for batch gives the same number."""
    told = _told(_queue(ended=ended, open=waiting[0], approved=waiting[1]), units_deleted=deleted)
    costs = [float(one) for one in (*waiting[:1], *waiting[1:]) if one]
    pace = sum(ended[-3:]) / len(ended[-3:])
    number, total = 1, 0.0
    while (total := total + (costs.pop(0) if costs else pace)) <= told.left + 1e-9:
        number += 1

    assert told.end is not None
    assert told.end.batch == number


def test_a_cost_is_told_with_its_bound_or_its_refusal() -> None:
    """What fits raises the bound by so much; what does not is refused with the plan's own reason."""
    fits = cost_of(_base(units_deleted=2), policy=TABLE, units=1)
    beyond = cost_of(_base(units_deleted=2), policy=TABLE, units=CAPACITY)

    assert 0 < fits.before < fits.after < 20
    assert f"Costs 1 record of the deletion budget: ε for all deleted goes from {fits.before:.2f} to" in fits.says
    assert beyond.refused is not None
    assert beyond.refused in beyond.says


def test_the_budget_is_shown_where_models_are_listed(services: Services, clock: Clock) -> None:
    """The command line and the desk tell the same forecast, of the approved request and of the open batch."""
    people = desk_with_people(services, policy=DP2)
    add_base(services, sigma=2.0)
    approved_request(services, people[0])

    (waiting,) = answer(services, "model", "list")
    with_page = _pages(services, "r1")
    clock.advance(hours=1)
    assert plan(services) is not None
    shown = answer(services, "model", "show", "m1")
    opened = _pages(services, "r1")

    assert (waiting["budget"]["deleted"], waiting["budget"]["waiting"], waiting["budget"]["says"]) == (0, 1, "")
    assert shown["budget"] == waiting["budget"]
    assert "0 of 100" in at(services, "model", "show", "m1").out
    assert f"{shown['budget']['left']} more data subjects can leave under this base" in with_page["models"]
    assert "Costs 1 data subject of the deletion budget" in with_page["request"]
    assert "Its batch costs 1 of the deletion budget" in opened["request"]
    assert "1 data subject" in opened["models"]


def _pages(services: Services, request_id: str) -> dict[str, str]:
    with TestClient(create_pages(services)) as browser:
        sign_in(services, browser)
        paths = {"models": "/desk/models", "request": f"/desk/requests/{request_id}"}
        return {name: text_of(browser.get(path).text) for name, path in paths.items()}
