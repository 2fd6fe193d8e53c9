"""Checkpoints (c2sp.org/tlog-checkpoint): which log, how many entries, which root, signed by the log's key.

    <origin>
    <decimal size>
    <base64 root>

A checkpoint is parsed by writing it again: any text but the one that its values give is refused, and so are
extension lines, which nobody could audit. A log must never sign two checkpoints that are inconsistent; keeping that
promise is the ledger's work, noticing a breach the witnesses' and every holder's of an old checkpoint.
"""

from dataclasses import dataclass

from audits import keys, merkle, note
from audits.errors import VerificationError, expect, require
from audits.strict import decode_base64, decode_decimal, encode_base64

_LINES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The state of a log: `root` (32 bytes) over its first `size` entries."""

    origin: str
    size: int
    root: bytes

    def format(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{encode_base64(self.root)}\n"


def parse(text: str) -> Checkpoint:
    """The checkpoint in a note's text; says nothing about signatures."""
    lines = text.split("\n")
    require(len(lines) == _LINES + 1 and lines[-1] == "", "A checkpoint has exactly three lines.")
    origin, size, root = lines[:_LINES]
    require(origin and " " not in origin and "+" not in origin, "The checkpoint's origin is malformed.")
    checkpoint = Checkpoint(
        origin=origin,
        size=decode_decimal(size, "The checkpoint's size", merkle.MAX_SIZE),
        root=decode_base64(root, "The checkpoint's root"),
    )
    require(len(checkpoint.root) == merkle.HASH_SIZE, "The checkpoint's root has not the length of SHA-256.")
    empty = checkpoint.root == merkle.EMPTY_ROOT
    require(empty == (checkpoint.size == 0), "The checkpoint's size and root contradict each other.")
    require(checkpoint.format() == text, "The checkpoint is not written in its one form.")
    return checkpoint


def sign(checkpoint: Checkpoint, signer: keys.Signer) -> str:
    """The checkpoint as a note signed by the log's key, under the origin as the key's name."""
    text = checkpoint.format()
    try:
        parse(text)
    except VerificationError as fault:
        raise ValueError(f"This checkpoint can't be signed. {fault}") from fault
    return note.sign(text, checkpoint.origin, signer)


def open_checkpoint(signed: str | bytes, key: note.VerifierKey | str) -> Checkpoint:
    """The checkpoint in a note that the log's `key` (or vkey) signed. The key's name must be the origin."""
    if isinstance(key, str):
        key = note.parse_vkey(key)
    expect(key.algorithm == note.ED25519, "A log signs its checkpoints with a key of type 1.")
    checkpoint = parse(note.open_note(signed, [key]).text)
    require(checkpoint.origin == key.name, "The checkpoint is of another log than its key.")
    return checkpoint


def peek(signed: str | bytes) -> Checkpoint:
    """The checkpoint in a note, with no signature checked: to find one's way, never to trust."""
    return parse(note.parse(signed).text)
