"""Log proofs (c2sp.org/tlog-proof): one small text that proves, offline, that an entry was logged.

    c2sp.org/tlog-proof@v1
    [extra <base64>]
    index <n>
    <base64 hash> ...

    <signed checkpoint, verbatim>

Parsed by writing it again. `extra` is not authenticated by anything: it is kept for other people's proofs, and a
bundle of ours may not have it.
"""

from dataclasses import dataclass

from audits import checkpoint as checkpoints
from audits import merkle, note
from audits import policy as policies
from audits.errors import VerificationError, require
from audits.strict import decode_base64, decode_decimal, encode_base64

HEADER = "c2sp.org/tlog-proof@v1"
MAX_HASHES = 63
MAX_BYTES = note.MAX_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class Proof:
    """Entry `index` is in the tree of `checkpoint` (a signed note) along `hashes`."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    def format(self) -> str:
        """The proof as a file's text."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {encode_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines += [encode_base64(one) for one in self.hashes]
        return "\n".join([*lines, "", self.checkpoint])


def parse(text: str | bytes) -> Proof:
    """Take a proof apart, strictly; nothing is verified yet."""
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise VerificationError("The log proof is not valid UTF-8.") from fault
    require(len(decoded) <= MAX_BYTES, f"The log proof is larger than {MAX_BYTES} characters.")
    head, separator, signed = decoded.partition("\n\n")
    require(separator, "The log proof has no blank line before its checkpoint.")
    first, *lines = head.split("\n")
    require(first == HEADER, f"The log proof does not start with '{HEADER}'.")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = decode_base64(lines.pop(0).removeprefix("extra "), "The log proof's extra data")
    require(lines and lines[0].startswith("index "), "The log proof names no index.")
    require(len(lines) <= 1 + MAX_HASHES, f"The log proof has more than {MAX_HASHES} hashes.")
    proof = Proof(
        index=decode_decimal(lines[0].removeprefix("index "), "The log proof's index", merkle.MAX_SIZE),
        hashes=tuple(decode_base64(line, "A hash of the log proof") for line in lines[1:]),
        checkpoint=signed,
        extra=extra,
    )
    require(proof.format() == decoded, "The log proof is not written in its one form.")
    return proof


def require_included(proof: Proof, checkpoint: checkpoints.Checkpoint, entry: bytes) -> None:
    """Check that `entry` is where the proof says in the tree of an already trusted `checkpoint`."""
    merkle.verify_inclusion(
        leaf=merkle.leaf_hash(entry),
        index=proof.index,
        size=checkpoint.size,
        proof=proof.hashes,
        root=checkpoint.root,
    )


def verify(policy: policies.Policy, text: str | bytes, entry: bytes) -> tuple[Proof, policies.Trust]:
    """Check a whole proof: the policy accepts its checkpoint, and `entry` is in that checkpoint's tree."""
    proof = parse(text)
    trust = policies.evaluate(policy, proof.checkpoint)
    require_included(proof, trust.checkpoint, entry)
    return proof, trust
