"""Validation, codes, limits, clocks and decisions, without any door."""

import itertools
import threading
import unicodedata
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance import intake
from compliance.errors import ConflictError, InvalidInputError
from compliance.intake import identity, validation
from compliance.intake.limits import BusyError, Gatekeeper, Limiter
from compliance.ledger.lifecycle import RequestState
from compliance.wiring import Services
from tests.compliance.conftest import Clock, both_databases

WEB = intake.Caller(door="web")
NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def submission(**changes: object) -> intake.Submission:
    """A sound submission, changed."""
    values: dict[str, object] = {"regime": "gdpr", "name": "Ada Example", "email": "ada@example.org"}
    return intake.submission(**(values | changes))  # type: ignore[arg-type]


def file(services: Services, **changes: object) -> intake.Filed:
    """One stored request."""
    return intake.file(services, [submission(**changes)], caller=WEB)[0]


def code_of(services: Services, filed: intake.Filed) -> str:
    """The code as the vault holds it until its letter is sent."""
    with services.read() as ledger:
        return ledger.open_secret(request_id=filed.request.id, purpose="code").decode()


def refusal(call: Callable[[], object]) -> str:
    """The code of the refusal a call ends in."""
    with pytest.raises(InvalidInputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return caught.value.code


def accepted(call: Callable[[], str]) -> str | None:
    """What a call returns, or None when it refused with a sentence; any other exception fails the test."""
    try:
        return call()
    except InvalidInputError as error:
        return None if str(error) else ""


@pytest.mark.parametrize(
    "name", ["Ada", "Åsa Öberg", "محمد", "李小龍", "O'Brien-Smith", "\u0645\u06cc\u200c\u0646\u0627", "X Æ A-12", "J"]
)
def test_names_of_all_people_are_taken(name: str) -> None:
    """Letters of any script, joiners, hyphens and apostrophes stay as they were typed."""
    assert submission(name=f"  {name} ").subject.name == name


@pytest.mark.parametrize(
    ("address", "stored"),
    [
        ("ada@example.org", "ada@example.org"),
        (" ada+list@Example.ORG ", "ada+list@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("o'brien@sub.example.co.uk", "o'brien@sub.example.co.uk"),
    ],
)
def test_addresses_that_can_be_delivered_are_taken(address: str, stored: str) -> None:
    """Tags, apostrophes and hosts of other scripts; the host is kept in ASCII."""
    assert submission(email=address).subject.email == stored


@pytest.mark.parametrize(
    "address",
    [
        "", "@", "ada", "ada@", "@example.org", "ada@example", "a@b@c.org", "a..b@example.org", ".a@example.org",
        "ada@-x.org", "ada@x..org", f"{'a' * 65}@example.org", f"a@{'x' * 64}.org", f"a@{'x.' * 130}org",
        "ada@example.org\nBcc: eve@example.org", "ada@example.org\x00", "Ada <ada@example.org>",
        "ada@example.org, eve@example.org", '"a b"@example.org', "ada@[127.0.0.1]", "ada@exa mple.org",
    ],
)  # fmt: skip
def test_addresses_that_are_none_are_refused(address: str) -> None:
    """Nothing that is no single plain address reaches a mail header."""
    assert refusal(lambda: submission(email=address)) == "email-malformed"


@given(st.text(max_size=300))
def test_whatever_is_typed_is_taken_whole_or_refused_with_a_sentence(typed: str) -> None:
    """No other exception, and nothing hidden gets through."""
    name = accepted(lambda: validation.text(typed, what="name", most=200))

    assert name != ""
    assert name is None or not any(unicodedata.category(c) in {"Cc", "Cs", "Co"} for c in name)


@given(st.text(max_size=300))
def test_whatever_is_typed_as_address_is_one_ascii_address_or_refused(typed: str) -> None:
    """An accepted address is ASCII, has one at sign, and no space."""
    address = accepted(lambda: validation.address(typed))

    assert address is None or (address.isascii() and address.count("@") == 1 and address.split() == [address])


def test_a_code_has_eight_unambiguous_characters() -> None:
    """No zero and O, no one and I and L; every character of the alphabet occurs."""
    numbers = itertools.count(1)
    codes = [identity.draw_code(lambda n: next(numbers).to_bytes(n)) for _ in range(2000)]

    assert all(len(code) == 8 for code in codes)
    assert set("".join(codes)) == set(identity.ALPHABET)
    assert not set(identity.ALPHABET) & set("01ILO")


def test_a_code_may_be_typed_in_any_way() -> None:
    """Small letters, spaces and hyphens do not matter."""
    assert identity.typed(" abcd-2345 ") == identity.typed("ABCD2345") == "ABCD2345"


def test_the_database_never_holds_a_code_or_a_token(services: Services) -> None:
    """Neither is found in the database file, nor in its journal."""
    filed = file(services)
    code = code_of(services, filed)
    folder = services.settings.workdir

    raw = b"".join(path.read_bytes() for path in folder.glob("ledger.db*"))

    assert code.encode() not in raw
    assert filed.status_token.encode() not in raw
    assert b"Ada Example" not in raw
    assert b"ada@example.org" not in raw


@both_databases
def test_guesses_at_once_spend_one_attempt_each(services: Services) -> None:
    """Eight threads guess together: five are counted, none is given back, and the right code is dead."""
    filed = file(services)
    code = code_of(services, filed)
    refused = []

    def guess() -> None:
        try:
            intake.confirm(services, request_id=filed.request.id, code="22222222")
        except InvalidInputError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refused == ["code-wrong"] * 8
    assert refusal(lambda: intake.confirm(services, request_id=filed.request.id, code=code)) == "code-wrong"


@both_databases
def test_the_right_code_twice_at_once_confirms_once(services: Services) -> None:
    """Both callers see the confirmed request; the log has one entry for it."""
    filed = file(services)
    code = code_of(services, filed)
    states = []

    def confirm() -> None:
        states.append(intake.confirm(services, request_id=filed.request.id, code=code).state)

    threads = [threading.Thread(target=confirm) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(states) == 2
    with services.read() as ledger:
        entries = b"\n".join(ledger.entries(0, 100))
    assert entries.count(b'"state":"verified"') == 1


def test_a_request_gets_five_codes_and_no_more(services: Services) -> None:
    """The sixth is never issued, and the caller is not told."""
    filed = file(services)
    for _ in range(9):
        intake.new_code(services, request_id=filed.request.id)

    with services.read() as ledger:
        assert ledger.codes_issued(filed.request.id) == 5
        assert len(ledger.pending_notices()) == 5


def test_a_new_code_ends_the_old_one(services: Services) -> None:
    """Only the newest code counts, with five fresh tries."""
    filed = file(services)
    old = code_of(services, filed)
    intake.new_code(services, request_id=filed.request.id)

    assert refusal(lambda: intake.confirm(services, request_id=filed.request.id, code=old)) == "code-wrong"
    view = intake.confirm(services, request_id=filed.request.id, code=code_of(services, filed))
    assert view.state is not RequestState.IDENTITY_PENDING


def test_several_subjects_are_stored_together_or_not_at_all(services: Services) -> None:
    """51 are too many and none is stored; two are two."""
    agent = intake.Caller(door="agent", agent="agent-1")
    many = [submission(email=f"a{n}@example.org") for n in range(51)]

    assert refusal(lambda: intake.file(services, many, caller=agent)) == "subjects-count"
    assert refusal(lambda: intake.file(services, [], caller=agent)) == "subjects-count"
    assert len(intake.file(services, many[:2], caller=agent)) == 2
    with services.read() as ledger:
        assert len(ledger.requests()) == 2


@pytest.mark.parametrize("key", ["short", "x" * 129, "ä" * 20, "tab\t" * 8])
def test_an_idempotency_key_that_could_be_guessed_is_refused(services: Services, key: str) -> None:
    """A guessed key and a guessed body would open another person's status page."""
    assert (
        refusal(lambda: intake.file(services, [submission()], caller=WEB, idempotency_key=key))
        == "idempotency-key-malformed"
    )


def test_idempotency_keys_of_callers_do_not_meet(services: Services) -> None:
    """An agent's key is not the public's."""
    key = "k" * 32
    one = intake.file(services, [submission()], caller=WEB, idempotency_key=key)
    other = intake.file(
        services, [submission()], caller=intake.Caller(door="agent", agent="agent-1"), idempotency_key=key
    )

    assert one[0].request.id != other[0].request.id


def test_the_day_of_receipt_is_the_desks_own(services: Services, clock: Clock) -> None:
    """Half past eleven at night in UTC is the next day in Berlin, and the month counts from there."""
    settings = services.settings.model_copy(update={"time_zone": "Europe/Berlin"})
    clock.now = datetime(2026, 6, 9, 23, 30, tzinfo=UTC)

    dates = intake.clocks(settings, regime="gdpr", received_at=clock.now)

    assert intake.day_of(settings, clock.now) == date(2026, 6, 10)
    assert dates.respond_by == date(2026, 7, 10)


def test_an_agents_mandate_is_kept_with_the_statement_in_the_vault() -> None:
    """The reference may name a person, so it is nowhere else."""
    one = submission(statement="Please.", authority="POA 2026/7")

    assert one.subject.statement == "Authority of the agent: POA 2026/7\nPlease."


def test_a_denial_needs_a_code_of_the_requests_own_law(services: Services) -> None:
    """A Californian exception refuses no European request."""
    request_id = file(services).request.id

    def deny(code: str) -> object:
        return intake.deny(services, request_id=request_id, actor="op", code=code, reason="Because.")

    assert refusal(lambda: deny("ccpa.d.1")) == "unknown-denial"
    deny("gdpr.12.6.identity_not_confirmed")
    with pytest.raises(ConflictError):
        deny("gdpr.12.6.identity_not_confirmed")


def test_a_countdown_ends_with_the_request(services: Services, clock: Clock) -> None:
    """Days are counted to the day to plan for, then not at all."""
    filed = file(services, regime="ccpa")
    clock.advance(days=45)
    late = intake.progress(services.settings, filed.request, now=clock())
    ended = intake.progress(services.settings, intake.withdraw(services, request_id=filed.request.id), now=clock())

    assert (late.days_left, late.overdue) == (-1, True)
    assert (late.days_to_answer, late.late) == (0, False)
    assert (ended.days_left, ended.days_to_answer, ended.overdue) == (None, None, False)


def test_a_limit_counts_within_its_window_and_by_caller() -> None:
    """The third within the window waits; another caller and another hour do not."""
    limiter = Limiter(most=2, window=timedelta(hours=1))

    assert [limiter.wait("a", NOW) for _ in range(2)] == [None, None]
    assert limiter.wait("a", NOW + timedelta(minutes=20)) == timedelta(minutes=40)
    assert limiter.wait("b", NOW) is None
    assert limiter.wait("a", NOW + timedelta(hours=1)) is None


def test_limits_can_be_switched_off() -> None:
    """Zero submissions an hour means no limit at this door."""
    keeper = Gatekeeper(submissions_per_hour=0)

    for _ in range(100):
        keeper.filing("a", NOW)
        keeper.mailbox("a", NOW)
        keeper.login("a", NOW)


def test_a_refused_caller_learns_when_to_come_back() -> None:
    """The error carries the time to wait."""
    keeper = Gatekeeper(submissions_per_hour=1)
    keeper.filing("a", NOW)

    with pytest.raises(BusyError, match="in 60 minutes") as caught:
        keeper.filing("a", NOW)

    assert caught.value.retry_after == timedelta(hours=1)


def test_a_request_nobody_confirms_ends_by_itself(services: Services, clock: Clock) -> None:
    """After the time it is closed and its address is told; a confirmed one and a younger one go on."""
    old, confirmed = file(services), file(services)
    intake.confirm(services, request_id=confirmed.request.id, code=code_of(services, confirmed))
    clock.advance(days=30)
    young = file(services)

    assert intake.expire(services, older_than=timedelta(days=30)) == 1
    assert intake.expire(services, older_than=timedelta(days=30)) == 0
    with services.read() as ledger:
        assert ledger.request(old.request.id).state is RequestState.EXPIRED
        assert ledger.request(young.request.id).state is RequestState.IDENTITY_PENDING
        assert [n.request_id for n in ledger.pending_notices() if n.kind == "expired"] == [old.request.id]
