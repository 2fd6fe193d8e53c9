"""The log as static files (c2sp.org/tlog-tiles): mirrored by any web server, copied on a memory stick.

    checkpoint                       the newest signed checkpoint
    tile/<L>/<N>[.p/<W>]             up to 256 hashes of level 8 * L
    tile/entries/<N>[.p/<W>]         the same up to 256 entries, each after its length as a big-endian uint16

N is written in groups of three digits, all but the last with an `x` before them: x001/x234/067. A tile that is not
full carries its width W, and is never changed: the next one is a new file.

`write_tiles` may die anywhere. Every file is complete or absent (temporary file, fsync, rename), and the checkpoint
comes last, so that readers never see a checkpoint whose tiles are missing; running it again finishes the work.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from audits import checkpoint as checkpoints
from audits import merkle, note
from audits.errors import VerificationError, expect, require

WIDTH = 256
MAX_ENTRY = 65_535
_HEIGHT = 8
_GROUP = 1000
_LENGTH = 2
_MAX_BUNDLE = WIDTH * (_LENGTH + MAX_ENTRY)


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Where the tile of level `level` with number `index` lies."""
    return f"tile/{level}/{_number(index, width)}"


def entries_path(index: int, width: int = WIDTH) -> str:
    """Where the entry bundle with number `index` lies."""
    return f"tile/entries/{_number(index, width)}"


def write_tiles(folder: Path, entries: Sequence[bytes], checkpoint: str) -> None:
    """Write what a reader needs for `checkpoint`, whose size is the number of `entries`.

    Files that are there already are left alone, so a growing log costs what grew. `ValueError` when the checkpoint
    is not over these entries: a wrong checkpoint would be published for good.
    """
    state = checkpoints.peek(checkpoint)
    expect(all(0 < len(one) <= MAX_ENTRY for one in entries), f"A log entry has 1 to {MAX_ENTRY} bytes.")
    tree = merkle.Tree(merkle.leaf_hash(one) for one in entries)
    expect(state.size == tree.size and state.root == tree.root(), "The checkpoint is not over these entries.")
    for index, width in _tiles(tree.size):
        part = entries[index * WIDTH : index * WIDTH + width]
        _write_once(folder / entries_path(index, width), b"".join(len(e).to_bytes(_LENGTH, "big") + e for e in part))
    for path, content in _hash_tiles(tree):
        _write_once(folder / path, content)
    _write(folder / "checkpoint", checkpoint.encode())


def read_checkpoint(folder: Path) -> str:
    """The newest checkpoint, unverified."""
    raw = _read(folder / "checkpoint", note.MAX_BYTES)
    return note.parse(raw).format()


def read_entries(folder: Path, size: int) -> list[bytes]:
    """The first `size` entries, unverified."""
    entries: list[bytes] = []
    for index, width in _tiles(size):
        raw = _read_tile(folder, entries_path(index), entries_path(index, width), _MAX_BUNDLE)
        entries += _unbundle(raw)[:width]
    require(len(entries) == size, "The log's files hold fewer entries than its checkpoint says.")
    return entries


def check_folder(folder: Path, vkey: str) -> checkpoints.Checkpoint:
    """Check a whole log: signature, entries against the root, and every hash tile against the entries."""
    state = checkpoints.open_checkpoint(read_checkpoint(folder), vkey)
    tree = merkle.Tree(merkle.leaf_hash(one) for one in read_entries(folder, state.size))
    require(tree.root() == state.root, "The log's entries do not lead to its checkpoint's root.")
    for path, content in _hash_tiles(tree):
        full, _, width = path.partition(".p/")
        found = _read_tile(folder, full, path, WIDTH * merkle.HASH_SIZE)
        if width:
            found = found[: len(content)]
        require(found == content, "A hash tile does not agree with the log's entries.")
    return state


def _number(index: int, width: int) -> str:
    expect(index >= 0 and 0 < width <= WIDTH, "A tile has a number, and 1 to 256 hashes.")
    groups = [f"{index % _GROUP:03d}"]
    while index := index // _GROUP:
        groups.insert(0, f"x{index % _GROUP:03d}")
    suffix = "" if width == WIDTH else f".p/{width}"
    return "/".join(groups) + suffix


def _tiles(size: int) -> Iterator[tuple[int, int]]:
    """Number and width of each tile that `size` hashes fill."""
    for start in range(0, size, WIDTH):
        yield start // WIDTH, min(WIDTH, size - start)


def _hash_tiles(tree: merkle.Tree) -> Iterator[tuple[str, bytes]]:
    """Path and content of every hash tile; a level's hashes are the roots of the full tiles below."""
    for level, hashes in enumerate(tree.levels[::_HEIGHT]):
        for index, width in _tiles(len(hashes)):
            content = b"".join(hashes[index * WIDTH : index * WIDTH + width])
            yield tile_path(level, index, width), content


def _unbundle(raw: bytes) -> list[bytes]:
    entries, position = [], 0
    while position < len(raw):
        length = int.from_bytes(raw[position : position + _LENGTH], "big")
        start = position + _LENGTH
        require(start + length <= len(raw), "An entry bundle of the log ends in the middle of an entry.")
        entries.append(raw[start : start + length])
        position = start + length
    require(len(entries) <= WIDTH, f"An entry bundle of the log holds more than {WIDTH} entries.")
    return entries


def _read_tile(folder: Path, full: str, partial: str, limit: int) -> bytes:
    """A tile of the width asked for, or the full one that replaced it."""
    path = folder / partial
    return _read(path if path.is_file() else folder / full, limit)


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as fault:
        raise VerificationError("A file of the log is missing or can't be read.") from fault
    require(len(raw) <= limit, "A file of the log is too large.")
    return raw


def _write_once(path: Path, content: bytes) -> None:
    if not path.exists():
        _write(path, content)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
