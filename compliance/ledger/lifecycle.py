"""States of requests, items, runs and attempts, and which may follow which. Pure.

A request's early states (until `approved`) are its own; later it is derived from its items
(`derived_state`). An error is a state of an *attempt*, never the end of an item.
"""

from collections.abc import Iterable
from enum import StrEnum

from compliance.errors import ConflictError


class RequestState(StrEnum):
    """Where a removal request stands."""

    RECEIVED = "received"
    IDENTITY_PENDING = "identity_pending"
    VERIFIED = "verified"
    MATCHED = "matched"
    APPROVED = "approved"
    ON_HOLD = "on_hold"
    NEEDS_INPUT = "needs_input"
    FULFILLED = "fulfilled"
    FULFILLED_IN_PART = "fulfilled_in_part"
    DENIED = "denied"
    NO_MATCH = "no_match"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    DUPLICATE = "duplicate"


class ItemState(StrEnum):
    """Where one item (one model of one request) stands."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    QUEUED = "queued"
    UNLEARNING = "unlearning"
    VERIFYING = "verifying"
    PUBLISHED = "published"
    SEALED = "sealed"
    FULFILLED = "fulfilled"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"


class RunState(StrEnum):
    """Where the execution of a batch stands."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    DONE = "done"
    STUCK = "stuck"


class AttemptOutcome(StrEnum):
    """How one rung of the ladder ended."""

    RUNNING = "running"
    PUBLISHED = "published"
    INTERIM = "interim"  # a guard that held: a version of its own, which fulfils nothing
    GATES_FAILED = "gates_failed"
    REFUSED = "refused"
    ERROR = "error"


FINAL = frozenset(
    {
        RequestState.FULFILLED,
        RequestState.FULFILLED_IN_PART,
        RequestState.DENIED,
        RequestState.NO_MATCH,
        RequestState.WITHDRAWN,
        RequestState.EXPIRED,
        RequestState.DUPLICATE,
    }
)

_R = RequestState
_ASIDE = {_R.ON_HOLD, _R.NEEDS_INPUT, _R.WITHDRAWN, _R.DENIED}
_REQUEST: dict[RequestState, set[RequestState]] = {
    _R.RECEIVED: {_R.IDENTITY_PENDING, _R.WITHDRAWN, _R.DENIED, _R.EXPIRED},
    _R.IDENTITY_PENDING: {_R.VERIFIED, _R.WITHDRAWN, _R.DENIED, _R.EXPIRED},
    _R.VERIFIED: {_R.MATCHED, _R.NO_MATCH, _R.DUPLICATE} | _ASIDE,
    _R.MATCHED: {_R.APPROVED} | _ASIDE,
    _R.APPROVED: {_R.FULFILLED, _R.FULFILLED_IN_PART} | _ASIDE,
    _R.ON_HOLD: {_R.VERIFIED, _R.MATCHED, _R.APPROVED, _R.WITHDRAWN, _R.DENIED},
    _R.NEEDS_INPUT: {_R.VERIFIED, _R.MATCHED, _R.APPROVED, _R.WITHDRAWN, _R.DENIED, _R.EXPIRED},
}

_I = ItemState
_ITEM: dict[ItemState, set[ItemState]] = {
    _I.PROPOSED: {_I.APPROVED, _I.DENIED, _I.WITHDRAWN},
    _I.APPROVED: {_I.QUEUED, _I.FULFILLED, _I.DENIED, _I.WITHDRAWN},
    _I.QUEUED: {_I.UNLEARNING, _I.APPROVED},
    _I.UNLEARNING: {_I.VERIFYING},
    _I.VERIFYING: {_I.PUBLISHED, _I.UNLEARNING},
    _I.PUBLISHED: {_I.SEALED},
    _I.SEALED: {_I.FULFILLED},
}


def check_request(before: RequestState, after: RequestState) -> None:
    """Raise ConflictError unless a request may go from `before` to `after`."""
    if after not in _REQUEST.get(before, set()):
        message = f"a request that is '{before}' cannot become '{after}'"
        raise ConflictError(message, code="illegal-transition")


def check_item(before: ItemState, after: ItemState) -> None:
    """Raise ConflictError unless an item may go from `before` to `after`."""
    if after not in _ITEM.get(before, set()):
        message = f"an item that is '{before}' cannot become '{after}'"
        raise ConflictError(message, code="illegal-transition")


def derived_state(items: Iterable[ItemState]) -> RequestState:
    """The state of an approved request, from its items: fulfilled only when every item has ended."""
    states = set(items)
    if not states <= {_I.FULFILLED, _I.DENIED, _I.WITHDRAWN}:
        return _R.APPROVED
    if states == {_I.FULFILLED}:
        return _R.FULFILLED
    if _I.FULFILLED in states:
        return _R.FULFILLED_IN_PART
    return _R.DENIED if _I.DENIED in states else _R.WITHDRAWN
