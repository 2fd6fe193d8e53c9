"""ML-DSA-44 in plain integers: OpenSSL's signatures hold, changed ones do not, and hints have one form."""

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from audits import fips204
from audits.errors import VerificationError

KEY = MLDSA44PrivateKey.from_seed_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
HINTS = fips204.SIGNATURE_SIZE - 84  # 80 positions, then how many of them each polynomial has


def holds(signature: bytes, message: bytes, public_key: bytes = PUBLIC) -> bool:
    """Whether our arithmetic accepts a signature."""
    try:
        fips204.verify(public_key, signature, message)
    except VerificationError:
        return False
    return True


def holds_for_openssl(signature: bytes, message: bytes) -> bool:
    """Whether OpenSSL does."""
    try:
        MLDSA44PublicKey.from_public_bytes(PUBLIC).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@settings(max_examples=12)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_a_genuine_signature_holds(seed: bytes, message: bytes) -> None:
    """Whatever a key signed verifies, and not for another message."""
    key = MLDSA44PrivateKey.from_seed_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)

    assert holds(signature, message, public)
    assert not holds(signature, message + b"\0", public)


@settings(max_examples=25)
@given(st.integers(0, 8 * fips204.SIGNATURE_SIZE - 1) | st.integers(8 * HINTS, 8 * fips204.SIGNATURE_SIZE - 1))
def test_a_changed_signature_is_judged_as_openssl_does(bit: int) -> None:
    """With one bit turned, in the challenge, the numbers or the hints, both refuse."""
    changed = bytearray(KEY.sign(b"text"))
    changed[bit // 8] ^= 1 << bit % 8

    assert holds(bytes(changed), b"text") is holds_for_openssl(bytes(changed), b"text") is False


def test_hints_have_one_form() -> None:
    """Positions out of order or twice, counts that fall or are too many, and stray bytes at the end are refused."""
    signature = next(one for one in iter(lambda: KEY.sign(b"text"), None) if one[-1] < 80)  # not every place is taken
    positions, counts = list(signature[HINTS:-4]), list(signature[-4:])
    assert holds(signature, b"text")
    assert counts[0] > 1
    swapped = [positions[1], positions[0], *positions[2:]]
    for changed, told in (
        (swapped, counts),
        ([positions[0], *positions[:-1]], counts),
        ([*positions[:-1], 7], counts),
        (positions, [counts[1], counts[0], *counts[2:]]),
        (positions, [*counts[:3], 81]),
    ):
        wrong = signature[:HINTS] + bytes(changed) + bytes(told)
        assert holds(wrong, b"text") is holds_for_openssl(wrong, b"text") is False


@pytest.mark.parametrize("sizes", [(1311, 2420), (1312, 2419), (1312, 2421), (0, 0)])
def test_sizes_are_checked(sizes: tuple[int, int]) -> None:
    """A key or signature of another length is one sentence of refusal."""
    with pytest.raises(VerificationError, match="bytes"):
        fips204.verify(bytes(sizes[0]), bytes(sizes[1]), b"")
