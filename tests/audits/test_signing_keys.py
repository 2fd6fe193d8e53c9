"""Ed25519 keys: published signatures through our own verify path, low-order keys, and key files."""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from audits import keys
from audits.errors import VerificationError
from tests.audits.bundles import VECTORS, signing_key

FOLDER = VECTORS / "ed25519"
published = pytest.mark.skipif(not FOLDER.is_dir(), reason="the shared vectors are not here")


def verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether our verification accepts a signature."""
    try:
        keys.verify(public_key, signature, message)
    except VerificationError:
        return False
    return True


@published
def test_vector_wycheproof() -> None:
    """All 151 signatures of Wycheproof are judged as published."""
    groups = json.loads((FOLDER / "wycheproof_ed25519_test.json").read_text())["testGroups"]
    wrong = [
        test["tcId"]
        for group in groups
        for test in group["tests"]
        if verifies(
            bytes.fromhex(group["publicKey"]["pk"]),
            bytes.fromhex(test["sig"]),
            bytes.fromhex(test["msg"]),
        )
        != (test["result"] == "valid")
    ]

    assert sum(len(group["tests"]) for group in groups) == 151
    assert wrong == []


@published
def test_vector_no_key_of_low_order_is_accepted() -> None:
    """Every published low-order key is refused, for any signature, and there are 14 of them."""
    vectors: list[Any] = json.loads((FOLDER / "cctv_ed25519vectors.json").read_text())
    low = [one for one in vectors if "low_order_A" in (one["flags"] or [])]

    assert len({one["key"] for one in low}) == 14
    for one in low:
        with pytest.raises(VerificationError, match="low order"):
            keys.verify(bytes.fromhex(one["key"]), bytes.fromhex(one["sig"]), one["msg"].encode())


def test_a_key_that_signs_everything_is_refused() -> None:
    """The identity verifies a fixed signature over every message with OpenSSL, and here over none."""
    identity = bytes([1]) + bytes(31)

    with pytest.raises(VerificationError):
        keys.verify(identity, identity + bytes(32), b"any text at all")


def test_a_saved_key_comes_back(tmp_path: Path) -> None:
    """A key file is for its owner alone and gives back the key with its role."""
    key, path = keys.generate("report"), tmp_path / "report.pem"
    keys.save(key, path)

    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.load(path, "report").public_key == key.public_key


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """Saving onto a key file fails and leaves it as it was."""
    path = tmp_path / "log.pem"
    keys.save(signing_key("log", 1), path)

    with pytest.raises(FileExistsError):
        keys.save(keys.generate("log"), path)
    assert keys.load(path, "log").public_key == signing_key("log", 1).public_key


def test_a_key_has_one_role(tmp_path: Path) -> None:
    """A receipt key does not load as a report key, and can't be registered as one."""
    key, path = keys.generate("receipt"), tmp_path / "receipt.pem"
    keys.save(key, path)

    with pytest.raises(VerificationError, match="Expunge-Role: report"):
        keys.load(path, "report")
    with pytest.raises(ValueError, match="role receipt"):
        keys.registration(key, "report")


def test_a_key_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """A key file that is open to every user has to be replaced."""
    path = tmp_path / "log.pem"
    keys.save(keys.generate("log"), path)
    os.chmod(path, 0o604)  # noqa: PTH101 - the mode is the point

    with pytest.raises(VerificationError, match="chmod 600"):
        keys.load(path, "log")


@pytest.mark.parametrize("content", [b"", b"Expunge-Role: log\n", b"Expunge-Role: log\nno PEM", b"\x00" * 100])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever lies in the file, the answer is one sentence."""
    path = tmp_path / "log.pem"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(VerificationError):
        keys.load(path, "log")


def test_a_key_never_shows_itself() -> None:
    """The text form of a key holds its id and no private bytes."""
    assert repr(signing_key("log", 1)) == f"SigningKey(log, {signing_key('log', 1).key_id})"


SECRET = "correct horse battery"


@pytest.mark.parametrize("role", ["report", "model"])
def test_an_encrypted_key_opens_with_its_passphrase(tmp_path: Path, role: keys.Role) -> None:
    """With the passphrase it is the key; without it or with another one the answer is one sentence."""
    key, path = keys.generate(role), tmp_path / "key.pem"
    keys.save(key, path, SECRET)

    assert b"BEGIN ENCRYPTED" in path.read_bytes()
    assert keys.load(path, role, SECRET).public_key == key.public_key
    with pytest.raises(VerificationError, match=r"is encrypted: give its passphrase\.$"):
        keys.load(path, role)
    with pytest.raises(VerificationError, match="does not open"):
        keys.load(path, role, SECRET + "?")


def test_a_plain_key_still_opens_beside_a_passphrase() -> None:
    """A desk that gets a passphrase later keeps its older keys."""
    key = signing_key("receipt", 3)

    assert keys.from_pem(keys.to_pem(key), "receipt", SECRET).key_id == key.key_id


def test_openssl_reads_an_encrypted_key(tmp_path: Path) -> None:
    """The file is ordinary PKCS #8 below its first line: openssl finds the same public key."""
    key, path = keys.generate("approver"), tmp_path / "key.pem"
    path.write_bytes(keys.to_pem(key, SECRET))

    found = subprocess.run(
        ["openssl", "pkey", "-in", path, "-passin", f"pass:{SECRET}", "-pubout", "-outform", "DER"],
        check=True,
        capture_output=True,
    )

    assert found.stdout.endswith(key.public_key)


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    """Nothing is written under a passphrase that is soon guessed."""
    with pytest.raises(ValueError, match="at least 12"):
        keys.save(keys.generate("log"), tmp_path / "log.pem", "short")
    assert not list(tmp_path.iterdir())


def test_a_model_key_signs_on_p_256() -> None:
    """The library verifies what a model key signs, and one message has one signature."""
    key = keys.generate("model")
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.public_key)

    public.verify(key.sign(b"weights"), b"weights", ec.ECDSA(hashes.SHA256()))
    assert key.sign(b"weights") == key.sign(b"weights")
    assert keys.registration(key, "model")["algorithm"] == "ecdsa-p256"


def test_a_role_refuses_a_key_of_another_algorithm() -> None:
    """A report key on P-256 or a model key on Ed25519 cannot be made or loaded."""
    curve, edwards = keys.generate("model"), signing_key("report", 2)

    with pytest.raises(VerificationError, match="for the role report"):
        keys.from_pem(keys.to_pem(curve).replace(b"Role: model", b"Role: report"), "report")
    with pytest.raises(VerificationError, match="for the role model"):
        keys.from_pem(keys.to_pem(edwards).replace(b"Role: report", b"Role: model"), "model")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("role", "receipt"),
        ("algorithm", "ed448"),
        ("publicKey", "AAAA"),
        ("publicKey", base64.b64encode(bytes([1]) + bytes(31)).decode()),
        ("publicKey", 7),
        ("keyId", "00" * 32),
        ("more", "fields"),
    ],
)
def test_a_registration_is_checked(name: str, value: object) -> None:
    """A registration with a wrong role, algorithm, key or id registers nothing."""
    data = keys.registration(signing_key("report", 2), "report")

    assert keys.parse_registration(data, "report") == signing_key("report", 2).public_key
    with pytest.raises(VerificationError):
        keys.parse_registration({**data, name: value}, "report")
