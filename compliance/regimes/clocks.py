"""From a regime and a day of receipt to the days that matter. Pure."""

from dataclasses import dataclass
from datetime import date, timedelta

from compliance.regimes.arithmetic import Calendar, add_months, add_working_days
from compliance.regimes.model import Period, Regime, Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadlines:
    """The last day for each duty. `alarm_by` is never later than `respond_by`: plan by it."""

    acknowledge_by: date | None
    respond_by: date
    alarm_by: date
    extended_by: date


def deadlines(regime: Regime, received_on: date, *, place: Calendar, receipt_day_counts: bool = False) -> Deadlines:
    """All dates of a request received on `received_on` (the desk's legal calendar day).

    `place`: the operator's calendar; a regime with its own country uses that one, with the operator's
    overrides. `receipt_day_counts` chooses the stricter reading of a text that allows both
    (`Regime.receipt_day_may_count`); it is ignored where the law is clear. Whatever is chosen,
    `alarm_by` follows the earlier reading.
    """
    free = _calendar(regime, place)
    open_text = regime.receipt_day_may_count.holds
    strict = receipt_day_counts and open_text
    acknowledge = regime.acknowledgement
    return Deadlines(
        acknowledge_by=_end(regime, acknowledge, received_on, free, strict=False) if acknowledge else None,
        respond_by=_end(regime, regime.response, received_on, free, strict=strict),
        alarm_by=_end(regime, regime.response, received_on, free, strict=open_text),
        extended_by=_end(regime, regime.extension, received_on, free, strict=strict),
    )


def _calendar(regime: Regime, place: Calendar) -> Calendar:
    if not regime.country:
        return place
    return Calendar(country=regime.country, subdivision=regime.subdivision, extra=place.extra, ignored=place.ignored)


def _end(regime: Regime, period: Period, start: date, free: Calendar, *, strict: bool) -> date:
    if period.unit is Unit.BUSINESS_DAYS:
        return add_working_days(start, period.count, place=free)
    if period.unit is Unit.CALENDAR_MONTHS:
        end = add_months(start, period.count)
    else:
        end = start + timedelta(days=period.count - strict)
    return free.next_working(end) if regime.rounds_up.holds else end
