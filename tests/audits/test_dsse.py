"""Signed envelopes: the published vector, somebody else's envelope, and what may not pass."""

import base64
import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from audits import dsse, intoto
from audits.errors import VerificationError
from tests.audits.bundles import VECTORS, signing_key

KEY = signing_key("report", 2)
TYPE = "application/vnd.example+json"
VECTOR = VECTORS / "dsse" / "dsse_v1.0.2_vector.json"
MODEL_SIGNING = VECTORS / "dsse-intoto-model-signing"
published = pytest.mark.skipif(not VECTOR.is_file(), reason="the shared vectors are not here")


def opens(envelope: bytes, payload_type: str = TYPE, key: bytes = KEY.public_key) -> bool:
    """Whether an envelope verifies."""
    try:
        dsse.verify(envelope, payload_type=payload_type, public_key=key)
    except VerificationError:
        return False
    return True


@published
def test_vector_published_envelope() -> None:
    """The encoding is the published one, and the published ECDSA signature is over it."""
    vector: dict[str, Any] = json.loads(VECTOR.read_text())
    kind, payload, [(key_id, signature)] = dsse.parse(json.dumps(vector["envelope"]).encode())
    public = ec.EllipticCurvePublicNumbers(
        int(vector["key"]["x"]), int(vector["key"]["y"]), ec.SECP256R1()
    ).public_key()
    half = len(signature) // 2
    numbers = (int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))

    assert (kind, payload, key_id) == (vector["payloadType"], vector["payload"].encode(), None)
    assert dsse.pae(kind, payload) == vector["pae"].encode()
    public.verify(utils.encode_dss_signature(*numbers), dsse.pae(kind, payload), ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(utils.encode_dss_signature(*numbers), dsse.pae(kind, b"other"), ec.ECDSA(hashes.SHA256()))


@published
def test_vector_envelope_of_another_program() -> None:
    """A model-signing envelope verifies over our encoding, and its payload is an in-toto statement."""
    bundle = next(path for path in MODEL_SIGNING.rglob("*.sig") if path.is_file())
    envelope = json.loads(bundle.read_text())["dsseEnvelope"]
    kind, payload, [(_, signature)] = dsse.parse(json.dumps(envelope).encode())
    public = load_pem_public_key((MODEL_SIGNING / "signing-key-pub.pem").read_bytes())
    assert isinstance(public, ec.EllipticCurvePublicKey)

    public.verify(signature, dsse.pae(kind, payload), ec.ECDSA(hashes.SHA384()))
    assert kind == dsse.INTOTO
    assert intoto.parse(payload).predicate_type == "https://model_signing/signature/v1.0"


def test_lengths_count_bytes() -> None:
    """A type with a letter of two bytes is counted as two."""
    assert dsse.pae("é", "ü€".encode()) == "DSSEv1 2 é 5 ü€".encode()


@given(st.text(min_size=1), st.binary(), st.text(min_size=1), st.binary())
def test_no_two_contents_share_an_encoding(kind: str, payload: bytes, other_kind: str, other: bytes) -> None:
    """The encoding tells every type and payload apart from every other."""
    same = (kind, payload) == (other_kind, other)

    assert (dsse.pae(kind, payload) == dsse.pae(other_kind, other)) == same


@given(st.binary())
def test_a_signed_payload_comes_back(payload: bytes) -> None:
    """What was signed is what is handed back."""
    envelope = dsse.sign(payload, payload_type=TYPE, signer=KEY)

    assert dsse.verify(envelope, payload_type=TYPE, public_key=KEY.public_key) == payload
    assert dsse.verify_ours(envelope, payload_type=TYPE, public_key=KEY.public_key) == payload


def test_a_receipt_does_not_pass_as_a_report() -> None:
    """The type is part of what was signed, and of what is asked for."""
    envelope = dsse.sign(b"{}", payload_type=TYPE, signer=KEY)

    assert not opens(envelope, payload_type=dsse.INTOTO)
    assert not opens(envelope.replace(TYPE.encode(), dsse.INTOTO.encode()), payload_type=dsse.INTOTO)
    assert not opens(envelope, key=signing_key("report", 9).public_key)


def changed(**fields: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """An honest envelope with some fields replaced."""
    value = json.loads(dsse.sign(b"payload", payload_type=TYPE, signer=KEY))
    return json.dumps({**value, **fields}).encode()


SIGNATURE = json.loads(dsse.sign(b"payload", payload_type=TYPE, signer=KEY))["signatures"][0]


def test_readers_are_as_lenient_as_the_specification_asks() -> None:
    """Unknown fields, no key id, spacing, another key's signature beside ours and URL-safe base64 are all accepted."""
    loose = base64.urlsafe_b64encode(base64.b64decode(SIGNATURE["sig"])).decode()
    other = json.loads(dsse.sign(b"payload", payload_type=TYPE, signer=signing_key("report", 9)))["signatures"][0]
    lenient = [
        changed(more="fields"),
        changed(signatures=[{"sig": SIGNATURE["sig"]}]),
        changed(signatures=[{"sig": loose, "keyid": "anything"}]),
        changed(signatures=[other, SIGNATURE]),
    ]

    assert all(map(opens, lenient))


def test_our_own_envelopes_hold_nothing_unsigned() -> None:
    """In a file of ours, none of these liberties passes."""
    for envelope in (
        changed(),
        changed(more="fields"),
        changed(signatures=[{"sig": SIGNATURE["sig"]}]),
        changed(signatures=[{**SIGNATURE, "keyid": "00" * 32}]),
        changed(signatures=[SIGNATURE, SIGNATURE]),
    ):
        with pytest.raises(VerificationError):
            dsse.verify_ours(envelope, payload_type=TYPE, public_key=KEY.public_key)


@pytest.mark.parametrize(
    "envelope",
    [
        b"[]",
        b"{}",
        changed(payload=None),
        changed(payload="not base64!"),
        changed(payload="ö"),
        changed(payloadType=""),
        changed(payloadType=7),
        changed(signatures=[]),
        changed(signatures="x"),
        changed(signatures=[7]),
        changed(signatures=[{"keyid": "x"}]),
        changed(signatures=[{**SIGNATURE, "keyid": 7}]),
        changed(signatures=[SIGNATURE] * 17),
        changed(payload=base64.b64encode(b"other").decode()),
    ],
)
def test_what_is_no_signed_envelope_is_refused(envelope: bytes) -> None:
    """A malformed or altered envelope is one sentence of refusal."""
    assert not opens(envelope)
