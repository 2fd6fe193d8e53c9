"""Proofs from files: what a reader of tiles says is what the tree in memory says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import disk, merkle, tiles
from audits.errors import VerificationError

SIZE = 66_300


def entry(index: int) -> bytes:
    """One small entry."""
    return b"%d" % index


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, merkle.Tree]:
    """A log with three levels of tiles, and its tree; each file of the last size only."""
    folder = tmp_path_factory.mktemp("log")
    made = [entry(n) for n in range(SIZE)]
    blocks = (made[at : at + tiles.WIDTH] for at in range(0, SIZE, tiles.WIDTH))
    for path, content in tiles.files_of(tiles.Tiling(), blocks):
        disk.put(disk.Files(), folder / path, content)
    return folder, merkle.Tree(map(merkle.leaf_hash, made))


@given(size=st.one_of(st.integers(1, 600), st.integers(65_000, SIZE)), data=st.data())
def test_a_reader_proves_what_the_tree_proves(log: tuple[Path, merkle.Tree], size: int, data: st.DataObject) -> None:
    """Root, inclusion, consistency and range of any size come out of the tiles of a later one, byte for byte."""
    folder, tree = log
    reader = tiles.TileReader(folder, SIZE)
    index = data.draw(st.integers(0, size - 1))

    assert reader.root(size) == tree.root(size)
    assert reader.inclusion_proof(index, size) == tree.inclusion_proof(index, size)
    assert reader.consistency_proof(index + 1, size) == tree.consistency_proof(index + 1, size)
    assert reader.range_proof(index, size, size) == tree.range_proof(index, size, size)
    assert reader.entries(index, min(size, index + 3)) == [entry(n) for n in range(index, min(size, index + 3))]


@given(blocks=st.integers(0, SIZE // tiles.WIDTH), more=st.integers(1, 255))
def test_a_tiling_goes_on_from_the_files(log: tuple[Path, merkle.Tree], blocks: int, more: int) -> None:
    """After any number of full blocks the edge is read back, and further entries lead to the tree's own root."""
    folder, tree = log
    tiling = tiles.TileReader(folder, SIZE).tiling(blocks)
    size = min(SIZE, blocks * tiles.WIDTH + more)
    leaves = [merkle.leaf_hash(entry(n)) for n in range(blocks * tiles.WIDTH, size)]

    assert (tiling.size, tiling.root()) == (blocks * tiles.WIDTH, tree.root(blocks * tiles.WIDTH))
    assert tiling.root(leaves) == tree.root(size)


def test_a_damaged_tile_is_no_answer(tmp_path: Path) -> None:
    """A tile that is gone or cut, and an entry that is not what its tile says, raise one sentence."""
    for path, content in tiles.files_of(tiles.Tiling(), [[b"a", b"b", b"c"]]):
        disk.put(disk.Files(), tmp_path / path, content)
    tile, bundle = tmp_path / "tile/0/000.p/3", tmp_path / "tile/entries/000.p/3"

    bundle.write_bytes(bundle.read_bytes().replace(b"b", b"x"))
    assert tiles.TileReader(tmp_path, 3).entries(0, 1) == [b"a"]
    with pytest.raises(VerificationError, match="not what its tile says"):
        tiles.TileReader(tmp_path, 3).entries(0, 3)
    tile.write_bytes(tile.read_bytes()[:-1])
    with pytest.raises(VerificationError, match="too short"):
        tiles.TileReader(tmp_path, 3).root()
    tile.unlink()
    with pytest.raises(VerificationError, match="missing"):
        tiles.TileReader(tmp_path, 3).root()


def test_who_asks_outside_the_log_made_a_mistake(tmp_path: Path) -> None:
    """An incomplete subtree, entries beyond the end, a block after the last one, an edge of another size."""
    reader, tiling = tiles.TileReader(tmp_path, 3), tiles.Tiling()
    list(tiling.feed([b"the last block"]))

    for mistake in (
        lambda: reader.subtree(2, 0),
        lambda: reader.entries(2, 4),
        lambda: list(tiling.feed([b"one more"])),
        lambda: tiles.Tiling(3, [[merkle.EMPTY_ROOT]]),
        lambda: merkle.fold(bytes(96)),
    ):
        with pytest.raises(ValueError, match=r"\."):
            mistake()
