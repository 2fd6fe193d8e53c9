"""Statutory clocks as data, one file a regime, and the pure date arithmetic.

`REGIMES` is the whole table; every rule in it carries its citation, so that a lawyer can check the file
without reading code. Nothing here is legal advice: counsel decides which rows an operator uses.
No I/O and no clock: the day of receipt is an argument.
"""

from compliance.regimes.arithmetic import Calendar, add_months, add_working_days
from compliance.regimes.ccpa import CCPA
from compliance.regimes.clocks import Deadlines, deadlines
from compliance.regimes.gdpr import GDPR
from compliance.regimes.model import Clock, Denial, Period, Regime, Unit
from compliance.regimes.places import PLACES, Place, place
from compliance.regimes.words import ASKED, length, spelled

REGIMES = {regime.code: regime for regime in (GDPR, CCPA)}

__all__ = [
    "ASKED",
    "CCPA",
    "GDPR",
    "PLACES",
    "REGIMES",
    "Calendar",
    "Clock",
    "Deadlines",
    "Denial",
    "Period",
    "Place",
    "Regime",
    "Unit",
    "add_months",
    "add_working_days",
    "deadlines",
    "length",
    "place",
    "spelled",
]
