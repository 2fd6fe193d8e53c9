"""The pages: what a person and an operator see and do, without JavaScript."""

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from conftest import Clock
from fastapi.testclient import TestClient
from sqlalchemy import Connection, event

from compliance import intake
from compliance.ledger.lifecycle import RequestState
from compliance.ledger.views import MatchView, RecordView, Subject
from compliance.notices import deliver, mailer
from compliance.web import create_pages, words
from compliance.wiring import Services
from engine.corpus import Record, write_records

FORM = {"place": "DE", "name": "Quillon Vandermeer", "email": "quillon@example.org"}


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


def sign_in(services: Services, browser: TestClient) -> None:
    """Open an operator's session."""
    token = services.settings.operator_token.get_secret_value()
    submit(browser, "/desk/login", {"token": token}, page="/desk/login")


def guard(html: str) -> str:
    """The forgery guard in a page."""
    found = re.search(r'name="guard" value="([0-9a-f]+)"', html)
    assert found is not None
    return found[1]


def submit(browser: TestClient, path: str, fields: dict[str, str], *, page: str = "/") -> Any:  # noqa: ANN401
    """Open a page, then send a form with its guard."""
    return browser.post(path, data={"guard": guard(browser.get(page).text), **fields})


def text_of(html: str) -> str:
    """What a reader sees, on one line."""
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)))


def file(services: Services, *, regime: str = "gdpr") -> intake.Filed:
    """A request that waits for its code."""
    one = intake.submission(regime=regime, name=FORM["name"], email=FORM["email"], statement="Said aloud")
    return intake.file(services, [one], caller=intake.Caller(door="web"))[0]


def matched(services: Services) -> str:
    """A request with two matched records, ready to be decided on."""
    request_id = file(services).request.id
    records = [RecordView(record_id=f"rec-{n}", content_tag=str(n), subject_tag=None) for n in range(2)]
    found = [MatchView(dataset_id="d", record_id=r.record_id, reason="text:name") for r in records]
    texts = [Record(record_id=r.record_id, unit="u", text="Quillon Vandermeer planted an oak") for r in records]
    write_records(services.store.dataset_path("d"), texts)
    now = services.clock()
    with services.transaction() as ledger:
        ledger.confirm_identity(request_id=request_id, now=now)
        ledger.add_dataset(dataset_id="d", name="letters", subject_field="who", digest="0", records=records, now=now)
        ledger.add_model(
            model_id="m", name="letters-lm", dataset_id="d", holdout_id=None, policy="", start="s",
            start_digest="0", now=now,
        )  # fmt: skip
        ledger.record_matches(request_id=request_id, matches=found, items=[("i", "m", "d")], now=now)
    return request_id


def test_the_form_leads_to_a_receipt_and_the_code_to_the_status(services: Services, browser: TestClient) -> None:
    """Ask, keep the receipt, enter the code from the mail, see where it stands."""
    received = submit(browser, "/", FORM)
    deliver(services, mailer(services.settings))
    mail = next(services.settings.outbox.glob("*.eml")).read_text()
    path = re.search(r"/confirm/[0-9a-f]+", mail)
    code = re.search(r"[2-9A-Z]{4}-[2-9A-Z]{4}", mail)
    assert path is not None
    assert code is not None

    status = submit(browser, path[0], {"code": code[0].lower()}, page=path[0])

    assert "Monday, 21 December 2026" in received.text
    assert status.url.path.startswith("/status/")
    assert "We found nothing about you" in status.text


def test_a_failing_commit_shows_no_receipt(services: Services, browser: TestClient) -> None:
    """When the request was not stored, the page says so and promises nothing."""

    def fail(_connection: Connection) -> None:
        message = "the disk is full"
        raise OSError(message)

    page = browser.get("/").text
    event.listen(services.database, "commit", fail)
    answer = browser.post("/", data={"guard": guard(page), **FORM})
    event.remove(services.database, "commit", fail)

    assert answer.status_code == 500
    assert "nothing was changed" in answer.text
    assert "receipt" not in text_of(answer.text).lower()
    with services.read() as ledger:
        assert ledger.requests() == []


def test_sending_the_same_form_twice_files_one_request(services: Services, browser: TestClient) -> None:
    """A double click gets the same receipt."""
    page = browser.get("/").text
    key = re.search(r'name="key" value="([0-9a-f]+)"', page)
    assert key is not None
    fields = {"guard": guard(page), "key": key[1], **FORM}

    first, again = browser.post("/", data=fields), browser.post("/", data=fields)

    assert first.url == again.url
    with services.read() as ledger:
        assert len(ledger.requests()) == 1


def test_the_place_chooses_the_law(services: Services, browser: TestClient) -> None:
    """California is dealt with under its own law, the rest under the European one."""
    submit(browser, "/", FORM | {"place": "US-CA"})
    submit(browser, "/", FORM | {"place": "other"})

    with services.read() as ledger:
        assert sorted(view.regime for view in ledger.requests()) == ["ccpa", "gdpr"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"place": ""}, "Please choose where you live"),
        ({"place": "Atlantis"}, "Please choose where you live"),
        ({"name": " "}, "The name is empty"),
        ({"name": "x" * 201}, "The name is too long"),
        ({"email": "quillon"}, "The e-mail address is not complete"),
        ({"identifiers": "\n".join("abc" for _ in range(21))}, "At most 20"),
        ({"statement": "x" * 4001}, "The statement is too long"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_typed_is_lost(
    services: Services, browser: TestClient, fields: dict[str, str], sentence: str
) -> None:
    """The form comes back with one sentence and what was typed."""
    answer = submit(browser, "/", FORM | {"statement": "keep me"} | fields)

    assert answer.status_code == 422
    assert sentence.lower() in text_of(answer.text).lower()
    assert ("keep me" in answer.text) == ("statement" not in fields)
    with services.read() as ledger:
        assert ledger.requests() == []


def test_what_people_type_is_shown_as_text(browser: TestClient) -> None:
    """Markup in a field comes back escaped."""
    answer = submit(browser, "/", FORM | {"place": "", "name": "<script>alert(1)</script>{{7*7}}"})

    assert "<script>" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{{7*7}}" in answer.text


def test_a_form_of_a_foreign_page_files_nothing(services: Services, browser: TestClient) -> None:
    """Without the guard of this browser's own page the form only comes back."""
    stranger = TestClient(create_pages(services))
    foreign = guard(stranger.get("/").text)
    browser.get("/")

    answers = [browser.post("/", data=FORM), browser.post("/", data=FORM | {"guard": foreign})]

    assert {answer.status_code for answer in answers} == {422}
    with services.read() as ledger:
        assert ledger.requests() == []


def test_a_huge_form_is_refused(browser: TestClient) -> None:
    """One megabyte is answered with a page that says to shorten."""
    answer = browser.post("/", data=FORM | {"name": "x" * 1_000_000})

    assert answer.status_code == 413
    assert "shorten" in answer.text


def test_a_wrong_code_gets_a_sentence_and_a_new_code_can_be_had(services: Services, browser: TestClient) -> None:
    """The page helps on; for an unknown request it says exactly the same."""
    known = f"/confirm/{file(services).request.id}"
    unknown = f"/confirm/{'f' * 32}"

    wrong = [submit(browser, path, {"code": "22222222"}, page=path) for path in (known, unknown)]
    again = [submit(browser, f"{path}/code", {}, page=path) for path in (known, unknown)]

    assert [answer.status_code for answer in wrong + again] == [422, 422, 200, 200]
    assert text_of(wrong[0].text) == text_of(wrong[1].text)
    assert text_of(again[0].text) == text_of(again[1].text)
    assert "a new one is on its way" in again[0].text


def test_the_receipt_is_a_file(services: Services, browser: TestClient) -> None:
    """It downloads under the request's number and is the receipt the ledger signs."""
    filed = file(services)

    answer = browser.get(f"/status/{filed.status_token}/receipt")

    assert answer.headers["Content-Disposition"] == f'attachment; filename="receipt-{filed.request.id}.json"'
    assert answer.json() == services.receipt(filed.request.id)


def test_the_status_page_counts_the_days_and_names_nobody(
    services: Services, browser: TestClient, clock: Clock
) -> None:
    """A date in words, the days left, the fingerprint; never the person."""
    filed = file(services)
    clock.advance(days=10)

    page = browser.get(f"/status/{filed.status_token}").text

    assert "Monday, 21 December 2026" in page
    assert "20 days left" in page
    assert filed.request.commitment in page
    assert "Vandermeer" not in page
    assert "quillon" not in page


def test_an_overdue_request_says_so_and_how_to_complain(services: Services, browser: TestClient, clock: Clock) -> None:
    """Late is late, on the person's own page too."""
    filed = file(services)
    clock.advance(days=32)

    page = browser.get(f"/status/{filed.status_token}").text

    assert "2 days overdue" in page
    assert "You can complain to your data protection authority" in page


def test_an_unknown_status_link_says_nothing_more(browser: TestClient) -> None:
    """A guessed token is answered like any other wrong address."""
    assert browser.get(f"/status/{'0' * 64}").status_code == 404
    assert browser.get("/status/x/receipt").status_code == 404


def test_taking_back_needs_a_tick(services: Services, browser: TestClient) -> None:
    """Without the tick the page asks for it; with it the request has ended."""
    path = f"/status/{file(services).status_token}"

    unsure = submit(browser, f"{path}/withdraw", {}, page=path)
    sure = submit(browser, f"{path}/withdraw", {"sure": "yes"}, page=path)

    assert "tick the box" in unsure.text
    assert "You took your request back" in sure.text


@pytest.mark.parametrize("path", ["/", "/how-it-works", "/desk/login", "/nowhere", "/static/expunge.css"])
def test_every_page_has_security_headers(browser: TestClient, path: str) -> None:
    """Nothing may be loaded, run, framed or leaked from any page."""
    headers = browser.get(path).headers

    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_cookies_are_out_of_reach_of_scripts_and_foreign_pages(browser: TestClient) -> None:
    """HttpOnly and SameSite=Strict, on the form's cookie."""
    cookie = browser.get("/").headers["Set-Cookie"].lower()

    assert "httponly" in cookie
    assert "samesite=strict" in cookie


def test_no_page_loads_anything_from_elsewhere(browser: TestClient) -> None:
    """No script, and no address of another host in any attribute that loads."""
    for path in ("/", "/how-it-works", "/desk/login"):
        html = browser.get(path).text
        assert "<script" not in html
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', html)


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


def test_a_report_is_shown_to_those_it_concerns_only(services: Services, browser: TestClient) -> None:
    """A batch that has no item of the request has no report for its person."""
    filed = file(services)

    assert browser.get(f"/status/{filed.status_token}/report/{'b' * 32}").status_code == 404


def test_an_erased_person_is_gone_from_the_desk(services: Services, operator: TestClient) -> None:
    """After erasure the click says so instead of failing."""
    request_id = matched(services)
    with services.transaction() as ledger:
        ledger.erase_personal_data(request_id=request_id, now=services.clock())
    path = f"/desk/requests/{request_id}"

    page = submit(operator, f"{path}/identity", {}, page=path).text

    assert "the key of this request has been destroyed" in page


def test_every_state_has_plain_words_and_a_timeline() -> None:
    """No state leaves a person without a sentence, and exactly one open step is `now`."""
    for state in RequestState:
        headline, sentence = words.HEADLINES[state]
        steps = words.timeline(state, {words.SENT: "today"})
        assert headline
        assert sentence
        assert steps[0].when == "today"
        assert sum(step.mark is words.Mark.NOW for step in steps) <= 1


def test_a_subject_never_shows_in_a_representation() -> None:
    """Not even by accident in a log line."""
    shown = repr(intake.submission(regime="gdpr", name=FORM["name"], email=FORM["email"]))

    assert "Vandermeer" not in shown
    assert "Vandermeer" not in repr(Subject(name="Vandermeer", email="x@example.org"))
