"""Keys and signed approvals at the terminal: an approver with a key of their own, rotation, revocation."""

import json
from pathlib import Path

import pytest

from audits import approval, keys, policy, witness
from compliance import settings as settings_module
from compliance.ledger.lifecycle import RequestState
from compliance.wiring import Services
from tests.compliance.browsing import matched
from tests.compliance.terminal import answer, at, refusal, run

SECRET = "correct horse battery"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A passphrase file."""
    path = tmp_path / "passphrase"
    path.write_text(SECRET + "\n")
    return path


@pytest.fixture
def approver(tmp_path: Path, secret: Path) -> Path:
    """An approver's key file, made without a desk."""
    path = tmp_path / "ada.pem"
    ran = run("keys", "new", "--out", path, "--passphrase-file", secret, "--json")
    assert ran.code == 0, ran.err
    assert ran.value["role"] == "approver"
    return path


def state_of(desk: Services, request_id: str) -> RequestState:
    """Where a request stands."""
    with desk.read() as ledger:
        return ledger.request(request_id).state


def test_an_approvers_key_is_encrypted_and_registered_by_its_public_half(services: Services, approver: Path) -> None:
    """The file opens with the passphrase alone; what the desk reads holds nothing private."""
    public = approver.with_name("ada.pem.pub")
    key = keys.load(approver, "approver", SECRET)

    shown = answer(services, "keys", "register", public)

    assert b"ENCRYPTED" in approver.read_bytes()
    assert b"PRIVATE" not in public.read_bytes()
    assert (shown["role"], shown["key_id"], shown["state"]) == ("approver", key.key_id, "in force")
    assert answer(services, "keys", "register", public) == shown


def test_once_an_approver_is_known_the_operator_needs_their_key(
    services: Services, approver: Path, secret: Path
) -> None:
    """Without the key the approval is refused; with it the request is approved and the log has the signature."""
    answer(services, "keys", "register", approver.with_name("ada.pem.pub"))
    request_id = matched(services)

    assert "approvals are signed here" in refusal(at(services, "request", "approve", request_id))
    shown = answer(services, "request", "approve", request_id, "--key", approver, "--passphrase-file", secret)

    assert (shown["state"], state_of(services, request_id)) == ("approved", RequestState.APPROVED)


def test_an_approver_signs_on_another_machine(services: Services, approver: Path, secret: Path, tmp_path: Path) -> None:
    """`request sign` needs id, commitment and key alone; the desk takes the file it writes, for that request only."""
    answer(services, "keys", "register", approver.with_name("ada.pem.pub"))
    request_id = matched(services)
    commitment = answer(services, "request", "show", request_id)["commitment"]
    out = tmp_path / "approval.json"
    mine = ("--key", approver, "--passphrase-file", secret)

    run("request", "sign", request_id, "--commitment", "ab" * 32, *mine, "--out", tmp_path / "wrong.json")
    assert run("request", "sign", request_id, "--commitment", commitment, *mine, "--out", out).code == 0

    wrong = at(services, "request", "approve", request_id, "--approval", tmp_path / "wrong.json")
    assert "another request" in refusal(wrong)
    assert answer(services, "request", "approve", request_id, "--approval", out)["state"] == "approved"


def test_an_approval_is_not_of_another_time(services: Services, approver: Path, tmp_path: Path) -> None:
    """What was signed long before the request came, by its own words, approves nothing."""
    answer(services, "keys", "register", approver.with_name("ada.pem.pub"))
    request_id = matched(services)
    with services.read() as ledger:
        commitment = ledger.request(request_id).commitment
    key, out = keys.load(approver, "approver", SECRET), tmp_path / "approval.json"
    said = approval.statement(request_id=request_id, commitment=commitment, approved_at="2001-01-01T00:00:00Z")
    out.write_text(json.dumps(approval.sign(said, key)))

    assert "signed before the request came" in refusal(
        at(services, "request", "approve", request_id, "--approval", out)
    )
    assert state_of(services, request_id) is RequestState.MATCHED


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("keys new", "--out FILE"),
        ("keys new --out {new} --role report", "the desk makes its own"),
        ("keys new --out {new}", "--passphrase-file"),
        ("keys new --out {new} --passphrase-file {short}", "at least 12"),
        ("keys new --out {short} --passphrase-file {secret}", "choose another place"),
        ("keys new --token pkcs11:x --role nobody", "one of log"),
        ("request sign r1 --commitment xy --key {key} --out {new} --passphrase-file {secret}", "32 bytes in hex"),
        ("request sign r1 --commitment {digest} --key {key} --out {new} --passphrase-file {short}", "does not open"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    arguments: str, why: str, approver: Path, secret: Path, tmp_path: Path
) -> None:
    """Each mistake is named, with what to change, and leaves no file behind."""
    (tmp_path / "short").write_text("short\n")
    places = {"new": tmp_path / "new.pem", "short": tmp_path / "short", "secret": secret, "key": approver}
    before = sorted(tmp_path.iterdir())

    ran = run(*arguments.format(**places, digest="ab" * 32).split())

    assert why in refusal(ran)
    assert sorted(tmp_path.iterdir()) == before


def test_the_desk_registers_no_key_but_an_approvers(services: Services, tmp_path: Path) -> None:
    """Another role, another algorithm or a low-order key is refused with a sentence."""
    path = tmp_path / "key.pub"
    for text in (
        json.dumps(keys.registration(keys.generate("report"), "report")),
        json.dumps({**keys.registration(keys.generate("approver"), "approver"), "algorithm": "rsa"}),
        json.dumps({"role": "approver"}),
        "[]",
        "no JSON",
    ):
        path.write_text(text)
        refusal(at(services, "keys", "register", path))


def test_a_rotated_key_is_listed_with_what_ended_it(services: Services, tmp_path: Path) -> None:
    """Rotation shows both keys; the policy then names both log keys, and revoking needs a reason."""
    before = services.signers["log"].key_id
    shown = answer(services, "keys", "rotate", "log")
    listed = {key["key_id"]: key for key in answer(services, "keys", "list", "--policy", tmp_path / "p")}

    assert shown["revoked"] == before
    assert "new trust policy" in shown["note"]
    assert (listed[before]["state"], listed[shown["key_id"]]["state"]) == ("rotated", "in force")
    assert listed[before]["revoked_index"] == listed[shown["key_id"]]["log_index"] + 1
    logs = policy.parse((tmp_path / "p").read_text()).logs
    assert [one.format() for one in logs] == [listed[one]["vkey"] for one in (shown["key_id"], before)]
    assert "compromised or retired" in refusal(at(services, "keys", "revoke", before[:8], "--reason", "lost"))


def test_a_rotated_log_key_is_for_the_witnesses_too(services: Services) -> None:
    """With witnesses in the settings, rotation says what each of them has to be told; without any it does not."""
    assert "witness" not in answer(services, "keys", "rotate", "log")["note"]
    named = [{"name": "w1", "vkey": witness.vkey("w.example/1", bytes(31) + b"\x05"), "url": "http://127.0.0.1:9/"}]
    settings_module.remember(services.settings, witnesses=json.dumps(named))

    shown = answer(services, "keys", "rotate", "log")

    (listed,) = [key for key in answer(services, "keys", "list") if key["key_id"] == shown["key_id"]]
    assert f"expunge witness trust --folder DIR --log {listed['vkey']}'" in shown["note"]


def test_a_desk_without_its_key_signs_nothing_until_it_has_a_new_one(services: Services) -> None:
    """After a revocation every publication is refused with what to do; a rotation mends it."""
    mine = services.signers["log"].key_id
    assert answer(services, "keys", "revoke", mine[:12], "--reason", "compromised")["state"] == "compromised"

    assert "run 'expunge keys rotate'" in refusal(at(services, "log", "checkpoint"))
    answer(services, "keys", "rotate", "log")
    assert answer(services, "log", "checkpoint")["size"] > 0
    assert "revoked already" in refusal(at(services, "keys", "revoke", mine, "--reason", "retired"))
