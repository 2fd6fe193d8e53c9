"""The pages of data subjects: what a person sees and does, without JavaScript."""

import re
from collections.abc import Iterator
from html import unescape

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, event

from audits import receipt
from compliance import intake
from compliance.ledger.lifecycle import RequestState
from compliance.ledger.views import Subject
from compliance.notices import deliver, mailer
from compliance.web import create_pages, words
from compliance.wiring import Services
from tests.compliance.browsing import FORM, file, guard, matched, submit, text_of
from tests.compliance.conftest import Clock


@pytest.fixture
def browser(services: Services) -> Iterator[TestClient]:
    """A browser that keeps cookies and follows redirects."""
    with TestClient(create_pages(services), raise_server_exceptions=False) as client:
        yield client


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


def test_what_a_person_keeps_outlives_the_vault(services: Services, browser: TestClient) -> None:
    """Receipt, proof and opening verify together, and still do when the personal data have been erased."""
    filed = file(services)
    page = f"/status/{filed.status_token}"
    early = browser.get(f"{page}/proof")
    assert f'href="{page}/proof"' not in browser.get(page).text
    services.publish()
    kept = {name: browser.get(f"{page}/{name}") for name in ("receipt", "proof", "opening")}
    with services.transaction() as ledger:
        ledger.erase_personal_data(request_id=filed.request.id, now=services.clock())
    services.publish()
    gone = browser.get(f"{page}/opening")

    found = receipt.verify(
        kept["receipt"].text,
        services.policy_text(),
        log=services.publisher.folder,
        proof=kept["proof"].text,
        opening=kept["opening"].text,
    )

    assert [one.why for one in found.steps if not one.ok] == []
    assert {answer.headers["Cache-Control"] for answer in kept.values()} == {"no-store"}
    assert all(filed.request.id in answer.headers["Content-Disposition"] for answer in kept.values())
    assert "Vandermeer" in kept["opening"].text
    assert "Vandermeer" not in kept["proof"].text + kept["receipt"].text
    assert (early.status_code, gone.status_code) == (404, 404)
    assert "not signed yet" in early.text
    assert "erased" in gone.text
    assert f'href="{page}/opening"' not in browser.get(page).text


def test_the_receipt_page_may_reach_nobody(browser: TestClient) -> None:
    """No connection, no form, no inline program: only this server's own script; the saved page names its by digest."""
    served, saved = browser.get("/receipt/check"), browser.get("/receipt/check/page")
    policy = served.headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert not {"unsafe-inline", "connect-src", "http"} & set(re.split(r"[ ';]+", policy))
    assert re.search(r"<script(?! src=)", served.text) is None
    assert saved.headers["Content-Disposition"].startswith("attachment")
    assert unescape(saved.text).count("'sha256-") == 3
    assert re.search(r'(src|href)="/(?!receipt)', saved.text.partition("<main")[2]) is None


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


def test_the_timeline_has_the_days_of_the_log(services: Services, browser: TestClient, clock: Clock) -> None:
    """Each finished step carries the day it was logged, also while the request is on hold."""
    request_id = matched(services)
    token = intake.status_token(services.vault, request_id=request_id)
    clock.advance(days=2)
    intake.approve(services, request_id=request_id, actor="op")
    intake.hold(services, request_id=request_id, actor="op")

    page = text_of(browser.get(f"/status/{token}").text)

    assert "You confirmed it with the code from our mail Saturday, 21 November 2026" in page
    assert "A person here checked what was found, and agreed Monday, 23 November 2026" in page
    assert "Your data are taken out, and the result is tested we are here" in page


def test_an_overdue_request_says_so_and_how_to_complain(services: Services, browser: TestClient, clock: Clock) -> None:
    """Late is late, on the person's own page too."""
    filed = file(services)
    clock.advance(days=32)

    page = browser.get(f"/status/{filed.status_token}").text

    assert "2 days overdue" in page
    assert "You can complain to your data protection authority" in page


def test_strange_addresses_are_pages_we_do_not_have(browser: TestClient) -> None:
    """Bytes that are no id get the page for wrong addresses."""
    parts = ["%00", "%ff", "%ed%a0%80", "x" * 3000, "%3Cb%3E"]
    paths = ["/status/{}", "/confirm/{}", "/received/{}", "/status/{}/receipt", "/status/{}/opening"]

    assert {browser.get(path.format(part)).status_code for path in paths for part in parts} == {404}


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


def test_a_report_is_shown_to_those_it_concerns_only(services: Services, browser: TestClient) -> None:
    """A batch that has no item of the request has no report for its person."""
    filed = file(services)

    assert browser.get(f"/status/{filed.status_token}/report/{'b' * 32}").status_code == 404


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
