"""Ed25519 in plain integers: every published signature judged as published, and as OpenSSL judges it."""

import json
from functools import cache
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import ed25519, keys
from audits.errors import VerificationError
from tests.audits.bundles import VECTORS, signing_key

FOLDER = VECTORS / "ed25519"
published = pytest.mark.skipif(not FOLDER.is_dir(), reason="the shared vectors are not here")
PARTS = 4


def holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether our arithmetic accepts a signature."""
    try:
        ed25519.verify(public_key, signature, message)
    except VerificationError:
        return False
    return True


def holds_for_openssl(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether OpenSSL does, asked without our own check of the key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@cache
def wycheproof() -> list[tuple[int, bytes, bytes, bytes, bool]]:
    """Number, key, signature, message and verdict of each published test."""
    groups = json.loads((FOLDER / "wycheproof_ed25519_test.json").read_text())["testGroups"]
    return [
        (test["tcId"], bytes.fromhex(group["publicKey"]["pk"]), bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"]),
         test["result"] == "valid")
        for group in groups
        for test in group["tests"]
    ]  # fmt: skip


@cache
def cctv() -> list[tuple[bytes, bytes, bytes]]:
    """Key, signature and message of each of C2SP's edge cases."""
    found: list[Any] = json.loads((FOLDER / "cctv_ed25519vectors.json").read_text())
    return [(bytes.fromhex(one["key"]), bytes.fromhex(one["sig"]), one["msg"].encode()) for one in found]


@published
def test_vector_wycheproof() -> None:
    """All 151 signatures of Wycheproof are judged as published."""
    wrong = [number for number, key, sig, message, valid in wycheproof() if holds(key, sig, message) != valid]

    assert len(wycheproof()) == 151
    assert wrong == []


@published
@pytest.mark.parametrize("part", range(PARTS))
def test_vector_cctv(part: int) -> None:
    """Of C2SP's 914 edge cases, those are accepted that OpenSSL accepts, whatever their keys."""
    cases = cctv()[part::PARTS]

    assert len(cctv()) == 914
    assert [one for one in cases if holds(*one) != holds_for_openssl(*one)] == []


@settings(max_examples=25)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511), st.booleans())
def test_a_genuine_signature_holds_and_a_changed_one_does_not(
    seed: bytes,
    message: bytes,
    bit: int,
    change: bool,  # noqa: FBT001 - drawn
) -> None:
    """Whatever was signed verifies, and with one bit of the signature turned it does not."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    signature = bytearray(private.sign(message))
    signature[bit // 8] ^= change << (bit % 8)

    assert holds(private.public_key().public_bytes_raw(), bytes(signature), message) != change


@settings(max_examples=40)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64), st.binary(max_size=8))
def test_any_bytes_are_judged_as_openssl_does(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Points that are none, numbers too large and plain noise meet the same answer, and no exception."""
    assert holds(public_key, signature, message) == holds_for_openssl(public_key, signature, message)


def test_a_number_raised_by_the_order_is_refused() -> None:
    """A valid signature whose S has L added satisfies the equation, and is another text: refused."""
    key = signing_key("log", 1)
    signature = key.sign(b"text")
    raised = int.from_bytes(signature[32:], "little") + ed25519.L

    assert holds(key.public_key, signature, b"text")
    assert not holds(key.public_key, signature[:32] + raised.to_bytes(32, "little"), b"text")


@pytest.mark.parametrize("sizes", [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_sizes_are_checked(sizes: tuple[int, int]) -> None:
    """A key or signature of another length is one sentence of refusal, as in `keys.verify`."""
    key, signature = bytes(sizes[0]), bytes(sizes[1])

    for verify in (ed25519.verify, keys.verify):
        with pytest.raises(VerificationError):
            verify(key, signature, b"")
