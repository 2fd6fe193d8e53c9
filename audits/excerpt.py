"""Log excerpts: the part of a log that a report speaks of, in one file that proves itself under a checkpoint.

    {"start": 118, "entries": ["{...}", ...], "left": [base64 hash, ...], "right": [...],
     "single": [{"index": 7, "entry": "{...}", "hashes": [...]}, ...]}

`entries` are the log's entries from `start` on, without a gap; `left` and `right` are the roots of the maximal complete
subtrees beside them, so that entries and hashes together give the checkpoint's root (`merkle.verify_range`): none can
be left out, added or changed. `single` are older entries, each with its own path, in the order of the log.

The file holds no checkpoint: it is only ever read under one that is trusted already. It is written in RFC 8785 form,
and refused in any other. What the entries say is the business of `history` and `claims`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import rfc8785

from audits import checkpoint as checkpoints
from audits import log, merkle
from audits import proof as proofs
from audits.errors import expect, require
from audits.strict import decode_base64, encode_base64, load_json

MAX_BYTES = 64 * 1024 * 1024
MAX_ENTRIES = 2**18
MAX_HASHES = 63
_FIELDS: dict[str, type] = {"start": int, "entries": list, "left": list, "right": list, "single": list}
_SINGLE: dict[str, type] = {"index": int, "entry": str, "hashes": list}


@dataclass(frozen=True, kw_only=True, slots=True)
class Single:
    """One older entry and its path to the checkpoint's root."""

    index: int
    entry: bytes
    hashes: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """Entries `start` up to but not including `stop`, and single older ones."""

    start: int
    entries: tuple[bytes, ...]
    proof: merkle.RangeProof
    singles: tuple[Single, ...] = ()

    @property
    def stop(self) -> int:
        """The index after the last of the contiguous entries."""
        return self.start + len(self.entries)

    def format(self) -> bytes:
        """The file."""
        value: dict[str, Any] = {
            "start": self.start,
            "entries": [one.decode() for one in self.entries],
            "left": _encoded(self.proof.left),
            "right": _encoded(self.proof.right),
            "single": [
                {"index": one.index, "entry": one.entry.decode(), "hashes": _encoded(one.hashes)}
                for one in self.singles
            ],
        }
        return rfc8785.dumps(value)

    def parsed(self) -> Iterator[tuple[int, log.Entry]]:
        """Index and meaning of every entry in the order of the log; `VerificationError` names one that has none."""
        for one in self.singles:
            yield one.index, log.parse_entry(one.entry)
        for index, raw in enumerate(self.entries, start=self.start):
            yield index, log.parse_entry(raw)

    def root_at(self, size: int) -> bytes | None:
        """The root that the log had with `size` entries; None outside of what is shown.

        The hashes on the left are the whole state of a tree of `start` entries, from which it goes on growing.
        """
        if not self.start <= size <= self.stop:
            return None
        tree = merkle.CompactRange(self.start, self.proof.left)
        for raw in self.entries[: size - self.start]:
            tree.append(merkle.leaf_hash(raw))
        return tree.root()


class Source(Protocol):
    """What an excerpt is cut from: a log under one checkpoint, as `compliance.ledger.publication.Published` is."""

    def entries(self, start: int, stop: int) -> Sequence[bytes]:
        """The entries [start, stop)."""

    def range_proof(self, start: int, stop: int) -> merkle.RangeProof:
        """The proof that they are those of the checkpoint."""

    def proof(self, index: int) -> str:
        """The `.tlog-proof` of one entry."""


def build(source: Source, *, start: int, stop: int, singles: Iterable[int] = ()) -> Excerpt:
    """The excerpt of entries [start, stop), and of those that `singles` names and that lie before them."""
    expect(0 <= start < stop, "An excerpt has at least one entry.")
    return Excerpt(
        start=start,
        entries=tuple(source.entries(start, stop)),
        proof=source.range_proof(start, stop),
        singles=tuple(_single(source, index) for index in sorted(set(singles)) if index < start),
    )


def _single(source: Source, index: int) -> Single:
    (entry,) = source.entries(index, index + 1)
    return Single(index=index, entry=entry, hashes=proofs.parse(source.proof(index)).hashes)


def parse(raw: bytes) -> Excerpt:
    """Take an excerpt apart, strictly; nothing is verified yet."""
    value = load_json(raw, what="The log excerpt", max_bytes=MAX_BYTES)
    require(_shaped(value, _FIELDS), "The log excerpt has other fields than start, entries, left, right, single.")
    require(0 <= value["start"] <= merkle.MAX_SIZE, "The log excerpt starts nowhere.")
    require(value["entries"] and all(isinstance(one, str) for one in value["entries"]), "The log excerpt is empty.")
    few = max(len(value["entries"]), len(value["single"])) <= MAX_ENTRIES
    require(few, f"The log excerpt has more than {MAX_ENTRIES} entries.")
    require(all(_shaped(one, _SINGLE) for one in value["single"]), "A single entry of the log excerpt is malformed.")
    singles = tuple(
        Single(index=one["index"], entry=one["entry"].encode(), hashes=_hashes(one["hashes"]))
        for one in value["single"]
    )
    indexes = [-1, *(one.index for one in singles), value["start"]]
    ordered = all(before < after for before, after in pairwise(indexes))
    require(ordered, "The single entries of the log excerpt are not older ones in the order of the log.")
    excerpt = Excerpt(
        start=value["start"],
        entries=tuple(one.encode() for one in value["entries"]),
        proof=merkle.RangeProof(left=_hashes(value["left"]), right=_hashes(value["right"])),
        singles=singles,
    )
    require(excerpt.format() == raw, "The log excerpt is not in its RFC 8785 form.")
    return excerpt


def require_included(excerpt: Excerpt, checkpoint: checkpoints.Checkpoint) -> None:
    """Check that every entry is where the excerpt says in the tree of an already trusted `checkpoint`."""
    merkle.verify_range(
        leaves=[merkle.leaf_hash(raw) for raw in excerpt.entries],
        start=excerpt.start,
        size=checkpoint.size,
        proof=excerpt.proof,
        root=checkpoint.root,
    )
    for one in excerpt.singles:
        merkle.verify_inclusion(
            leaf=merkle.leaf_hash(one.entry),
            index=one.index,
            size=checkpoint.size,
            proof=one.hashes,
            root=checkpoint.root,
        )


def _shaped(value: object, fields: dict[str, type]) -> bool:
    """Whether a JSON value is an object of exactly these fields; `type`, because True is an int to `isinstance`."""
    if not isinstance(value, dict) or set(value) != set(fields):
        return False
    return all(type(value[name]) is kind for name, kind in fields.items())


def _hashes(values: list[object]) -> tuple[bytes, ...]:
    require(len(values) <= MAX_HASHES, f"A proof in the log excerpt has more than {MAX_HASHES} hashes.")
    require(all(isinstance(one, str) for one in values), "A hash of the log excerpt is not text.")
    return tuple(decode_base64(str(one), "A hash of the log excerpt") for one in values)


def _encoded(hashes: Sequence[bytes]) -> list[str]:
    return [encode_base64(one) for one in hashes]
