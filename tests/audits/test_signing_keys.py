"""Ed25519 keys: published signatures through our own verify path, low-order keys, and key files."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

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
