"""How long a DP base lasts: what was deleted under it, what is left, and the batch that will find too little.

A forecast rests on what is known, in this order: the batch that is open, the requests approved so far, and then the
pace of the last batches. Where none of them reaches the limit and no batch has ended yet, it says nothing. Dates come
from the model's schedule alone and are the earliest possible ones: a batch without requests is not planned.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from audits import budget
from compliance import policy as policies
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import RunState
from compliance.ledger.views import BaseView, ModelView
from compliance.planning import group_bound, mechanism_of, refusal, split
from compliance.policy import Policy
from compliance.store import Store

RECENT = 3
UNIT = "data subject"
RENEWED = "the next retraining makes a new base"
NEVER_RENEWED = "no rung of the policy makes a new base"


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """What the model's batches cost, in units of its base: those that ended, the open one, the approved requests.

    `first` is the number of the first batch still to come, the open one if there is one; the model's first is 1.
    `every` and `due` are the schedule: how often, and when at the earliest the first batch still to be planned is due.
    """

    ended: Sequence[int]
    open: int | None
    approved: int
    first: int
    every: timedelta | None
    due: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """The first batch for which too little is left, what that rests on in words, and the earliest day."""

    batch: int
    why: str
    not_before: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """The budget of a base: `epsilon` is the bound for all `deleted` units together, None when there is no bound."""

    unit: str
    units: int
    deleted: int
    epsilon: float | None
    delta: float
    limit: float
    left: int
    spent: bool
    learned: bool
    waiting: int
    renewed: bool
    end: End | None

    @property
    def says(self) -> str:
        """One sentence for people; empty when nothing can be told."""
        if self.spent or not self.left:
            return f"Nothing is left: {RENEWED if self.renewed else NEVER_RENEWED}."
        if self.end is None:
            return ""
        day = "" if self.end.not_before is None else f", not before {self.end.not_before:%Y-%m-%d}"
        return f"{self.end.why}: batch {self.end.batch} will find too little left{day}."

    def to_json(self) -> dict[str, Any]:
        """The forecast as the command line prints it."""
        end = self.end
        return {
            "unit": self.unit,
            "units": self.units,
            "deleted": self.deleted,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "epsilon_limit": self.limit,
            "left": self.left,
            "spent": self.spent,
            "learned": self.learned,
            "waiting": self.waiting,
            "spending_batch": None if end is None else end.batch,
            "not_before": None if end is None else end.not_before,
            "says": self.says,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What deleting some units would do to a base; `refused` says why no certificate could cover it."""

    unit: str
    units: int
    before: float
    after: float
    limit: float
    refused: str | None

    @property
    def says(self) -> str:
        """One sentence for people."""
        costs = f"Costs {_count(self.units, self.unit)} of the deletion budget"
        if self.refused is not None:
            return f"{costs}. dp2 would be refused: {self.refused}."
        return f"{costs}: ε for all deleted goes from {self.before:.2f} to {self.after:.2f} of {self.limit:g}."


def forecast(base: BaseView, *, policy: Policy, queue: Queue) -> Forecast:
    """The budget of `base`, and when it ends as far as the queue tells. Pure."""
    limits = {"delta": policy.delta, "limit": policy.epsilon_limit}
    left = budget.left(mechanism_of(base), **limits, points=base.units, deleted=base.units_deleted) or 0
    epsilon = group_bound(base, units=0, delta=policy.delta)
    spent = base.state == "spent"
    return Forecast(
        unit=base.accountant.get("unit", UNIT),
        units=base.units,
        deleted=base.units_deleted,
        epsilon=epsilon if math.isfinite(epsilon) else None,
        delta=policy.delta,
        limit=policy.epsilon_limit,
        left=0 if spent else left,
        spent=spent,
        learned=base.learned.get("learned") is True,
        waiting=(queue.open or 0) + queue.approved,
        renewed="dp2" in policy.ladder and "retrain" in policy.ladder,
        end=None if spent or not left else _end(left, queue, base.accountant.get("unit", UNIT)),
    )


def _end(left: int, queue: Queue, unit: str) -> End | None:
    """The first batch that costs more than those before it have left over."""
    number, spent = queue.first, 0
    for cost, why in _known(queue, unit):
        spent += cost
        if spent > left:
            return End(batch=number, why=why, not_before=_day(queue, number))
        number += 1
    recent = [cost for cost in queue.ended[-RECENT:] if cost > 0]
    if not recent:
        return None
    fitting = (left - spent) * len(recent) // sum(recent)
    last = "last batch" if len(recent) == 1 else f"last {len(recent)} batches"
    pace = f"{sum(recent) / len(recent):.3g}"
    why = f"At the pace of the {last} ({pace} {unit}{'' if pace == '1' else 's'} a batch)"
    return End(batch=number + fitting, why=why, not_before=_day(queue, number + fitting))


def _known(queue: Queue, unit: str) -> Iterator[tuple[int, str]]:
    if queue.open is not None:
        yield queue.open, f"The open batch costs {_count(queue.open, unit)}"
    if queue.approved:
        yield queue.approved, f"The requests approved so far cost {_count(queue.approved, unit)}"


def _day(queue: Queue, number: int) -> datetime | None:
    """The earliest time of a batch that is still to be planned; None without a schedule and for the open one."""
    to_come = number - queue.first - (queue.open is not None)
    if queue.every is None or queue.due is None or to_come < 0:
        return None
    try:
        return queue.due + to_come * queue.every
    except OverflowError:
        return None


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" + ("" if number == 1 else "s")


def cost_of(base: BaseView, *, policy: Policy, units: int, scopes: Sequence[str] = ()) -> Cost:
    """What `units` more deletions would do to `base`, for a request of one of these scopes. Pure."""
    return Cost(
        unit=base.accountant.get("unit", UNIT),
        units=units,
        before=group_bound(base, units=0, delta=policy.delta),
        after=group_bound(base, units=units, delta=policy.delta),
        limit=policy.epsilon_limit,
        refused=refusal("dp2", policy=policy, base=base, units=units, charge=units, scopes=scopes),
    )


def forecast_of(ledger: Ledger, store: Store, model: ModelView, *, now: datetime) -> Forecast | None:
    """The forecast for a model's base as its ledger stands; None for a model without one."""
    base = ledger.base(model.id)
    if base is None:
        return None
    return forecast(base, policy=policies.parse(model.policy), queue=_queue(ledger, store, model, base, now=now))


def request_cost(ledger: Ledger, store: Store, model: ModelView, request_id: str) -> Cost | None:
    """What one request alone would cost the model's base; None for a model without one. Reads the data set."""
    base = ledger.base(model.id)
    if base is None:
        return None
    units = split(ledger, store, [request_id], model).charge_of(base)
    scopes = [ledger.request(request_id).scope]
    return cost_of(base, policy=policies.parse(model.policy), units=units, scopes=scopes) if units else None


def _queue(ledger: Ledger, store: Store, model: ModelView, base: BaseView, *, now: datetime) -> Queue:
    batches = ledger.batches(model.id)
    charged = ledger.charges(base.id)
    # A batch that has published is in the base's count, or made the base; it only has to clean up.
    waiting = [
        batch
        for batch in batches
        if batch.run_state is not RunState.DONE
        and batch.id not in charged
        and batch.plan.get("baseDigest") == base.digest
    ]
    open_ = waiting[0] if waiting else None
    every = None if model.every_seconds is None else timedelta(seconds=model.every_seconds)
    return Queue(
        ended=[int(batch.plan.get("units", 0)) for batch in batches if batch is not open_],
        open=None if open_ is None else int(open_.plan.get("units", 0)),
        approved=_approved(ledger, store, model, base),
        first=len(batches) + (open_ is None),
        every=every,
        due=None if every is None else max([now, *(batch.planned_at + every for batch in batches[-1:])]),
    )


def _approved(ledger: Ledger, store: Store, model: ModelView, base: BaseView) -> int:
    requests = [item.request_id for item in ledger.approved_items(model.id)]
    return split(ledger, store, requests, model).charge_of(base) if requests else 0
