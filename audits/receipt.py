"""Receipts: what a data subject holds from the moment of asking.

A receipt promises that the request is in the log by `includeBy`. It carries the newest checkpoint at that moment, so
any two holders of receipts can notice a log that shows them different histories, and it proves the day of receipt
against a controller who later says it was another. A file:

    {"envelope": DSSE envelope, "keyEntry": log entry, "keyProof": its .tlog-proof}

The trust policy comes from outside, as for a report. Whether the promise was kept is for the log to show later.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785

from audits import dsse, log
from audits import policy as policies
from audits import proof as proofs
from audits.errors import VerificationError, expect, require
from audits.keys import Signer, fingerprint
from audits.protocol import Recorder, Trust, Verification, present
from audits.schema import Schema
from audits.strict import load_json

TYPE = "application/vnd.expunge.receipt+json"
VERSION = "expunge-receipt/v1"
SCHEMA = Schema.load("receipt-v1")
MAX_BYTES = 2 * 1024 * 1024


def build(
    *,
    request_id: str,
    commitment: str,
    regime: str,
    received_at: str,
    respond_by: str,
    checkpoint: str,
    include_by: str,
) -> bytes:
    """The receipt's payload in RFC 8785 form: times in RFC 3339 UTC, the commitment in hex, the checkpoint signed."""
    value: dict[str, Any] = {
        "type": VERSION,
        "requestId": request_id,
        "commitment": commitment,
        "regime": regime,
        "receivedAt": received_at,
        "respondBy": respond_by,
        "checkpoint": checkpoint,
        "includeBy": include_by,
    }
    payload = rfc8785.dumps(value)
    try:
        parse(payload)
    except VerificationError as fault:
        raise ValueError(str(fault)) from fault
    return payload


def issue(payload: bytes, *, signer: Signer, key_entry: bytes, key_proof: str) -> str:
    """The receipt file: the payload signed by the receipt key, with the proof that this key was registered."""
    registered = log.parse_key_entry(key_entry, "receipt")
    expect(registered == signer.public_key, "The key entry registers another key than the signer's.")
    envelope = load_json(dsse.sign(payload, payload_type=TYPE, signer=signer))
    value: dict[str, Any] = {"envelope": envelope, "keyEntry": key_entry.decode(), "keyProof": key_proof}
    return rfc8785.dumps(value).decode() + "\n"


def parse(payload: bytes) -> Mapping[str, Any]:
    """The receipt in a verified payload."""
    value = load_json(payload, what="The receipt", max_bytes=MAX_BYTES)
    found = SCHEMA.faults(value)
    require(not found, f"The receipt is malformed. {' '.join(found[:5])}")
    times = [value[name] for name in ("receivedAt", "respondBy", "includeBy")]
    require(all(map(log.is_time, times)), "A time of the receipt is not in the calendar.")
    received, respond_by, include_by = map(log.parse_time, times)
    require(received <= min(respond_by, include_by), "The receipt promises something for before it was made.")
    require(rfc8785.dumps(value) == payload, "The receipt is not in its RFC 8785 form.")
    result: Mapping[str, Any] = value
    return result


@dataclass(slots=True)
class _State:
    text: bytes
    policy_text: str | bytes | None
    file: dict[str, Any] | None = None
    policy: policies.Policy | None = None
    trust: policies.Trust | None = None
    level: Trust = "none"
    public_key: bytes = b""
    payload: bytes = b""


def verify(text: str | bytes, policy_text: str | bytes | None) -> Verification:
    """The numbered offline protocol for a receipt file; never raises on hostile input."""
    state = _State(text=text.encode("utf-8", "replace") if isinstance(text, str) else text, policy_text=policy_text)
    recorder = Recorder()
    recorder.run("read the receipt", lambda: _read(state))
    recorder.run("trust policy", lambda: _policy(state))
    recorder.run("checkpoint signature", lambda: _checkpoint(state))
    recorder.run("witnesses", lambda: _witnesses(state))
    recorder.run("key registration", lambda: _key(state))
    recorder.run("envelope signature", lambda: _envelope(state))
    recorder.run("receipt", lambda: _payload(state))
    return recorder.verification(state.level, state.payload)


def _read(state: _State) -> str:
    value = load_json(state.text, what="The receipt file", max_bytes=MAX_BYTES)
    keys = {"envelope": dict, "keyEntry": str, "keyProof": str}
    shaped = isinstance(value, dict) and set(value) == set(keys)
    require(shaped and all(isinstance(value[name], kind) for name, kind in keys.items()), "This is no receipt file.")
    # Spaces and order in the file mean nothing: browsers and programs write it anew, and the envelope is signed.
    state.file = value
    return "The file is a receipt."


def _policy(state: _State) -> str:
    require(state.policy_text is not None, "No trust policy was given, so nothing in this receipt can be believed.")
    state.policy = policies.parse(state.policy_text or "")
    return f"The policy names {len(state.policy.logs)} log(s) and {len(state.policy.witnesses)} witness(es)."


def _checkpoint(state: _State) -> str:
    file, policy = present(state.file), present(state.policy)
    proof = proofs.parse(file["keyProof"])
    require(proof.extra is None, "The proof carries unauthenticated extra data.")
    state.trust = policies.verify_log(policy, proof.checkpoint)
    return f"The log {state.trust.log.name} signed a checkpoint over {state.trust.checkpoint.size} entries."


def _witnesses(state: _State) -> str:
    trust = present(state.trust)
    policies.require_quorum(present(state.policy), trust)
    state.level = trust.level
    if not trust.witnesses:
        return "unwitnessed: only the log's operator vouches for there being one history."
    return f"Cosigned by {', '.join(trust.witnesses)}."


def _key(state: _State) -> str:
    file, trust = present(state.file), present(state.trust)
    entry = file["keyEntry"].encode()
    proofs.require_included(proofs.parse(file["keyProof"]), trust.checkpoint, entry)
    state.public_key = log.parse_key_entry(entry, "receipt")
    return f"The log registers the receipt key {fingerprint(state.public_key)}."


def _envelope(state: _State) -> str:
    envelope = rfc8785.dumps(present(state.file)["envelope"])
    state.payload = dsse.verify_ours(envelope, payload_type=TYPE, public_key=state.public_key)
    return "The registered key signed the receipt."


def _payload(state: _State) -> str:
    value = parse(state.payload)
    seen = policies.verify_log(present(state.policy), value["checkpoint"])
    return (
        f"Request {value['requestId']} was received at {value['receivedAt']}, to be answered by {value['respondBy']} "
        f"and in the log by {value['includeBy']}; the log had {seen.checkpoint.size} entries."
    )
