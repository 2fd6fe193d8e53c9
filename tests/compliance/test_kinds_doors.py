"""Requests for a class or a domain at every door: what is asked, what is answered, and who gets to know its name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from compliance import intake
from compliance.api import create_app
from compliance.ledger.lifecycle import RequestState
from compliance.notices import Facts, compose, deliver, mailer
from compliance.regimes import GDPR
from compliance.web import create_pages, words
from compliance.wiring import Services
from tests.compliance.browsing import FORM, sign_in, submit, text_of
from tests.compliance.builders import add_dataset, add_model, log_size
from tests.compliance.conftest import START
from tests.compliance.terminal import answer, at, refusal
from tests.compliance.test_api import BODY, KEY, bearer, file, mailed_code
from tests.compliance.test_kinds import LADDER, rows_of

NAME = "Ottoline Featherstone"  # a class of faces: a person's name
ASKED = {"scope": "class", "target": NAME}


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    """A caller of the API, on a desk whose model tells faces apart."""
    add_dataset(services, rows_of([NAME, NAME, "Somebody Else"]))
    add_model(services, policy=LADDER)
    with TestClient(create_app(services, pages=create_pages(services)), raise_server_exceptions=False) as caller:
        yield caller


def _public(filed: dict[str, Any]) -> dict[str, Any]:
    """What an answer says that is not drawn at random."""
    drawn = {"id", "commitment"}
    return {"keys": sorted(filed)} | {name: value for name, value in filed["request"].items() if name not in drawn}


def test_a_request_by_the_api_is_matched_by_its_class(services: Services, client: TestClient) -> None:
    """The name goes into the vault, is matched after the code, and never comes out of the API again."""
    filed = file(client, BODY | ASKED)
    request_id = filed["request"]["id"]
    confirmed = client.post(f"/v1/requests/{request_id}/confirm", json={"code": mailed_code(services, request_id)})
    shown = client.get(f"/v1/requests/{request_id}", headers=bearer(filed))

    with services.read() as ledger:
        view, found = ledger.request(request_id), {one.reason for one in ledger.matches(request_id)}
        assert ledger.open_subject(request_id).target == NAME
    assert (view.state, view.scope, found) == (RequestState.MATCHED, "class", {"class"})
    assert shown.json()["scope"] == "class"
    assert NAME not in json.dumps(filed) + confirmed.text + shown.text


def test_no_public_door_says_whether_a_class_exists(client: TestClient) -> None:
    """One that a model knows and one that nobody has are answered alike: else strangers learn who is in the data."""
    known, unknown = (file(client, BODY | ASKED | {"target": target}) for target in (NAME, "Nobody At All"))
    pages = [submit(client, "/", FORM | ASKED | {"target": target}) for target in (NAME, "Nobody At All")]

    assert _public(known) == _public(unknown)
    assert [page.status_code for page in pages] == [200, 200]
    assert len({page.url.path.rpartition("/")[0] for page in pages}) == 1


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        ({"scope": "class"}, "target-empty", "the name of the class is missing"),
        ({"scope": "domain", "target": " "}, "target-empty", "the name of the domain is missing"),
        ({"scope": "class", "target": "\u200d"}, "target-empty", "the name of the class is missing"),
        ({"target": NAME}, "target-unwanted", "a request for all records of a person has no target"),
        ({"scope": "class", "target": "x" * 201}, "target-too-long", "at most 200 characters"),
        ({"scope": "class", "target": "a\x00b"}, "target-control-characters", "remove them"),
        ({"scope": "facts", "target": NAME}, "unknown-scope", "use one of: records, class, domain"),
        ({"scope": "class", "target": 7}, "invalid-body", "target"),
    ],
)
def test_a_target_is_needed_or_refused_in_one_sentence(
    services: Services, client: TestClient, change: dict[str, Any], code: str, sentence: str
) -> None:
    """Required for a class and a domain, refused for records; the value is not repeated and nothing is stored."""
    before = log_size(services)

    said = client.post("/v1/requests", json=BODY | change)

    assert (said.status_code, said.json()["type"]) == (422, f"urn:expunge:problem:{code}")
    assert sentence in said.json()["detail"]
    assert NAME not in said.text
    assert log_size(services) == before


def test_another_target_is_another_body(client: TestClient) -> None:
    """An Idempotency-Key answers the same call as before, and refuses the one that asks for another class."""
    headers = {"Idempotency-Key": KEY}
    first, again = (file(client, BODY | ASKED, **headers) for _ in range(2))

    other = client.post("/v1/requests", json=BODY | ASKED | {"target": "Another"}, headers=headers)

    assert first["request"]["id"] == again["request"]["id"]
    assert (other.status_code, other.json()["type"]) == (422, "urn:expunge:problem:idempotency-key-reused")


def test_the_form_asks_for_a_class_and_the_desk_shows_it_on_demand(services: Services, client: TestClient) -> None:
    """Page, receipt, status and letters speak of a kind of picture; its name is on the desk's page once opened."""
    received = submit(client, "/", FORM | ASKED)
    request_id = _only(services)
    code = mailed_code(services, request_id)
    status = submit(client, f"/confirm/{request_id}", {"code": code}, page=f"/confirm/{request_id}")
    sign_in(services, client)
    path = f"/desk/requests/{request_id}"
    pages = [received, status, client.get("/desk"), client.get(path)]
    opened = text_of(submit(client, f"{path}/identity", {}, page=path).text)
    deliver(services, mailer(services.settings))
    mails = [one.read_text() for one in services.settings.outbox.glob("*.eml")]

    texts = [text_of(page.text) for page in pages]
    assert all(NAME not in text for text in (*texts, *mails))
    assert "You asked us to forget one kind of picture (a class)" in texts[0]
    assert "We found the pictures you named" in texts[1]
    assert "every picture of one class, whosever they are" in texts[3]
    assert "the picture is of the class that was named" in texts[3]
    assert f"The class {NAME}" in opened
    assert f"a picture labelled {NAME}" in opened
    assert any("forget one kind of picture (a class)" in " ".join(mail.split()) for mail in mails)


def _only(desk: Services) -> str:
    with desk.read() as ledger:
        (view,) = ledger.requests()
    return view.id


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"scope": "domain"}, "Please write what it is called."),
        ({"target": NAME}, "A request about everything needs no name here"),
        ({"scope": "all", "target": NAME}, "The scope is unknown"),
    ],
)
def test_the_form_says_what_to_mend_and_keeps_what_was_chosen(
    services: Services, client: TestClient, change: dict[str, str], sentence: str
) -> None:
    """One plain sentence, the choice and the name are still there, and nothing is filed."""
    page = submit(client, "/", FORM | change)

    assert page.status_code == 422
    assert sentence in text_of(page.text)
    assert change.get("target", "") in page.text
    assert page.text.count('value="domain" checked') == (change.get("scope") == "domain")
    with services.read() as ledger:
        assert not ledger.requests()


@pytest.mark.parametrize("scope", ["class", "domain"])
def test_every_state_of_a_request_for_pictures_has_words(scope: str) -> None:
    """No headline or step of it speaks of data about the person."""
    for state in RequestState:
        told = [*words.headline(state, scope), *(step.title for step in words.timeline(state, {}, scope))]
        assert all(told)
        assert not [text for text in told if "about you" in text or "for you" in text]
        assert words.headline(state) == words.HEADLINES[state]


@pytest.mark.parametrize(
    ("kind", "state", "said"),
    [
        ("identity_code", "", "forget the pictures of one domain."),
        ("no_match", "", "found none, so there is nothing to remove"),
        ("approved", "", "We found the pictures you named and will remove them"),
        ("completed", "fulfilled", "The pictures you named are out of our training data"),
        ("completed", "fulfilled_in_part", "the pictures you named have been removed"),
    ],
)
def test_letters_speak_of_pictures(kind: str, state: str, said: str) -> None:
    """In the words of the request, without the name of what it asks for."""
    day = START.date()
    facts = Facts(
        organisation="Example", desk_url="https://example.test", request_id="r1", regime=GDPR, received_on=day,
        respond_by=day, scope="domain", state=state, code="ABCD2345",
    )  # fmt: skip

    letter = compose(kind, facts)

    assert letter is not None
    text = " ".join(letter.body.split())
    assert said in text
    assert "about you" not in text


def _person(folder: Path, **more: str) -> Path:
    path = folder / "person.json"
    path.write_text(json.dumps({"name": "Ada Example", "email": "ada@example.org", **more}))
    return path


@pytest.mark.usefixtures("client")
def test_an_operator_files_for_a_class_that_exists(services: Services, tmp_path: Path) -> None:
    """By option or in the file; what is printed names the scope, and the identity alone the class."""
    given = ("--regime", "gdpr", "--scope", "class")
    option = answer(services, "request", "file", _person(tmp_path), *given, "--target", NAME.upper())
    inside = answer(services, "request", "file", _person(tmp_path, target=NAME), *given)
    shown = answer(services, "request", "show", inside["request"]["id"], "--open-identity")

    assert NAME.lower() not in json.dumps(option).lower() + json.dumps(inside).lower()
    assert (option["request"]["scope"], shown["identity"]["target"]) == ("class", NAME)
    assert NAME in at(services, "request", "show", inside["request"]["id"], "--open-identity").out


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--scope", "class", "--target", "Nobody"), "no model learned from this class; there are 2 classes"),
        (("--scope", "domain", "--target", NAME), "no model learned from this domain; there are 0 domains"),
        (("--scope", "class"), "the name of the class is missing"),
        (("--target", NAME), "has no target"),
        (("--scope", "class", "--target", NAME, "--name", "X"), "give either a FILE or the person's options"),
    ],
)
def test_a_class_that_nothing_has_is_refused_at_the_terminal(
    services: Services, tmp_path: Path, given: tuple[str, ...], sentence: str
) -> None:
    """One sentence with how many there are and how to list them, exit 2, and nothing written."""
    before = log_size(services)

    line = refusal(at(services, "request", "file", _person(tmp_path), "--regime", "gdpr", *given))

    assert sentence in line
    assert ("'expunge request targets --scope" in line) == ("no model learned" in sentence)
    assert log_size(services) == before


@pytest.mark.usefixtures("client")
def test_the_terminal_lists_what_can_be_named(services: Services, tmp_path: Path) -> None:
    """Classes with their records; another scope, and a target said twice, are refused."""
    listed = answer(services, "request", "targets")
    twice = ("--regime", "gdpr", "--scope", "class", "--target", NAME)

    assert listed == [
        {"scope": "class", "target": NAME, "dataset": "d1", "records": 2},
        {"scope": "class", "target": "Somebody Else", "dataset": "d1", "records": 1},
    ]
    assert answer(services, "request", "targets", "--scope", "domain") == []
    assert "use one of: class, domain" in refusal(at(services, "request", "targets", "--scope", "records"))
    assert "not both" in refusal(at(services, "request", "file", _person(tmp_path, target=NAME), *twice))


def test_an_agent_may_ask_for_a_class_in_the_name_of_several(services: Services) -> None:
    """Each of its subjects gets the same target, under a key of their own."""
    made = [
        intake.submission(regime="gdpr", scope="class", target=NAME, name=name, email=f"{name}@example.org")
        for name in ("one", "two")
    ]

    filed = intake.file(services, made, caller=intake.Caller(door="agent", agent="agent-1"))

    with services.read() as ledger:
        assert {ledger.open_subject(one.request.id).target for one in filed} == {NAME}
    assert len({one.request.commitment for one in filed}) == 2
    assert NAME not in repr(made)
