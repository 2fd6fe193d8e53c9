"""securesystemslib, the library of the TUF and in-toto projects, and ours read each other's envelopes."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError as TheirError
from securesystemslib.signer._crypto_signer import CryptoSigner
from securesystemslib.signer._key import SSlibKey

from audits import dsse, statement
from audits.errors import VerificationError
from tests.audits.bundles import Desk, signing_key

KEY = signing_key("report", 2)
TYPE = "application/vnd.example+json"


def theirs(envelope: bytes) -> Envelope:
    """An envelope of ours as their library reads it."""
    value: dict[str, Any] = json.loads(envelope)
    return Envelope.from_dict(value)


def their_key(public_key: bytes, key_id: str) -> SSlibKey:
    """A public key as their library knows it."""
    return SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(public_key), keyid=key_id)


def test_they_verify_our_report() -> None:
    """A report's envelope verifies with their library, and gives the same payload."""
    payload = statement.build(Desk().predicate())
    envelope = theirs(dsse.sign(payload, payload_type=dsse.INTOTO, signer=KEY))

    assert list(envelope.verify([their_key(KEY.public_key, KEY.key_id)], 1)) == [KEY.key_id]
    assert (envelope.payload, envelope.payload_type) == (payload, dsse.INTOTO)
    assert envelope.pae() == dsse.pae(dsse.INTOTO, payload)


def test_they_refuse_what_we_refuse() -> None:
    """Another key, another payload and another type fail there, too."""
    good = dsse.sign(b"payload", payload_type=TYPE, signer=KEY)
    other = signing_key("report", 9)

    with pytest.raises(TheirError):
        theirs(good).verify([their_key(other.public_key, KEY.key_id)], 1)
    for before, after in ((b"cGF5", b"dGF5"), (b"vnd.example", b"vnd.else")):
        with pytest.raises(TheirError):
            theirs(good.replace(before, after)).verify([their_key(KEY.public_key, KEY.key_id)], 1)


@settings(max_examples=10)
@given(
    st.binary(max_size=300),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=30),
    st.binary(min_size=32, max_size=32),
)
def test_we_verify_what_they_signed(payload: bytes, kind: str, seed: bytes) -> None:
    """Whatever payload and type they sign, we hand back the payload, and nothing under another type."""
    signer = CryptoSigner(Ed25519PrivateKey.from_private_bytes(seed))
    envelope = Envelope(payload, kind, {})
    envelope.sign(signer)
    raw = json.dumps(envelope.to_dict()).encode()
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()

    assert dsse.verify(raw, payload_type=kind, public_key=public) == payload
    with pytest.raises(VerificationError):
        dsse.verify(raw, payload_type=kind + "x", public_key=public)


@given(st.binary(max_size=300), st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_both_encode_the_same(payload: bytes, kind: str) -> None:
    """What is signed is the same bytes for both, letters beyond ASCII included."""
    assert Envelope(payload, kind, {}).pae() == dsse.pae(kind, payload)
