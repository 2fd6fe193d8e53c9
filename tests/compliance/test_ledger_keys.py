"""Keys in the ledger: registered, revoked, and what is approved under them."""

import json

import pytest

from audits import approval, keys, log
from audits.register import Register
from compliance.errors import ComplianceError, ConflictError, ForbiddenError, InvalidInputError, UnavailableError
from compliance.ledger.lifecycle import RequestState
from compliance.wiring import Services
from tests.compliance.browsing import matched
from tests.compliance.builders import log_size
from tests.compliance.conftest import both_databases

APPROVER = keys.generate("approver")
SAID_AT = "2026-01-02T03:04:05Z"


def enrol(desk: Services, key: keys.SigningKey) -> int:
    """Register a key; the entry's index."""
    with desk.transaction() as ledger:
        return ledger.register_key(
            key_id=key.key_id,
            role=key.role,
            public_key=key.public_key,
            data=keys.registration(key, key.role),
            now=desk.clock(),
        )


def revoke(desk: Services, key: keys.SigningKey) -> int:
    """Revoke a key; the entry's index."""
    with desk.transaction() as ledger:
        return ledger.revoke_key(key_id=key.key_id, reason="compromised", now=desk.clock())


def statement_of(desk: Services, request_id: str) -> bytes:
    """What an approver signs for a request."""
    with desk.read() as ledger:
        commitment = ledger.request(request_id).commitment
    return approval.statement(request_id=request_id, commitment=commitment, approved_at=SAID_AT)


def approve(desk: Services, request_id: str, data: dict[str, str] | None) -> RequestState:
    """Approve a request with what an approver signed, or without."""
    with desk.transaction() as ledger:
        view = ledger.approve_request(request_id=request_id, actor="operator", now=desk.clock(), approval=data)
        return view.state


def folded(desk: Services) -> Register:
    """The register an auditor reads out of the whole log."""
    found = Register()
    with desk.read() as ledger:
        for index, raw in enumerate(ledger.entries(0, ledger.head().size)):
            found.apply(index, log.parse_entry(raw))
    return found


@both_databases
def test_an_auditor_sees_the_keys_that_the_desk_sees(services: Services) -> None:
    """Registration and revocation in the database are those of the log."""
    enrol(services, APPROVER)
    gone = revoke(services, APPROVER)

    register, size = folded(services), log_size(services)
    with services.read() as ledger:
        view = ledger.service_key(APPROVER.key_id)
        shown = {key.key_id for role in keys.ROLES for key in ledger.keys_in_force(role)}
        assert [key.log_index for key in ledger.service_keys()] == sorted(k.log_index for k in ledger.service_keys())
    assert (view.revoked_index, view.revoked_reason, view.algorithm) == (gone, "compromised", "ed25519")
    assert shown == {key.key_id for role in keys.ROLES for key in register.in_force(role, size)}
    assert APPROVER.key_id not in shown


def test_a_revoked_key_never_comes_back(services: Services) -> None:
    """It is neither registered nor revoked again, and nothing is signed with it."""
    enrol(services, APPROVER)
    revoke(services, APPROVER)
    before = log_size(services)

    for act in (enrol, revoke):
        with pytest.raises(ConflictError) as caught:
            act(services, APPROVER)
        assert caught.value.code == "key-revoked"
    with pytest.raises(UnavailableError, match="revoked by log entry"), services.read() as ledger:
        ledger.key_in_force(APPROVER.key_id)
    assert log_size(services) == before


def test_a_key_has_one_role_in_the_log(services: Services) -> None:
    """The receipt key is not registered as an approver's."""
    signer = services.signers["receipt"]
    data = keys.register_public(signer.public_key, role="approver", algorithm="ed25519")

    with pytest.raises(ConflictError, match="receipt key already"), services.transaction() as ledger:
        ledger.register_key(
            key_id=signer.key_id, role="approver", public_key=signer.public_key, data=data, now=services.clock()
        )


def test_a_key_that_nobody_registered_signs_nothing(services: Services) -> None:
    """A desk whose key file was changed says so before it signs."""
    with pytest.raises(UnavailableError, match="not registered"), services.read() as ledger:
        ledger.key_in_force("ab" * 32)


@both_databases
def test_a_signed_approval_is_in_the_log_before_the_state(services: Services) -> None:
    """The entry carries the approver's very bytes, and an auditor verifies them."""
    enrol(services, APPROVER)
    request_id = matched(services)

    state = approve(services, request_id, approval.sign(statement_of(services, request_id), APPROVER))

    with services.read() as ledger:
        kinds = [event.kind for event in ledger.history(request_id)][-3:-1]
        commitment = ledger.request(request_id).commitment
        entries = [json.loads(raw) for raw in ledger.entries(0, ledger.head().size)]
    (found,) = [entry["data"] for entry in entries if entry["type"] == approval.REQUEST_APPROVED]
    assert (state, kinds) == (RequestState.APPROVED, ["request.approved", "request.state"])
    approval.verify(found, APPROVER.public_key, request_id=request_id, commitment=commitment)


def test_the_operator_alone_approves_nothing(services: Services) -> None:
    """While an approver's key is in force, an unsigned approval is refused and changes nothing."""
    enrol(services, APPROVER)
    request_id = matched(services)
    before = log_size(services)

    with pytest.raises(ForbiddenError, match="approvals are signed here"):
        approve(services, request_id, None)
    assert log_size(services) == before

    revoke(services, APPROVER)
    assert approve(services, request_id, None) is RequestState.APPROVED


def test_what_no_approver_signed_approves_nothing(services: Services) -> None:
    """A stranger's key, a revoked key, another request's statement: each is refused with its reason."""
    old = keys.generate("approver")
    enrol(services, APPROVER)
    enrol(services, old)
    revoke(services, old)
    request_id = matched(services)
    said = statement_of(services, request_id)
    other = said.replace(request_id.encode(), b"r2")
    before = log_size(services)

    refused: list[tuple[dict[str, str], type[ComplianceError]]] = [
        (approval.sign(said, keys.generate("approver")), ForbiddenError),
        (approval.sign(said, old), ForbiddenError),
        (approval.sign(other, APPROVER), InvalidInputError),
        (
            {**approval.sign(said, APPROVER), "signature": approval.sign(other, APPROVER)["signature"]},
            InvalidInputError,
        ),
    ]
    for data, error in refused:
        with pytest.raises(error):
            approve(services, request_id, data)
    assert log_size(services) == before


def test_a_request_is_approved_once(services: Services) -> None:
    """A second signed approval of the same request is a conflict, and logs nothing."""
    enrol(services, APPROVER)
    request_id = matched(services)
    data = approval.sign(statement_of(services, request_id), APPROVER)
    approve(services, request_id, data)
    before = log_size(services)

    with pytest.raises(ConflictError):
        approve(services, request_id, data)
    assert log_size(services) == before


def test_an_approval_from_the_public_log_takes_nothing_off_hold(services: Services) -> None:
    """Whoever sends a signed approval again changes nothing about a request that an operator set aside since."""
    enrol(services, APPROVER)
    request_id = matched(services)
    data = approval.sign(statement_of(services, request_id), APPROVER)
    approve(services, request_id, data)
    with services.transaction() as ledger:
        ledger.hold_request(request_id=request_id, actor="operator", code="operator", now=services.clock())
    before = log_size(services)

    with pytest.raises(ConflictError, match="on hold"):
        approve(services, request_id, data)
    assert log_size(services) == before

    with services.transaction() as ledger:
        released = ledger.release_request(request_id=request_id, actor="operator", now=services.clock())
    assert released.state is RequestState.APPROVED
