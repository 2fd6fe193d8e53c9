"""A request from any door: record it, send a code, promise a receipt.

`file` is one transaction: every subject of the call becomes its own request, or none does. What it returns
exists only after the commit; a failing commit raises and there is nothing to answer with (invariant 2).
The server's clock is the only one: no caller can set when a request was received.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from compliance.errors import InvalidInputError
from compliance.intake import identity
from compliance.intake.desk import Desk
from compliance.intake.validation import Submission
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import RequestView
from compliance.regimes import REGIMES, Calendar, Deadlines, deadlines
from compliance.settings import Settings

SUBJECTS_MAX = 50
KEY_MIN, KEY_MAX = 16, 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Through which door, and for an agent its name."""

    door: str
    agent: str | None = None

    @property
    def scope(self) -> str:
        """Whose idempotency keys these are."""
        return self.agent or "public"


@dataclass(frozen=True, kw_only=True, slots=True)
class Filed:
    """A stored request and the token that opens its status."""

    request: RequestView
    status_token: str


def file(
    desk: Desk, submissions: Sequence[Submission], *, caller: Caller, idempotency_key: str | None = None
) -> tuple[Filed, ...]:
    """Store the submissions and issue their codes; with a known idempotency key, answer as before.

    Raises InvalidInputError for a number of subjects or a key that is out of bounds, and for a key that came
    before with another body (draft-ietf-httpapi-idempotency-key-header, section 2.7: 422).
    """
    if not 1 <= len(submissions) <= SUBJECTS_MAX:
        message = f"give 1 to {SUBJECTS_MAX} subjects; you gave {len(submissions)}"
        raise InvalidInputError(message, code="subjects-count")
    with desk.transaction() as ledger:
        ids = _replayed(desk, ledger, submissions, caller=caller, key=idempotency_key)
        if ids is None:
            ids = tuple(_store(desk, ledger, one, caller=caller) for one in submissions)
            _remember(desk, ledger, submissions, caller=caller, key=idempotency_key, ids=ids)
        views = [ledger.request(request_id) for request_id in ids]
    return tuple(
        Filed(request=view, status_token=identity.status_token(desk.vault, request_id=view.id)) for view in views
    )


def clocks(settings: Settings, *, regime: str, received_at: datetime) -> Deadlines:
    """Every date of a request; the day of receipt is the calendar day where the desk is."""
    return deadlines(
        REGIMES[regime],
        day_of(settings, received_at),
        place=Calendar(
            country=settings.country,
            subdivision=settings.subdivision,
            extra=frozenset(settings.extra_holidays),
            ignored=frozenset(settings.ignored_holidays),
        ),
        receipt_day_counts=settings.ccpa_receipt_day_counts,
    )


def day_of(settings: Settings, moment: datetime) -> date:
    """The calendar day of `moment` where the desk is."""
    return moment.astimezone(ZoneInfo(settings.time_zone)).date()


def send_code(desk: Desk, ledger: Ledger, *, request_id: str, now: datetime) -> None:
    """Issue a code and put its letter into the outbox; until that is sent, only the vault holds the code."""
    code = identity.draw_code(desk.secrets)
    ledger.issue_code(
        request_id=request_id,
        digest=identity.code_digest(desk.vault, request_id=request_id, code=code),
        expires_at=now + identity.TTL,
        attempts=identity.ATTEMPTS,
        now=now,
    )
    ledger.keep_secret(request_id=request_id, purpose="code", plaintext=code.encode())
    ledger.enqueue_notice(notice_id=desk.ids(), request_id=request_id, kind="identity_code", now=now)


def _store(desk: Desk, ledger: Ledger, one: Submission, *, caller: Caller) -> str:
    now, request_id = desk.clock(), desk.ids()
    dates = clocks(desk.settings, regime=one.regime, received_at=now)
    token = identity.status_token(desk.vault, request_id=request_id)
    ledger.create_request(
        request_id=request_id,
        regime=one.regime,
        scope=one.scope,
        door=caller.door,
        agent=caller.agent,
        received_at=now,
        acknowledge_by=dates.acknowledge_by,
        respond_by=dates.respond_by,
        subject=one.subject,
        status_digest=identity.status_digest(token),
        include_by=now + timedelta(hours=desk.settings.inclusion_hours),
        country=desk.settings.country,
        subdivision=desk.settings.subdivision,
        test=one.test,
    )
    ledger.keep_secret(request_id=request_id, purpose="status-token", plaintext=token.encode())
    send_code(desk, ledger, request_id=request_id, now=now)
    return request_id


def _replayed(
    desk: Desk, ledger: Ledger, submissions: Sequence[Submission], *, caller: Caller, key: str | None
) -> tuple[str, ...] | None:
    if key is None:
        return None
    if not (KEY_MIN <= len(key) <= KEY_MAX and key.isascii() and key.isprintable()):
        # A short key could be guessed, and with it (and the same body) another person's status link.
        message = f"an Idempotency-Key has {KEY_MIN} to {KEY_MAX} printable characters; use a random UUID"
        raise InvalidInputError(message, code="idempotency-key-malformed")
    known = ledger.find_idempotent(key_digest=_key_digest(desk, caller, key))
    if known is None:
        return None
    if not identity.same(known.body_digest, _body_digest(desk, submissions)):
        message = "this Idempotency-Key came before with another body; use a new key for a new request"
        raise InvalidInputError(message, code="idempotency-key-reused")
    return known.request_ids


def _remember(
    desk: Desk,
    ledger: Ledger,
    submissions: Sequence[Submission],
    *,
    caller: Caller,
    key: str | None,
    ids: tuple[str, ...],
) -> None:
    if key is not None:
        ledger.record_idempotent(
            key_digest=_key_digest(desk, caller, key),
            body_digest=_body_digest(desk, submissions),
            request_ids=ids,
            now=desk.clock(),
        )


def _key_digest(desk: Desk, caller: Caller, key: str) -> str:
    return desk.vault.tag("idempotency-key", f"{caller.scope}\0{key}")


def _body_digest(desk: Desk, submissions: Sequence[Submission]) -> str:
    # Keyed: a plain hash of a name and an address could be guessed, and would outlive their erasure.
    body = json.dumps([asdict(one) for one in submissions], sort_keys=True, ensure_ascii=False)
    return desk.vault.tag("idempotency-body", body)
