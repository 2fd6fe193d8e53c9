"""What goes over the wire.

Unknown members are refused: a caller who sends `received_at` shall learn that the desk has the only clock.
Lengths and characters are checked by `intake`, with sentences for people.
"""

from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from compliance.intake import SCOPES, Progress
from compliance.ledger.views import RequestView
from compliance.regimes import REGIMES


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True)


class SubjectIn(_In):
    """The person whose data shall be forgotten."""

    name: str = Field(description="full name, at most 200 characters", examples=["Ada Example"])
    email: str = Field(description="where the one-time code goes", examples=["ada@example.org"])
    identifiers: list[str] = Field(
        default=[], description="other names, user names, customer numbers: at most 20 of 200 characters"
    )
    statement: str = Field(default="", description="anything the person wants to say, at most 4,000 characters")


class RequestIn(_In):
    """One person's request, or an authorised agent's for up to 50 persons."""

    regime: str = Field(description=f"the law the request stands on: {', '.join(REGIMES)}", examples=["gdpr"])
    scope: str = Field(default="records", description=f"what shall be forgotten: {', '.join(SCOPES)}")
    target: str = Field(
        default="", description="the name of the class or domain, at most 200 characters; only with such a scope"
    )
    subject: SubjectIn | None = Field(default=None, description="one person")
    subjects: Annotated[list[SubjectIn] | None, Field(description="1 to 50 persons; agents only")] = None
    authority: str = Field(default="", description="agents: reference of the mandate, at most 200 characters")
    test: bool = Field(default=False, description="agents: a rehearsal, marked as such in the log")


class CodeIn(_In):
    """The one-time code from the mail."""

    code: str = Field(description="eight letters and digits; spaces, hyphens and case do not matter")


class ApprovalIn(_In):
    """An approver's signature over a request; made by `expunge request sign`, or by any Ed25519 program."""

    statement: str = Field(description="the signed text, byte for byte (RFC 8785): expunge-approval/v1")
    signature: str = Field(description="Ed25519 over the statement's bytes, in base64")
    key_id: str = Field(description="SHA-256 of the approver's public key, in hex")


class DenialOut(_Out):
    """Why a request was refused."""

    code: str = Field(examples=["gdpr.17.3.e"])
    words: str
    citation: str


class RequestOut(_Out):
    """Where a request stands. It never holds personal data."""

    id: str
    state: str
    regime: str
    scope: str
    door: str
    test: bool
    received_at: datetime
    acknowledge_by: date | None
    respond_by: date
    alarm_by: date = Field(description="the day to plan for: the earlier one where the law can be read two ways")
    days_left: int | None = Field(description="to alarm_by; negative when overdue, null when ended")
    extended: bool
    closed_at: datetime | None
    denial: DenialOut | None
    commitment: str = Field(description="what the log holds instead of the person, in hex")


class FiledOut(_Out):
    """A stored request, with its receipt."""

    request: RequestOut
    status_token: str = Field(description="bearer token for this request; keep it secret")
    status_url: str
    confirm_url: str
    receipt: dict[str, Any] = Field(description="signed; keep it: it proves when the request was received")


class FiledListOut(_Out):
    """One entry for each subject, in the order they were given."""

    requests: list[FiledOut]


class PageOut(_Out):
    """A page of an agent's requests, in order of arrival."""

    requests: list[RequestOut]
    next: str | None = Field(description="pass it as `after` for the next page; null on the last one")


class CodeSentOut(_Out):
    """Always the same, whatever the request's state."""

    message: str = "if this request waits for a code, a new one is on its way to its address"


def request_out(view: RequestView, progress: Progress) -> RequestOut:
    """The public face of a request."""
    denial = REGIMES[view.regime].denial(view.denial_code) if view.denial_code else None
    return RequestOut(
        id=view.id,
        state=view.state.value,
        regime=view.regime,
        scope=view.scope,
        door=view.door,
        test=view.test,
        received_at=view.received_at,
        acknowledge_by=view.acknowledge_by,
        respond_by=view.respond_by,
        alarm_by=progress.alarm_by,
        days_left=progress.days_left,
        extended=view.extended,
        closed_at=view.closed_at,
        denial=None if denial is None else DenialOut(code=denial.code, words=denial.words, citation=denial.citation),
        commitment=view.commitment,
    )
