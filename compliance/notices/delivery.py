"""From pending notices to sent letters.

Reading, sending and recording are three steps, never one transaction: a slow mail server must not hold the
database's write lock.
"""

from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from zoneinfo import ZoneInfo

from compliance.desk import Desk
from compliance.errors import NotFoundError
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import NoticeView
from compliance.notices.letters import Facts, Letter, compose
from compliance.notices.mailers import Mailer, RefusedError
from compliance.regimes import REGIMES
from compliance.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """How many letters went out, and how many never will: nobody left to write to, or refused for good."""

    sent: int
    dropped: int


def deliver(desk: Desk, outgoing: Mailer, *, limit: int = 100) -> Delivered:
    """Send what is pending, oldest first. UnavailableError stops it; what is left stays pending."""
    with desk.read() as ledger:
        pending = ledger.pending_notices(limit=limit)
    sent = [_deliver(desk, outgoing, notice) for notice in pending]
    return Delivered(sent=sum(sent), dropped=len(sent) - sum(sent))


def _deliver(desk: Desk, outgoing: Mailer, notice: NoticeView) -> bool:
    message, code = _message(desk, notice)
    went = message is not None
    if message is not None:
        try:
            outgoing.send(message)
        except RefusedError:
            went = False
    with desk.transaction() as ledger:
        ledger.notice_sent(notice_id=notice.id, now=desk.clock())
        # A newer code may have been issued while this letter was on its way; its own letter needs it.
        if code is not None and _secret(ledger, notice.request_id, "code") == code:
            ledger.drop_secret(request_id=notice.request_id, purpose="code")
    return went


def _message(desk: Desk, notice: NoticeView) -> tuple[EmailMessage | None, str | None]:
    """The letter and the code in it."""
    with desk.read() as ledger:
        try:
            to = ledger.open_subject(notice.request_id).email
        except NotFoundError:  # erased in the meantime; nobody is left to tell
            return None, None
        facts = _facts(desk.settings, ledger, notice)
    letter = compose(notice.kind, facts)
    return None if letter is None else _addressed(desk, notice, letter, to), facts.code


def _addressed(desk: Desk, notice: NoticeView, letter: Letter, to: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    # addr_spec is parsed, so an address cannot smuggle in a second header or recipient.
    message["To"] = Address(addr_spec=to)
    message["From"] = Address(display_name=desk.settings.organisation, addr_spec=desk.settings.mail_from)
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(desk.clock())
    message["Message-ID"] = f"<{notice.id}@{desk.settings.origin.partition('/')[0]}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Expunge-Notice"] = notice.id
    message["X-Expunge-Kind"] = notice.kind
    message["X-Expunge-Request"] = notice.request_id
    message.set_content(letter.body, cte="8bit")
    return message


def _facts(settings: Settings, ledger: Ledger, notice: NoticeView) -> Facts:
    view = ledger.request(notice.request_id)
    return Facts(
        organisation=settings.organisation,
        desk_url=settings.public_url.rstrip("/"),
        request_id=view.id,
        regime=REGIMES[view.regime],
        received_on=view.received_at.astimezone(ZoneInfo(settings.time_zone)).date(),
        respond_by=view.respond_by,
        scope=view.scope,
        state=view.state.value,
        status_token=_secret(ledger, view.id, "status-token"),
        code=_secret(ledger, view.id, "code") if notice.kind == "identity_code" else None,
        denial_code=view.denial_code,
        reason=_secret(ledger, view.id, f"{notice.kind}-reason") or "",
        filed_by_agent=view.agent is not None,
    )


def _secret(ledger: Ledger, request_id: str, purpose: str) -> str | None:
    try:
        return ledger.open_secret(request_id=request_id, purpose=purpose).decode()
    except NotFoundError:
        return None
