"""What the letters say, in plain text and plain words. Pure.

No template engine and no text of a user in any format position: an operator's reason is appended as it is.
The law behind the first letter for California: 11 CCR 7021(a), confirm receipt, say how we verify and when
to expect an answer. Behind a refusal: GDPR Art 12(4) and 11 CCR 7022(f), give the reason and the remedies.
"""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from compliance.regimes import ASKED, Regime, length, spelled

_WIDTH = 72
_PERSONAL = "records"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """All a letter may know."""

    organisation: str
    desk_url: str
    request_id: str
    regime: Regime
    received_on: date
    respond_by: date
    scope: str = "records"
    state: str = ""
    status_token: str | None = field(default=None, repr=False)
    code: str | None = field(default=None, repr=False)
    denial_code: str | None = None
    reason: str = field(default="", repr=False)
    filed_by_agent: bool = False


@dataclass(frozen=True, slots=True)
class Letter:
    """Subject line and body."""

    subject: str
    body: str


def compose(kind: str, facts: Facts) -> Letter | None:
    """The letter of this kind; None when there is none (its code has been replaced or already sent)."""
    writer = _LETTERS.get(facts.state if kind == _COMPLETED else kind)
    if writer is None or (kind == "identity_code" and facts.code is None):
        return None
    subject, *paragraphs = writer(facts)
    return Letter(subject, _lay_out([*paragraphs, *_ending(facts)]))


def _identity_code(facts: Facts) -> list[str]:
    code = facts.code or ""
    half = len(code) // 2
    sender = "An agent asked us in your name" if facts.filed_by_agent else "You, or somebody in your name, asked us"
    asked = f"{sender} to make our AI models forget {ASKED[facts.scope]}."
    return [
        "Your code to confirm your request",
        f"{asked} We received this on {spelled(facts.received_on)}.",
        "Please confirm that this is what you want. Your code is:",
        f"    {code[:half]}-{code[half:]}",
        "Enter it within one hour on this page:",
        f"    {facts.desk_url}/confirm/{facts.request_id}",
        "If the hour has passed, the same page sends you a new code.",
        (
            f"The law gives us {length(facts.regime.response)}: expect our answer by "
            f"{spelled(facts.respond_by)} at the latest. The days count from when we received your request, "
            "also while we wait for the code."
        ),
        "Was this not you? Then do nothing. Without the code we change nothing.",
    ]


def _denied(facts: Facts) -> list[str]:
    denial = facts.regime.denial(facts.denial_code or "")
    why = f"The reason in law: {denial.words} ({denial.citation})." if denial else ""
    return [
        "Our answer to your request: we may not do it",
        "We looked at your request and have to refuse it.",
        why,
        _quoted("In our words:", facts.reason),
        "You need not accept this:",
        *facts.regime.remedies,
        "We keep a record of your request and of this answer, as the law requires.",
    ]


def _extended(facts: Facts) -> list[str]:
    return [
        "Your request needs more time",
        f"We need longer for your request. The new last day is {spelled(facts.respond_by)}.",
        _quoted("Why:", facts.reason),
        "The law allows this once. You can still take your request back, or complain:",
        *facts.regime.remedies,
    ]


def _no_match(facts: Facts) -> list[str]:
    if facts.scope != _PERSONAL:
        return [
            "We found no such pictures",
            (
                "We searched everything our models were trained on for the kind of picture you named and found none, "
                "so there is nothing to remove."
            ),
            "If it goes by another name, please file a new request with that:",
            f"    {facts.desk_url}/",
            *facts.regime.remedies,
        ]
    return [
        "We found nothing about you",
        (
            "We searched everything our models were trained on for your name, your address and whatever "
            "else you gave us. We found no record about you, so there is nothing to remove."
        ),
        "If you know another name, nickname or number we may have used, please file a new request with it:",
        f"    {facts.desk_url}/",
        *facts.regime.remedies,
    ]


def _approved(facts: Facts) -> list[str]:
    return [
        "We agreed to your request",
        (
            f"We found {_found(facts)} and will remove them, together with other requests, in the next "
            "round. You will hear from us when it is done."
        ),
    ]


def _withdrawn(_facts: Facts) -> list[str]:
    return [
        "Your request has been taken back",
        "Your request was taken back through its status page or by your agent. We remove nothing.",
        "If this was not you, please file the request again.",
    ]


def _expired(facts: Facts) -> list[str]:
    return [
        "Your request was never confirmed",
        "Nobody entered the code we sent for this request, so we closed it and removed nothing.",
        "You can file it again at any time:",
        f"    {facts.desk_url}/",
    ]


def _fulfilled(facts: Facts) -> list[str]:
    back = "if they come back" if facts.scope == _PERSONAL else "if they, or new ones of the kind, come back"
    return [
        "Your request is done",
        (
            f"{_found(facts).capitalize()} are out of our training data and will be refused {back}. "
            "The models that learned from them have been replaced by new versions that went through "
            "unlearning, and we measured the result."
        ),
        (
            "One more sentence, to be honest: nobody can prove from a model alone that it has forgotten. "
            "What we did, and how well the tests went, stands in a signed report that others can check."
        ),
    ]


def _fulfilled_in_part(facts: Facts) -> list[str]:
    return [
        "Part of your request is done",
        f"For some of our models {_found(facts)} have been removed; for others we had to refuse.",
        _quoted("In our words:", facts.reason),
        *facts.regime.remedies,
    ]


def _found(facts: Facts) -> str:
    """What was found, in words: a letter never has the name of a class or domain, which can be a person's."""
    return "the records about you" if facts.scope == _PERSONAL else "the pictures you named"


_LETTERS: dict[str, Callable[[Facts], list[str]]] = {
    "identity_code": _identity_code,
    "denied": _denied,
    "extended": _extended,
    "no_match": _no_match,
    "approved": _approved,
    "withdrawn": _withdrawn,
    "expired": _expired,
    "fulfilled": _fulfilled,
    "fulfilled_in_part": _fulfilled_in_part,
}
_COMPLETED = "completed"  # the end of a batch: which letter that is depends on how the request ended


def _ending(facts: Facts) -> list[str]:
    link = [f"    {facts.desk_url}/status/{facts.status_token}"] if facts.status_token else []
    where = ["Where your request stands, at any time (keep this link to yourself):", *link] if link else []
    return [*where, f"Your request number: {facts.request_id}", facts.organisation]


def _quoted(label: str, reason: str) -> str:
    return f"{label}\n{reason}" if reason else ""


def _lay_out(paragraphs: list[str]) -> str:
    return "\n\n".join(_wrapped(p) for p in paragraphs if p) + "\n"


def _wrapped(paragraph: str) -> str:
    if paragraph.startswith("    "):  # a code or a link: never broken
        return paragraph
    return "\n".join(textwrap.fill(line, _WIDTH, break_long_words=False) for line in paragraph.split("\n"))
