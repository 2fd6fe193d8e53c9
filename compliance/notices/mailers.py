"""Two ways to send a mail: SMTP, or a file a mail in the outbox folder (the embedded default)."""

import os
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from compliance.errors import InvalidInputError, UnavailableError
from compliance.settings import Settings

_TIMEOUT = 20.0
_PERMANENT = 500


class RefusedError(UnavailableError):
    """The server will never take this one letter; others may go."""


class Mailer(Protocol):
    """Anything that takes a letter, or raises RefusedError (this one) or UnavailableError (any)."""

    def send(self, message: EmailMessage) -> None:
        """Hand one letter over."""


@dataclass(frozen=True, slots=True)
class FolderMailer:
    """Writes `NOTICE.eml`, mode 0600, complete or not at all; the same notice again replaces it."""

    folder: Path

    def send(self, message: EmailMessage) -> None:
        """Write the letter under its notice's id."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self.folder / f"{message['X-Expunge-Notice']}.eml"
        partial = target.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(message.as_bytes(policy=SMTP))
        partial.replace(target)


@dataclass(frozen=True, slots=True)
class SmtpMailer:
    """`smtp://` with STARTTLS, required as soon as there is a password, or `smtps://`."""

    url: str

    def __post_init__(self) -> None:
        """Refuse what is no mail server's address."""
        parts = urlsplit(self.url)
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
            message = "EXPUNGE_SMTP_URL must look like smtp://user:password@host:587 or smtps://host:465"
            raise InvalidInputError(message, code="settings")

    def send(self, message: EmailMessage) -> None:
        """Hand the letter to the server."""
        try:
            with self._connected() as server:
                self._authenticate(server)
                server.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            self._judge(max(code for code, _ in error.recipients.values()))
        except smtplib.SMTPResponseException as error:
            self._judge(error.smtp_code)
        except (OSError, smtplib.SMTPException):
            self._judge(0)

    def _connected(self) -> smtplib.SMTP:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "smtps":
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(host, parts.port or 465, timeout=_TIMEOUT, context=context)
        return smtplib.SMTP(host, parts.port or 587, timeout=_TIMEOUT)

    def _authenticate(self, server: smtplib.SMTP) -> None:
        parts = urlsplit(self.url)
        server.ehlo()
        if parts.scheme == "smtp" and (parts.password or server.has_extn("starttls")):
            server.starttls(context=ssl.create_default_context())
        if parts.username and parts.password:
            server.login(unquote(parts.username), unquote(parts.password))

    def _judge(self, code: int) -> None:
        # From None: the server's own words repeat the address.
        if code >= _PERMANENT:
            message = f"the mail server refused a letter for good (code {code})"
            raise RefusedError(message, code="mail-refused") from None
        message = "the mail server did not take a letter; it stays in the outbox and is tried again"
        raise UnavailableError(message, code="mail-unavailable") from None


def mailer(settings: Settings) -> Mailer:
    """SMTP when the settings name a server, else the outbox folder."""
    return SmtpMailer(settings.smtp_url) if settings.smtp_url else FolderMailer(settings.outbox)
