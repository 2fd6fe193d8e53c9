"""Dates, periods and what was asked as people read them: nobody takes the third of April for the fourth of March."""

from datetime import date

from compliance.regimes.model import Period

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ASKED = {
    "records": "everything about you",
    "class": "one kind of picture (a class)",
    "domain": "the pictures of one domain",
}
_COUNTS = {1: "one", 3: "three", 10: "ten"}


def spelled(day: date) -> str:
    """For example `Monday, 2 March 2026`, whatever the locale of the machine."""
    return f"{_DAYS[day.weekday()]}, {day.day} {_MONTHS[day.month - 1]} {day.year}"


def length(period: Period) -> str:
    """For example `one month`, `45 days`."""
    unit = period.unit.value.removeprefix("calendar ")
    return f"{_COUNTS.get(period.count, period.count)} {unit if period.count != 1 else unit.removesuffix('s')}"
