"""The log as static files (c2sp.org/tlog-tiles): mirrored by any web server, copied on a memory stick.

    checkpoint                       the newest signed checkpoint
    tile/<L>/<N>[.p/<W>]             up to 256 hashes of level 8 * L
    tile/entries/<N>[.p/<W>]         the same up to 256 entries

`TileReader` answers for any size of the log from O(log n) small files. `check_folder` reads a whole log once, block by
block, and holds no more of it than a block.

`write_tiles` and `write_blocks` may die anywhere. Every file is complete or absent (temporary file, fsync, rename), and
the checkpoint comes last, so that readers never see a checkpoint whose tiles are missing; running it again finishes
the work.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from audits import checkpoint as checkpoints
from audits import merkle, note
from audits.disk import Files
from audits.errors import VerificationError, expect, require
from audits.tiling import (
    HEIGHT,
    MAX_BUNDLE,
    MAX_ENTRY,
    WIDTH,
    Tiling,
    entries_path,
    split_bundle,
    tile_path,
    widths,
)

__all__ = ["MAX_ENTRY", "WIDTH", "TileReader", "Tiling", "entries_path", "tile_path"]
_KEPT = 1024


class TileReader(merkle.Subtrees):
    """The first `size` entries of a log in `folder`: hashes, roots and proofs, none of them verified.

    A proof reads two or three files of 8 KiB; the newest thousand stay in memory. `VerificationError` when a file is
    missing or damaged in form. Whoever holds a signed root checks what comes from here against it.
    """

    def __init__(self, folder: Path, size: int) -> None:
        """Nothing is read yet."""
        expect(size >= 0, "A log has no negative size.")
        self._folder = folder
        self._size = size
        self._tiles: dict[tuple[int, int], bytes] = {}
        self._nodes: dict[tuple[int, int], list[bytes]] = {}

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._size

    def subtree(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree, folded from the tile below it."""
        height, above = divmod(level, HEIGHT)
        first, count = index << above, 1 << above
        expect(first + count <= self._size >> HEIGHT * height, "This subtree is not complete.")
        nodes = self._within(height, first // WIDTH, above)
        offset = (index % (WIDTH >> above)) * merkle.HASH_SIZE
        return nodes[offset : offset + merkle.HASH_SIZE]

    def _within(self, height: int, tile: int, above: int) -> bytes:
        """The nodes `above` levels over a tile's hashes; computed once, for the next proof needs most of them again."""
        raw = self.tile(height, tile)
        levels = self._nodes.setdefault((height, tile), [raw])
        while len(levels) <= above:
            levels.append(merkle.pair_up(levels[-1]))
        return levels[above]

    def tile(self, level: int, index: int) -> bytes:
        """The hashes of a tile, as many as the log has there at this size."""
        width = min(WIDTH, (self._size >> HEIGHT * level) - index * WIDTH)
        if (level, index) not in self._tiles:
            if len(self._tiles) >= _KEPT:
                self._tiles.clear()
                self._nodes.clear()
            paths = tile_path(level, index), tile_path(level, index, width)
            raw = _read_tile(self._folder, *paths, WIDTH * merkle.HASH_SIZE)[: width * merkle.HASH_SIZE]
            require(len(raw) == width * merkle.HASH_SIZE, "A hash tile of the log is too short.")
            self._tiles[level, index] = raw
        return self._tiles[level, index]

    def entries(self, start: int, stop: int) -> list[bytes]:
        """The entries [start, stop); each is what its hash tile says."""
        expect(0 <= start <= stop <= self._size, f"There are no entries from {start} to {stop} in {self._size}.")
        found: list[bytes] = []
        for index in range(start // WIDTH, -(-stop // WIDTH)):
            bundle = read_bundle(self._folder, index, min(WIDTH, self._size - index * WIDTH))
            first = max(0, start - index * WIDTH)
            found += bundle[first : stop - index * WIDTH]
        for index, one in enumerate(found, start):
            require(merkle.leaf_hash(one) == self.subtree(0, index), "An entry of the log is not what its tile says.")
        return found

    def tiling(self, blocks: int) -> Tiling:
        """What it takes to go on after the first `blocks` full blocks."""
        levels, level = [], 1
        while blocks >> HEIGHT * (level - 1):
            count = blocks >> HEIGHT * (level - 1)
            raw = self.tile(level, count // WIDTH) if count % WIDTH else b""
            levels.append([raw[32 * n : 32 * n + 32] for n in range(count % WIDTH)])
            level += 1
        return Tiling(blocks, levels)


def write_tiles(folder: Path, entries: Sequence[bytes], checkpoint: str) -> None:
    """Write what a reader needs for `checkpoint`, whose size is the number of `entries`.

    Files that are there already are left alone, so a growing log costs what grew. `ValueError` when the checkpoint
    is not over these entries: a wrong checkpoint would be published for good.
    """
    state = checkpoints.peek(checkpoint)
    root = merkle.root(map(merkle.leaf_hash, entries))
    expect(state.size == len(entries) and state.root == root, "The checkpoint is not over these entries.")
    write_blocks(folder, (entries[at : at + WIDTH] for at in range(0, len(entries), WIDTH)), checkpoint)


def write_blocks(folder: Path, blocks: Iterable[Sequence[bytes]], checkpoint: str) -> None:
    """The same for a log of any length, in blocks of 256 entries; the checkpoint is written when its root is right."""
    state, tiling = checkpoints.peek(checkpoint), Tiling()
    for path, content in files_of(tiling, blocks):
        if not (folder / path).exists():
            _write(folder / path, content)
    expect(state.size == tiling.size and state.root == tiling.root(), "The checkpoint is not over these entries.")
    _write(folder / "checkpoint", checkpoint.encode())


def files_of(tiling: Tiling, blocks: Iterable[Sequence[bytes]]) -> Iterator[tuple[str, bytes]]:
    """Path and content of every file that these blocks bring, in the order in which they depend on each other."""
    for block in blocks:
        yield from tiling.feed(block)
    yield from tiling.rest()


def read_checkpoint(folder: Path) -> str:
    """The newest checkpoint, unverified."""
    raw = _read(folder / "checkpoint", note.MAX_BYTES)
    return note.parse(raw).format()


def read_bundle(folder: Path, index: int, width: int = WIDTH) -> list[bytes]:
    """The first `width` entries of the bundle with number `index`, unverified."""
    raw = _read_tile(folder, entries_path(index), entries_path(index, width), MAX_BUNDLE)
    entries = split_bundle(raw)[:width]
    require(len(entries) == width, "The log's files hold fewer entries than its checkpoint says.")
    return entries


def read_blocks(folder: Path, size: int) -> Iterator[list[bytes]]:
    """The first `size` entries in blocks of 256, unverified."""
    return (read_bundle(folder, index, width) for index, width in widths(size))


def read_entries(folder: Path, size: int) -> list[bytes]:
    """The first `size` entries, unverified."""
    return [one for block in read_blocks(folder, size) for one in block]


def check_folder(folder: Path, vkey: str) -> checkpoints.Checkpoint:
    """Check a whole log: signature, entries against the root, and every hash tile against the entries."""
    state = checkpoints.open_checkpoint(read_checkpoint(folder), vkey)
    tiling, damaged = Tiling(), False
    for block in read_blocks(folder, state.size):
        for path, content in tiling.hash(block):
            damaged = damaged or not _agrees(folder, path, content)
    damaged = damaged or not all(_agrees(folder, path, content) for path, content in tiling.rest())
    right = tiling.size == state.size and tiling.root() == state.root
    require(right, "The log's entries do not lead to its checkpoint's root.")
    require(not damaged, "A hash tile does not agree with the log's entries.")
    return state


def _agrees(folder: Path, path: str, content: bytes) -> bool:
    """Whether the file, or the full tile that replaced it, says `content`."""
    full = path.partition(".p/")[0]
    try:
        if (folder / path).is_file():
            return _read(folder / path, MAX_BUNDLE) == content
        return full != path and _read(folder / full, MAX_BUNDLE).startswith(content)
    except VerificationError:
        return False


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


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    disk, temporary = Files(), path.with_name(f".{path.name}.tmp")
    disk.write(temporary, content)
    disk.flush(temporary)()
    disk.rename(temporary, path)
