"""What a regime consists of. A rule without a citation cannot be written down: the field has no default."""

from dataclasses import dataclass
from enum import StrEnum


class Unit(StrEnum):
    """How a period counts."""

    CALENDAR_MONTHS = "calendar months"
    CALENDAR_DAYS = "calendar days"
    BUSINESS_DAYS = "business days"


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """A length of time, always counted from the day the request was received."""

    count: int
    unit: Unit
    citation: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """A yes or no about how the clock runs, and where the law says so."""

    holds: bool
    citation: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Denial:
    """A reason for refusing that the law knows: `words` are for the person who is refused."""

    code: str
    words: str
    citation: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Regime:
    """The clocks, refusals and record-keeping of one law.

    `response` and `extension` both count from receipt: an extension replaces the first period, it is not
    added to a due date. `rounds_up`: a last day that is no working day moves to the next one.
    `receipt_day_may_count`: the text can be read so that the day of receipt is day 1; alarms then use
    that earlier date. `country` and `subdivision` fix whose holidays count, or are empty: the operator's.
    """

    code: str
    title: str
    law: str
    acknowledgement: Period | None
    response: Period
    extension: Period
    extension_needs: str
    rounds_up: Clock
    receipt_day_may_count: Clock
    identification_stops_clock: Clock
    denials: tuple[Denial, ...]
    remedies: tuple[str, ...]
    keep_records_months: int | None
    record_keeping: str
    country: str = ""
    subdivision: str = ""

    def denial(self, code: str) -> Denial | None:
        """The refusal with this code, or None when this law does not know it."""
        return next((denial for denial in self.denials if denial.code == code), None)
