"""The log: what an entry is, and the tree over all of them.

An entry is the RFC 8785 form of

    {"type": "report.logged", "at": "2026-01-02T03:04:05Z", "salt": 32 hex digits, "data": {...}}

so there is one spelling for each meaning, and the salt keeps a leaf hash from giving away a guessable content. No
personal data is ever in one: random ids, codes, digests and keyed commitments only. Who stores entries in what is
the ledger's business; it is seen here as a `Head`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import rfc8785

from audits import checkpoint as checkpoints
from audits import keys, merkle, note
from audits import proof as proofs
from audits.errors import VerificationError, expect, require
from audits.strict import load_json
from audits.tiles import MAX_ENTRY

REPORT_LOGGED = "report.logged"
KEY_REGISTERED = "key.registered"
_PLAIN = (str, int, bool, type(None))
_WRITER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_SALT = re.compile(r"[0-9a-f]{32}")
_TYPE = re.compile(r"[a-z][a-z_]*(\.[a-z][a-z_]*)+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry: what happened, when by the server's clock, and the digests that say to what."""

    type: str
    at: str
    salt: str
    data: Mapping[str, Any]


class Head(Protocol):
    """Where the entries are kept; its adapters live with the database."""

    def size(self) -> int:
        """The number of committed entries."""

    def entries(self, start: int, stop: int) -> Iterable[bytes]:
        """The entries from `start` up to but not including `stop`, in order."""


class Log:
    """The tree over a log's entries, in memory: hashes only."""

    def __init__(self, *, origin: str, entries: Iterable[bytes] = ()) -> None:
        """A log named `origin` that holds `entries`."""
        self.origin = origin
        self._tree = merkle.Tree()
        for one in entries:
            self.append(one)

    @classmethod
    def read(cls, origin: str, head: Head) -> "Log":
        """The log over everything that `head` has committed."""
        return cls(origin=origin, entries=head.entries(0, head.size()))

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._tree.size

    def append(self, raw: bytes) -> int:
        """Add one entry's bytes and return its index; O(log n)."""
        expect(0 < len(raw) <= MAX_ENTRY, f"A log entry has 1 to {MAX_ENTRY} bytes.")
        self._tree.append(merkle.leaf_hash(raw))
        return self.size - 1

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` entries (all of them when not given)."""
        return self._tree.root(size)

    def checkpoint(self, signer: keys.Signer, size: int | None = None) -> str:
        """The signed checkpoint over the first `size` entries (all of them when not given)."""
        size = self.size if size is None else size
        state = checkpoints.Checkpoint(origin=self.origin, size=size, root=self.root(size))
        return checkpoints.sign(state, signer)

    def proof(self, index: int, signed: str) -> str:
        """The `.tlog-proof` of entry `index` for a signed checkpoint of this very log."""
        state = checkpoints.peek(signed)
        expect(state.origin == self.origin and state.size <= self.size, "The checkpoint is not one of this log.")
        expect(state.root == self.root(state.size), "The checkpoint's root is not this log's: a fork.")
        hashes = tuple(self._tree.inclusion_proof(index, state.size))
        return proofs.Proof(index=index, hashes=hashes, checkpoint=signed).format()

    def consistency_proof(self, size1: int, size2: int | None = None) -> list[bytes]:
        """The proof that the log at `size2` (now, when not given) extends the log at `size1`."""
        return self._tree.consistency_proof(size1, size2)

    def range_proof(self, start: int, stop: int, size: int | None = None) -> merkle.RangeProof:
        """The proof that the entries [start, stop) are those of the log at `size` (now, when not given)."""
        return self._tree.range_proof(start, stop, size)


def checkpoint_of(entries: Iterable[bytes], *, origin: str, signer: keys.Signer) -> str:
    """The signed checkpoint over `entries`."""
    return Log(origin=origin, entries=entries).checkpoint(signer)


def proof_of(entries: Iterable[bytes], index: int, signed: str) -> str:
    """The `.tlog-proof` of entry `index` for the checkpoint `signed`."""
    return Log(origin=checkpoints.peek(signed).origin, entries=entries).proof(index, signed)


def vkey(origin: str, public_key: bytes) -> str:
    """The log's verifier key, for a policy file."""
    return note.format_vkey(origin, public_key, note.ED25519)


def entry(*, type: str, at: str, salt: str, data: Mapping[str, Any]) -> bytes:  # noqa: A002 - the entry's own word
    """An entry's bytes; `ValueError` when they would not be read back."""
    try:
        raw = rfc8785.dumps({"type": type, "at": at, "salt": salt, "data": dict(data)})
        parse_entry(raw)
    except (VerificationError, rfc8785.CanonicalizationError) as fault:
        raise ValueError(f"This can't be a log entry. {fault}") from fault
    return raw


def parse_entry(raw: bytes) -> Entry:
    """The entry in `raw`, which must be byte for byte its RFC 8785 form."""
    value = load_json(raw, what="The log entry", max_bytes=MAX_ENTRY)
    require(isinstance(value, dict), "The log entry is not a JSON object.")
    require(set(value) == {"type", "at", "salt", "data"}, "The log entry has other fields than type, at, salt, data.")
    require(isinstance(value["data"], dict), "The log entry's data is not a JSON object.")
    require(_matches(_TYPE, value["type"]), "The log entry's type is malformed.")
    require(_matches(_SALT, value["salt"]), "The log entry's salt is not 16 bytes in hex.")
    require(is_time(value["at"]), "The log entry's time is not RFC 3339 in UTC.")
    require(_is_canonical(value, raw), "The log entry is not in its RFC 8785 form.")
    return Entry(type=value["type"], at=value["at"], salt=value["salt"], data=value["data"])


def report_entry(*, at: str, salt: str, report_id: str, payload: bytes, key_id: str) -> bytes:
    """The entry that commits to a report before it is released: the digest of the envelope's payload."""
    digest = hashlib.sha256(payload).hexdigest()
    data = {"reportId": report_id, "reportDigest": digest, "keyId": key_id}
    return entry(type=REPORT_LOGGED, at=at, salt=salt, data=data)


def key_entry(*, at: str, salt: str, key: keys.Signer, role: keys.Role) -> bytes:
    """The entry that registers a key before it signs anything."""
    return entry(type=KEY_REGISTERED, at=at, salt=salt, data=keys.registration(key, role))


def parse_key_entry(raw: bytes, role: keys.Role) -> bytes:
    """The raw public key that an entry registers for `role`."""
    parsed = parse_entry(raw)
    require(parsed.type == KEY_REGISTERED, "The log entry registers no key.")
    return keys.parse_registration(parsed.data, role)


def evaluation_seed(*, size: int, root: bytes) -> int:
    """The seed of an evaluation, 63 bits, from a checkpoint of the log that holds the finished weights' digest.

    It follows from weights that are logged, and the verifier computes it again. The salts of the entries are the
    operator's: one who cheats can draw many seeds before signing, and keep the kindest (`docs/threats.md`, 8).
    """
    expect(len(root) == merkle.HASH_SIZE, "A root has 32 bytes.")
    hashed = f"expunge evaluation seed v1\n{size}\n".encode() + root
    return int.from_bytes(hashlib.sha256(hashed).digest()[:8], "big") >> 1


def commitment_root(commitments: Iterable[bytes]) -> bytes:
    """The RFC 6962 root over a batch's request commitments in ascending order.

    A data subject shows that their request was in the batch with the opening of one commitment and its path, and
    learns of the others only how many there are.
    """
    return merkle.root(merkle.leaf_hash(one) for one in sorted(commitments))


def is_time(value: object) -> bool:
    """Whether `value` is a time of the calendar in RFC 3339, UTC with `Z`."""
    if not _matches(_TIME, value):
        return False
    try:
        parse_time(str(value))
    except ValueError:
        return False
    return True


def parse_time(text: str) -> datetime:
    """The moment that an RFC 3339 time names."""
    return datetime.fromisoformat(text)


def _is_canonical(value: dict[str, Any], raw: bytes) -> bool:
    """Whether `raw` is the RFC 8785 form of an entry's value.

    For ASCII text without fractions that is what Python's own writer gives with sorted keys, several times as fast:
    a whole log is read this way.
    """
    if raw.isascii() and all(type(one) in _PLAIN for one in value["data"].values()):
        return _WRITER.encode(value).encode() == raw
    return rfc8785.dumps(value) == raw


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
