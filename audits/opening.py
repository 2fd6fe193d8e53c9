"""Openings: how a person shows, from their own data alone, that a commitment in the log is theirs.

    {"requestId": ..., "key": base64 of 32 bytes,
     "identifiers": {"name", "email", "identifiers", "statement" and, where there is one, "target"}}

The log holds HMAC-SHA256(key, "commitment" || 0x00 || canonical identifiers). The canonical form is what the desk
committed to: keys in order, `", "` and `": "` between the parts, everything beyond ASCII written as it is (UTF-8).

An opening is personal data and the only copy of the key outside the vault. Who keeps it can still open the commitment
after the vault has erased it, and nobody else can: nothing in this module logs, sends or repeats what it holds, and no
sentence of it names a value.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import rfc8785

from audits.errors import VerificationError, require
from audits.strict import decode_base64, encode_base64, load_json

KEY_SIZE = 32
MAX_BYTES = 256 * 1024
_TEXTS = ("email", "name", "statement")
_PREFIX = b"commitment\0"


def canonical(identifiers: Mapping[str, Any]) -> bytes:
    """The bytes that are committed to."""
    return json.dumps(dict(identifiers), sort_keys=True, ensure_ascii=False).encode()


def commitment(key: bytes, identifiers: bytes) -> str:
    """HMAC-SHA256 over canonical identifiers, hex: binding, and hiding while the key is secret."""
    return hmac.new(key, _PREFIX + identifiers, hashlib.sha256).hexdigest()


def build(*, request_id: str, key: bytes, identifiers: Mapping[str, Any]) -> str:
    """The opening file; `ValueError` when it would not be read back."""
    value: dict[str, Any] = {
        "requestId": request_id,
        "key": encode_base64(key),
        "identifiers": dict(identifiers),
    }
    text = rfc8785.dumps(value).decode() + "\n"
    try:
        _read(text.encode())
    except VerificationError as fault:
        raise ValueError(str(fault)) from fault
    return text


def verify(text: str | bytes, *, request_id: str, committed: str) -> None:
    """Check that an opening file opens the commitment of a request; hostile input raises `VerificationError`."""
    value = _read(text.encode("utf-8", "replace") if isinstance(text, str) else text)
    require(value["requestId"] == request_id, "The opening is of another request.")
    key = decode_base64(value["key"], "The opening's key")
    found = commitment(key, canonical(value["identifiers"]))
    require(hmac.compare_digest(found, committed), "The opening does not lead to the commitment in the receipt.")


def _read(raw: bytes) -> Mapping[str, Any]:
    value = load_json(raw, what="The opening", max_bytes=MAX_BYTES)
    shaped = isinstance(value, dict) and set(value) == {"requestId", "key", "identifiers"}
    require(shaped and isinstance(value["requestId"], str), "This is no opening file.")
    require(isinstance(value["key"], str), "The opening's key is not text.")
    key = decode_base64(value["key"], "The opening's key")
    require(len(key) == KEY_SIZE, f"The opening's key has not {KEY_SIZE} bytes.")
    require(_are_identifiers(value["identifiers"]), "The opening's identifiers are not those of a request.")
    result: Mapping[str, Any] = value
    return result


def _are_identifiers(value: object) -> bool:
    """Texts under the known names, and one list of texts: nothing whose spelling two programs could differ about."""
    if not isinstance(value, dict) or set(value) - {"target"} != {*_TEXTS, "identifiers"}:
        return False
    listed = value["identifiers"]
    texts = [one for name, one in value.items() if name != "identifiers"]
    return isinstance(listed, list) and all(isinstance(one, str) for one in (*texts, *listed))
