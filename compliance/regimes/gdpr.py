"""Regulation (EU) 2016/679 (GDPR): the clocks and refusals for erasure under Article 17."""

from compliance.regimes.model import Clock, Denial, Period, Regime, Unit

_DENIALS = (
    Denial(
        code="gdpr.17.3.a",
        words="keeping it is needed for freedom of expression and information",
        citation="GDPR Art 17(3)(a)",
    ),
    Denial(
        code="gdpr.17.3.b",
        words="a law obliges us to keep it, or a task in the public interest needs it",
        citation="GDPR Art 17(3)(b)",
    ),
    Denial(
        code="gdpr.17.3.c",
        words="it is needed for public health",
        citation="GDPR Art 17(3)(c) with Art 9(2)(h), (i) and 9(3)",
    ),
    Denial(
        code="gdpr.17.3.d",
        words="archives, research or statistics need it, and erasing would wreck them",
        citation="GDPR Art 17(3)(d) with Art 89(1)",
    ),
    Denial(
        code="gdpr.17.3.e",
        words="it is needed to establish, exercise or defend legal claims",
        citation="GDPR Art 17(3)(e)",
    ),
    Denial(
        code="gdpr.12.5.unfounded",
        words="the request is manifestly unfounded, which is ours to prove",
        citation="GDPR Art 12(5)",
    ),
    Denial(
        code="gdpr.12.5.excessive",
        words="the request is excessive, which is ours to prove",
        citation="GDPR Art 12(5)",
    ),
    Denial(
        code="gdpr.11.2.not_identifiable",
        words="we cannot tell which data are yours",
        citation="GDPR Art 11(2)",
    ),
    Denial(
        code="gdpr.12.6.identity_not_confirmed",
        words="we could not confirm that the request came from you",
        citation="GDPR Art 12(6)",
    ),
    Denial(
        code="gdpr.17.1.no_ground",
        words="none of the grounds for erasure applies",
        citation="GDPR Art 17(1)(a)-(f)",
    ),
    Denial(
        code="no_match",
        words="we found nothing about you in what we train on",
        citation="GDPR Art 12(3)-(4), Art 17(1)",
    ),
    Denial(code="outside_jurisdiction", words="this law does not apply to the request", citation="GDPR Art 3"),
    Denial(
        code="duplicate",
        words="you already have a request like this one with us, and it goes on",
        citation="GDPR Art 12(5)",
    ),
)

GDPR = Regime(
    code="gdpr",
    title="European Union",
    law="General Data Protection Regulation (GDPR), Article 17",
    acknowledgement=None,
    response=Period(count=1, unit=Unit.CALENDAR_MONTHS, citation="GDPR Art 12(3), first sentence"),
    extension=Period(
        count=3,
        unit=Unit.CALENDAR_MONTHS,
        citation="GDPR Art 12(3), second sentence: two further months, so three from receipt",
    ),
    extension_needs="We must tell you within the first month, and give the reasons (GDPR Art 12(3)).",
    rounds_up=Clock(holds=True, citation="Regulation 1182/71 Art 3(4)"),
    receipt_day_may_count=Clock(holds=False, citation="Regulation 1182/71 Art 3(1): the day of receipt is not counted"),
    identification_stops_clock=Clock(
        holds=False,
        citation="GDPR Art 12(6) lets us ask for more; only the practice of some regulators stops a clock",
    ),
    denials=_DENIALS,
    remedies=(
        "You can complain to your data protection authority, free of charge (GDPR Art 77).",
        "You can also go to court (GDPR Art 79).",
    ),
    keep_records_months=None,
    record_keeping="GDPR Art 5(2): we must be able to show what we did; the text names no number of months",
)
