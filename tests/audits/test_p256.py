"""ECDSA over P-256 in plain integers: the published signature, and OpenSSL's judgement of any other."""

import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import dsse, p256
from audits.errors import VerificationError
from tests.audits.bundles import VECTORS

VECTOR = VECTORS / "dsse" / "dsse_v1.0.2_vector.json"
ALGORITHM = ec.ECDSA(hashes.SHA256())
KEY = ec.derive_private_key(7, ec.SECP256R1())
numbers = st.integers(1, p256.N - 1) | st.sampled_from([1, 2, 255, 256, p256.N - 1, p256.N // 2])


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key, uncompressed."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether our arithmetic accepts a signature."""
    try:
        p256.verify(public_key, signature, message)
    except VerificationError:
        return False
    return True


def holds_for_openssl(signature: bytes, message: bytes) -> bool:
    """Whether OpenSSL does, for the tests' key."""
    try:
        KEY.public_key().verify(signature, message, ALGORITHM)
    except InvalidSignature:
        return False
    return True


@pytest.mark.skipif(not VECTOR.is_file(), reason="the shared vectors are not here")
def test_vector_published_envelope() -> None:
    """DSSE's own signature verifies over its encoding, and over nothing else."""
    vector = json.loads(VECTOR.read_text())
    kind, payload, [(_, raw)] = dsse.parse(json.dumps(vector["envelope"]).encode())
    key = b"\x04" + b"".join(int(vector["key"][name]).to_bytes(32, "big") for name in "xy")
    signature = p256.encode_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))

    assert holds(key, signature, dsse.pae(kind, payload))
    assert not holds(key, signature, dsse.pae(kind, payload + b" "))


@settings(max_examples=25)
@given(numbers, st.binary(max_size=200), st.integers(0, 300), st.booleans())
def test_a_genuine_signature_holds_and_a_changed_one_does_not(
    secret: int,
    message: bytes,
    position: int,
    change: bool,  # noqa: FBT001 - drawn
) -> None:
    """Whatever was signed verifies, and with one byte of the signature raised it does not."""
    key = ec.derive_private_key(secret, ec.SECP256R1())
    signature = bytearray(key.sign(message, ALGORITHM))
    signature[position % len(signature)] = (signature[position % len(signature)] + change) % 256

    assert holds(point(key), bytes(signature), message) != change


@settings(max_examples=30)
@given(st.integers(0, 2**256), st.integers(0, 2**256), st.binary(max_size=8))
def test_any_numbers_are_judged_as_openssl_does(r: int, s: int, message: bytes) -> None:
    """Numbers that are zero, too large or of nobody meet the same answer, and no exception."""
    assert holds(point(KEY), utils.encode_dss_signature(r, s), message) == holds_for_openssl(
        utils.encode_dss_signature(r, s), message
    )


@given(st.integers(0, 2**256), st.integers(0, 2**256))
def test_der_is_written_as_openssl_writes_it(r: int, s: int) -> None:
    """Both encoders agree, and ours reads back what it wrote."""
    assert p256.encode_signature(r, s) == utils.encode_dss_signature(r, s)
    assert p256.decode_signature(utils.encode_dss_signature(r, s)) == (r, s)


GOOD = utils.encode_dss_signature(2**200, 5)


@pytest.mark.parametrize(
    "der",
    [
        b"",
        b"\x30",
        GOOD[:-1],
        GOOD + b"\x00",
        b"\x31" + GOOD[1:],
        b"\x30\x81" + GOOD[1:],
        b"\x30\x07\x02\x02\x00\x01\x02\x01\x05",  # a leading zero that is not needed
        b"\x30\x06\x02\x01\x01\x02\x02\x05",  # a number that ends beyond the end
        b"\x30\x03\x02\x01\x01",  # one number
        b"\x30\x04\x02\x00\x02\x00",  # numbers without a byte
    ],
)
def test_another_spelling_is_refused(der: bytes) -> None:
    """What is not the one DER form of two numbers is no signature."""
    with pytest.raises(VerificationError):
        p256.decode_signature(der)


def test_a_point_off_the_curve_is_refused() -> None:
    """A key with its last byte changed, or in another form, is refused before any arithmetic."""
    key, signature = point(KEY), KEY.sign(b"text", ALGORITHM)

    assert holds(key, signature, b"text")
    for wrong in (key[:-1] + bytes([key[-1] ^ 1]), b"\x02" + key[1:33], key + b"\0", b""):
        assert not holds(wrong, signature, b"text")
