"""What a person reads about the state of a request. Pure; no word of the trade."""

from dataclasses import dataclass
from enum import StrEnum

from compliance.ledger.lifecycle import ItemState, RequestState

_S = RequestState

HEADLINES: dict[RequestState, tuple[str, str]] = {
    _S.RECEIVED: ("We have your request", "We are about to send you a code by e-mail."),
    _S.IDENTITY_PENDING: (
        "Please confirm your request",
        (
            "We sent a code to the e-mail address in the request. Without it we do nothing, so that nobody else "
            "can ask in your name."
        ),
    ),
    _S.VERIFIED: ("Confirmed, thank you", "We are now searching our training data for you."),
    _S.MATCHED: (
        "We found data about you",
        "A person here now checks that these are really your data. You need do nothing.",
    ),
    _S.APPROVED: (
        "We are taking your data out",
        "We agreed. Removing happens in rounds, together with other requests, and every round is tested.",
    ),
    _S.ON_HOLD: (
        "Your request is on hold",
        "We need to clear something up first. The date we owe you an answer stays the same.",
    ),
    _S.NEEDS_INPUT: ("We need something from you", "Please look for a mail from us; it says what we need."),
    _S.FULFILLED: (
        "Done: your data are out",
        (
            "The records about you have left our training data, and the models that learned from them have "
            "been replaced. How well that worked was measured and signed."
        ),
    ),
    _S.FULFILLED_IN_PART: (
        "Done in part",
        "Some models have been dealt with; for others we had to refuse. The details stand below and in our mail.",
    ),
    _S.DENIED: ("We had to refuse", "The reason stands below and in our mail. You need not accept it."),
    _S.NO_MATCH: (
        "We found nothing about you",
        "We searched everything our models learned from and found no record about you.",
    ),
    _S.WITHDRAWN: ("You took your request back", "We removed nothing. You can ask again at any time."),
    _S.EXPIRED: (
        "This request was never confirmed",
        "Nobody entered the code, so we closed it and removed nothing. You can ask again at any time.",
    ),
    _S.DUPLICATE: (
        "You already have a request with us",
        "The same request is already under way; we go on with that one.",
    ),
}

_PICTURES: dict[RequestState, tuple[str, str]] = {
    _S.VERIFIED: ("Confirmed, thank you", "We are now searching our training data for the pictures you named."),
    _S.MATCHED: (
        "We found the pictures you named",
        "A person here now looks at your request and decides. You need do nothing.",
    ),
    _S.APPROVED: ("We are taking the pictures out", HEADLINES[_S.APPROVED][1]),
    _S.FULFILLED: (
        "Done: the pictures are out",
        (
            "The pictures you named have left our training data, and the models that learned from them have been "
            "replaced. How well that worked was measured and signed."
        ),
    ),
    _S.NO_MATCH: (
        "We found no such pictures",
        "We searched everything our models learned from and found no picture of the kind you named.",
    ),
}

WHOLE = {  # what the operator decides on
    "records": "every record of the person",
    "class": "every picture of one class, whosever they are",
    "domain": "every picture of one domain, whosever they are",
}

FAULTS = {  # sentences of the form, where those of every door speak of a target
    "target-empty": "please write what it is called",
    "target-unwanted": "a request about everything needs no name here; clear it, or choose above what it names",
    "target-too-long": "this name is too long; use at most 200 characters",
    "target-control-characters": "this name has control characters; remove them",
}

ITEMS: dict[ItemState, str] = {
    ItemState.PROPOSED: "found, not decided yet",
    ItemState.APPROVED: "waits for the next round",
    ItemState.QUEUED: "in the current round",
    ItemState.UNLEARNING: "being removed",
    ItemState.VERIFYING: "removed, being tested",
    ItemState.PUBLISHED: "new version in use",
    ItemState.SEALED: "new version in use, old one locked away",
    ItemState.FULFILLED: "done",
    ItemState.DENIED: "refused",
    ItemState.WITHDRAWN: "taken back",
}

REASONS = {
    "class": "the picture is of the class that was named",
    "domain": "the picture is of the domain that was named",
    "subject-field": "the record is filed under this person",
    "record-id": "the person gave the record's id",
    "text:name": "the text has the person's name",
    "text:email": "the text has the person's e-mail address",
    "text:identifier": "the text has another name or number the person gave",
}


class Mark(StrEnum):
    """Where a step lies."""

    DONE = "done"
    NOW = "now"
    TODO = "todo"


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the timeline; `when` is a date in words or empty."""

    title: str
    mark: Mark
    when: str = ""


SENT, ENDED = 0, 5  # numbers of the first and the last step
_TITLES = (
    "You sent your request",
    "You confirm it with the code from our mail",
    "We search our training data for you",
    "A person here checks what was found",
    "Your data are taken out, and the result is tested",
    "Done: you get our final answer",
)
_PAST = (
    "You sent your request",
    "You confirmed it with the code from our mail",
    "We searched our training data for you",
    "A person here checked what was found, and agreed",
    "Your data were taken out, and the result was tested",
    "You got our final answer",
)
_DONE_BY = {
    _S.VERIFIED: 1,
    _S.MATCHED: 2,
    _S.NO_MATCH: 2,
    _S.APPROVED: 3,
    _S.FULFILLED: 4,
    _S.FULFILLED_IN_PART: 4,
}
_AT = {
    _S.RECEIVED: 1,
    _S.IDENTITY_PENDING: 1,
    _S.VERIFIED: 2,
    _S.MATCHED: 3,
    _S.APPROVED: 4,
    _S.FULFILLED: 6,
    _S.FULFILLED_IN_PART: 6,
}
# A request that ended early shows what certainly happened before, then how it ended.
_ENDED_AFTER = {_S.NO_MATCH: 3, _S.DUPLICATE: 2, _S.DENIED: 1, _S.WITHDRAWN: 1, _S.EXPIRED: 1}


def done(state: str | None) -> int | None:
    """The step that reaching `state` completes."""
    return _DONE_BY.get(RequestState(state)) if state in set(RequestState) else None


def headline(state: RequestState, scope: str = "records") -> tuple[str, str]:
    """The headline and the sentence below it, of a request of this scope."""
    return HEADLINES[state] if scope == "records" else _PICTURES.get(state, HEADLINES[state])


def timeline(state: RequestState, dates: dict[int, str], scope: str = "records") -> list[Step]:
    """The steps of a request in `state`; `dates` maps a step's number to the day it was done, in words."""
    if state in _ENDED_AFTER:
        known = max([_ENDED_AFTER[state], *(n + 1 for n in dates if n < ENDED)])
        done = [Step(_told(_PAST, n, scope), Mark.DONE, dates.get(n, "")) for n in range(known)]
        return [*done, Step(headline(state, scope)[0], Mark.DONE, dates.get(ENDED, ""))]
    now = _AT.get(state, max(dates, default=SENT) + 1)  # on hold: after the last step that is done
    return [_step(number, now, dates, scope) for number in range(len(_TITLES))]


def _step(number: int, now: int, dates: dict[int, str], scope: str) -> Step:
    if number < now:
        return Step(_told(_PAST, number, scope), Mark.DONE, dates.get(number, ""))
    return Step(_told(_TITLES, number, scope), Mark.NOW if number == now else Mark.TODO)


def _told(titles: tuple[str, ...], number: int, scope: str) -> str:
    """A step's title; of a request for pictures it speaks of them instead of the person."""
    if scope == "records":
        return titles[number]
    return titles[number].replace("for you", "for the pictures you named").replace("Your data", "The pictures")


def days_left(days: int | None) -> str:
    """`3 days left`, `due today`, `2 days overdue`; empty when nothing is due any more."""
    if days is None:
        return ""
    if days == 0:
        return "due today"
    unit = "day" if abs(days) == 1 else "days"
    return f"{days} {unit} left" if days > 0 else f"{-days} {unit} overdue"
