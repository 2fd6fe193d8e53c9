"""The golden dates, the rules behind them, and what must hold for every date."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.regimes import (
    CCPA,
    GDPR,
    PLACES,
    REGIMES,
    Calendar,
    Regime,
    add_months,
    add_working_days,
    deadlines,
    place,
)

GERMANY = Calendar(country="DE")
DAYS = st.dates(min_value=date(2020, 1, 1), max_value=date(2040, 12, 31))
COUNTRIES = st.sampled_from(["DE", "FR", "IE", "PL", "SE", "US", ""])


@pytest.mark.parametrize(
    ("received", "due"),
    [
        pytest.param(date(2026, 1, 31), date(2026, 3, 2), id="28 February is a Saturday"),
        pytest.param(date(2026, 3, 5), date(2026, 4, 7), id="Easter Sunday and Monday"),
        pytest.param(date(2026, 8, 31), date(2026, 9, 30), id="no 31 September"),
    ],
)
def test_a_gdpr_answer_is_due_a_calendar_month_later_on_a_working_day(received: date, due: date) -> None:
    """The golden rows: same date next month, last day when missing, next working day when free."""
    assert deadlines(GDPR, received, place=GERMANY).respond_by == due


def test_a_gdpr_extension_counts_three_months_from_receipt() -> None:
    """The extension replaces the first month; it is not added to the due date."""
    assert deadlines(GDPR, date(2026, 8, 31), place=GERMANY).extended_by == date(2026, 11, 30)


def test_ccpa_counts_45_and_90_calendar_days_from_receipt() -> None:
    """Calendar days, not moved by weekends or holidays."""
    dates = deadlines(CCPA, date(2026, 11, 21), place=GERMANY)

    assert (dates.respond_by, dates.extended_by) == (date(2027, 1, 5), date(2027, 2, 19))


def test_the_ccpa_alarm_takes_the_earlier_reading() -> None:
    """Whether the day of receipt is day 1 is open, so the alarm rings a day before the later reading."""
    assert deadlines(CCPA, date(2026, 11, 21), place=GERMANY).alarm_by == date(2027, 1, 4)


def test_the_operator_may_choose_the_earlier_reading() -> None:
    """With the setting, the due date itself counts the day of receipt."""
    dates = deadlines(CCPA, date(2026, 11, 21), place=GERMANY, receipt_day_counts=True)

    assert (dates.respond_by, dates.extended_by) == (date(2027, 1, 4), date(2027, 2, 18))


def test_the_gdpr_never_counts_the_day_of_receipt() -> None:
    """The setting for an open text changes nothing where the law is clear."""
    loose = deadlines(GDPR, date(2026, 6, 10), place=GERMANY)

    assert deadlines(GDPR, date(2026, 6, 10), place=GERMANY, receipt_day_counts=True) == loose
    assert loose.alarm_by == loose.respond_by


def test_ccpa_acknowledges_within_ten_californian_business_days() -> None:
    """Thanksgiving (26 November) and the day after it are no business days in California."""
    assert deadlines(CCPA, date(2026, 11, 20), place=GERMANY).acknowledge_by == date(2026, 12, 8)


def test_the_gdpr_has_no_acknowledgement_duty() -> None:
    """Nothing is invented where the text is silent."""
    assert deadlines(GDPR, date(2026, 11, 20), place=GERMANY).acknowledge_by is None


def test_the_operator_can_add_and_ignore_holidays() -> None:
    """An extra free day moves the due date, an ignored one does not."""
    due = date(2026, 7, 10)
    extra = Calendar(country="DE", extra=frozenset({due}))
    ignored = Calendar(country="DE", ignored=frozenset({date(2026, 4, 6)}))

    assert deadlines(GDPR, date(2026, 6, 10), place=extra).respond_by == date(2026, 7, 13)
    assert deadlines(GDPR, date(2026, 3, 5), place=ignored).respond_by == date(2026, 4, 6)


def test_overrides_reach_a_regime_with_its_own_calendar() -> None:
    """Californian business days skip a day the operator added."""
    extra = Calendar(country="DE", extra=frozenset({date(2026, 12, 8)}))

    assert deadlines(CCPA, date(2026, 11, 20), place=extra).acknowledge_by == date(2026, 12, 9)


def test_a_subdivision_has_its_own_holidays() -> None:
    """Epiphany is free in Bavaria and a working day in Berlin."""
    received = date(2025, 12, 6)

    bavaria, berlin = Calendar(country="DE", subdivision="BY"), Calendar(country="DE", subdivision="BE")

    assert deadlines(GDPR, received, place=bavaria).respond_by == date(2026, 1, 7)
    assert deadlines(GDPR, received, place=berlin).respond_by == date(2026, 1, 6)


@pytest.mark.parametrize(("country", "subdivision"), [("XX", ""), ("DE", "ZZ"), ("de", "")])
def test_a_place_without_a_holiday_table_is_refused(country: str, subdivision: str) -> None:
    """An unknown place is an error, not a calendar without holidays."""
    with pytest.raises(ValueError, match="no holidays are known"):
        Calendar(country=country, subdivision=subdivision)


@given(received=DAYS, country=COUNTRIES, code=st.sampled_from(sorted(REGIMES)), strict=st.booleans())
def test_every_deadline_lies_after_receipt_and_before_its_extension(
    *, received: date, country: str, code: str, strict: bool
) -> None:
    """Received < alarm <= respond < extended, whatever the day and the place."""
    dates = deadlines(REGIMES[code], received, place=Calendar(country=country), receipt_day_counts=strict)

    assert received < dates.alarm_by <= dates.respond_by < dates.extended_by
    assert dates.acknowledge_by is None or received < dates.acknowledge_by < dates.respond_by


@given(received=DAYS, country=COUNTRIES)
def test_a_gdpr_deadline_is_always_a_working_day(received: date, country: str) -> None:
    """Nobody is told to expect an answer on a Sunday, and no answer is due on one."""
    free = Calendar(country=country)
    dates = deadlines(GDPR, received, place=free)

    assert free.is_working(dates.respond_by)
    assert free.is_working(dates.extended_by)


@given(received=DAYS, country=COUNTRIES)
def test_rounding_never_skips_a_working_day(received: date, country: str) -> None:
    """Between the plain month and the due date every day is free."""
    free = Calendar(country=country)
    day, due = add_months(received, 1), deadlines(GDPR, received, place=free).respond_by

    assert day <= due
    assert not any(free.is_working(day + timedelta(days=n)) for n in range((due - day).days))


@given(first=DAYS, gap=st.integers(0, 90), months=st.integers(0, 24))
def test_month_arithmetic_is_monotone(first: date, gap: int, months: int) -> None:
    """Who files later is never due earlier."""
    second = first + timedelta(days=gap)

    assert add_months(first, months) <= add_months(second, months)


@given(start=DAYS, months=st.integers(0, 24))
def test_a_month_keeps_its_date_or_takes_the_last_day(start: date, months: int) -> None:
    """The result is in the right month, on the same day or on the month's last."""
    end = add_months(start, months)

    assert (end.year * 12 + end.month) - (start.year * 12 + start.month) == months
    assert end.day == start.day or (end.day < start.day and (end + timedelta(days=1)).day == 1)


@given(start=DAYS, days=st.integers(1, 15), country=COUNTRIES)
def test_working_days_are_counted_one_by_one(start: date, days: int, country: str) -> None:
    """Exactly `days` working days lie after the start, up to and with the end."""
    free = Calendar(country=country)
    end = add_working_days(start, days, place=free)

    assert sum(free.is_working(start + timedelta(days=n)) for n in range(1, (end - start).days + 1)) == days


@pytest.mark.parametrize("regime", REGIMES.values(), ids=REGIMES)
def test_every_rule_cites_its_source(regime: Regime) -> None:
    """No clock and no refusal without the clause it comes from."""
    rules = (regime.response, regime.extension, regime.rounds_up, regime.identification_stops_clock)

    assert all(rule.citation for rule in rules)
    assert all(denial.citation and denial.words for denial in regime.denials)


def test_the_coded_refusals_of_article_17_3_are_all_there() -> None:
    """Letters a to e, each found by its code; an unknown code is no refusal."""
    assert all(GDPR.denial(f"gdpr.17.3.{letter}") for letter in "abcde")
    assert GDPR.denial("because") is None


def test_every_place_of_the_form_has_a_regime() -> None:
    """Thirty EEA countries and elsewhere under the GDPR, California under its own law."""
    assert {choice.regime for choice in PLACES} == set(REGIMES)
    assert sum(choice.regime == "gdpr" for choice in PLACES) == 31
    assert place("US-CA") is not None
    assert place("Atlantis") is None
