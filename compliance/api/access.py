"""Who asks: a bearer token is an authorised agent's, or the status token of one request, or nobody's."""

import hmac
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from compliance import intake
from compliance.errors import ForbiddenError, NotFoundError
from compliance.intake import Gatekeeper
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import RequestView
from compliance.wiring import Services

_bearer = HTTPBearer(auto_error=False, description="an authorised agent's token, or the status token of one request")


def services_of(request: Request) -> Services:
    """The services the application was created with."""
    services: Services = request.app.state.services
    return services


Desk = Annotated[Services, Depends(services_of)]


def _read(desk: Desk) -> Iterator[Ledger]:
    with desk.read() as ledger:
        yield ledger


# scope="function": a default `yield` dependency ends after the answer was sent, and an error in its end would
# come too late (invariant 2). Writes do not use one at all: intake's functions own their transactions.
Reading = Annotated[Ledger, Depends(_read, scope="function")]


def _gatekeeper(request: Request) -> Gatekeeper:
    keeper: Gatekeeper = request.app.state.gatekeeper
    return keeper


Limits = Annotated[Gatekeeper, Depends(_gatekeeper)]


def _token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str | None:
    return credentials.credentials if credentials else None


Token = Annotated[str | None, Depends(_token)]


def _agent(desk: Desk, token: Token) -> str | None:
    found = None
    for name, secret in desk.settings.agents.items():  # all of them, so that time tells nothing
        if token is not None and hmac.compare_digest(token.encode(), secret.get_secret_value().encode()):
            found = name
    return found


Agent = Annotated[str | None, Depends(_agent)]


def _known_agent(agent: Agent, token: Token) -> str:
    if agent is None:
        code = "no-token" if token is None else "unknown-token"
        message = "this needs an authorised agent's token; send it as 'Authorization: Bearer TOKEN'"
        raise ForbiddenError(message, code=code)
    return agent


KnownAgent = Annotated[str, Depends(_known_agent)]


def _entitled(request_id: str, desk: Desk, ledger: Reading, token: Token, agent: Agent) -> RequestView:
    """The request, for its own status token or its own agent; to all others it does not exist."""
    if token is None:
        message = "this needs the status token of the request; send it as 'Authorization: Bearer TOKEN'"
        raise ForbiddenError(message, code="no-token")
    expected = intake.status_token(desk.vault, request_id=request_id if intake.is_id(request_id) else "")
    own = hmac.compare_digest(token.encode(), expected.encode())
    try:
        view = ledger.request(request_id) if intake.is_id(request_id) else None
    except NotFoundError:
        view = None
    if view is None or not (own or (agent is not None and view.agent == agent)):
        message = "there is no such request for this token; check both"
        raise NotFoundError(message, code="no-such-request")
    return view


Entitled = Annotated[RequestView, Depends(_entitled)]


def address_of(request: Request) -> str:
    """The caller's address, for the limits."""
    return request.client.host if request.client else "unknown"
