"""Cosignatures (c2sp.org/tlog-cosignature): a witness saw one consistent history, at a stated time.

A witness keeps the newest checkpoint of each log that it cosigned, and cosigns a newer one only with a consistency
proof from it. `next_checkpoint` is that decision alone, without storage or network: who runs a witness must store
its answer *before* handing out the cosignature, in one atomic step with the comparison, or a crash lets it sign a
fork.
"""

from audits import checkpoint as checkpoints
from audits import keys, merkle, note
from audits.errors import expect, require

MAX_PROOF = 63
_TIME_SIZE = 8


def vkey(name: str, public_key: bytes) -> str:
    """The witness's verifier key, type 0x04, for a policy file."""
    return note.format_vkey(name, public_key, note.COSIGNATURE)


def cosign(signed: str, *, name: str, signer: keys.Signer, time: int) -> str:
    """The witness's signature line over the checkpoint in the note `signed`; `time` is in POSIX seconds."""
    text = note.parse(signed).text
    expect(0 < time < 2**63, "A cosignature's time is in POSIX seconds.")
    key = note.parse_vkey(vkey(name, signer.public_key))
    blob = time.to_bytes(_TIME_SIZE, "big") + signer.sign(note.cosigned_message(text, time))
    return note.Signature(name=name, key_id=key.key_id, blob=blob).format()


def add(signed: str, line: str) -> str:
    """The note with one more signature line."""
    result = signed + line
    note.parse(result)
    return result


def next_checkpoint(
    signed: str,
    *,
    log_key: note.VerifierKey,
    newest: checkpoints.Checkpoint | None,
    proof: list[bytes],
) -> checkpoints.Checkpoint:
    """The checkpoint to store and cosign next, when it extends `newest` (None: the first one of this log)."""
    candidate = checkpoints.open_checkpoint(signed, log_key)
    require(len(proof) <= MAX_PROOF, "The consistency proof is too long.")
    if newest is None or newest.size == 0:
        require(not proof, "There is nothing to be consistent with yet.")
        return candidate
    require(newest.origin == candidate.origin, "The checkpoint is of another log.")
    require(candidate.size >= newest.size, "The checkpoint is older than one that was cosigned.")
    merkle.verify_consistency(
        size1=newest.size,
        size2=candidate.size,
        root1=newest.root,
        root2=candidate.root,
        proof=proof,
    )
    return candidate
