"""RFC 6962 trees: published vectors, the constants of Certificate Transparency, and properties."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import merkle
from audits.errors import VerificationError
from tests.audits.bundles import VECTORS

FOLDER = VECTORS / "merkle-transparency-dev"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the shared vectors are not here")

leaves = st.integers(0, 70).map(lambda size: [merkle.leaf_hash(bytes([n])) for n in range(size)])


def vectors(kind: str) -> list[Any]:
    """One parameter for each vector file, named after it."""
    paths = sorted((FOLDER / kind).rglob("*.json"))
    return [pytest.param(path, id=path.relative_to(FOLDER).as_posix()) for path in paths]


def decoded(value: str | None) -> bytes:
    """A hash of a vector."""
    return base64.b64decode(value or "")


def holds(check: Any, **arguments: Any) -> bool:  # noqa: ANN401 - either verifying function
    """Whether a verification passes."""
    try:
        check(**arguments)
    except VerificationError:
        return False
    return True


@pytest.mark.parametrize("path", vectors("inclusion"))
def test_vector_inclusion(path: Path) -> None:
    """A published inclusion proof verifies exactly when it should."""
    vector = json.loads(path.read_text())

    assert vector["wantErr"] != holds(
        merkle.verify_inclusion,
        leaf=decoded(vector["leafHash"]),
        index=vector["leafIdx"],
        size=vector["treeSize"],
        proof=[decoded(one) for one in vector["proof"] or []],
        root=decoded(vector["root"]),
    )


@pytest.mark.parametrize("path", vectors("consistency"))
def test_vector_consistency(path: Path) -> None:
    """A published consistency proof verifies exactly when it should."""
    vector = json.loads(path.read_text())

    assert vector["wantErr"] != holds(
        merkle.verify_consistency,
        size1=vector["size1"],
        size2=vector["size2"],
        root1=decoded(vector["root1"]),
        root2=decoded(vector["root2"]),
        proof=[decoded(one) for one in vector["proof"] or []],
    )


def test_all_published_vectors_are_there() -> None:
    """There are 98 vectors of each kind, so that a renamed folder does not pass for a passing test."""
    assert len(vectors("inclusion")) == len(vectors("consistency")) == 98


def test_vector_constants_of_certificate_transparency() -> None:
    """Leaves, inner nodes and roots are those that every implementation has."""
    constants = json.loads((FOLDER / "constants" / "rfc6962_constants.json").read_text())
    entries = [bytes.fromhex(one) for one in constants["leaf_inputs_hex"]]
    tree = merkle.Tree(map(merkle.leaf_hash, entries))

    assert [[one.hex() for one in level] for level in tree.levels[:4]] == constants["node_hashes_by_level"]
    assert [tree.root(size).hex() for size in range(1, 9)] == constants["root_by_size_1_to_8"]
    assert merkle.Tree().root().hex() == constants["empty_root"]


@given(leaves)
def test_tree_and_compact_range_agree(hashes: list[bytes]) -> None:
    """The tree in memory, the compact range and a range resumed half-way give one root at every size."""
    tree, compact = merkle.Tree(hashes), merkle.CompactRange()
    for size, leaf in enumerate(hashes):
        assert tree.root(size) == compact.root() == merkle.root(hashes[:size])
        compact = merkle.CompactRange(compact.size, compact.hashes)
        compact.append(leaf)

    assert tree.root() == compact.root()


@given(leaves.filter(bool), st.data())
def test_every_entry_has_an_inclusion_proof_and_no_other_entry_has_it(hashes: list[bytes], data: st.DataObject) -> None:
    """A proof verifies for its own leaf, index and size, and for no other of the same tree."""
    tree = merkle.Tree(hashes)
    size = data.draw(st.integers(1, len(hashes)))
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, len(hashes) - 1))
    proof = tree.inclusion_proof(index, size)

    merkle.verify_inclusion(leaf=hashes[index], index=index, size=size, proof=proof, root=tree.root(size))
    swapped = {"leaf": hashes[other], "index": index, "size": size, "proof": proof, "root": tree.root(size)}
    assert holds(merkle.verify_inclusion, **swapped) == (other == index)
    moved = {"leaf": hashes[index], "index": other, "size": size, "proof": proof, "root": tree.root(size)}
    assert holds(merkle.verify_inclusion, **moved) == (other == index)


@given(leaves.filter(bool), st.data())
def test_any_two_sizes_are_consistent_and_a_rewritten_log_is_not(hashes: list[bytes], data: st.DataObject) -> None:
    """A consistency proof verifies for the log it is of; change one old entry, and it does not."""
    size2 = data.draw(st.integers(1, len(hashes)))
    size1 = data.draw(st.integers(1, size2))
    changed = data.draw(st.integers(0, size1 - 1))
    tree = merkle.Tree(hashes[:size2])
    rewritten = merkle.Tree([*hashes[:changed], merkle.leaf_hash(b"rewritten"), *hashes[changed + 1 : size2]])

    merkle.verify_consistency(
        size1=size1,
        size2=size2,
        root1=tree.root(size1),
        root2=tree.root(),
        proof=tree.consistency_proof(size1),
    )
    assert not holds(
        merkle.verify_consistency,
        size1=size1,
        size2=size2,
        root1=tree.root(size1),
        root2=rewritten.root(),
        proof=rewritten.consistency_proof(size1),
    )


def test_the_caller_who_asks_outside_the_tree_made_a_mistake() -> None:
    """An index or size that the tree does not have is a `ValueError`, not a proof."""
    tree = merkle.Tree([merkle.leaf_hash(b"only")])

    for mistake in (
        lambda: tree.inclusion_proof(1),
        lambda: tree.consistency_proof(0),
        lambda: tree.root(2),
        lambda: tree.append(b"an entry, not its hash"),
        lambda: merkle.CompactRange(3, [merkle.leaf_hash(b"one")]),
    ):
        with pytest.raises(ValueError, match=r"\."):
            mistake()
