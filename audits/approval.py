"""Approvals: an approver agrees to a request with a key of their own, which the operator does not hold.

The approver signs these bytes (RFC 8785 form, one spelling) with an Ed25519 key of the role `approver`:

    {"type": "expunge-approval/v1", "requestId", "commitment", "decision": "approved", "approvedAt"}

The log entry `request.approved` carries them as they were signed:

    {"requestId", "keyId", "statement": base64 of the signed bytes, "signature": base64}

The commitment binds the approval to what the person asked for, so it cannot be moved to another request; the `type`
keeps a signature over anything else from passing for an approval. Whether the key was in force at that entry is
answered by `audits.register`.
"""

import re
from collections.abc import Mapping
from typing import Any

import rfc8785

from audits import keys, log
from audits.errors import VerificationError, expect, require
from audits.strict import decode_base64, encode_base64, load_json

REQUEST_APPROVED = "request.approved"
TYPE = "expunge-approval/v1"
MAX_STATEMENT = 1024
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FIELDS = {"type", "requestId", "commitment", "decision", "approvedAt"}


def statement(*, request_id: str, commitment: str, approved_at: str) -> bytes:
    """The bytes to sign; `ValueError` when they would not be read back."""
    value = {
        "type": TYPE,
        "requestId": request_id,
        "commitment": commitment,
        "decision": "approved",
        "approvedAt": approved_at,
    }
    raw = rfc8785.dumps(value)
    try:
        parse(raw)
    except VerificationError as fault:
        raise ValueError(f"This can't be an approval. {fault}") from fault
    return raw


def sign(raw: bytes, signer: keys.Signer) -> dict[str, str]:
    """What the log entry `request.approved` says of the statement `raw`, signed by an approver's key."""
    own = getattr(signer, "role", "approver")
    expect(own == "approver", f"An approval is signed by an approver key, not by a {own} key.")
    return entry_data(raw, key_id=keys.key_id(signer.public_key), signature=signer.sign(raw))


def entry_data(raw: bytes, *, key_id: str, signature: bytes) -> dict[str, str]:
    """What the log entry `request.approved` says of a statement and the signature over it, unverified."""
    return {
        "requestId": parse(raw)["requestId"],
        "keyId": key_id,
        "statement": encode_base64(raw),
        "signature": encode_base64(signature),
    }


def verify(data: Mapping[str, Any], public_key: bytes, *, request_id: str, commitment: str) -> None:
    """Check what a `request.approved` entry says against the approver's key, the request and its commitment."""
    require(set(data) == {"requestId", "keyId", "statement", "signature"}, "The approval has other fields.")
    require(data["keyId"] == keys.key_id(public_key), "The approval is by another key.")
    raw, signature = _decode(data["statement"], "statement"), _decode(data["signature"], "signature")
    said = parse(raw)
    about = data["requestId"] == said["requestId"] == request_id
    require(about, "The approval is of another request.")
    require(said["commitment"] == commitment, "The approval is of another request under the same id.")
    keys.verify(public_key, signature, raw)


def parse(raw: bytes) -> dict[str, str]:
    """The statement in `raw`, which must be byte for byte its RFC 8785 form; the signature is not looked at."""
    value = load_json(raw, what="The approval", max_bytes=MAX_STATEMENT)
    require(isinstance(value, dict), "The approval is not a JSON object.")
    said: dict[str, str] = value
    require(set(value) == _FIELDS, "The approval has other fields.")
    require(all(isinstance(one, str) for one in value.values()), "The approval has a field that is not text.")
    require(value["type"] == TYPE, f"The approval is not of the type {TYPE}.")
    require(value["decision"] == "approved", "The approval's decision is not 'approved'.")
    require(_ID.fullmatch(value["requestId"]), "The approval names no request.")
    require(_DIGEST.fullmatch(value["commitment"]), "The approval's commitment is not 32 bytes in hex.")
    require(log.is_time(value["approvedAt"]), "The approval's time is not RFC 3339 in UTC.")
    require(rfc8785.dumps(value) == raw, "The approval is not in its RFC 8785 form.")
    return said


def _decode(text: object, what: str) -> bytes:
    require(isinstance(text, str), f"The approval's {what} is not text.")
    return decode_base64(str(text), f"The approval's {what}")
