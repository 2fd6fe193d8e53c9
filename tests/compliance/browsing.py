"""Sending forms the way a browser does, and requests to send them about."""

import re
from html import unescape
from typing import Any

from fastapi.testclient import TestClient

from compliance import intake
from compliance.ledger.views import MatchView, RecordView
from compliance.wiring import Services
from engine.corpus import Record, write_records

FORM = {"place": "DE", "name": "Quillon Vandermeer", "email": "quillon@example.org"}


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
