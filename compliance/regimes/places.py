"""Where a person lives, in words, and which regime that means: the form's list.

The public holidays that move a due date are those of the place where the *controller* acts
(Regulation 1182/71 Art 2(1)), so the person's country decides the regime and nothing else.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A choice of the form."""

    code: str
    name: str
    regime: str


_EEA = {
    "AT": "Austria",
    "BE": "Belgium",
    "BG": "Bulgaria",
    "HR": "Croatia",
    "CY": "Cyprus",
    "CZ": "Czechia",
    "DK": "Denmark",
    "EE": "Estonia",
    "FI": "Finland",
    "FR": "France",
    "DE": "Germany",
    "GR": "Greece",
    "HU": "Hungary",
    "IS": "Iceland",
    "IE": "Ireland",
    "IT": "Italy",
    "LV": "Latvia",
    "LI": "Liechtenstein",
    "LT": "Lithuania",
    "LU": "Luxembourg",
    "MT": "Malta",
    "NL": "Netherlands",
    "NO": "Norway",
    "PL": "Poland",
    "PT": "Portugal",
    "RO": "Romania",
    "SK": "Slovakia",
    "SI": "Slovenia",
    "ES": "Spain",
    "SE": "Sweden",
}

# Elsewhere: the controller applies the European rules to everyone, the shorter of the two clocks.
PLACES = (
    Place(code="US-CA", name="California", regime="ccpa"),
    *(Place(code=code, name=name, regime="gdpr") for code, name in sorted(_EEA.items(), key=lambda x: x[1])),
    Place(code="other", name="Somewhere else", regime="gdpr"),
)


def place(code: str) -> Place | None:
    """The choice with this code, or None when the form has none."""
    return next((choice for choice in PLACES if choice.code == code), None)
