"""The machine door, over a real desk."""

import json
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event

from audits import keys
from audits.strict import encode_base64
from compliance import intake
from compliance.api import create_app
from compliance.ledger.lifecycle import RequestState
from compliance.notices import deliver, mailer
from compliance.wiring import Services
from tests.compliance.browsing import matched
from tests.compliance.conftest import Clock, both_databases

ADA = {"name": "Ada Example", "email": "ada@example.org"}
BODY: dict[str, Any] = {"regime": "gdpr", "subject": ADA}
_MEMBERS = [
    "regime",
    "scope",
    "target",
    "subject",
    "subjects",
    "authority",
    "test",
    "name",
    "email",
    "identifiers",
    "code",
]
_PATHS = st.sampled_from(["/v1/requests", f"/v1/requests/{'f' * 32}/confirm", f"/v1/requests/{'f' * 32}/code"])
KEY = "4f0b7a52-5d5e-4f0e-9d55-4be1d3a9d0f1"


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    """A caller of the API."""
    with TestClient(create_app(services), raise_server_exceptions=False) as caller:
        yield caller


@pytest.fixture
def agent(services: Services) -> dict[str, str]:
    """The headers of the desk's authorised agent."""
    return {"Authorization": f"Bearer {services.settings.agents['agent-1'].get_secret_value()}"}


def file(client: TestClient, body: dict[str, Any] = BODY, **headers: str) -> dict[str, Any]:
    """File one request and return what was answered about it."""
    answer = client.post("/v1/requests", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    filed: dict[str, Any] = answer.json()["requests"][0]
    return filed


def bearer(filed: dict[str, Any]) -> dict[str, str]:
    """The header that opens a filed request."""
    return {"Authorization": f"Bearer {filed['status_token']}"}


def mailed_code(services: Services, request_id: str) -> str:
    """The newest code in the outbox for a request."""
    deliver(services, mailer(services.settings))
    files = sorted(services.settings.outbox.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns)
    mails = [message_from_bytes(path.read_bytes()) for path in files]
    mine = [m for m in mails if m["X-Expunge-Request"] == request_id and m["X-Expunge-Kind"] == "identity_code"]
    lines = str(mine[-1].get_payload()).splitlines()
    return next(line.strip() for line in lines if line.startswith("    ") and "/" not in line)


def test_a_failing_commit_gives_an_error_and_never_a_receipt(services: Services, client: TestClient) -> None:
    """A receipt for a request that was not stored is the worst bug this product can have."""

    def fail(_connection: Connection) -> None:
        message = "the disk is full"
        raise OSError(message)

    event.listen(services.database, "commit", fail)
    answer = client.post("/v1/requests", json=BODY)
    event.remove(services.database, "commit", fail)

    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "receipt" not in answer.text
    assert "disk" not in answer.text
    with services.read() as ledger:
        assert ledger.requests() == []
        assert ledger.pending_notices() == []


def test_a_stored_request_is_answered_with_a_signed_receipt(services: Services, client: TestClient) -> None:
    """The answer names the request, its clock, its token, and carries a receipt."""
    filed = file(client)

    with services.read() as ledger:
        stored = ledger.request(filed["request"]["id"])
    assert filed["request"]["respond_by"] == "2026-12-21"
    assert filed["request"]["commitment"] == stored.commitment
    assert set(filed["receipt"]) == {"envelope", "keyEntry", "keyProof"}
    assert client.get(f"/v1/requests/{stored.id}/receipt", headers=bearer(filed)).json() == filed["receipt"]


def test_ccpa_has_its_own_clocks(client: TestClient) -> None:
    """45 days, ten Californian business days, and an alarm a day early."""
    request = file(client, BODY | {"regime": "ccpa"})["request"]

    assert request["respond_by"] == "2027-01-05"
    assert request["alarm_by"] == "2027-01-04"
    assert request["acknowledge_by"] == "2026-12-08"


def test_the_code_from_the_mail_confirms_a_request(services: Services, client: TestClient) -> None:
    """However it is typed, the right code moves the request on; again, it changes nothing."""
    request_id = file(client)["request"]["id"]
    code = mailed_code(services, request_id)

    first = client.post(f"/v1/requests/{request_id}/confirm", json={"code": f" {code.lower()} "})
    again = client.post(f"/v1/requests/{request_id}/confirm", json={"code": code})

    assert first.status_code == 200
    assert again.json() == first.json()
    assert first.json()["state"] in {"verified", "matched", "no_match"}


def test_a_wrong_code_is_refused_and_the_fifth_is_the_last(services: Services, client: TestClient) -> None:
    """After five wrong tries the right code is worth nothing; a new one has to be asked for."""
    request_id = file(client)["request"]["id"]
    code = mailed_code(services, request_id)

    wrong = [client.post(f"/v1/requests/{request_id}/confirm", json={"code": "22222222"}) for _ in range(5)]
    late = client.post(f"/v1/requests/{request_id}/confirm", json={"code": code})
    client.post(f"/v1/requests/{request_id}/code")
    fresh = client.post(f"/v1/requests/{request_id}/confirm", json={"code": mailed_code(services, request_id)})

    assert {answer.status_code for answer in [*wrong, late]} == {422}
    assert {answer.json()["type"] for answer in [*wrong, late]} == {"urn:expunge:problem:code-wrong"}
    assert fresh.status_code == 200


def test_an_expired_code_says_so(services: Services, client: TestClient, clock: Clock) -> None:
    """The right code an hour later is refused with its own sentence."""
    request_id = file(client)["request"]["id"]
    code = mailed_code(services, request_id)
    clock.advance(hours=1)

    answer = client.post(f"/v1/requests/{request_id}/confirm", json={"code": code})

    assert answer.json()["type"] == "urn:expunge:problem:code-expired"
    assert "new one" in answer.json()["detail"]


def test_nobody_learns_here_which_requests_exist(client: TestClient) -> None:
    """An unknown request answers as a known one does to somebody who is not entitled."""
    known = file(client)["request"]["id"]
    stranger = {"Authorization": "Bearer nobody"}
    pairs = [
        [client.post(f"/v1/requests/{i}/confirm", json={"code": "22222222"}) for i in (known, "f" * 32)],
        [client.post(f"/v1/requests/{i}/code") for i in (known, "f" * 32)],
        [client.get(f"/v1/requests/{i}", headers=stranger) for i in (known, "f" * 32)],
        [client.get(f"/v1/requests/{i}") for i in (known, "f" * 32)],
    ]

    for one, other in pairs:
        assert one.status_code == other.status_code
        mine, theirs = one.json(), other.json()
        assert mine.pop("instance", None) is None or theirs.pop("instance")
        assert mine == theirs


def test_a_request_is_shown_to_its_token_and_its_agent_only(client: TestClient, agent: dict[str, str]) -> None:
    """One person's token opens one request; an agent sees what it filed."""
    mine = file(client)
    theirs = file(client, BODY | {"authority": "POA 7"}, **agent)

    assert client.get(f"/v1/requests/{mine['request']['id']}", headers=bearer(mine)).status_code == 200
    assert client.get(f"/v1/requests/{mine['request']['id']}", headers=bearer(theirs)).status_code == 404
    assert client.get(f"/v1/requests/{mine['request']['id']}", headers=agent).status_code == 404
    assert client.get(f"/v1/requests/{theirs['request']['id']}", headers=agent).status_code == 200


def test_an_agent_files_for_many_and_each_gets_a_request(
    client: TestClient, agent: dict[str, str], services: Services
) -> None:
    """Every subject has its own request, receipt and code, in the order given."""
    people = [{"name": f"Person {n}", "email": f"p{n}@example.org"} for n in range(12)]
    body = {"regime": "gdpr", "subjects": people, "authority": "POA 2026/7"}

    filed = client.post("/v1/requests", json=body, headers=agent).json()["requests"]

    assert len({one["request"]["id"] for one in filed}) == 12
    assert len({one["receipt"]["envelope"]["payload"] for one in filed}) == 12
    with services.read() as ledger:
        names = [ledger.open_subject(one["request"]["id"]).name for one in filed]
        assert len(ledger.pending_notices()) == 12
    assert names == [person["name"] for person in people]


def test_an_agents_list_is_paged_by_cursor(client: TestClient, agent: dict[str, str], clock: Clock) -> None:
    """Following `next` shows every request once and then ends."""
    filed = []
    for n in range(5):
        clock.advance(minutes=1)
        body = {"regime": "gdpr", "authority": "POA", "subject": {"name": "P", "email": f"p{n}@example.org"}}
        filed.append(file(client, body, **agent)["request"]["id"])
    file(client)

    seen, after = [], ""
    while after is not None:
        query = {"limit": "2"} | ({"after": after} if after else {})
        page = client.get("/v1/requests", params=query, headers=agent).json()
        seen += [one["id"] for one in page["requests"]]
        after = page["next"]

    assert seen == filed


def test_an_idempotency_key_gets_the_same_answer_twice(client: TestClient, services: Services) -> None:
    """The repeated call stores nothing and answers alike, status token and receipt included."""
    first, again = (client.post("/v1/requests", json=BODY, headers={"Idempotency-Key": KEY}) for _ in "ab")

    assert first.json() == again.json()
    with services.read() as ledger:
        assert len(ledger.requests()) == 1


def test_an_idempotency_key_with_another_body_is_refused(client: TestClient, services: Services) -> None:
    """The second body changes nothing, and the sentence says what to do."""
    file(client, BODY, **{"Idempotency-Key": KEY})
    other = BODY | {"subject": ADA | {"name": "Eve"}}

    answer = client.post("/v1/requests", json=other, headers={"Idempotency-Key": KEY})

    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:expunge:problem:idempotency-key-reused"
    with services.read() as ledger:
        assert len(ledger.requests()) == 1


def test_a_withdrawn_request_ends_and_cannot_be_withdrawn_again(client: TestClient) -> None:
    """Taking back is final, and needs the token."""
    filed = file(client)
    path = f"/v1/requests/{filed['request']['id']}/withdraw"

    assert client.post(path).status_code == 401
    assert client.post(path, headers=bearer(filed)).json()["state"] == "withdrawn"
    assert client.post(path, headers=bearer(filed)).status_code == 409


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"regime": "lex julia"}, "unknown-regime", id="unknown regime"),
        pytest.param({"scope": "everything"}, "unknown-scope", id="unknown scope"),
        pytest.param({"subject": ADA | {"name": ""}}, "name-empty", id="empty name"),
        pytest.param({"subject": ADA | {"name": " \u200d "}}, "name-empty", id="invisible name"),
        pytest.param({"subject": ADA | {"name": "x" * 201}}, "name-too-long", id="long name"),
        pytest.param({"subject": ADA | {"name": "Ada\x00"}}, "name-control-characters", id="NUL"),
        pytest.param({"subject": ADA | {"name": "Ada\u202eadA"}}, "name-control-characters", id="bidi"),
        pytest.param({"subject": ADA | {"email": "ada"}}, "email-malformed", id="no at sign"),
        pytest.param({"subject": ADA | {"email": "ada@localhost"}}, "email-malformed", id="no host"),
        pytest.param({"subject": ADA | {"email": "a@b.org\r\nBcc: e@x.org"}}, "email-malformed", id="header"),
        pytest.param({"subject": ADA | {"email": "a@b.org,e@x.org"}}, "email-malformed", id="two addresses"),
        pytest.param({"subject": ADA | {"identifiers": ["x"] * 21}}, "too-many-identifiers", id="identifiers"),
        pytest.param({"received_at": "2020-01-01T00:00:00Z"}, "invalid-body", id="own clock"),
        pytest.param({"subject": {"name": "Ada"}}, "invalid-body", id="missing member"),
        pytest.param({"subject": None}, "subject-or-subjects", id="nobody"),
    ],
)
def test_bad_input_gets_one_clear_sentence(
    client: TestClient, services: Services, change: dict[str, Any], code: str
) -> None:
    """A problem of its own type, status 422, and nothing is stored."""
    answer = client.post("/v1/requests", json=BODY | change)

    assert answer.status_code == 422
    assert answer.json()["type"] == f"urn:expunge:problem:{code}"
    assert "\n" not in answer.json()["detail"]
    with services.read() as ledger:
        assert ledger.requests() == []


def test_a_name_of_a_megabyte_is_too_large(client: TestClient) -> None:
    """The body limit answers before anything is parsed, with or without a length header."""
    raw = json.dumps(BODY | {"subject": ADA | {"name": "x" * 1_000_000}}).encode()
    kind = {"Content-Type": "application/json"}

    known = client.post("/v1/requests", content=raw, headers=kind)
    streamed = client.post("/v1/requests", content=iter([raw[:50_000], raw[50_000:]]), headers=kind)

    for answer in (known, streamed):
        assert answer.status_code == 413
        assert answer.json()["type"] == "urn:expunge:problem:body-too-large"


def test_no_answer_repeats_what_was_sent(client: TestClient) -> None:
    """A problem goes into logs and screenshots; the name in the bad body does not."""
    secret = "Zyxwvut"
    bodies = [
        {"regime": secret, "subject": ADA},
        {"regime": "gdpr", "subject": {"name": [secret], "email": secret}},
        {"regime": "gdpr", "subject": {"name": "A", "email": f"{secret} @x"}, "test": secret},
    ]

    assert all(secret not in client.post("/v1/requests", json=body).text for body in bodies)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/log/tile/0/999", 404),
        ("PUT", "/v1/requests", 405),
        ("GET", "/v1/requests", 401),
    ],
)
def test_protocol_errors_are_problems_too(client: TestClient, method: str, path: str, status: int) -> None:
    """404, 405 and 401 carry a type, a title, a detail and the path."""
    answer = client.request(method, path)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["instance"] == path


def test_a_body_that_is_no_json_is_a_problem(client: TestClient) -> None:
    """Malformed JSON is 400 with one sentence."""
    answer = client.post("/v1/requests", content=b"{", headers={"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:expunge:problem:malformed-json"


def test_only_agents_file_for_several_or_in_rehearsal(client: TestClient, agent: dict[str, str]) -> None:
    """Without a token 401, with a wrong one 403, without a mandate 422."""
    many = {"regime": "gdpr", "subjects": [ADA], "authority": "POA"}

    assert client.post("/v1/requests", json=many).status_code == 401
    assert client.post("/v1/requests", json=many, headers={"Authorization": "Bearer x"}).status_code == 403
    assert client.post("/v1/requests", json=BODY | {"test": True}).status_code == 401
    assert client.post("/v1/requests", json=BODY, headers=agent).json()["type"].endswith("authority-empty")


def test_one_address_cannot_flood_the_desk(services: Services) -> None:
    """The limit is on by default; the answer says when to come back."""
    with TestClient(create_app(services)) as client:
        bodies = [BODY | {"subject": ADA | {"email": f"a{n}@example.org"}} for n in range(21)]
        answers = [client.post("/v1/requests", json=body) for body in bodies]

    assert [answer.status_code for answer in answers] == [201] * 20 + [429]
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_one_mailbox_cannot_be_buried_in_codes(client: TestClient, agent: dict[str, str]) -> None:
    """Not even an agent may send somebody a seventh code within the hour."""
    body = {"regime": "gdpr", "subjects": [ADA] * 7, "authority": "POA"}

    assert client.post("/v1/requests", json=body, headers=agent).status_code == 429


def test_every_answer_has_security_headers(client: TestClient) -> None:
    """Errors included."""
    for path in ("/healthz", "/nothing", "/v1/openapi.json"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Referrer-Policy"] == "no-referrer"


def test_the_log_is_served_as_static_tiles(client: TestClient, services: Services) -> None:
    """The checkpoint is never cached, and nothing outside the folder is reachable."""
    services.publish()

    checkpoint = client.get("/log/checkpoint")

    assert checkpoint.text.startswith(services.settings.origin)
    assert checkpoint.headers["Cache-Control"] == "no-cache"
    assert client.get("/log/../settings.env").status_code == 404
    assert client.get("/log/%2e%2e/settings.env").status_code == 404


def test_global_privacy_control_is_declared(client: TestClient) -> None:
    """The support resource says yes."""
    assert client.get("/.well-known/gpc.json").json()["gpc"] is True


def test_the_description_is_openapi_3_1_and_describes_problems(client: TestClient) -> None:
    """Every operation declares problems, and they point at one schema."""
    document = client.get("/v1/openapi.json").json()
    operations = [one for path in document["paths"].values() for one in path.values()]

    assert document["openapi"].startswith("3.1")
    assert document["components"]["schemas"]["Problem"]["properties"]["detail"]
    assert len(operations) >= 9
    for operation in operations:
        problem = operation["responses"]["422"]["content"]["application/problem+json"]
        assert problem["schema"]["$ref"] == "#/components/schemas/Problem"


def test_pages_are_served_beside_the_api(services: Services) -> None:
    """Whoever starts the server may hand over pages; they get every address that is not the API's."""

    async def pages(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401, ARG001 - plain ASGI
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a page"})

    with TestClient(create_app(services, pages=pages)) as client:
        assert client.get("/anything").text == "a page"
        assert client.get("/v1/nothing").status_code == 404
        assert client.get("/healthz").json()["status"] == "ok"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_MEMBERS), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_JSON | st.fixed_dictionaries({"regime": st.just("gdpr"), "subject": _JSON}), path=_PATHS)
def test_whatever_is_sent_the_desk_does_not_fail(client: TestClient, body: object, path: str) -> None:
    """Every answer is below 500, and every refusal is a problem."""
    content = json.dumps(body).encode()

    answer = client.post(path, content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"


@both_databases
def test_strange_ids_and_codes_are_wrong_and_nothing_more(client: TestClient) -> None:
    """A NUL or half a character never reaches the database."""
    headers = {"Content-Type": "application/json", "Authorization": "Bearer x"}
    bodies = [json.dumps({"code": code}).encode() for code in ("\x00", "\ud800", "x" * 10_000)]
    ids = ["%00", "%ff", "%ed%a0%80", "x" * 3000, "f" * 32]

    confirm = [client.post(f"/v1/requests/{i}/confirm", content=b, headers=headers) for i in ids for b in bodies]
    show = [client.get(f"/v1/requests/{i}", headers=headers) for i in ids]

    assert {answer.status_code for answer in confirm} == {422}
    assert {answer.status_code for answer in show} == {404}


def test_importing_the_api_loads_no_learning_library() -> None:
    """No process of the desk ever imports torch, transformers, opacus or numpy."""
    code = "import compliance.api, sys; print(*(set(sys.modules) & {'torch','transformers','opacus','numpy'}))"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == ""


def test_an_approver_approves_by_signature_alone(services: Services, client: TestClient) -> None:
    """The signature of a known approver over this request is enough; a stranger's, or another text, is nothing."""
    key = keys.generate("approver")
    with services.transaction() as ledger:
        data, now = keys.registration(key, "approver"), services.clock()
        ledger.register_key(key_id=key.key_id, role="approver", public_key=key.public_key, data=data, now=now)
    request_id = matched(services)
    said = intake.statement(services, request_id=request_id)
    stranger = keys.generate("approver")
    path = f"/v1/requests/{request_id}/approval"

    def send(by: keys.SigningKey, text: bytes = said) -> int:
        body = {"statement": text.decode(), "signature": encode_base64(by.sign(text)), "key_id": by.key_id}
        return client.post(path, json=body).status_code

    assert [send(stranger), send(key, b"{}"), send(key, said.replace(request_id.encode(), b"other"))] == [403, 422, 422]
    assert (send(key), send(key)) == (200, 409)
    with services.read() as ledger:
        assert ledger.request(request_id).state is RequestState.APPROVED
