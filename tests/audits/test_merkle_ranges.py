"""Range proofs: contiguous entries of a log, by the roots of the complete subtrees beside them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import merkle
from audits.errors import VerificationError

LEAVES = [merkle.leaf_hash(bytes([n])) for n in range(71)]
TREE = merkle.Tree(LEAVES)
ranges = st.integers(1, 70).flatmap(
    lambda size: st.integers(0, size - 1).flatmap(
        lambda start: st.integers(start + 1, size).map(lambda stop: (start, stop, size))
    )
)


def holds(leaves: list[bytes], start: int, size: int, proof: merkle.RangeProof) -> bool:
    """Whether the range proof leads to the root at `size`."""
    try:
        merkle.verify_range(leaves=leaves, start=start, size=size, proof=proof, root=TREE.root(size))
    except VerificationError:
        return False
    return True


@pytest.mark.parametrize("size", range(1, 71))
def test_every_range_of_every_small_tree_is_proved(size: int) -> None:
    """Each range verifies, with at most two hashes for each level of the tree; one entry further on it does not."""
    for start in range(size):
        for stop in range(start + 1, size + 1, 1 + size // 9):
            proof = TREE.range_proof(start, stop, size)
            assert holds(LEAVES[start:stop], start, size, proof)
            assert not holds(LEAVES[start + 1 : stop + 1], start, size, proof)
            assert len(proof.left) + len(proof.right) <= 2 * size.bit_length()


@given(ranges, st.data())
def test_a_range_proof_proves_nothing_else(where: tuple[int, int, int], data: st.DataObject) -> None:
    """Another leaf, place, size, number of leaves, or a side with other hashes is refused."""
    start, stop, size = where
    leaves, proof = LEAVES[start:stop], TREE.range_proof(start, stop, size)
    one = data.draw(st.integers(0, len(leaves) - 1))

    assert not holds([*leaves[:one], merkle.leaf_hash(b"another"), *leaves[one + 1 :]], start, size, proof)
    assert not holds(leaves, start + 1, size, proof)
    assert not holds(leaves[1:], start + 1, size, proof)
    assert not holds(leaves, start, size, replace(proof, left=(*proof.left, merkle.EMPTY_ROOT)))
    assert not holds(leaves, start, size, replace(proof, right=(*proof.right, merkle.EMPTY_ROOT)))
    for side in ("left", "right"):
        hashes = getattr(proof, side)
        if hashes:
            assert not holds(leaves, start, size, replace(proof, **{side: hashes[1:]}))
            assert not holds(leaves, start, size, replace(proof, **{side: (hashes[0][:31], *hashes[1:])}))
            assert not holds(leaves, start, size, replace(proof, **{side: (merkle.EMPTY_ROOT, *hashes[1:])}))


def test_a_range_over_the_whole_tree_is_its_root() -> None:
    """Nothing lies beside all entries, so the proof is empty and the root follows from them."""
    assert TREE.range_proof(0, 71) == merkle.RangeProof((), ())
    assert holds(LEAVES, 0, 71, merkle.RangeProof((), ()))


def test_a_range_without_entries_proves_nothing() -> None:
    """An empty range is refused by the verifier, and is a mistake of who asks for its proof."""
    assert not holds([], 0, 4, merkle.RangeProof((), (TREE.root(4),)))
    for start, stop in ((3, 3), (-1, 2), (2, 72)):
        with pytest.raises(ValueError, match="There are no entries"):
            TREE.range_proof(start, stop)


def test_a_subtree_begins_at_a_multiple_of_its_width() -> None:
    """Four leaves at once can't come after the sixth."""
    with pytest.raises(ValueError, match="multiple of its own width"):
        merkle.CompactRange(6, [merkle.EMPTY_ROOT] * 2).append(merkle.EMPTY_ROOT, 2)
