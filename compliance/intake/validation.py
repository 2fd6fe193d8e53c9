"""Bad input, one clear sentence each: what is wrong and what to change. Pure.

Nothing is altered here beyond trimming and Unicode NFC: text is escaped where it is shown, not where it is
stored. A sentence never repeats the value, because it ends up in answers and logs.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from compliance.errors import InvalidInputError
from compliance.ledger.views import Subject
from compliance.regimes import REGIMES

RECORDS, CLASS, DOMAIN = SCOPES = ("records", "class", "domain")
NAME_MAX, EMAIL_MAX, STATEMENT_MAX, IDENTIFIERS_MAX, AUTHORITY_MAX = 200, 254, 4000, 20, 200
# The zero-width joiners are letters' companions in Persian and several Indian scripts; every other
# invisible character only hides something from the operator who reads the name.
_JOINERS = {"\u200c", "\u200d"}
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_LOCAL_MAX, _HOST_MAX = 64, 253


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """One person's request as it came through a door, valid by construction (`submission`)."""

    regime: str
    scope: str
    subject: Subject = field(repr=False)
    test: bool = False


def submission(
    *,
    regime: str,
    name: str,
    email: str,
    scope: str = "records",
    identifiers: Sequence[str] = (),
    statement: str = "",
    target: str = "",
    authority: str = "",
    test: bool = False,
) -> Submission:
    """Check everything a door passes on; InvalidInputError with the first thing to mend.

    `target` names the class or domain that a request of such a scope is about. Whether there is one of that name is
    not asked here: nobody has proved who they are, and the answer would tell strangers who is in the data.
    `authority` is an agent's proof of mandate; it is kept with the person's statement, in the vault.
    """
    if regime not in REGIMES:
        _refuse("unknown-regime", f"the regime is unknown; use one of: {', '.join(REGIMES)}")
    if scope not in SCOPES:
        _refuse("unknown-scope", f"the scope is unknown; use one of: {', '.join(SCOPES)}")
    if len(identifiers) > IDENTIFIERS_MAX:
        _refuse("too-many-identifiers", f"give at most {IDENTIFIERS_MAX} other names or numbers")
    mandate = text(authority, what="authority", most=AUTHORITY_MAX, needed=False)
    said = text(statement, what="statement", most=STATEMENT_MAX, needed=False, lines=True)
    subject = Subject(
        name=text(name, what="name", most=NAME_MAX),
        email=address(email),
        identifiers=tuple(text(i, what="identifiers", most=NAME_MAX) for i in identifiers),
        statement=f"Authority of the agent: {mandate}\n{said}".strip() if mandate else said,
        target=named(target, scope=scope),
    )
    return Submission(regime=regime, scope=scope, subject=subject, test=test)


def named(target: str, *, scope: str) -> str:
    """The name of the class or domain of a request of that scope, as `text`; empty for one about records."""
    given = text(target, what="target", most=NAME_MAX, needed=False)
    if scope == RECORDS:
        if given:
            _refuse("target-unwanted", "a request for all records of a person has no target; leave it out")
        return ""
    if not any(unicodedata.category(c)[0] not in "ZC" for c in given):
        _refuse("target-empty", f"the name of the {scope} is missing; say as the target which {scope} is meant")
    return given


def text(value: str, *, what: str, most: int, needed: bool = True, lines: bool = False) -> str:
    """Trimmed NFC text of at most `most` characters without control characters; `lines` allows new lines."""
    if len(value) > most:
        _refuse(f"{what}-too-long", f"the {what} is too long; use at most {most} characters")
    value = unicodedata.normalize("NFC", value.replace("\r\n", "\n") if lines else value).strip()
    if needed and not any(unicodedata.category(c)[0] in "LN" for c in value):
        _refuse(f"{what}-empty", f"the {what} is empty; fill it in")
    if any(_hidden(c) and not (lines and c in "\n\t") for c in value):
        _refuse(f"{what}-control-characters", f"the {what} has control characters; remove them")
    return value


def address(value: str) -> str:
    """A deliverable-looking mail address, its host in ASCII. Nothing else may become a mail header."""
    value = value.strip(" ")
    if any(_hidden(c) or c.isspace() for c in value):
        _refuse("email-malformed", "the e-mail address has spaces or control characters; remove them")
    local, at, host = value.rpartition("@")
    if len(value) > EMAIL_MAX or not at or len(local) > _LOCAL_MAX or not _LOCAL.fullmatch(local):
        _refuse("email-malformed", "the e-mail address is not complete; write it like name@example.org")
    return f"{local}@{_host(host)}"


def _host(host: str) -> str:
    try:
        ascii_host = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        ascii_host = ""
    labels = ascii_host.split(".")
    if len(labels) < 2 or len(ascii_host) > _HOST_MAX or not all(map(_LABEL.fullmatch, labels)):  # noqa: PLR2004
        _refuse("email-malformed", "the part after the @ is no mail host; write it like name@example.org")
    return ascii_host


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} and (character not in _JOINERS)


def _refuse(code: str, message: str) -> NoReturn:
    raise InvalidInputError(message, code=code)
