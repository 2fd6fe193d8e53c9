"""Static log files: another implementation's log byte for byte, growth, and damage."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from audits import checkpoint, log, merkle, note, tiles
from audits.errors import VerificationError
from tests.audits.bundles import ORIGIN, VECTORS, signing_key

FOLDER = VECTORS / "tlog-tiles-tessera"
published = pytest.mark.skipif(not FOLDER.is_dir(), reason="the shared vectors are not here")
KEY = signing_key("log", 1)
VKEY = log.vkey(ORIGIN, KEY.public_key)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` by its relative name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def entries(number: int) -> list[bytes]:
    """Different entries of different lengths."""
    return [str(n).encode() * (1 + n % 7) for n in range(number)]


def write(folder: Path, number: int) -> None:
    """Write a log with `number` entries."""
    tiles.write_tiles(folder, entries(number), log.checkpoint_of(entries(number), origin=ORIGIN, signer=KEY))


@published
@pytest.mark.parametrize("size", range(16))
def test_vector_tessera_checkpoint_is_rebuilt(size: int) -> None:
    """The signed root of every size follows from the entry bundles."""
    key = note.parse_vkey((FOLDER / "vkey.txt").read_text().strip())
    signed = (FOLDER / "log" / (f"checkpoint.{size}" if size < 15 else "checkpoint")).read_text()
    found = checkpoint.open_checkpoint(signed, key)
    hashes = [merkle.leaf_hash(one) for one in tiles.read_entries(FOLDER / "log", size)]

    assert found.format() == checkpoint.Checkpoint(origin=key.name, size=size, root=merkle.root(hashes)).format()


@published
def test_vector_tessera_log_is_written_byte_for_byte(tmp_path: Path) -> None:
    """Published at every size, our files are Tessera's files: same names, same bytes."""
    theirs = files(FOLDER / "log")
    signed = {size: theirs[f"checkpoint.{size}"].decode() for size in range(16)}
    all_entries = tiles.read_entries(FOLDER / "log", 15)
    for size in range(16):
        tiles.write_tiles(tmp_path, all_entries[:size], signed[size])
        assert (tmp_path / "checkpoint").read_text() == signed[size]
    expected = {name: raw for name, raw in theirs.items() if name == "checkpoint" or name.startswith("tile/")}

    assert files(tmp_path) == expected
    assert tiles.check_folder(tmp_path, (FOLDER / "vkey.txt").read_text().strip()).size == 15


@pytest.mark.parametrize(
    ("index", "width", "path"),
    [
        (0, 256, "tile/0/000"),
        (7, 256, "tile/0/007"),
        (0, 5, "tile/0/000.p/5"),
        (1_234_067, 256, "tile/0/x001/x234/067"),
        (1_234_067, 9, "tile/0/x001/x234/067.p/9"),
        (1000, 256, "tile/0/x001/000"),
    ],
)
def test_tile_numbers_go_in_groups_of_three(index: int, width: int, path: str) -> None:
    """A tile's path is as the specification writes it."""
    assert tiles.tile_path(0, index, width) == path
    assert tiles.entries_path(index, width) == path.replace("tile/0", "tile/entries")


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600])
def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    """A log of any size comes back entry for entry, and its hash tiles agree."""
    write(tmp_path, size)

    assert tiles.check_folder(tmp_path, VKEY).size == size
    assert tiles.read_entries(tmp_path, size) == entries(size)


def test_a_second_level_holds_the_roots_of_full_tiles(tmp_path: Path) -> None:
    """Level 1 is one hash for each 256 entries."""
    write(tmp_path, 600)
    hashes = [merkle.leaf_hash(one) for one in entries(600)]

    assert (tmp_path / "tile/1/000.p/2").read_bytes() == merkle.root(hashes[:256]) + merkle.root(hashes[256:512])


def test_a_log_grows_without_touching_what_is_there(tmp_path: Path) -> None:
    """Publishing a longer log leaves every older file as it was, except the checkpoint."""
    write(tmp_path, 300)
    before = files(tmp_path)
    write(tmp_path, 520)
    after = files(tmp_path)

    assert {name: after[name] for name in before if name != "checkpoint"} == {
        name: raw for name, raw in before.items() if name != "checkpoint"
    }
    assert tiles.check_folder(tmp_path, VKEY).size == 520


def test_a_partial_tile_may_be_gone_once_the_full_one_is_there(tmp_path: Path) -> None:
    """A reader of an older size finds its hashes in the tile that replaced the partial one."""
    write(tmp_path, 300)
    old = (tmp_path / "checkpoint").read_text()
    write(tmp_path, 512)
    for kind in ("0", "entries"):
        shutil.rmtree(tmp_path / "tile" / kind / "001.p")
    (tmp_path / "checkpoint").write_text(old)

    assert tiles.check_folder(tmp_path, VKEY).size == 300


def damages() -> Iterator[tuple[str, bytes | None]]:
    """A file and what becomes of it (None: it is gone)."""
    yield "tile/entries/000", None
    yield "tile/entries/000", b"\x00\x01"
    yield "tile/entries/000", b"\xff\xff\x00"
    yield "tile/entries/001.p/44", b""
    yield "tile/0/000", bytes(8192)
    yield "tile/0/001.p/44", None
    yield "tile/1/000.p/1", bytes(32)
    yield "checkpoint", b"no checkpoint"
    yield "checkpoint", None


@pytest.mark.parametrize(("name", "content"), list(damages()))
def test_damage_is_noticed(tmp_path: Path, name: str, content: bytes | None) -> None:
    """A file that is missing, cut or changed fails the check with one sentence."""
    write(tmp_path, 300)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(VerificationError):
        tiles.check_folder(tmp_path, VKEY)


def test_a_wrong_checkpoint_is_not_published(tmp_path: Path) -> None:
    """A checkpoint over other entries is refused before anything is written."""
    signed = log.checkpoint_of(entries(2), origin=ORIGIN, signer=KEY)

    for wrong in (entries(3), [b"a", b"b"]):
        with pytest.raises(ValueError, match="not over these entries"):
            tiles.write_tiles(tmp_path, wrong, signed)
    assert files(tmp_path) == {}


def test_an_interrupted_publication_is_finished_by_the_next(tmp_path: Path) -> None:
    """Whatever file a crash kept from being written, publishing again makes the log whole."""
    write(tmp_path / "whole", 300)
    for missing in files(tmp_path / "whole"):
        folder = tmp_path / missing.replace("/", "_")
        write(folder, 300)
        (folder / missing).unlink()
        write(folder, 300)
        assert files(folder) == files(tmp_path / "whole")
