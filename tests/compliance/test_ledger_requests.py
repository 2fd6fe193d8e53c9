"""Requests in the ledger: every move legal, counted and logged, on both databases."""

import contextlib
import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compliance.errors import ComplianceError, ConflictError, NotFoundError
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import FINAL, ItemState, RequestState, check_request
from compliance.wiring import Services
from tests.compliance.builders import approved_request, desk_with_people, log_size, person, plan
from tests.compliance.conftest import PERSON, START, Clock, both_databases, file_request, verified_request

R = RequestState
LATER = date(2027, 2, 21)
Act = Callable[[Ledger, str, Any], object]
ACTS: dict[str, Act] = {
    "approve": lambda ledger, one, now: ledger.approve_request(request_id=one, actor="operator", now=now),
    "deny": lambda ledger, one, now: ledger.deny_request(
        request_id=one, actor="operator", code="not-verified", now=now
    ),
    "withdraw": lambda ledger, one, now: ledger.withdraw_request(request_id=one, now=now),
    "hold": lambda ledger, one, now: ledger.hold_request(request_id=one, actor="operator", code="legal-hold", now=now),
    "release": lambda ledger, one, now: ledger.release_request(request_id=one, actor="operator", now=now),
    "extend": lambda ledger, one, now: ledger.extend_request(
        request_id=one, actor="operator", code="complex", respond_by=LATER, now=now
    ),
    "confirm": lambda ledger, one, now: ledger.confirm_identity(request_id=one, now=now),
    "expire": lambda ledger, one, now: ledger.expire_request(request_id=one, now=now),
}
EXAMPLES = itertools.count()


def _act(desk: Services, name: str, request_id: str = "r1") -> None:
    with desk.transaction() as ledger:
        ACTS[name](ledger, request_id, desk.clock())


def _state(desk: Services) -> RequestState:
    with desk.read() as ledger:
        return ledger.request("r1").state


def _last_entry(desk: Services) -> dict[str, Any]:
    size = log_size(desk)
    with desk.read() as ledger:
        (payload,) = ledger.entries(size - 1, size)
    entry: dict[str, Any] = json.loads(payload)
    return entry


@pytest.fixture
def matched(services: Services) -> Services:
    """A desk with one matched request."""
    people = desk_with_people(services)
    verified_request(services, subject=people[0])
    services.verified("r1")
    return services


@both_databases
def test_filed_request_can_be_found_by_id_and_by_status(services: Services) -> None:
    """A request begins as received, with its clocks, and is found by its token's digest."""
    file_request(services)

    with services.read() as ledger:
        request = ledger.request("r1")
        assert request == ledger.request_by_status("r1" * 8)
    assert (request.state, request.received_at, request.respond_by) == (R.RECEIVED, START, date(2026, 12, 21))
    assert (request.closed_at, request.extended, request.denial_code) == (None, False, None)


@both_databases
def test_unknown_request_is_not_found(services: Services) -> None:
    """An id nobody was given gets a sentence, whatever it is looked up for."""
    with services.read() as ledger:
        for look_up in (ledger.request, ledger.request_by_status, ledger.open_subject):
            with pytest.raises(NotFoundError, match="there is no such"):
                look_up("unknown")


@both_databases
def test_idempotency_key_remembers_its_answer(services: Services) -> None:
    """The same key leads to the same requests; a key nobody used leads nowhere."""
    with services.transaction() as ledger:
        ledger.record_idempotent(key_digest="k", body_digest="b", request_ids=["r1", "r2"], now=services.clock())

    with services.read() as ledger:
        answer = ledger.find_idempotent(key_digest="k")
        assert ledger.find_idempotent(key_digest="other") is None
    assert answer is not None
    assert (answer.body_digest, answer.request_ids) == ("b", ("r1", "r2"))


@both_databases
def test_attempts_at_a_code_are_counted_down_to_nothing(services: Services) -> None:
    """Each attempt is spent when it is taken; after the last there is none, and no code means none either."""
    file_request(services)
    with services.transaction() as ledger:
        assert ledger.take_attempt(request_id="r1") is None
        ledger.issue_code(
            request_id="r1", digest="c", expires_at=START + timedelta(hours=1), attempts=2, now=services.clock()
        )

    left = []
    for _ in range(3):
        with services.transaction() as ledger:
            attempt = ledger.take_attempt(request_id="r1")
            left.append(None if attempt is None else attempt.attempts_left)

    assert left == [1, 0, None]


@both_databases
def test_attempts_taken_at_once_are_all_counted(services: Services) -> None:
    """Eight guesses in parallel at a code with five attempts: five are let through."""
    file_request(services)
    with services.transaction() as ledger:
        ledger.issue_code(
            request_id="r1", digest="c", expires_at=START + timedelta(hours=1), attempts=5, now=services.clock()
        )

    def guess(_: int) -> bool:
        with services.transaction() as ledger:
            return ledger.take_attempt(request_id="r1") is not None

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(guess, range(8)))

    assert sum(taken) == 5


@both_databases
def test_new_code_replaces_the_old_one(services: Services) -> None:
    """A second code has its own attempts, is counted, and moves nothing."""
    file_request(services)
    for digest in ("first", "second"):
        with services.transaction() as ledger:
            ledger.issue_code(request_id="r1", digest=digest, expires_at=START, attempts=5, now=services.clock())
    size = log_size(services)

    with services.transaction() as ledger:
        attempt = ledger.take_attempt(request_id="r1")
        assert ledger.codes_issued("r1") == 2

    assert attempt is not None
    assert (attempt.digest, attempt.attempts_left, attempt.issued) == ("second", 4, 2)
    assert (_state(services), log_size(services)) == (R.IDENTITY_PENDING, size)


@both_databases
def test_confirmed_identity_uses_the_code_up(services: Services) -> None:
    """After the proof there is no code to guess at, and a second proof is refused."""
    verified_request(services)

    with services.transaction() as ledger:
        assert ledger.take_attempt(request_id="r1") is None
    with pytest.raises(ConflictError):
        _act(services, "confirm")


@both_databases
def test_requests_are_paged_in_order_of_arrival(services: Services, clock: Clock) -> None:
    """Pages follow each other without gap or repetition, also among requests of the same second."""
    for number in range(5):
        file_request(services, request_id=f"r{number}")
        clock.advance(seconds=number % 2)

    pages: list[list[str]] = []
    with services.read() as ledger:
        while not pages or pages[-1]:
            after = pages[-1][-1] if pages else None
            pages.append([request.id for request in ledger.requests(after=after, limit=2)])

        assert pages == [["r0", "r1"], ["r2", "r3"], ["r4"], []]
        assert [request.id for request in ledger.requests(state=R.RECEIVED)] == [f"r{n}" for n in range(5)]
        assert not ledger.requests(state=R.VERIFIED)
        assert not ledger.requests(agent="agent-1")


@both_databases
def test_approval_takes_every_item_along(matched: Services) -> None:
    """An operator approves the request; its proposed items become part of the next batch."""
    before = log_size(matched)

    _act(matched, "approve")

    with matched.read() as ledger:
        assert {item.state for item in ledger.items("r1")} == {ItemState.APPROVED}
    assert _state(matched) is R.APPROVED
    assert log_size(matched) == before + 2  # the request, and its one item


@both_databases
def test_denial_carries_its_code_to_the_items(matched: Services) -> None:
    """A refusal is final, coded and logged, and no item of it can be unlearned any more."""
    _act(matched, "deny")

    with matched.read() as ledger:
        request, items = ledger.request("r1"), ledger.items("r1")
    assert (request.state, request.denial_code, request.closed_at) == (R.DENIED, "not-verified", matched.clock())
    assert [(item.state, item.denial_code) for item in items] == [(ItemState.DENIED, "not-verified")]
    assert _last_entry(matched)["data"]["code"] == "not-verified"
    assert plan(matched) is None


@both_databases
def test_withdrawn_request_is_over(matched: Services) -> None:
    """The person takes it back while it waits, and nothing is unlearned for it."""
    _act(matched, "approve")

    _act(matched, "withdraw")

    assert _state(matched) is R.WITHDRAWN
    assert plan(matched) is None


@both_databases
def test_request_in_a_batch_is_left_alone(services: Services) -> None:
    """Once its item is in a batch, a request can neither be withdrawn nor denied nor held."""
    people = desk_with_people(services)
    approved_request(services, people[0])
    assert plan(services) is not None
    before = log_size(services)

    for name in ("withdraw", "deny", "hold"):
        with pytest.raises(ConflictError, match="already in a batch"):
            _act(services, name)

    assert (_state(services), log_size(services)) == (R.APPROVED, before)


@both_databases
def test_due_date_moves_once(services: Services) -> None:
    """An extension is logged with its code and the new date; a second one is refused."""
    verified_request(services)

    _act(services, "extend")

    with services.read() as ledger:
        request = ledger.request("r1")
    assert (request.extended, request.respond_by) == (True, LATER)
    assert _last_entry(services)["type"] == "request.extended"
    assert _last_entry(services)["data"]["respondBy"] == LATER.isoformat()
    with pytest.raises(ConflictError, match="extended once"):
        _act(services, "extend")


@both_databases
def test_ended_request_is_not_extended(matched: Services) -> None:
    """There is nothing left to be late with."""
    _act(matched, "deny")

    with pytest.raises(ConflictError, match="while it is open"):
        _act(matched, "extend")


@both_databases
def test_hold_comes_back_to_where_it_was(matched: Services) -> None:
    """A hold stops a request and not its clock; a release returns it, once."""
    with matched.read() as ledger:
        due = ledger.request("r1").respond_by

    _act(matched, "hold")
    assert _state(matched) is R.ON_HOLD
    _act(matched, "release")

    with matched.read() as ledger:
        assert (ledger.request("r1").state, ledger.request("r1").respond_by) == (R.MATCHED, due)
    with pytest.raises(ConflictError, match="not on hold"):
        _act(matched, "release")


def test_request_on_hold_is_in_no_batch(matched: Services) -> None:
    """An approved request that was put on hold waits until it is released."""
    _act(matched, "approve")
    _act(matched, "hold")
    assert plan(matched) is None

    _act(matched, "release")

    assert plan(matched) is not None


@both_databases
def test_erasure_happens_once_and_is_logged(services: Services) -> None:
    """A destroyed key is one entry; an unknown request and a second erasure are refused without one."""
    file_request(services)
    with services.transaction() as ledger:
        ledger.keep_secret(request_id="r1", purpose="reason", plaintext=b"x")
        ledger.erase_personal_data(request_id="r1", now=services.clock())
    size = log_size(services)

    for request_id in ("r1", "unknown"):
        with pytest.raises(NotFoundError), services.transaction() as ledger:
            ledger.erase_personal_data(request_id=request_id, now=services.clock())
    with services.read() as ledger, pytest.raises(NotFoundError):
        ledger.open_secret(request_id="r1", purpose="reason")

    assert size == log_size(services)
    assert _last_entry(services)["type"] == "request.erased"


@both_databases
def test_secrets_are_kept_by_purpose(services: Services) -> None:
    """A secret is replaced by the next of its purpose, dropped on request, and never in the log."""
    file_request(services)
    with services.transaction() as ledger:
        for value in (b"old", b"new"):
            ledger.keep_secret(request_id="r1", purpose="code", plaintext=value)

    with services.read() as ledger:
        assert ledger.open_secret(request_id="r1", purpose="code") == b"new"
        assert ledger.open_subject("r1") == PERSON
    with services.transaction() as ledger:
        ledger.drop_secret(request_id="r1", purpose="code")
    with services.read() as ledger, pytest.raises(NotFoundError):
        ledger.open_secret(request_id="r1", purpose="code")


@both_databases
def test_notices_wait_in_order_until_they_are_sent(services: Services, clock: Clock) -> None:
    """The outbox gives the oldest first, and each until it was sent."""
    file_request(services)
    for notice in ("n2", "n1"):
        with services.transaction() as ledger:
            ledger.enqueue_notice(notice_id=notice, request_id="r1", kind="denied", now=clock())
        clock.advance(seconds=1)

    with services.transaction() as ledger:
        assert [notice.id for notice in ledger.pending_notices()] == ["n2", "n1"]
        ledger.notice_sent(notice_id="n2", now=clock())

    with services.read() as ledger:
        assert [notice.id for notice in ledger.pending_notices(limit=1)] == ["n1"]


@both_databases
def test_personal_data_go_only_after_the_last_letter(matched: Services, clock: Clock) -> None:
    """A closed request keeps its key while something is left to tell, and until its days are over."""
    _act(matched, "deny")
    with matched.transaction() as ledger:
        ledger.enqueue_notice(notice_id="n1", request_id="r1", kind="denied", now=clock())

    with matched.read() as ledger:
        assert not ledger.closed_with_data(before=clock())
    with matched.transaction() as ledger:
        ledger.notice_sent(notice_id="n1", now=clock())
    with matched.read() as ledger:
        assert not ledger.closed_with_data(before=clock() - timedelta(seconds=1))
        assert ledger.closed_with_data(before=clock()) == ["r1"]


@both_databases
def test_history_tells_a_request_from_its_entries(matched: Services) -> None:
    """The log says about one request what happened to it, in order, and nothing about others."""
    file_request(matched, request_id="r2")
    _act(matched, "deny")

    with matched.read() as ledger:
        history = ledger.history("r1")

    states = [event.state for event in history if event.kind == "request.state"]
    assert states == ["identity_pending", "verified", "matched", "denied"]
    assert [event.index for event in history] == sorted(event.index for event in history)
    assert history[0].kind == "request.received"


@both_databases
def test_act_that_is_not_allowed_changes_nothing(services: Services) -> None:
    """A request that has ended takes no act: the refusal leaves neither state nor entry."""
    verified_request(services)
    _act(services, "withdraw")
    before = log_size(services)

    for name in ACTS:
        with pytest.raises(ConflictError):
            _act(services, name)

    assert (_state(services), log_size(services)) == (R.WITHDRAWN, before)


@both_databases
def test_of_two_acts_at_once_one_sees_the_other(matched: Services) -> None:
    """An operator approves while the person withdraws: the second waits, and then judges by what the first did."""
    _act(matched, "hold")
    outcome: list[BaseException | None] = []

    def withdraw() -> None:
        try:
            _act(matched, "withdraw")
        except ComplianceError as error:
            outcome.append(error)
        else:
            outcome.append(None)

    with matched.transaction() as ledger:
        ACTS["deny"](ledger, "r1", matched.clock())
        other = threading.Thread(target=withdraw)
        other.start()
        other.join(0.3)
        assert not outcome
    other.join()

    assert isinstance(outcome[0], ConflictError)
    assert _state(matched) is R.DENIED


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(sorted(ACTS)), max_size=7))
def test_log_replays_to_the_state_of_the_ledger(matched: Services, names: list[str]) -> None:
    """In whatever order people click: each step the log tells is legal, and the last one is what the ledger says."""
    one = f"example-{next(EXAMPLES)}"
    verified_request(matched, request_id=one, subject=person(0))
    matched.verified(one)
    for name in names:
        with contextlib.suppress(ConflictError):
            _act(matched, name, one)

    with matched.read() as ledger:
        request = ledger.request(one)
        told = [R(event.state) for event in ledger.history(one) if event.kind == "request.state" and event.state]
        items = {item.state for item in ledger.items(one)}
    for before, after in zip([R.RECEIVED, *told], told, strict=False):
        check_request(before, after)
    assert told[-1] is request.state
    assert (request.state in FINAL) == (request.closed_at is not None)
    assert (request.state in FINAL) == (items <= {ItemState.DENIED, ItemState.WITHDRAWN})
