"""The append-only tree of RFC 6962, section 2.1.

    leaf  = SHA-256(0x00 || entry)
    node  = SHA-256(0x01 || left || right)
    empty = SHA-256("")

A tree of n > 1 leaves is split at the largest power of two below n. The prefixes keep a leaf from being read as a
node, so an inclusion proof can't be made for anything that was not logged.

Knows hashing and nothing else: no entries, no files, no signatures. Functions that build proofs raise `ValueError`
for a size or index outside the tree; functions that check proofs raise `VerificationError`.
"""

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audits.errors import expect, require

HASH_SIZE = 32
MAX_SIZE = 2**63 - 1
EMPTY_ROOT = hashlib.sha256(b"").digest()
_PAIR = 2 * HASH_SIZE
# A copy of a state that has its prefix costs a quarter less than a new one: the log is made of these.
_LEAF = hashlib.sha256(b"\x00").copy
_NODE = hashlib.sha256(b"\x01").copy


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one log entry (RFC 6962 section 2.1)."""
    state = _LEAF()
    state.update(entry)
    return state.digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """The hashes of many entries; the loop that a whole log goes through."""
    hashes, begin = [], _LEAF
    for entry in entries:
        state = begin()
        state.update(entry)
        hashes.append(state.digest())
    return hashes


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node over its two children (RFC 6962 section 2.1)."""
    state = _NODE()
    state.update(left + right)
    return state.digest()


def fold(hashes: bytes) -> bytes:
    """The root over a power of two of hashes, given one after the other: a full tile, or an aligned part of one."""
    count = len(hashes) // HASH_SIZE
    expect(count and count & (count - 1) == 0 and len(hashes) == count * HASH_SIZE, "Fold 32 * 2**k bytes.")
    while len(hashes) > HASH_SIZE:
        hashes = pair_up(hashes)
    return hashes


def pair_up(hashes: bytes) -> bytes:
    """The nodes over each two of the hashes, given one after the other; a last odd one has none."""
    nodes, begin = [], _NODE
    for start in range(0, len(hashes) - HASH_SIZE, _PAIR):
        state = begin()
        state.update(hashes[start : start + _PAIR])
        nodes.append(state.digest())
    return b"".join(nodes)


@dataclass(frozen=True, slots=True)
class RangeProof:
    """What lies left and right of contiguous leaves: the roots of the maximal complete subtrees, left to right."""

    left: tuple[bytes, ...]
    right: tuple[bytes, ...]


class Subtrees(ABC):
    """Any holder of a log's complete subtrees: roots and proofs of *any* size up to its own cost O(log n) of them."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of leaves."""

    @abstractmethod
    def subtree(self, level: int, index: int) -> bytes:
        """The hash over the leaves from index * 2**level up to (index + 1) * 2**level, all of which exist."""

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves (all of them when not given)."""
        size = self._checked(size)
        return self._hash(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """PATH(index, D[size]) of RFC 6962 section 2.1.1, from the leaf's sibling up to the root's child."""
        size = self._checked(size)
        expect(0 <= index < size, f"Entry {index} is not in a tree of {size}.")
        path: list[bytes] = []
        start, stop = 0, size
        while stop - start > 1:
            middle = start + _split(stop - start)
            if index < middle:
                path.append(self._hash(middle, stop))
                stop = middle
            else:
                path.append(self._hash(start, middle))
                start = middle
        return path[::-1]

    def consistency_proof(self, size1: int, size2: int | None = None) -> list[bytes]:
        """PROOF(size1, D[size2]) of RFC 6962 section 2.1.2; empty for equal sizes."""
        size2 = self._checked(size2)
        expect(0 < size1 <= size2, f"There is no consistency proof from size {size1} to size {size2}.")
        path: list[bytes] = []
        start, stop = 0, size2
        while stop != size1:
            middle = start + _split(stop - start)
            if size1 <= middle:
                path.append(self._hash(middle, stop))
                stop = middle
            else:
                path.append(self._hash(start, middle))
                start = middle
        # The old tree's own last subtree is named only when it is not the whole old tree, whose root is known.
        if start:
            path.append(self._hash(start, stop))
        return path[::-1]

    def range_proof(self, start: int, stop: int, size: int | None = None) -> RangeProof:
        """The proof that the leaves [start, stop), at least one, are those of the tree over the first `size`."""
        size = self._checked(size)
        expect(0 <= start < stop <= size, f"There are no entries from {start} to {stop} in a tree of {size}.")
        left = tuple(self.subtree(level, first >> level) for first, level in _complete(0, start))
        right = tuple(self.subtree(level, first >> level) for first, level in _complete(stop, size))
        return RangeProof(left, right)

    def _checked(self, size: int | None) -> int:
        if size is None:
            return self.size
        expect(0 <= size <= self.size, f"The tree has {self.size} leaves, not {size}.")
        return size

    def _hash(self, start: int, stop: int) -> bytes:
        """MTH(D[start:stop]) for a range that starts at a multiple of the power of two that holds it."""
        width = stop - start
        if width & (width - 1) == 0:
            level = width.bit_length() - 1
            return self.subtree(level, start >> level)
        middle = start + _split(width)
        return node_hash(self._hash(start, middle), self._hash(middle, stop))


class Tree(Subtrees):
    """All complete subtrees of a log in memory, 64 bytes a leaf in all.

    `levels[l][i]` is the hash over the leaves from i * 2**l up to (i + 1) * 2**l.
    """

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        """Build the tree over `leaf_hashes`, 32 bytes each."""
        self.levels: list[list[bytes]] = [[]]
        for leaf in leaf_hashes:
            self.append(leaf)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self.levels[0])

    def subtree(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""
        return self.levels[level][index]

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash and every subtree that it completes."""
        expect(len(leaf) == HASH_SIZE, "A leaf hash has 32 bytes; pass leaf_hash(entry), not the entry.")
        self.levels[0].append(leaf)
        level = 0
        while len(self.levels[level]) % 2 == 0:
            if level + 1 == len(self.levels):
                self.levels.append([])
            left, right = self.levels[level][-2:]
            self.levels[level + 1].append(node_hash(left, right))
            level += 1


class CompactRange:
    """The roots of the maximal complete subtrees, largest first: all that appending needs, in O(log n) memory.

    `size` and `hashes` are the whole state: store them, and a log of any length goes on without being read again.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """Go on from a stored state, one hash for each one-bit of `size`."""
        self.size = size
        self.hashes = list(hashes)
        expect(size >= 0 and len(self.hashes) == size.bit_count(), "The hashes don't belong to this size.")
        expect(all(len(one) == HASH_SIZE for one in self.hashes), "A subtree's hash has 32 bytes.")

    def append(self, subtree: bytes, level: int = 0) -> None:
        """Add a leaf hash, or the root over the next 2**level leaves where the size is a multiple of that.

        The size's trailing one-bits, counted from `level`, say how many subtrees it completes.
        """
        expect(len(subtree) == HASH_SIZE, "A leaf hash has 32 bytes; pass leaf_hash(entry), not the entry.")
        size = self.size >> level
        expect(size << level == self.size, "A subtree begins at a multiple of its own width.")
        while size & 1:
            subtree = node_hash(self.hashes.pop(), subtree)
            size >>= 1
        self.hashes.append(subtree)
        self.size += 1 << level

    def root(self) -> bytes:
        """The root of the tree so far."""
        if not self.hashes:
            return EMPTY_ROOT
        result = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            result = node_hash(left, result)
        return result


def root(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root over `leaf_hashes` (RFC 6962 section 2.1, MTH)."""
    compact = CompactRange()
    for leaf in leaf_hashes:
        compact.append(leaf)
    return compact.root()


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The path that proves leaf `index` to the root over `leaf_hashes`; for several proofs keep a `Tree`."""
    return Tree(leaf_hashes).inclusion_proof(index)


def consistency_proof(leaf_hashes: Sequence[bytes], size1: int) -> list[bytes]:
    """The proof that the tree over `leaf_hashes` extends the one over its first `size1` leaves."""
    return Tree(leaf_hashes).consistency_proof(size1)


def verify_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` (a leaf hash) is entry `index` of the tree with `size` leaves and `root`.

    The algorithm is RFC 9162 section 2.1.3.2. The lengths are checked first: without that, an empty leaf hash
    would be "included" in a tree of one whose root is empty too.
    """
    require(0 <= index < size <= MAX_SIZE, "The entry's index lies outside the tree.")
    require(len(leaf) == HASH_SIZE and len(root) == HASH_SIZE, "A hash has not the length of SHA-256.")
    require(all(len(one) == HASH_SIZE for one in proof), "A hash of the proof has not the length of SHA-256.")
    position, last, result = index, size - 1, leaf
    for sibling in proof:
        require(last > 0, "The inclusion proof is too long for its tree.")
        if position & 1 or position == last:
            result = node_hash(sibling, result)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        position, last = position >> 1, last >> 1
    require(last == 0, "The inclusion proof is too short for its tree.")
    require(hmac.compare_digest(result, root), "The inclusion proof does not lead to the tree's root.")


def verify_consistency(*, size1: int, size2: int, root1: bytes, root2: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree (`size2`, `root2`) extends the tree (`size1`, `root1`).

    The algorithm is RFC 9162 section 2.1.4.2. From size 0 there is nothing to prove, and such a "proof" is refused:
    it would say that any two logs agree.
    """
    require(0 < size1 <= size2 <= MAX_SIZE, "The sizes don't allow a consistency proof.")
    if size1 == size2:
        require(not proof, "Trees of one size need no consistency proof.")
        require(hmac.compare_digest(root1, root2), "Two trees of one size have different roots.")
        return
    hashes = list(proof)
    if size1 & (size1 - 1) == 0:
        hashes.insert(0, root1)
    require(hashes, "The consistency proof is empty.")
    require(all(len(one) == HASH_SIZE for one in hashes), "A hash of the proof has not the length of SHA-256.")
    position, last = size1 - 1, size2 - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        require(last > 0, "The consistency proof is too long for its trees.")
        if position & 1 or position == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        position, last = position >> 1, last >> 1
    require(last == 0, "The consistency proof is too short for its trees.")
    require(hmac.compare_digest(old, root1), "The consistency proof does not lead to the older root.")
    require(hmac.compare_digest(new, root2), "The consistency proof does not lead to the newer root.")


def verify_range(*, leaves: Sequence[bytes], start: int, size: int, proof: RangeProof, root: bytes) -> None:
    """Check that `leaves` (leaf hashes, at least one) are the entries from `start` on of the tree (`size`, `root`).

    Which subtrees lie beside them follows from the sizes alone, so that a proof has one form; their number is checked
    before anything is hashed.
    """
    stop = start + len(leaves)
    require(0 <= start < stop <= size <= MAX_SIZE, "The entries' indexes lie outside the tree, or there are none.")
    before, after = _complete(0, start), _complete(stop, size)
    right_length = len(proof.left) == len(before) and len(proof.right) == len(after)
    require(right_length, "The range proof has not the hashes that its tree asks for.")
    require(
        all(len(one) == HASH_SIZE for one in (root, *leaves, *proof.left, *proof.right)),
        "A hash of the range proof has not the length of SHA-256.",
    )
    compact = CompactRange(start, proof.left)
    for leaf in leaves:
        compact.append(leaf)
    for (_, level), subtree in zip(after, proof.right, strict=True):
        compact.append(subtree, level)
    require(hmac.compare_digest(compact.root(), root), "The range proof does not lead to the tree's root.")


def _complete(start: int, stop: int) -> list[tuple[int, int]]:
    """First leaf and level of the maximal complete subtrees of [start, stop), left to right; O(log n)."""
    found = []
    while start < stop:
        widest = (stop - start).bit_length() - 1
        level = min(widest, (start & -start).bit_length() - 1) if start else widest
        found.append((start, level))
        start += 1 << level
    return found


def _split(width: int) -> int:
    """The largest power of two below `width` (> 1)."""
    return 1 << ((width - 1).bit_length() - 1)
