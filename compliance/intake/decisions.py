"""What an operator decides, with the letter that tells the person, in one transaction.

Every refusal has a code its regime knows, and the letter says it in words. What the operator adds in free text
is for the person alone: it lies in the vault, the letter carries it, and the log sees the code.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

from audits import approval as approvals
from audits.errors import VerificationError
from audits.log import parse_time
from audits.strict import decode_base64
from compliance.errors import InvalidInputError
from compliance.intake.desk import Desk
from compliance.intake.filing import clocks, day_of
from compliance.intake.validation import STATEMENT_MAX, text
from compliance.ledger.entries import rfc3339
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import RequestView
from compliance.regimes import REGIMES

CLOCK_SKEW = timedelta(minutes=10)
EXTENSION_CODES = {
    "complexity": "Your request is complex.",
    "number_of_requests": "We have very many requests at the moment.",
}


def approve(desk: Desk, *, request_id: str, actor: str, approval: Mapping[str, str] | None = None) -> RequestView:
    """Agree; the items join the next batch. `approval` is what an approver signed, where approvers have keys."""
    with desk.transaction() as ledger:
        now = desk.clock()
        view = ledger.approve_request(request_id=request_id, actor=actor, now=now, approval=approval)
        if approval is not None and not _timely(approval, view, now):
            message = "the approval was signed before the request came or in the future; set the clock and sign again"
            raise InvalidInputError(message, code="approval-time")
        return view


def statement(desk: Desk, *, request_id: str) -> bytes:
    """What an approver has to sign to approve a request now (`audits.approval`)."""
    with desk.read() as ledger:
        commitment = ledger.request(request_id).commitment
    return approvals.statement(request_id=request_id, commitment=commitment, approved_at=rfc3339(desk.clock()))


def deny(desk: Desk, *, request_id: str, actor: str, code: str, reason: str = "") -> RequestView:
    """Refuse with a code of the request's regime and a reason in words, and write to the person."""
    with _telling(desk, request_id, "denied", reason) as ledger:
        regime = REGIMES[ledger.request(request_id).regime]
        if regime.denial(code) is None:
            known = ", ".join(denial.code for denial in regime.denials)
            message = f"this refusal is not known to '{regime.code}'; use one of: {known}"
            raise InvalidInputError(message, code="unknown-denial")
        return ledger.deny_request(request_id=request_id, actor=actor, code=code, now=desk.clock())


def extend(desk: Desk, *, request_id: str, actor: str, code: str, reason: str = "") -> RequestView:
    """Use the one extension the law gives, counted from receipt, and write to the person.

    Refused after the first period has ended: the person must be told within it.
    """
    if code not in EXTENSION_CODES:
        message = f"the reason for an extension is unknown; use one of: {', '.join(EXTENSION_CODES)}"
        raise InvalidInputError(message, code="unknown-extension")
    with _telling(desk, request_id, "extended", f"{EXTENSION_CODES[code]}\n{reason}") as ledger:
        view, now = ledger.request(request_id), desk.clock()
        dates = clocks(desk.settings, regime=view.regime, received_at=view.received_at)
        if day_of(desk.settings, now) > view.respond_by:
            message = f"an extension had to be announced by {view.respond_by.isoformat()}; answer the request now"
            raise InvalidInputError(message, code="extension-too-late")
        return ledger.extend_request(
            request_id=request_id, actor=actor, code=code, respond_by=dates.extended_by, now=now
        )


def hold(desk: Desk, *, request_id: str, actor: str, code: str = "operator") -> RequestView:
    """Set aside; the clock goes on."""
    with desk.transaction() as ledger:
        return ledger.hold_request(request_id=request_id, actor=actor, code=code, now=desk.clock())


def release(desk: Desk, *, request_id: str, actor: str) -> RequestView:
    """Take up again what was on hold."""
    with desk.transaction() as ledger:
        return ledger.release_request(request_id=request_id, actor=actor, now=desk.clock())


def signed_approval(*, said: str, signature: str, key_id: str) -> Mapping[str, str]:
    """What an approver's browser or program sends: the signed text, the signature in base64, the key's id."""
    try:
        raw = decode_base64(signature, "The signature")
        return approvals.entry_data(said.encode(), key_id=key_id, signature=raw)
    except (VerificationError, UnicodeEncodeError) as fault:
        message = "this is no signed approval; sign the request's statement as the desk shows it, and send it again"
        raise InvalidInputError(message, code="bad-approval") from fault


def _timely(approval: Mapping[str, str], view: RequestView, now: datetime) -> bool:
    """Whether a verified approval's time is one at which the request could be approved, by clocks that differ a bit."""
    said = approvals.parse(decode_base64(approval["statement"], "The approval"))
    return view.received_at - CLOCK_SKEW <= parse_time(said["approvedAt"]) <= now + CLOCK_SKEW


@contextmanager
def _telling(desk: Desk, request_id: str, kind: str, reason: str) -> Iterator[Ledger]:
    words = text(reason, what="reason", most=STATEMENT_MAX, needed=False, lines=True)
    with desk.transaction() as ledger:
        yield ledger
        ledger.keep_secret(request_id=request_id, purpose=f"{kind}-reason", plaintext=words.encode())
        ledger.enqueue_notice(notice_id=desk.ids(), request_id=request_id, kind=kind, now=desk.clock())
