"""California Consumer Privacy Act: the clocks and refusals for deletion under Civil Code 1798.105."""

from compliance.regimes.model import Clock, Denial, Period, Regime, Unit

_DENIALS = (
    Denial(
        code="ccpa.d.1",
        words="something you bought or asked for, or a contract with you, needs it",
        citation="Cal. Civ. Code 1798.105(d)(1)",
    ),
    Denial(code="ccpa.d.2", words="it is needed to keep systems secure", citation="Cal. Civ. Code 1798.105(d)(2)"),
    Denial(
        code="ccpa.d.3",
        words="it is needed to find and repair faults",
        citation="Cal. Civ. Code 1798.105(d)(3)",
    ),
    Denial(
        code="ccpa.d.4",
        words="keeping it is needed for free speech or another right in law",
        citation="Cal. Civ. Code 1798.105(d)(4)",
    ),
    Denial(
        code="ccpa.d.5",
        words="California's Electronic Communications Privacy Act requires keeping it",
        citation="Cal. Civ. Code 1798.105(d)(5)",
    ),
    Denial(
        code="ccpa.d.6",
        words="it is used for research in the public interest that deleting would wreck",
        citation="Cal. Civ. Code 1798.105(d)(6)",
    ),
    Denial(
        code="ccpa.d.7",
        words="it is used only inside the company, in ways you would expect",
        citation="Cal. Civ. Code 1798.105(d)(7)",
    ),
    Denial(code="ccpa.d.8", words="a law obliges us to keep it", citation="Cal. Civ. Code 1798.105(d)(8)"),
    Denial(
        code="ccpa.not_verifiable",
        words="we could not confirm that the request came from you",
        citation="11 CCR 7021(b), 7022(b)",
    ),
    Denial(
        code="ccpa.not_a_consumer",
        words="this law protects residents of California only",
        citation="Cal. Civ. Code 1798.140(i)",
    ),
    Denial(code="no_match", words="we found nothing about you in what we train on", citation="11 CCR 7022"),
    Denial(
        code="outside_jurisdiction",
        words="this law does not apply to the request",
        citation="Cal. Civ. Code 1798.145",
    ),
    Denial(
        code="duplicate",
        words="you already have a request like this one with us, and it goes on",
        citation="Cal. Civ. Code 1798.145(h)(3)",
    ),
)

CCPA = Regime(
    code="ccpa",
    title="California",
    law="California Consumer Privacy Act (CCPA), Civil Code 1798.105",
    acknowledgement=Period(count=10, unit=Unit.BUSINESS_DAYS, citation="11 CCR 7021(a)"),
    response=Period(count=45, unit=Unit.CALENDAR_DAYS, citation="11 CCR 7021(b)"),
    extension=Period(count=90, unit=Unit.CALENDAR_DAYS, citation="11 CCR 7021(b): 90 in total, from receipt"),
    extension_needs="We must tell you within the first 45 days, and explain why (11 CCR 7021(b)).",
    rounds_up=Clock(holds=False, citation="11 CCR 7021(b) counts calendar days and moves none"),
    receipt_day_may_count=Clock(
        holds=True, citation="11 CCR 7021(b): the days 'begin on the day' of receipt, which may make it day 1"
    ),
    identification_stops_clock=Clock(
        holds=False, citation="11 CCR 7021(b): regardless of the time required to verify the request"
    ),
    denials=_DENIALS,
    remedies=(
        "We must delete what no exception covers, and use what we keep for nothing else (11 CCR 7022(f)).",
        "You can complain to the California Privacy Protection Agency or to the Attorney General.",
    ),
    keep_records_months=24,
    record_keeping="11 CCR 7101(a), (b): at least 24 months",
    country="US",
    subdivision="CA",
)
