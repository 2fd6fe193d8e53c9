"""Signed envelopes (DSSE 1.0.2): a payload, what kind of payload, and signatures over both.

    signed bytes = "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body        (LEN counts bytes, not characters)

Rules:

* Verify, then use: the bytes handed back are the bytes that were verified. Nothing decodes the envelope twice.
* The type is signed with the payload, and the reader says which one it expects, so that a receipt can't pass as a
  report.
* `keyid` is not signed. It is a hint, and decides nothing here.

Reading is as lenient as the specification asks (unknown fields, either base64 alphabet); `sign` writes one form.
"""

import base64
from typing import Any

import rfc8785

from audits import keys
from audits.errors import VerificationError, expect, require
from audits.strict import encode_base64, load_json

INTOTO = "application/vnd.in-toto+json"
MAX_BYTES = 32 * 1024 * 1024
MAX_SIGNATURES = 16


def pae(payload_type: str, payload: bytes) -> bytes:
    """The pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, *, payload_type: str, signer: keys.Signer) -> bytes:
    """The envelope file with one signature; the key id is the SHA-256 of the raw public key."""
    expect(payload_type, "An envelope names the type of its payload.")
    signature = signer.sign(pae(payload_type, payload))
    return format_envelope(
        payload, payload_type=payload_type, key_id=keys.key_id(signer.public_key), signature=signature
    )


def format_envelope(payload: bytes, *, payload_type: str, key_id: str, signature: bytes) -> bytes:
    """The one form in which we write an envelope with one signature."""
    envelope: dict[str, Any] = {
        "payload": encode_base64(payload),
        "payloadType": payload_type,
        "signatures": [{"keyid": key_id, "sig": encode_base64(signature)}],
    }
    return rfc8785.dumps(envelope)


def verify(envelope: bytes, *, payload_type: str, public_key: bytes) -> bytes:
    """The payload of an envelope of the expected type that `public_key` (raw Ed25519) signed."""
    kind, payload, signatures = parse(envelope)
    require(kind == payload_type, f"The envelope's payload is not of the type {payload_type}.")
    message = pae(kind, payload)
    for _, signature in signatures:
        try:
            keys.verify(public_key, signature, message)
        except VerificationError:
            continue
        return payload
    raise VerificationError("No signature of the envelope is by the expected key.")


def verify_ours(envelope: bytes, *, payload_type: str, public_key: bytes) -> bytes:
    """As `verify`, for an envelope of our own making: one signature, by this key, in the one form that `sign` writes.

    What the specification leaves open (key ids, unknown fields, spacing) is not signed. In a file that people keep
    as evidence, nothing unsigned may be changed unnoticed.
    """
    payload = verify(envelope, payload_type=payload_type, public_key=public_key)
    _, _, signatures = parse(envelope)
    key_id, signature = signatures[0]
    require(
        len(signatures) == 1 and key_id == keys.key_id(public_key), "The envelope names another key than its signer."
    )
    form = format_envelope(payload, payload_type=payload_type, key_id=key_id or "", signature=signature)
    require(form == envelope, "The envelope holds more than what was signed.")
    return payload


def parse(envelope: bytes) -> tuple[str, bytes, list[tuple[str | None, bytes]]]:
    """Payload type, payload and (key id, signature) pairs of an envelope in which *nothing is verified*."""
    value = load_json(envelope, what="The envelope", max_bytes=MAX_BYTES)
    require(isinstance(value, dict), "The envelope is not a JSON object.")
    kind, signatures = value.get("payloadType"), value.get("signatures")
    require(isinstance(kind, str) and kind, "The envelope does not name its payload's type.")
    require(isinstance(signatures, list) and signatures, "The envelope has no signature.")
    require(len(signatures) <= MAX_SIGNATURES, f"The envelope has more than {MAX_SIGNATURES} signatures.")
    return kind, _decode(value.get("payload"), "payload"), [_signature(one) for one in signatures]


def _signature(value: Any) -> tuple[str | None, bytes]:  # noqa: ANN401 - any JSON value
    require(isinstance(value, dict), "A signature of the envelope is not a JSON object.")
    key_id = value.get("keyid")
    require(key_id is None or isinstance(key_id, str), "A key id of the envelope is not text.")
    return key_id, _decode(value.get("sig"), "signature")


def _decode(text: Any, what: str) -> bytes:  # noqa: ANN401 - any JSON value
    """Base64 in either alphabet, as DSSE's parsing rules ask."""
    require(isinstance(text, str), f"The envelope's {what} is not text.")
    try:
        return base64.b64decode(text.encode("ascii").translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except ValueError as fault:
        raise VerificationError(f"The envelope's {what} is not base64.") from fault
