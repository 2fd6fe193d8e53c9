"""`/v1/requests`: file, confirm, follow, withdraw. Each route is one call of `intake`."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from compliance import intake
from compliance.api.access import (
    Agent,
    Desk,
    Entitled,
    KnownAgent,
    Limits,
    Reading,
    Token,
    address_of,
)
from compliance.api.bodies import (
    ApprovalIn,
    CodeIn,
    CodeSentOut,
    FiledListOut,
    FiledOut,
    PageOut,
    RequestIn,
    RequestOut,
    SubjectIn,
    request_out,
)
from compliance.api.problems import described
from compliance.errors import ForbiddenError, InvalidInputError
from compliance.intake import Caller, Filed, Submission
from compliance.ledger.views import RequestView

router = APIRouter(prefix="/v1/requests", tags=["requests"])

IdempotencyKey = Annotated[
    str | None,
    Header(description="16 to 128 characters, best a random UUID: the same call again gets the same answer"),
]


@router.post("", status_code=201, responses=described(400, 401, 403))
def file_requests(  # noqa: PLR0917 - FastAPI passes them by name
    body: RequestIn,
    request: Request,
    response: Response,
    desk: Desk,
    limits: Limits,
    agent: Agent,
    token: Token,
    idempotency_key: IdempotencyKey = None,
) -> FiledListOut:
    """File a removal request; every subject gets a request, a code by mail and a signed receipt."""
    submissions = _submissions(body, agent=agent, token=token)
    now = desk.clock()
    if agent is None:
        limits.filing(address_of(request), now)
    for one in submissions:
        limits.mailbox(one.subject.email, now)
    caller = Caller(door="api" if agent is None else "agent", agent=agent)
    filed = intake.file(desk, submissions, caller=caller, idempotency_key=idempotency_key)
    if len(filed) == 1:
        response.headers["Location"] = f"/v1/requests/{filed[0].request.id}"
    return FiledListOut(requests=[_filed_out(desk, one) for one in filed])


@router.get("", responses=described(401, 403, 404))
def list_requests(
    desk: Desk,
    ledger: Reading,
    agent: KnownAgent,
    after: Annotated[
        str | None, Query(pattern=f"^{intake.ID_PATTERN}$", description="`next` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> PageOut:
    """The requests an authorised agent filed, in order of arrival."""
    if after is not None and ledger.request(after).agent != agent:
        message = "the cursor is not one of yours; pass `next` of the page before"
        raise InvalidInputError(message, code="unknown-cursor")
    views = ledger.requests(agent=agent, after=after, limit=limit + 1)
    page = views[:limit]
    following = page[-1].id if len(views) > limit else None
    return PageOut(requests=[_out(desk, view) for view in page], next=following)


@router.get("/{request_id}", responses=described(401, 404))  # noqa: FAST003 - `Entitled` takes it
def show_request(view: Entitled, desk: Desk) -> RequestOut:
    """Where the request stands."""
    return _out(desk, view)


@router.post("/{request_id}/confirm", responses=described(400))
def confirm_request(request_id: str, body: CodeIn, request: Request, desk: Desk, limits: Limits) -> RequestOut:
    """Prove with the code from the mail that the address is yours. The code suffices; no token is needed."""
    limits.code(address_of(request), desk.clock())
    return _out(desk, intake.confirm(desk, request_id=request_id, code=body.code))


@router.post("/{request_id}/code", status_code=202, responses=described())
def send_new_code(request_id: str, request: Request, desk: Desk, limits: Limits) -> CodeSentOut:
    """Ask for a new code; the older one ends. The answer is the same for every request, known or not."""
    now = desk.clock()
    limits.code(address_of(request), now)
    intake.new_code(desk, request_id=request_id)
    return CodeSentOut()


@router.post("/{request_id}/withdraw", responses=described(401, 404, 409))  # noqa: FAST003 - `Entitled` takes it
def withdraw_request(view: Entitled, desk: Desk) -> RequestOut:
    """Take the request back, as long as its unlearning has not begun."""
    return _out(desk, intake.withdraw(desk, request_id=view.id))


@router.post("/{request_id}/approval", responses=described(403, 404, 409))
def approve_request(request_id: str, body: ApprovalIn, request: Request, desk: Desk, limits: Limits) -> RequestOut:
    """Approve as an approver whose key the desk knows. The signature suffices; no token is needed."""
    limits.code(address_of(request), desk.clock())
    said = intake.signed_approval(said=body.statement, signature=body.signature, key_id=body.key_id)
    return _out(desk, intake.approve(desk, request_id=request_id, actor="approver", approval=said))


@router.get("/{request_id}/receipt", responses=described(401, 404))  # noqa: FAST003 - `Entitled` takes it
def show_receipt(view: Entitled, desk: Desk) -> dict[str, Any]:
    """The signed receipt, as it was given at submission."""
    return desk.receipt(view.id)


def _submissions(body: RequestIn, *, agent: str | None, token: str | None) -> list[Submission]:
    agents_only = body.subjects is not None or body.authority or body.test
    if agent is None and (agents_only or token is not None):
        code = "no-token" if token is None else "unknown-token"
        message = "several subjects, an authority and tests need an authorised agent's token; send it as Bearer"
        raise ForbiddenError(message, code=code)
    if (body.subject is None) == (body.subjects is None):
        message = "give either one 'subject' or a list of 'subjects'"
        raise InvalidInputError(message, code="subject-or-subjects")
    if agent is not None and not body.authority.strip():
        message = "an agent has to give the reference of its mandate as 'authority'"
        raise InvalidInputError(message, code="authority-empty")
    subjects = body.subjects if body.subjects is not None else [body.subject] if body.subject else []
    return [_submission(body, subject) for subject in subjects]


def _submission(body: RequestIn, subject: SubjectIn) -> Submission:
    return intake.submission(
        regime=body.regime,
        scope=body.scope,
        name=subject.name,
        email=subject.email,
        identifiers=subject.identifiers,
        statement=subject.statement,
        target=body.target,
        authority=body.authority,
        test=body.test,
    )


def _out(desk: Desk, view: RequestView) -> RequestOut:
    return request_out(view, intake.progress(desk.settings, view, now=desk.clock()))


def _filed_out(desk: Desk, filed: Filed) -> FiledOut:
    base = desk.settings.public_url.rstrip("/")
    return FiledOut(
        request=_out(desk, filed.request),
        status_token=filed.status_token,
        status_url=f"{base}/status/{filed.status_token}",
        confirm_url=f"{base}/confirm/{filed.request.id}",
        receipt=desk.receipt(filed.request.id),
    )
