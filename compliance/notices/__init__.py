"""Letters to data subjects, from the outbox table to a mail server or a folder.

A notice is written in the transaction that is its reason and sent afterwards, at least once: a crash between
sending and recording sends the same letter again, under the same Message-ID. Bodies carry no personal
data; the address stands in the header alone.
"""

from compliance.notices.delivery import Delivered, deliver
from compliance.notices.letters import Facts, Letter, compose
from compliance.notices.mailers import FolderMailer, Mailer, RefusedError, SmtpMailer, mailer

__all__ = [
    "Delivered",
    "Facts",
    "FolderMailer",
    "Letter",
    "Mailer",
    "RefusedError",
    "SmtpMailer",
    "compose",
    "deliver",
    "mailer",
]
