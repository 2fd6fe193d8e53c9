"""Date arithmetic for statutory periods. Pure: dates in, dates out.

Months follow Regulation (EEC, Euratom) No 1182/71, Article 3: the day of the event is not counted
(3(1)); a period in months ends on the same date of its last month, and on the last day of that month
when the date is missing (3(2)(c)); when the last day is a public holiday, Sunday or Saturday, the period
ends with the next working day (3(4)). Never count a month as 30 days.
"""

import calendar
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import holidays

_DAY = timedelta(days=1)
_SATURDAY = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Calendar:
    """Working days of one place. `country` is ISO 3166-1 alpha-2; empty: only weekends are free.

    `extra` and `ignored` are the operator's overrides of the `holidays` tables: days that are free
    here although the tables do not know it, and days that are not although the tables say so.
    """

    country: str = ""
    subdivision: str = ""
    extra: frozenset[date] = frozenset()
    ignored: frozenset[date] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a place without a table: a missing holiday would silently make a due date too early."""
        if self.country and self.subdivision not in {"", *_subdivisions(self.country)}:
            place = f"{self.country}-{self.subdivision}"
            message = f"no holidays are known for '{place}'; leave the subdivision empty"
            raise ValueError(message)

    def is_holiday(self, day: date) -> bool:
        """Whether `day` is a public holiday here."""
        if day in self.extra:
            return True
        known = bool(self.country) and day in _holidays(self.country, self.subdivision, day.year)
        return known and day not in self.ignored

    def is_working(self, day: date) -> bool:
        """Whether `day` is neither Saturday, Sunday nor a public holiday here."""
        return day.weekday() < _SATURDAY and not self.is_holiday(day)

    def next_working(self, day: date) -> date:
        """`day` itself when it is a working day, else the first one after it."""
        while not self.is_working(day):
            day += _DAY
        return day


def add_months(start: date, months: int) -> date:
    """The same date `months` later, or the last day of that month when there is no such date."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(start.day, last))


def add_working_days(start: date, days: int, *, place: Calendar) -> date:
    """The `days`-th working day after `start`, which itself is not counted."""
    day = start
    for _ in range(days):
        day = place.next_working(day + _DAY)
    return day


@cache
def _subdivisions(country: str) -> frozenset[str]:
    known = holidays.list_supported_countries(include_aliases=False)
    if country not in known:
        message = f"no holidays are known for the country '{country}'; use a two-letter code such as DE or US"
        raise ValueError(message)
    return frozenset(known[country])


@cache
def _holidays(country: str, subdivision: str, year: int) -> frozenset[date]:
    # One year at a time: the library's own lazy expansion mutates a shared object between threads.
    return frozenset(holidays.country_holidays(country, subdiv=subdivision or None, years=year))
