"""The operator's pages: what is shown, what is decided, and to whom it is closed."""

from collections.abc import Iterator
from datetime import timedelta
from html import unescape

import pytest
from fastapi.testclient import TestClient

from audits import keys
from audits.strict import encode_base64
from compliance.ledger.lifecycle import RequestState
from compliance.notices import deliver, mailer
from compliance.web import create_pages
from compliance.wiring import Services
from tests.compliance.browsing import file, matched, sign_in, submit, text_of
from tests.compliance.conftest import Clock


@pytest.fixture
def browser(services: Services) -> Iterator[TestClient]:
    """A browser that keeps cookies and follows redirects."""
    with TestClient(create_pages(services), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def operator(services: Services, browser: TestClient) -> TestClient:
    """A browser with an open operator's session."""
    sign_in(services, browser)
    return browser


@pytest.mark.parametrize("path", ["/desk", "/desk?ended", "/desk/models", "/desk/requests/x", "/desk/reports/x"])
def test_the_desk_is_closed_to_strangers(browser: TestClient, path: str) -> None:
    """Every operator page leads to the sign-in."""
    assert browser.get(path).url.path == "/desk/login"


def test_a_stranger_decides_nothing(services: Services, browser: TestClient) -> None:
    """A genuine form without a session changes nothing."""
    request_id = matched(services)

    answer = submit(browser, f"/desk/requests/{request_id}/approve", {})

    assert answer.url.path == "/desk/login"
    with services.read() as ledger:
        assert ledger.request(request_id).state is RequestState.MATCHED


def test_guessing_the_operators_token_is_slow(browser: TestClient) -> None:
    """Ten tries in ten minutes; a wrong one opens nothing."""
    answers = [submit(browser, "/desk/login", {"token": "x"}, page="/desk/login") for _ in range(11)]

    assert [answer.status_code for answer in answers] == [403] * 10 + [429]
    assert browser.get("/desk").url.path == "/desk/login"


def test_a_session_ends_by_itself_and_by_signing_out(operator: TestClient, clock: Clock) -> None:
    """After eight hours, or at once."""
    assert operator.get("/desk").url.path == "/desk"
    clock.advance(hours=8)
    assert operator.get("/desk").url.path == "/desk/login"
    clock.now -= timedelta(hours=8)
    submit(operator, "/desk/logout", {}, page="/desk")
    assert operator.get("/desk").url.path == "/desk/login"


@pytest.mark.parametrize("cookie", ["", "x", "9999999999.0.0", "9999999999..", "é.é.é"])
def test_a_forged_session_opens_nothing(browser: TestClient, cookie: str) -> None:
    """A cookie is worth what its seal is worth."""
    header = b"expunge_operator=" + cookie.encode()
    answer = browser.get("/desk", headers=[(b"cookie", header)], follow_redirects=False)

    assert answer.status_code == 303


def test_the_list_is_sorted_by_the_day_to_plan_for(services: Services, browser: TestClient, clock: Clock) -> None:
    """The most urgent first, overdue ones marked."""
    ccpa = file(services, regime="ccpa").request.id
    clock.advance(days=20)
    gdpr = file(services).request.id
    clock.advance(days=26)
    sign_in(services, browser)

    page = browser.get("/desk").text

    assert page.index(ccpa[:12]) < page.index(gdpr[:12])
    assert "2 days overdue" in page
    assert "5 days left" in page


def test_nobodys_data_are_shown_until_the_operator_opens_them(services: Services, operator: TestClient) -> None:
    """The page has records and reasons; name, statement and texts come with the click alone."""
    path = f"/desk/requests/{matched(services)}"

    closed = operator.get(path).text
    opened = submit(operator, f"{path}/identity", {}, page=path).text

    assert "rec-0" in closed
    assert "the text has the person's name" in unescape(closed)
    for secret in ("Vandermeer", "quillon@", "Said aloud", "planted an oak"):
        assert secret not in closed
        assert secret in opened
    assert "Vandermeer" not in operator.get(path).text


def test_an_operator_approves(services: Services, operator: TestClient) -> None:
    """One click, and the items wait for the next batch."""
    request_id = matched(services)
    path = f"/desk/requests/{request_id}"

    submit(operator, f"{path}/approve", {}, page=path)

    with services.read() as ledger:
        assert ledger.request(request_id).state is RequestState.APPROVED
        assert [item.state.value for item in ledger.items(request_id)] == ["approved"]


def test_a_denial_needs_a_known_code_and_words(services: Services, operator: TestClient) -> None:
    """Without either the page says what is missing; with both the person gets a letter with the reason."""
    request_id = matched(services)
    path = f"/desk/requests/{request_id}"
    bad = [{"code": "because", "reason": "No."}, {"code": "gdpr.17.3.e", "reason": " "}]

    refused = [submit(operator, f"{path}/deny", fields, page=path) for fields in bad]
    submit(operator, f"{path}/deny", {"code": "gdpr.17.3.e", "reason": "We are in court."}, page=path)
    deliver(services, mailer(services.settings))

    assert [answer.status_code for answer in refused] == [409, 409]
    with services.read() as ledger:
        assert ledger.request(request_id).denial_code == "gdpr.17.3.e"
    mails = [file.read_text() for file in services.settings.outbox.glob("*.eml")]
    assert any("We are in court." in mail and "GDPR Art 17(3)(e)" in mail for mail in mails)


def test_an_extension_moves_the_date_once_and_tells_the_person(services: Services, operator: TestClient) -> None:
    """Three months from receipt; a second extension is refused."""
    request_id = matched(services)
    path = f"/desk/requests/{request_id}"
    fields = {"code": "complexity", "reason": "Many models."}

    submit(operator, f"{path}/extend", fields, page=path)
    again = submit(operator, f"{path}/extend", fields, page=path)

    with services.read() as ledger:
        view = ledger.request(request_id)
        assert (view.extended, view.respond_by.isoformat()) == (True, "2027-02-22")
        assert [notice.kind for notice in ledger.pending_notices()].count("extended") == 1
    assert again.status_code == 409


def test_an_extension_after_the_last_day_is_refused(services: Services, browser: TestClient, clock: Clock) -> None:
    """The person must be told within the first period."""
    request_id = matched(services)
    clock.advance(days=31)
    sign_in(services, browser)
    path = f"/desk/requests/{request_id}"

    answer = submit(browser, f"{path}/extend", {"code": "complexity", "reason": "Late."}, page=path)

    assert "had to be announced by 2026-12-21" in answer.text


def test_a_request_on_hold_can_be_taken_up_again(services: Services, operator: TestClient) -> None:
    """Hold and release lead back to where it was."""
    request_id = matched(services)
    path = f"/desk/requests/{request_id}"

    submit(operator, f"{path}/hold", {}, page=path)
    with services.read() as ledger:
        assert ledger.request(request_id).state is RequestState.ON_HOLD
    submit(operator, f"{path}/release", {}, page=path)
    with services.read() as ledger:
        assert ledger.request(request_id).state is RequestState.MATCHED


def test_models_and_their_batches_are_listed(services: Services, operator: TestClient) -> None:
    """A registered model appears with its data set; without batches it says so."""
    matched(services)

    page = text_of(operator.get("/desk/models").text)

    assert "letters-lm" in page
    assert "Data set letters" in page
    assert "No batch yet" in page


def test_an_erased_person_is_gone_from_the_desk(services: Services, operator: TestClient) -> None:
    """After erasure the click says so instead of failing."""
    request_id = matched(services)
    with services.transaction() as ledger:
        ledger.erase_personal_data(request_id=request_id, now=services.clock())
    path = f"/desk/requests/{request_id}"

    page = submit(operator, f"{path}/identity", {}, page=path).text

    assert "the key of this request has been destroyed" in page


def test_the_tiles_count_open_requests_on_both_lists(services: Services, operator: TestClient) -> None:
    """An ended request is in no tile, whichever list is looked at."""
    file(services)
    ended = file(services, regime="ccpa").request.id
    with services.transaction() as ledger:
        ledger.withdraw_request(request_id=ended, now=services.clock())

    for path in ("/desk", "/desk?ended"):
        assert "<b>1</b> open" in operator.get(path).text


def enrolled(services: Services) -> keys.SigningKey:
    """An approver's key that the desk knows."""
    key = keys.generate("approver")
    data = keys.registration(key, "approver")
    with services.transaction() as ledger:
        ledger.register_key(
            key_id=key.key_id, role="approver", public_key=key.public_key, data=data, now=services.clock()
        )
    return key


def test_an_operator_without_the_approvers_key_approves_nothing(services: Services, operator: TestClient) -> None:
    """Once an approver is known, a click alone is refused, and so is a made-up signature."""
    enrolled(services)
    request_id = matched(services)
    path = f"/desk/requests/{request_id}"
    page = operator.get(path)
    said = unescape(page.text.partition('name="statement" value="')[2].partition('"')[0])

    for fields in (
        {},
        {"statement": "x", "signature": "AAAA", "key_id": "0" * 64},
        {"statement": said, "signature": "AAAA", "key_id": "0" * 64},
    ):
        assert submit(operator, f"{path}/approve", fields, page=path).status_code == 409
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    with services.read() as ledger:
        assert ledger.request(request_id).state is RequestState.MATCHED


def test_an_approvers_signature_approves(services: Services, operator: TestClient) -> None:
    """What the page shows to be signed is accepted with the approver's signature over it."""
    key = enrolled(services)
    request_id = matched(services)
    path = f"/desk/requests/{request_id}"
    said = unescape(operator.get(path).text.partition('name="statement" value="')[2].partition('"')[0])

    fields = {"statement": said, "signature": encode_base64(key.sign(said.encode())), "key_id": key.key_id}
    submit(operator, f"{path}/approve", fields, page=path)

    with services.read() as ledger:
        assert ledger.request(request_id).state is RequestState.APPROVED
        assert [event.kind for event in ledger.history(request_id)][-3] == "request.approved"
