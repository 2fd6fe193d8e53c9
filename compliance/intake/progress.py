"""Where a request stands against its clocks, for the person and for the operator. Pure."""

from dataclasses import dataclass
from datetime import date, datetime

from compliance.intake.filing import clocks, day_of
from compliance.ledger.lifecycle import FINAL, RequestState
from compliance.ledger.views import RequestView
from compliance.settings import Settings

_BEFORE_IDENTITY = {RequestState.RECEIVED, RequestState.IDENTITY_PENDING}


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Dates in the desk's calendar; `alarm_by` is the day to plan for, never later than `respond_by`.

    `days_left` (to `alarm_by`) and `days_to_answer` (to `respond_by`) are negative when that day has passed,
    and None once the request has ended: a finished request has no countdown.
    """

    received_on: date
    respond_by: date
    alarm_by: date
    extended_by: date | None
    days_left: int | None
    days_to_answer: int | None
    needs_code: bool
    ended: bool

    @property
    def overdue(self) -> bool:
        """Whether an open request has passed the day to plan for."""
        return self.days_left is not None and self.days_left < 0

    @property
    def late(self) -> bool:
        """Whether an open request has passed the last day the law gives."""
        return self.days_to_answer is not None and self.days_to_answer < 0


def progress(settings: Settings, view: RequestView, *, now: datetime) -> Progress:
    """The clocks of `view` at `now`."""
    dates = clocks(settings, regime=view.regime, received_at=view.received_at)
    alarm = view.respond_by - (dates.respond_by - dates.alarm_by)
    ended = view.state in FINAL
    today = day_of(settings, now)
    return Progress(
        received_on=day_of(settings, view.received_at),
        respond_by=view.respond_by,
        alarm_by=alarm,
        extended_by=None if view.extended or ended else dates.extended_by,
        days_left=None if ended else (alarm - today).days,
        days_to_answer=None if ended else (view.respond_by - today).days,
        needs_code=view.state in _BEFORE_IDENTITY,
        ended=ended,
    )
