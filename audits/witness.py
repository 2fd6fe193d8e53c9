"""Witnesses (c2sp.org/tlog-witness) and their cosignatures (c2sp.org/tlog-cosignature), without storage or network.

A witness saw one consistent history, at a stated time. It keeps the newest checkpoint of each log that it cosigned,
and cosigns a newer one only with a consistency proof from it. A request to do so (`add-checkpoint`) is

    old <size>
    <base64 hash> ...            at most 63: the consistency proof from that size

    <signed checkpoint, verbatim>

Rules:

* A request is parsed by writing it again, and `RefusedError` says with which status of the protocol it is refused.
* `authenticate` asks who signed, `require_extended` whether the history was kept. Who runs a witness must store the
  checkpoint *before* handing out the cosignature, in one atomic step with that comparison, or a crash or a second
  request lets it sign a fork.
* Signatures by unknown keys are ignored, those of types that nobody here knows (ML-DSA-44, 0x06) among them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from audits import checkpoint as checkpoints
from audits import keys, merkle, note
from audits.errors import VerificationError, expect, require
from audits.strict import decode_base64, decode_decimal, encode_base64

MAX_PROOF = 63
MAX_REQUEST = 64 * 1024
MALFORMED, NOT_SIGNED, UNKNOWN_LOG, STALE, INCONSISTENT = 400, 403, 404, 409, 422
_TIME_SIZE = 8


class RefusedError(VerificationError):
    """A request that a witness does not answer with a cosignature; `status` is the protocol's HTTP status."""

    def __init__(self, sentence: str, *, status: int, size: int | None = None) -> None:
        """`size` is what the witness cosigned last, where the request went by another size (409)."""
        super().__init__(sentence)
        self.status = status
        self.size = size


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Cosign `checkpoint` (a signed note), which extends the tree of size `old` as `proof` shows."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: str

    def format(self) -> str:
        """The request's body."""
        lines = [f"old {self.old}", *map(encode_base64, self.proof), "", self.checkpoint]
        return "\n".join(lines)


def parse_request(body: str | bytes) -> Request:
    """Take a request's body apart, strictly; nothing is verified yet. `RefusedError` (400) when it is malformed."""
    with _refused(MALFORMED):
        return _parse_request(body)


@contextmanager
def _refused(status: int) -> Iterator[None]:
    try:
        yield
    except VerificationError as fault:
        raise RefusedError(str(fault), status=status) from fault


def _parse_request(body: str | bytes) -> Request:
    try:
        raw = body.encode() if isinstance(body, str) else body
        text = raw.decode("utf-8")
    except UnicodeError as fault:
        raise VerificationError("The request is not valid UTF-8.") from fault
    require(len(raw) <= MAX_REQUEST, f"The request is larger than {MAX_REQUEST} bytes.")
    head, separator, signed = text.partition("\n\n")
    require(separator, "The request has no blank line before its checkpoint.")
    first, *lines = head.split("\n")
    require(first.startswith("old "), "The request does not start with 'old' and a size.")
    require(len(lines) <= MAX_PROOF, f"The request has more than {MAX_PROOF} hashes.")
    request = Request(
        old=decode_decimal(first.removeprefix("old "), "The old size", merkle.MAX_SIZE),
        proof=tuple(decode_base64(line, "A hash of the request") for line in lines),
        checkpoint=signed,
    )
    require(all(len(one) == merkle.HASH_SIZE for one in request.proof), "A hash has not the length of SHA-256.")
    require(request.format() == text, "The request is not written in its one form.")
    return request


def authenticate(request: Request, logs: Mapping[str, Sequence[note.VerifierKey]]) -> checkpoints.Checkpoint:
    """The request's checkpoint, signed by a key of its log; `logs` has each known log's keys by origin.

    `RefusedError`: 404 for a log that is not known, 403 for a signature that is missing, wrong or can't be read, 400
    for an old size above the checkpoint's.
    """
    with _refused(NOT_SIGNED):
        candidate = checkpoints.peek(request.checkpoint)
    known = logs.get(candidate.origin, ())
    if not known:
        raise RefusedError("The checkpoint is of a log that this witness does not know.", status=UNKNOWN_LOG)
    with _refused(NOT_SIGNED):
        note.open_note(request.checkpoint, known)
    if request.old > candidate.size:
        raise RefusedError("The old size is above the checkpoint's.", status=MALFORMED)
    return candidate


def require_extended(
    newest: checkpoints.Checkpoint | None, candidate: checkpoints.Checkpoint, request: Request
) -> None:
    """Refuse an authentic `candidate` that does not extend `newest` (None: nothing of this log was cosigned yet).

    `RefusedError`: 409 when the request goes by another size than the newest checkpoint's, 422 when the proof does
    not hold, or when two trees of one size differ.
    """
    size = 0 if newest is None else newest.size
    if request.old != size:
        raise RefusedError("The old size is not that of the newest cosigned checkpoint.", status=STALE, size=size)
    with _refused(INCONSISTENT):
        _require_consistent(newest, candidate, request.proof)


def _require_consistent(
    newest: checkpoints.Checkpoint | None, candidate: checkpoints.Checkpoint, proof: Sequence[bytes]
) -> None:
    if newest is None or newest.size == 0:
        require(not proof, "There is nothing to be consistent with yet.")
        return
    require(newest.origin == candidate.origin, "The checkpoint is of another log.")
    merkle.verify_consistency(
        size1=newest.size,
        size2=candidate.size,
        root1=newest.root,
        root2=candidate.root,
        proof=proof,
    )


def vkey(name: str, public_key: bytes) -> str:
    """The witness's verifier key, type 0x04, for a policy file."""
    return note.format_vkey(name, public_key, note.COSIGNATURE)


def parse_vkey(text: str) -> note.VerifierKey:
    """A witness's verifier key; a log's (type 0x01) is refused."""
    key = note.parse_vkey(text)
    require(key.algorithm == note.COSIGNATURE, "A witness's key is of type 4.")
    return key


def cosign(signed: str, *, name: str, signer: keys.Signer, time: int) -> str:
    """The witness's signature line over the checkpoint in the note `signed`; `time` is in POSIX seconds."""
    text = note.parse(signed).text
    expect(0 < time < 2**63, "A cosignature's time is in POSIX seconds.")
    key = note.parse_vkey(vkey(name, signer.public_key))
    blob = time.to_bytes(_TIME_SIZE, "big") + signer.sign(note.cosigned_message(text, time))
    return note.Signature(name=name, key_id=key.key_id, blob=blob).format()


def cosigned(signed: str, key: note.VerifierKey) -> bool:
    """Whether the note carries this witness's cosignature; `VerificationError` when it carries a wrong one."""
    lines = note.parse(signed).signatures
    if not any((line.name, line.key_id) == (key.name, key.key_id) for line in lines):
        return False
    note.open_note(signed, [key])
    return True


def add(signed: str, line: str) -> str:
    """The note with one more signature line."""
    result = signed + line
    note.parse(result)
    return result


def answered(signed: str, answer: bytes, key: note.VerifierKey) -> str:
    """The note with this witness's line of its `answer`, verified; lines of other keys are left out.

    `VerificationError` when there is none, or when it is wrong.
    """
    try:
        text = answer.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise VerificationError("The witness's answer is not valid UTF-8.") from fault
    for line in text.removesuffix("\n").split("\n")[: note.MAX_SIGNATURES]:
        more = add(signed, line + "\n")
        last = note.parse(more).signatures[-1]
        if (last.name, last.key_id) == (key.name, key.key_id):
            note.open_note(more, [key])
            return more
    raise VerificationError("The witness's answer has no line of its key.")
