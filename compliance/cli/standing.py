"""A request as the command line shows it: ids, codes and dates, no personal data."""

from datetime import datetime
from typing import Any

from compliance.intake import progress
from compliance.ledger.views import RequestView
from compliance.regimes import REGIMES
from compliance.settings import Settings

LABELS = {
    "id": "Request",
    "state": "State",
    "regime": "Law",
    "scope": "Scope",
    "door": "Came by",
    "received_at": "Received",
    "acknowledge_by": "Acknowledge",
    "respond_by": "Answer by",
    "alarm_by": "Plan for",
    "days_left": "Days left",
    "extended": "Extended",
    "closed_at": "Closed",
    "denial": "Refused",
    "commitment": "Commitment",
}


def standing(settings: Settings, view: RequestView, *, now: datetime) -> dict[str, Any]:
    """State, clocks and codes of a request at `now`."""
    clocks = progress(settings, view, now=now)
    denial = REGIMES[view.regime].denial(view.denial_code) if view.denial_code else None
    return {
        "id": view.id,
        "state": view.state,
        "regime": view.regime,
        "scope": view.scope,
        "door": view.door,
        "agent": view.agent,
        "test": view.test,
        "received_at": view.received_at,
        "acknowledge_by": view.acknowledge_by,
        "respond_by": view.respond_by,
        "alarm_by": clocks.alarm_by,
        "extended_by": clocks.extended_by,
        "days_left": clocks.days_left,
        "overdue": clocks.overdue,
        "extended": view.extended,
        "closed_at": view.closed_at,
        "denial_code": view.denial_code,
        "denial": None if denial is None else f"{denial.words} ({denial.citation})",
        "commitment": view.commitment,
    }
