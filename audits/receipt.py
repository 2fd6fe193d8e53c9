"""Receipts: what a data subject holds from the moment of asking.

A receipt promises that the request is in the log by `includeBy`. It carries the newest checkpoint at that moment, so
any two holders of receipts can notice a log that shows them different histories, and it proves the day of receipt
against a controller who later says it was another. A file:

    {"envelope": DSSE envelope, "keyEntry": log entry, "keyProof": its .tlog-proof}

     1  read the receipt      the file is one
     2  trust policy          given from outside, as for a report
     3  checkpoint signature  a log of the policy signed the checkpoint of the receipt key's proof
     4  witnesses             the policy's quorum cosigned it
     5  key registration      the log registers the receipt key, in the role "receipt"
     6  envelope signature    the registered key signed the receipt, and nothing beside it
     7  receipt               it is well formed, and its own checkpoint is of the same log

What the person gives besides adds steps, in this order, numbered on:

        date                  (with a time) the receipt is not dated after the moment at which they had it
        opening               (with an opening) the commitment is that of their own data
        proof                 (with an entry and its proof) the request is in the log as the receipt says
        log                   (with a copy of the log) it extends the checkpoints of the receipt
        key validity          the receipt key had not been revoked
        included              the request is in the log, as the receipt says and in time
        accounted             (also with reports) which entries and reports account for it
        answered              it was answered in time

A promise that is not yet due is not broken: the step holds and says "not yet due". Reads files; no network, no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rfc8785

from audits import checkpoint as checkpoints
from audits import dsse, mirror, promise
from audits import log as logs
from audits import opening as openings
from audits import policy as policies
from audits import proof as proofs
from audits.errors import VerificationError, expect, require
from audits.keys import Signer, fingerprint, key_id
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
    scope: str,
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
        "scope": scope,
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
    registered = logs.parse_key_entry(key_entry, "receipt")
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
    require(all(map(logs.is_time, times)), "A time of the receipt is not in the calendar.")
    received, respond_by, include_by = map(logs.parse_time, times)
    require(received <= min(respond_by, include_by), "The receipt promises something for before it was made.")
    require(rfc8785.dumps(value) == payload, "The receipt is not in its RFC 8785 form.")
    result: Mapping[str, Any] = value
    return result


@dataclass(frozen=True, kw_only=True, slots=True)
class _Given:
    """What the person holds besides the receipt."""

    log: Path | None
    bundles: Sequence[Path]
    opening: bytes | None
    proof: bytes | None
    at: str | None


@dataclass(slots=True)
class _State:
    text: bytes
    policy_text: str | bytes | None
    given: _Given
    file: dict[str, Any] | None = None
    policy: policies.Policy | None = None
    proof: proofs.Proof | None = None
    trust: policies.Trust | None = None
    level: Trust = "none"
    public_key: bytes = b""
    payload: bytes = b""
    value: Mapping[str, Any] | None = None
    checkpoint: checkpoints.Checkpoint | None = None
    seen: list[mirror.Seen] = field(default_factory=list)
    copy: mirror.Mirror | None = None
    index: int | None = None


def verify(
    text: str | bytes,
    policy_text: str | bytes | None,
    *,
    log: Path | None = None,
    bundles: Sequence[Path] = (),
    opening: str | bytes | None = None,
    proof: str | bytes | None = None,
    at: str | None = None,
) -> Verification:
    """The numbered offline protocol for a receipt file; never raises on hostile input.

    `log` is a copy of the log (C2SP tiles folder), `bundles` reports on it, `opening` and `proof` the files that the
    status page offers, `at` the moment (RFC 3339, UTC) at which the person had the receipt.
    """
    given = _Given(
        log=log,
        bundles=bundles,
        opening=None if opening is None else _bytes(opening),
        proof=None if proof is None else _bytes(proof),
        at=at,
    )
    state = _State(text=_bytes(text), policy_text=policy_text, given=given)
    recorder = Recorder()
    recorder.run("read the receipt", lambda: _read(state))
    recorder.run("trust policy", lambda: _policy(state))
    recorder.run("checkpoint signature", lambda: _checkpoint(state))
    recorder.run("witnesses", lambda: _witnesses(state))
    recorder.run("key registration", lambda: _key(state))
    recorder.run("envelope signature", lambda: _envelope(state))
    recorder.run("receipt", lambda: _payload(state))
    _run_given(recorder, state)
    return recorder.verification(state.level, state.payload)


def _run_given(recorder: Recorder, state: _State) -> None:
    given = state.given
    if given.at is not None:
        recorder.run("date", lambda: promise.require_dated(present(state.value), given.at or ""))
    if given.opening is not None:
        recorder.run("opening", lambda: _opening(state))
    if given.proof is not None:
        recorder.run("proof", lambda: _proof(state))
    if given.log is not None:
        recorder.run("log", lambda: _log(state))
        recorder.run("key validity", lambda: _key_validity(state))
        recorder.run("included", lambda: _included(state))
    if given.log is not None or given.bundles:
        recorder.run("accounted", lambda: _accounted(state))
    if given.log is not None:
        recorder.run("answered", lambda: promise.require_answered(present(state.copy), present(state.value)))


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
    file = present(state.file)
    state.proof = proofs.parse(file["keyProof"])
    require(state.proof.extra is None, "The proof carries unauthenticated extra data.")
    state.trust = _trusted(state, state.proof.checkpoint)
    return f"The log {state.trust.log.name} signed a checkpoint over {state.trust.checkpoint.size} entries."


def _witnesses(state: _State) -> str:
    trust = present(state.trust)
    policies.require_quorum(present(state.policy), trust)
    state.level = trust.level
    if not trust.witnesses:
        return "unwitnessed: only the log's operator vouches for there being one history."
    return f"Cosigned by {', '.join(trust.witnesses)}."


def _key(state: _State) -> str:
    entry = present(state.file)["keyEntry"].encode()
    proofs.require_included(present(state.proof), present(state.trust).checkpoint, entry)
    state.public_key = logs.parse_key_entry(entry, "receipt")
    return f"The log registers the receipt key {fingerprint(state.public_key)}."


def _envelope(state: _State) -> str:
    envelope = rfc8785.dumps(present(state.file)["envelope"])
    state.payload = dsse.verify_ours(envelope, payload_type=TYPE, public_key=state.public_key)
    return "The registered key signed the receipt."


def _payload(state: _State) -> str:
    value = parse(state.payload)
    seen = _trusted(state, value["checkpoint"])
    state.value, state.checkpoint = value, seen.checkpoint
    return (
        f"Request {value['requestId']} ({value['scope']}) was received at {value['receivedAt']}, to be answered by "
        f"{value['respondBy']} and in the log by {value['includeBy']}; the log had {seen.checkpoint.size} entries."
    )


def _opening(state: _State) -> str:
    value = present(state.value)
    openings.verify(present(state.given.opening), request_id=value["requestId"], committed=value["commitment"])
    return "The commitment in the receipt is that of the request's own data, under its own key."


def _proof(state: _State) -> str:
    file = load_json(present(state.given.proof), what="The proof file", max_bytes=MAX_BYTES)
    shaped = isinstance(file, dict) and set(file) == {"index", "entry", "proof"}
    require(shaped and all(isinstance(file[name], str) for name in ("entry", "proof")), "This is no proof file.")
    entry, value = file["entry"].encode(), present(state.value)
    proof = proofs.parse(file["proof"])
    trust = _trusted(state, proof.checkpoint)
    policies.require_quorum(present(state.policy), trust)
    proofs.require_included(proof, trust.checkpoint, entry)
    require(proof.extra is None, "The proof carries unauthenticated extra data.")
    require(file["index"] == proof.index, "The proof file and its proof name different entries.")
    promise.require_same(logs.parse_entry(entry), value)
    later = present(state.checkpoint).size <= proof.index
    require(later, "The log had the request before the receipt's checkpoint: it is dated too late.")
    times = [one.at for one in state.seen if one.size > proof.index and one.at is not None]
    why = promise.require_in_time(value, min(times, default=None))
    return f"Entry {proof.index} of {trust.checkpoint.size} is the request, as the receipt says; {why}"


def _log(state: _State) -> str:
    policy = present(state.policy)
    found = mirror.read(present(state.given.log), policy)
    for one in state.seen:
        found.extends(one.checkpoint)
    state.copy = found
    by = f"cosigned by {', '.join(found.trust.witnesses)}" if found.trust.witnesses else "unwitnessed"
    return f"The copy of the log has {found.size} entries, {by}, and extends the checkpoints at hand."


def _key_validity(state: _State) -> str:
    return promise.require_key(
        present(state.copy),
        key_id=key_id(state.public_key),
        index=present(state.proof).index,
        checkpoint=present(state.checkpoint),
    )


def _included(state: _State) -> str:
    state.index, why = promise.require_included(present(state.copy), present(state.value), seen=state.seen)
    return why


def _accounted(state: _State) -> str:
    return promise.require_accounted(
        state.copy,
        present(state.value),
        index=state.index,
        bundles=state.given.bundles,
        policy_text=state.policy_text or b"",
    )


def _trusted(state: _State, signed: str) -> policies.Trust:
    """A checkpoint that the policy's log signed; of the same log as the others at hand, and no fork of one of them."""
    policy = present(state.policy)
    trust = policies.verify_log(policy, signed)
    for one in state.seen:
        _require_one_history(one.checkpoint, trust.checkpoint)
    state.seen.append(mirror.Seen(checkpoint=trust.checkpoint, at=mirror.witnessed_at(policy, signed)))
    return trust


def _require_one_history(one: checkpoints.Checkpoint, other: checkpoints.Checkpoint) -> None:
    """Two checkpoints at hand are of one log; of one size, they are one."""
    require(one.origin == other.origin, "The checkpoints at hand are of different logs.")
    forked = one.size == other.size and one.root != other.root
    require(not forked, "The log signed two different checkpoints of one size: its history was forked.")


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "replace") if isinstance(text, str) else text
