"""A request from any door: validate, identify, deduplicate, record, answer; and what is decided about it.

The doors call these functions and nothing below them. Each owns its transaction, so that what it returns was
committed. None takes a time from its caller.
"""

from compliance.intake.confirmation import by_token, confirm, expire, new_code, withdraw
from compliance.intake.decisions import (
    EXTENSION_CODES,
    approve,
    deny,
    extend,
    hold,
    release,
    signed_approval,
    statement,
)
from compliance.intake.desk import Desk
from compliance.intake.filing import Caller, Filed, clocks, day_of, file
from compliance.intake.holdings import opening, proof
from compliance.intake.identity import ID_PATTERN, is_id, status_token
from compliance.intake.limits import BusyError, Gatekeeper
from compliance.intake.progress import Progress, progress
from compliance.intake.validation import RECORDS, SCOPES, Submission, submission

__all__ = [
    "EXTENSION_CODES",
    "ID_PATTERN",
    "RECORDS",
    "SCOPES",
    "BusyError",
    "Caller",
    "Desk",
    "Filed",
    "Gatekeeper",
    "Progress",
    "Submission",
    "approve",
    "by_token",
    "clocks",
    "confirm",
    "day_of",
    "deny",
    "expire",
    "extend",
    "file",
    "hold",
    "is_id",
    "new_code",
    "opening",
    "progress",
    "proof",
    "release",
    "signed_approval",
    "statement",
    "status_token",
    "submission",
    "withdraw",
]
