"""The desk's own keys: files, encrypted files, rotation, and keys in a token (a real SoftHSM)."""

import multiprocessing
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from audits import checkpoint, keys, log, note, policy
from audits.errors import VerificationError
from audits.keys import Role
from audits.register import Register
from compliance import settings as settings_module
from compliance.errors import ConflictError, InvalidInputError, UnavailableError
from compliance.keyring import ring, rotation, tokens
from compliance.keyring.ring import Keyring
from compliance.wiring import Services, open_services, prepare
from tests.compliance.builders import log_size

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "4711-not-a-secret"
SECRET = "correct horse battery"
with_softhsm = pytest.mark.skipif(
    shutil.which("softhsm2-util") is None or not MODULE.exists(), reason="softhsm2 is not installed"
)


def folded(desk: Services) -> Register:
    """The register an auditor reads out of the whole log."""
    found = Register()
    with desk.read() as ledger:
        for index, raw in enumerate(ledger.entries(0, ledger.head().size)):
            found.apply(index, log.parse_entry(raw))
    return found


def test_a_prepared_desk_has_one_key_for_each_role(services: Services) -> None:
    """Log, report, receipt and model, each in the log with its algorithm."""
    with services.read() as ledger:
        found = {key.role: (key.algorithm, key.key_id) for key in ledger.service_keys()}

    assert {role: found[role][0] for role in found} == {
        "log": "ed25519",
        "report": "ed25519",
        "receipt": "ed25519",
        "model": "ecdsa-p256",
    }
    assert {role: signer.key_id for role, signer in services.signers.items()} == {
        role: one[1] for role, one in found.items()
    }


def test_preparing_again_changes_no_key(services: Services) -> None:
    """A desk that is up to date stays as it is."""
    before = log_size(services)
    prepare(services.settings)

    assert log_size(services) == before


@pytest.mark.parametrize("role", ["log", "report"])
def test_a_rotated_key_is_in_the_log_and_in_use_at_once(services: Services, role: Role) -> None:
    """An open desk signs with the new key without a restart; the old one is revoked and kept aside."""
    old = services.signers[role]
    given_up, fresh = rotation.rotate(services, role)
    published = services.publish()

    register, size = folded(services), log_size(services)
    assert (given_up, fresh) == (old.key_id, services.signers[role].key_id)
    assert [key.key_id for key in register.in_force(role, size)] == [fresh]
    assert register.valid(given_up, role, size - 2).key_id == given_up
    with pytest.raises(VerificationError, match="rotated"):
        register.valid(given_up, role, size)
    aside = services.settings.keys / f"{role}-{given_up[:16]}.pem"
    assert aside.stat().st_mode & 0o777 == 0o600
    assert keys.load(aside, role).key_id == given_up
    assert policy.verify_log(policy.parse(services.policy_text()), published.checkpoint).checkpoint.size == size


def test_what_an_older_log_key_signed_is_still_verified(services: Services) -> None:
    """The policy of the desk names the rotated log key beside the new one."""
    signed, before = services.publish().checkpoint, services.policy_text()
    rotation.rotate(services, "log")

    trust = policy.verify_log(policy.parse(services.policy_text()), signed)
    assert trust.checkpoint == checkpoint.peek(signed)
    with pytest.raises(VerificationError):
        policy.verify_log(policy.parse(before), services.publish().checkpoint)


def test_a_rotation_that_does_not_commit_leaves_the_old_key(services: Services) -> None:
    """What fails before the commit puts the old file back and logs nothing."""
    old, before = services.signers["report"].key_id, log_size(services)
    blocked = services.settings.keys / f"report-{old[:16]}.pem"
    blocked.write_text("in the way")

    with pytest.raises(FileExistsError):
        rotation.rotate(services, "report")

    assert (services.signers["report"].key_id, log_size(services)) == (old, before)


def test_a_rotation_that_was_cut_off_at_once_can_be_repeated(services: Services) -> None:
    """A power cut after the old file got its second name, and before the new one took its place, costs nothing."""
    old, path = services.signers["report"].key_id, ring.key_file(services.settings, "report")
    aside = path.with_name(f"report-{old[:16]}.pem")
    aside.hardlink_to(path)

    assert rotation.rotate(services, "report") == (old, services.signers["report"].key_id)
    assert keys.load(aside, "report").key_id == old != services.signers["report"].key_id


def test_a_signature_in_the_middle_of_a_rotation_waits_for_its_commit(services: Services) -> None:
    """Between the new file and the commit nobody is told that the key is unknown."""
    path, changed = ring.key_file(services.settings, "log"), threading.Event()

    def rotate_slowly() -> None:
        with services.transaction() as ledger:
            path.unlink()
            keys.save(keys.generate("log"), path)
            changed.set()
            time.sleep(0.2)
            rotation.enrol(ledger, services.signers, now=services.clock())

    thread = threading.Thread(target=rotate_slowly)
    thread.start()
    changed.wait(10)
    published = services.publish()
    thread.join()

    trust = policy.verify_log(policy.parse(services.policy_text()), published.checkpoint)
    assert trust.log.public_key == services.signers["log"].public_key
    assert published.size == log_size(services)


def test_an_interrupted_rotation_is_finished(services: Services) -> None:
    """After a power cut between file and commit nothing is signed until the desk is brought up to date."""
    path = ring.key_file(services.settings, "receipt")
    old = services.signers["receipt"].key_id
    path.unlink()
    keys.save(keys.generate("receipt"), path)

    with pytest.raises(UnavailableError, match="db upgrade"), services.read() as ledger:
        ledger.key_in_force(services.signers["receipt"].key_id)
    prepare(services.settings)

    with services.read() as ledger:
        assert ledger.key_in_force(services.signers["receipt"].key_id).revoked_index is None
        assert ledger.service_key(old).revoked_reason == "rotated"


def test_an_older_key_file_from_a_backup_is_refused(services: Services) -> None:
    """A revoked key that comes back as a file is not taken up again."""
    path = ring.key_file(services.settings, "report")
    older = path.read_bytes()
    rotation.rotate(services, "report")
    path.write_bytes(older)

    with pytest.raises(ConflictError, match="was revoked by log entry"):
        prepare(services.settings)


def test_key_files_are_encrypted_when_a_passphrase_is_set(tmp_path: Path) -> None:
    """New files are, plain ones still open, and a wrong or missing passphrase is one sentence."""
    plain = settings_module.initialise(tmp_path / "desk")
    plain.keys.mkdir()
    keys.save(keys.generate("log"), plain.keys / "log.pem")
    locked = plain.model_copy(update={"key_passphrase": SecretStr(SECRET)})
    prepare(locked)

    assert b"ENCRYPTED" not in (plain.keys / "log.pem").read_bytes()
    assert b"ENCRYPTED" in (plain.keys / "report.pem").read_bytes()
    assert open_services(locked).signers["report"].role == "report"
    for other in (plain, plain.model_copy(update={"key_passphrase": SecretStr("another passphrase")})):
        with pytest.raises(UnavailableError, match=r"can't be used: .*EXPUNGE_KEY_PASSPHRASE\)$"):
            open_services(other)
    assert SECRET not in repr(locked)


@pytest.mark.parametrize(
    "uri",
    [
        "softhsm:token=a;object=b?module-path=/x",
        "pkcs11:token=a?module-path=/x",
        "pkcs11:token=a;object=b",
        "pkcs11:token=a;object=b?module-path=/x&pin-value=1234",
    ],
)
def test_a_token_is_named_completely_and_without_its_pin(uri: str) -> None:
    """A URI without token, label or module, or with a PIN inside, is refused with a sentence."""
    with pytest.raises(InvalidInputError, match="mend the setting") as caught:
        tokens.parse(uri)
    assert "1234" not in str(caught.value)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A fresh token of SoftHSM, as the beginning and the end of its keys' names."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\n")
    (folder / "pin").write_text(PIN + "\n")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SOFTHSM2_CONF", str(configuration))
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", "expunge test", "--so-pin", PIN, "--pin", PIN],
            check=True,
            capture_output=True,
        )
        yield f"pkcs11:token=expunge%20test;object=%s?module-path={MODULE}&pin-source={folder / 'pin'}"


@with_softhsm
@pytest.mark.parametrize("role", ["log", "model"])
def test_a_token_signs_like_a_file(token: str, role: Role) -> None:
    """Ed25519 and P-256 keys are made and used inside the token; what comes out verifies outside."""
    uri = token.replace("%s", f"of-{role}")
    key = tokens.TokenKey(role, uri, pin=None)
    key.generate()

    signature = key.sign(b"a message")

    again = tokens.TokenKey(role, uri, pin=None)
    assert again.key_id == key.key_id
    assert keys.registration(again, role)["algorithm"] == keys.algorithm_of(role)
    if role == "log":
        keys.verify(key.public_key, signature, b"a message")
    with pytest.raises(UnavailableError, match="already"):
        again.generate()


@with_softhsm
def test_a_forked_process_signs_with_the_token_too(token: str) -> None:
    """A worker that was forked from an open desk opens the module anew, as PKCS #11 asks."""
    key = tokens.TokenKey("report", token.replace("%s", "forked"), pin=None)
    key.generate()
    keys.verify(key.public_key, key.sign(b"before"), b"before")

    with multiprocessing.get_context("fork").Pool(1) as pool:
        signature = pool.apply(_sign, (token.replace("%s", "forked"), b"after"))

    keys.verify(key.public_key, signature, b"after")
    keys.verify(key.public_key, key.sign(b"again"), b"again")


def _sign(uri: str, message: bytes) -> bytes:
    return tokens.TokenKey("report", uri, pin=None).sign(message)


@with_softhsm
def test_a_token_that_cannot_answer_says_so(token: str) -> None:
    """A wrong PIN, an unknown label or a key of another algorithm is one sentence without the PIN."""
    uri = token.replace("%s", "curve")
    tokens.TokenKey("model", uri, pin=None).generate()
    wrong_pin = uri.partition("&pin-source")[0]

    for role, name, pin in (
        ("report", wrong_pin, "0000"),
        ("report", token.replace("%s", "none"), None),
        ("log", uri, None),
    ):
        key = tokens.TokenKey(role, name, pin=None if pin is None else SecretStr(pin))  # type: ignore[arg-type]
        with pytest.raises(UnavailableError, match="check the setting and the token") as caught:
            key.sign(b"x")
        assert PIN not in str(caught.value)


@with_softhsm
def test_a_desk_takes_its_log_key_from_a_token(token: str, tmp_path: Path) -> None:
    """The setting names it; the token's key replaces the file's as a rotation, and signs the next checkpoint."""
    plain = settings_module.initialise(tmp_path / "desk")
    prepare(plain)
    uri = token.replace("%s", "desk-log")
    tokens.TokenKey("log", uri, pin=None).generate()
    settings = plain.model_copy(update={"log_key": uri})
    prepare(settings)

    desk = open_services(settings)
    signed = desk.publish().checkpoint
    trust = policy.verify_log(policy.parse(desk.policy_text()), signed)
    assert trust.log.public_key == desk.signers["log"].public_key
    assert isinstance(desk.signers["log"], tokens.TokenKey)
    with pytest.raises(ConflictError, match="EXPUNGE_LOG_KEY"):
        rotation.rotate(desk, "log")
    with desk.read() as ledger:
        assert [key.revoked_reason for key in ledger.service_keys() if key.role == "log"] == ["rotated", None]
    desk.database.dispose()


def test_a_ring_has_the_four_roles_of_the_desk(services: Services) -> None:
    """Roles of others, an approver's or a witness's, are not on it."""
    found = Keyring(services.settings)

    assert list(found) == ["log", "report", "receipt", "model"]
    with pytest.raises(KeyError):
        found["approver"]


def test_a_log_may_have_a_second_signature(tmp_path: Path) -> None:
    """The setting makes and registers an ML-DSA-44 key, and every checkpoint has its line, with a rotation between."""
    plain = settings_module.initialise(tmp_path / "desk")
    settings = plain.model_copy(update={"post_quantum": True})
    prepare(settings)
    desk = open_services(settings)
    rotation.rotate(desk, "log")
    signed = desk.publish().checkpoint

    with desk.read() as ledger:
        (second,) = [key for key in ledger.keys_in_force("log") if key.algorithm == "ml-dsa-44"]
    vkey = note.format_vkey(settings.origin, second.public_key, note.ML_DSA_44)
    assert policy.verify_log(policy.parse(f"log {vkey}\nquorum none\n"), signed).checkpoint == checkpoint.peek(signed)
    policy.verify_log(policy.parse(desk.policy_text()), signed)
    prepare(settings)
    assert log_size(desk) == checkpoint.peek(signed).size
    desk.database.dispose()
