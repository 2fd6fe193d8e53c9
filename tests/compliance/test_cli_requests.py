"""Requests at the terminal: filed, followed and decided, without personal data on the screen."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compliance import intake
from compliance.settings import load
from compliance.wiring import Services, open_services
from tests.compliance.builders import desk_with_people, log_size, person
from tests.compliance.terminal import answer, at, refusal, run

PERSONAL = ("exampleson", "ada@", "customer 77")  # "ada" alone stands in one of thirty random signatures
ADA = {"name": "Ada Exampleson", "email": "ada@example.org", "identifiers": ["customer 77"], "statement": "Please."}
KEY = "4f0b7a52-5d5e-4f0e-9d55-4be1d3a9d0f1"


def said(text: str) -> list[str]:
    """What of a person stands in a text."""
    return [word for word in PERSONAL if word in text.lower()]


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    """What an operator typed from a letter."""
    path = tmp_path / "person.json"
    path.write_text(json.dumps(ADA))
    return path


def filed(desk: Services, name: str, email: str) -> str:
    """The id of a request filed at the terminal."""
    value = answer(desk, "request", "file", "--name", name, "--email", email, "--regime", "gdpr")
    request_id: str = value["request"]["id"]
    return request_id


def confirmed(desk: Services, number: int = 0) -> str:
    """The id of a confirmed request of one of the desk's people."""
    who = person(number)
    request_id = filed(desk, who.name, who.email)
    today = open_services(load(desk.settings.workdir))  # the command line's clock, not the test's
    with today.read() as ledger:
        code = ledger.open_secret(request_id=request_id, purpose="code").decode()
    intake.confirm(today, request_id=request_id, code=code)
    today.database.dispose()
    return request_id


def test_a_letter_becomes_a_request_with_a_receipt(services: Services, letter: Path, tmp_path: Path) -> None:
    """The answer has the clocks, the token for the person, and the receipt, which verifies as a file."""
    receipt, policy = tmp_path / "receipt.json", tmp_path / "trust" / "tlog-policy"

    value = answer(services, "request", "file", letter, "--regime", "ccpa", "--receipt", receipt)

    assert (value["request"]["state"], value["request"]["regime"]) == ("identity_pending", "ccpa")
    assert set(value["receipt"]) == {"envelope", "keyEntry", "keyProof"}
    assert json.loads(receipt.read_text()) == value["receipt"]
    assert not said(json.dumps(value))
    answer(services, "keys", "list", "--policy", policy)
    assert run("receipt", "verify", receipt, "--policy", policy, "--json").value["ok"] is True
    with services.read() as ledger:
        assert ledger.open_subject(value["request"]["id"]).identifiers == ("customer 77",)


def test_a_request_comes_by_standard_input(services: Services) -> None:
    """`-` reads the person from a pipe, so that no shell keeps the name."""
    command = [sys.executable, "-m", "compliance.cli", "request", "file", "-", "--regime", "gdpr", "--json"]
    ran = subprocess.run(
        [*command, "--workdir", str(services.settings.workdir)],
        input=json.dumps(ADA),
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(ran.stdout)["request"]["door"] == "desk"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": ""}, "the name is empty"),
        ({"name": "x" * 1_000_000}, "the name is too long"),
        ({"name": 7}, "must hold the texts"),
        ({"nickname": "A"}, "must hold the texts"),
        ({"identifiers": "A"}, "must hold the texts"),
        ({"email": "nobody"}, "not complete"),
    ],
)
def test_a_bad_person_is_one_line_without_the_person(
    services: Services, letter: Path, change: dict[str, Any], sentence: str
) -> None:
    """The line says what to mend and repeats nothing; no request is stored."""
    letter.write_text(json.dumps(ADA | change))
    before = log_size(services)

    line = refusal(at(services, "request", "file", letter, "--regime", "gdpr"))

    assert sentence in line
    assert not said(line)
    assert log_size(services) == before


@pytest.mark.parametrize("raw", [b"\xff", b"[]", b"{", b'"text"', b"{" * 2_000_000])
def test_a_file_that_holds_no_person_is_refused(services: Services, letter: Path, raw: bytes) -> None:
    """Broken UTF-8, other JSON, no JSON, too much of it."""
    letter.write_bytes(raw)

    assert letter.name in refusal(at(services, "request", "file", letter, "--regime", "gdpr"))


def test_a_person_comes_one_way(services: Services, letter: Path) -> None:
    """A file, or options; not both, and not neither."""
    assert "--name" in refusal(at(services, "request", "file", "--regime", "gdpr"))
    assert "not both" in refusal(at(services, "request", "file", letter, "--regime", "gdpr", "--name", "Ada"))
    assert "gdpr, ccpa" in refusal(at(services, "request", "file", letter, "--regime", "lgpd"))


def test_a_receipt_that_cannot_be_written_stores_nothing(services: Services, letter: Path) -> None:
    """The place is tried first, so that nobody files twice for want of a receipt."""
    call = ["request", "file", letter, "--regime", "gdpr", "--receipt", letter / "receipt.json"]

    assert "cannot be written" in refusal(at(services, *call))
    assert answer(services, "request", "list") == []


def test_the_same_call_again_is_answered_as_before(services: Services, letter: Path) -> None:
    """An idempotency key makes one request; with another body it is refused."""
    call = ["request", "file", letter, "--idempotency-key", KEY]

    first = answer(services, *call, "--regime", "gdpr")
    again = answer(services, *call, "--regime", "gdpr")

    assert again["request"]["id"] == first["request"]["id"]
    assert "another body" in refusal(at(services, *call, "--regime", "ccpa"))
    assert len(answer(services, "request", "list")) == 1


def test_requests_are_listed_by_state_and_page_by_page(services: Services) -> None:
    """In order of arrival, with the days that are left."""
    first, second = (filed(services, f"Person {n}", f"p{n}@example.org") for n in (1, 2))

    assert [one["id"] for one in answer(services, "request", "list")] == [first, second]
    assert [one["id"] for one in answer(services, "request", "list", "--after", first)] == [second]
    assert [one["id"] for one in answer(services, "request", "list", "--limit", "1")] == [first]
    assert f"--after {first}" in at(services, "request", "list", "--limit", "1").out
    assert answer(services, "request", "list", "--state", "approved") == []
    assert "identity_pending" in refusal(at(services, "request", "list", "--state", "nonsense"))
    assert answer(services, "request", "list")[0]["days_left"] >= 28


def test_a_request_shows_its_matches_and_why(services: Services) -> None:
    """Records and reasons, items and clocks: for the operator who has to approve."""
    desk_with_people(services)
    request_id = confirmed(services)

    value = answer(services, "request", "show", request_id)

    assert value["state"] == "matched"
    assert [(item["model"], item["state"]) for item in value["items"]] == [("m1", "proposed")]
    assert {match["reason"] for match in value["matches"]} == {"subject-field", "text:name"}
    assert {match["dataset"] for match in value["matches"]} == {"d1"}
    assert [entry["state"] for entry in value["history"]][-2:] == ["verified", "matched"]
    proved = answer(services, "log", "prove", str(value["history"][0]["index"]))
    assert json.loads(proved["entry"])["data"]["commitment"] == value["commitment"]
    shown = at(services, "request", "show", request_id)
    assert {"text:name", "request.received"} <= set(shown.out.split())
    assert max(map(len, shown.out.splitlines())) <= 80


def test_the_identity_is_opened_only_on_request(services: Services) -> None:
    """Nothing shown is personal data until an operator asks for it, and the help says what that means."""
    who = person(0)
    request_id = filed(services, who.name, who.email)
    quiet = [
        at(services, "request", "show", request_id),
        at(services, "request", "show", request_id, "--json"),
        at(services, "request", "list"),
        at(services, "request", "list", "--json"),
    ]

    assert all(who.name not in ran.out and who.email not in ran.out for ran in quiet)
    opened = answer(services, "request", "show", request_id, "--open-identity")["identity"]
    assert opened == {"name": who.name, "email": who.email, "identifiers": [], "statement": ""}
    assert who.email in at(services, "request", "show", request_id, "--open-identity").out
    assert "PERSONAL DATA" in at(services, "request", "show", "--help").out


def test_an_operator_extends_holds_releases_and_approves(services: Services) -> None:
    """Each decision is answered with where the request stands then."""
    desk_with_people(services)
    request_id = confirmed(services)

    extended = answer(services, "request", "extend", request_id, "--reason", "We have to ask our archive.")
    held = answer(services, "request", "hold", request_id)
    released = answer(services, "request", "release", request_id)
    approved = answer(services, "request", "approve", request_id)

    assert (extended["extended"], extended["extended_by"]) == (True, None)
    states = [value["state"] for value in (extended, held, released, approved)]
    assert states == ["matched", "on_hold", "matched", "approved"]
    assert "cannot become" in refusal(at(services, "request", "approve", request_id))
    assert "extended once" in refusal(at(services, "request", "extend", request_id))


def test_a_denial_needs_a_code_of_the_law(services: Services) -> None:
    """An unknown code is refused with the known ones; a known one ends the request."""
    desk_with_people(services)
    request_id = confirmed(services)

    assert "gdpr.17.1.no_ground" in refusal(at(services, "request", "deny", request_id, "--code", "because"))
    denied = answer(services, "request", "deny", request_id, "--code", "gdpr.17.1.no_ground")

    assert (denied["state"], denied["denial_code"]) == ("denied", "gdpr.17.1.no_ground")
    assert denied["days_left"] is None
    assert "none of the grounds" in at(services, "request", "show", request_id).out


def test_a_request_is_withdrawn_once(services: Services) -> None:
    """What was taken back stays so."""
    request_id = filed(services, "Ada Exampleson", "ada@example.org")

    assert answer(services, "request", "withdraw", request_id)["state"] == "withdrawn"
    assert refusal(at(services, "request", "withdraw", request_id))
