"""The closed grammar of log entries: only random ids, codes, digests and commitments (`audits.log.entry`).

Every entry carries 16 random bytes as `salt`, so that one with few possible values (a state, a date)
cannot be guessed from its leaf hash alone.
"""

from datetime import UTC, datetime
from enum import StrEnum

SALT_BYTES = 16


class EntryKind(StrEnum):
    """Everything that can happen, as `subject.event`."""

    KEY_REGISTERED = "key.registered"
    KEY_REVOKED = "key.revoked"
    REQUEST_RECEIVED = "request.received"
    REQUEST_APPROVED = "request.approved"
    REQUEST_STATE = "request.state"
    REQUEST_EXTENDED = "request.extended"
    REQUEST_ERASED = "request.erased"
    ITEM_STATE = "item.state"
    SUBJECT_SUPPRESSED = "subject.suppressed"
    CLASS_SUPPRESSED = "class.suppressed"
    DOMAIN_SUPPRESSED = "domain.suppressed"
    DATASET_ADDED = "dataset.added"
    DATASET_CHANGED = "dataset.changed"
    MODEL_ADDED = "model.added"
    MODEL_SCHEDULED = "model.scheduled"
    BASE_TRAINED = "base.trained"
    BUDGET_CHANGED = "budget.changed"
    BASE_SPENT = "base.spent"
    BATCH_PLANNED = "batch.planned"
    ATTEMPT_STARTED = "attempt.started"
    WEIGHTS_FIXED = "attempt.weights_fixed"
    ATTEMPT_FINISHED = "attempt.finished"
    REPORT_LOGGED = "report.logged"
    VERSION_PUBLISHED = "version.published"
    VERSION_SEALED = "version.sealed"
    VERSION_DESTROYED = "version.destroyed"
    BATCH_KEY_DESTROYED = "batch.key_destroyed"
    MODEL_CHECKED = "model.checked"
    REPORT_REPRODUCED = "report.reproduced"


def rfc3339(time: datetime) -> str:
    """UTC with `Z`, to the second: the one form of a time in log, receipts and reports."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
