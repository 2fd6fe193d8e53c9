"""Proving who one is, and taking a request back.

Uniform answers: an unknown request, a used-up code and a wrong guess get the same sentence, and asking for
a new code is always answered alike, so that nobody learns here who is known or where a request stands.
"""

import logging
from datetime import timedelta

from compliance.errors import ConflictError, InvalidInputError, NotFoundError
from compliance.intake import identity
from compliance.intake.desk import Desk
from compliance.intake.filing import send_code
from compliance.ledger.lifecycle import RequestState
from compliance.ledger.views import RequestView

_LOG = logging.getLogger(__name__)
_WAITING = {RequestState.RECEIVED, RequestState.IDENTITY_PENDING}
_AT_ONCE = 500


def confirm(desk: Desk, *, request_id: str, code: str) -> RequestView:
    """Accept the right code, once; InvalidInputError for any other.

    The attempt is spent in a transaction of its own, committed before anything is compared: no crash, no
    race and no rollback gives a guess back. Confirming again what is confirmed changes nothing.
    """
    if not identity.is_id(request_id):
        raise _wrong()
    now, guess = desk.clock(), identity.typed(code)
    digest = identity.code_digest(desk.vault, request_id=request_id, code=guess)
    with desk.transaction() as ledger:
        attempt = ledger.take_attempt(request_id=request_id)
    matches = identity.same(digest, attempt.digest if attempt else "")
    if attempt is None or not matches:
        return _already(desk, request_id)
    if now >= attempt.expires_at:
        message = "this code has expired; ask for a new one and enter it within an hour"
        raise InvalidInputError(message, code="code-expired")
    try:
        with desk.transaction() as ledger:
            ledger.confirm_identity(request_id=request_id, now=now)
    except ConflictError:  # the same code came twice at once; the other one did it
        return _already(desk, request_id)
    _tell(desk, request_id)
    with desk.read() as ledger:
        return ledger.request(request_id)


def new_code(desk: Desk, *, request_id: str) -> None:
    """Send another code when the request waits for one and has codes left; say nothing either way."""
    if not identity.is_id(request_id):
        return
    now = desk.clock()
    try:
        with desk.transaction() as ledger:
            waiting = ledger.request(request_id).state in _WAITING
            if waiting and ledger.codes_issued(request_id) < identity.CODES_A_REQUEST:
                send_code(desk, ledger, request_id=request_id, now=now)
    except NotFoundError:
        return


def expire(desk: Desk, *, older_than: timedelta) -> int:
    """Close requests whose code nobody entered in that time, and write to the address; how many."""
    before = desk.clock() - older_than
    with desk.read() as ledger:
        waiting = [view for state in sorted(_WAITING) for view in ledger.requests(state=state, limit=_AT_ONCE)]
    return sum(_expire(desk, view.id) for view in waiting if view.received_at <= before)


def by_token(desk: Desk, token: str) -> RequestView:
    """The request a status token opens; NotFoundError."""
    with desk.read() as ledger:
        return ledger.request_by_status(identity.status_digest(token))


def withdraw(desk: Desk, *, request_id: str) -> RequestView:
    """Take a request back; ConflictError once it has ended or its unlearning has begun."""
    with desk.transaction() as ledger:
        now = desk.clock()
        view = ledger.withdraw_request(request_id=request_id, now=now)
        ledger.enqueue_notice(notice_id=desk.ids(), request_id=request_id, kind="withdrawn", now=now)
    return view


def _expire(desk: Desk, request_id: str) -> bool:
    now = desk.clock()
    try:
        with desk.transaction() as ledger:
            ledger.expire_request(request_id=request_id, now=now)
            ledger.enqueue_notice(notice_id=desk.ids(), request_id=request_id, kind="expired", now=now)
    except ConflictError:  # the code came at the last moment
        return False
    return True


def _already(desk: Desk, request_id: str) -> RequestView:
    try:
        with desk.read() as ledger:
            view = ledger.request(request_id)
    except NotFoundError:
        view = None
    if view is None or view.state in _WAITING or view.state is RequestState.EXPIRED:
        raise _wrong()
    return view


def _wrong() -> InvalidInputError:
    message = "this is not the code we sent last; look for our newest mail or ask for a new code"
    return InvalidInputError(message, code="code-wrong")


def _tell(desk: Desk, request_id: str) -> None:
    # The confirmation is committed; whatever follows must not turn it into an error for the person.
    try:
        desk.verified(request_id)
    except Exception as error:  # noqa: BLE001 - the sweep matches it later
        # Only the kind of error: a traceback could carry what the scan was reading.
        _LOG.error("matching request %s failed (%s); the sweep will take it up", request_id, type(error).__name__)
