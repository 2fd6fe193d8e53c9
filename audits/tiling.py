"""How a log is cut into files (c2sp.org/tlog-tiles): their names, and their content as entries come.

    tile/<L>/<N>[.p/<W>]             up to 256 hashes of level 8 * L
    tile/entries/<N>[.p/<W>]         the same up to 256 entries, each after its length as a big-endian uint16

N is written in groups of three digits, all but the last with an `x` before them: x001/x234/067. A tile that is not
full carries its width W, and is never changed: the next one is a new file. A hash of level 8 * (L + 1) is the root of
a full tile of level 8 * L.

`Tiling` is what writing, checking and mending a log have in common. It holds at most 255 hashes for each level,
whatever the length of the log. Names and bytes only; it reads and writes nothing.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

from audits import merkle
from audits.errors import expect, require

WIDTH = 256
HEIGHT = 8
MAX_ENTRY = 65_535
_GROUP = 1000
_LENGTH = 2
MAX_BUNDLE = WIDTH * (_LENGTH + MAX_ENTRY)


def tile_path(level: int, index: int, width: int = WIDTH) -> str:
    """Where the tile of level `level` with number `index` lies."""
    return f"tile/{level}/{_number(index, width)}"


def entries_path(index: int, width: int = WIDTH) -> str:
    """Where the entry bundle with number `index` lies."""
    return f"tile/entries/{_number(index, width)}"


def widths(size: int) -> Iterator[tuple[int, int]]:
    """Number and width of each tile that `size` hashes fill."""
    for start in range(0, size, WIDTH):
        yield start // WIDTH, min(WIDTH, size - start)


def join_bundle(entries: Sequence[bytes]) -> bytes:
    """An entry bundle; `ValueError` for an entry that has no place in one."""
    expect(all(0 < len(one) <= MAX_ENTRY for one in entries), f"A log entry has 1 to {MAX_ENTRY} bytes.")
    return b"".join([len(one).to_bytes(_LENGTH, "big") + one for one in entries])


def split_bundle(raw: bytes) -> list[bytes]:
    """The entries of a bundle, at most 256 and to the last byte."""
    entries: list[bytes] = []
    position, end = 0, len(raw)
    while position + _LENGTH <= end:
        start = position + _LENGTH
        position = start + (raw[position] << 8 | raw[position + 1])
        entries.append(raw[start:position])
    require(position == end, "An entry bundle of the log ends in the middle of an entry.")
    require(len(entries) <= WIDTH, f"An entry bundle of the log holds more than {WIDTH} entries.")
    return entries


class Tiling:
    """The files of a log, block by block of 256 entries; the last block may be shorter and ends it."""

    def __init__(self, blocks: int = 0, levels: Sequence[Sequence[bytes]] = ()) -> None:
        """Go on after `blocks` full blocks; `levels[l]` are the hashes of the tile of level l + 1 that is not full."""
        self._blocks = blocks
        self._levels = [list(hashes) for hashes in levels]
        self._tail: Sequence[bytes] = ()
        kept = sum(len(hashes) << HEIGHT * level for level, hashes in enumerate(self._levels))
        expect(kept == blocks and all(len(one) < WIDTH for one in self._levels), "The edge is of another size.")

    @property
    def size(self) -> int:
        """The number of entries so far."""
        return self._blocks * WIDTH + len(self._tail)

    def feed(self, entries: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        """Path and content of each file that these entries bring, their bundle first; to be used up."""
        yield entries_path(self._blocks, len(entries)), join_bundle(entries)
        yield from self.hash(entries)

    def hash(self, entries: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        """The same without the bundle, for entries that come out of one."""
        expect(not self._tail and 0 < len(entries) <= WIDTH, "Entries come in blocks of 256, the last one shorter.")
        hashes = merkle.leaf_hashes(entries)
        yield from self._full(b"".join(hashes)) if len(hashes) == WIDTH else self._partial(hashes)

    def root(self, leaves: Sequence[bytes] | None = None) -> bytes:
        """The root so far, or that over the full blocks and these further leaf hashes, fewer than 256."""
        tail = self._tail if leaves is None else leaves
        compact = merkle.CompactRange()
        for level in range(len(self._levels), 0, -1):
            for one in self._levels[level - 1]:
                compact.append(one, HEIGHT * level)
        for one in tail:
            compact.append(one)
        return compact.root()

    def _full(self, content: bytes) -> Iterator[tuple[str, bytes]]:
        number, level = self._blocks, 0
        self._blocks += 1
        while True:
            yield tile_path(level, number), content
            if level == len(self._levels):
                self._levels.append([])
            hashes = self._levels[level]
            hashes.append(merkle.fold(content))
            if len(hashes) < WIDTH:
                break
            content = b"".join(hashes)
            hashes.clear()
            number, level = number // WIDTH, level + 1

    def _partial(self, leaves: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
        self._tail = leaves
        yield tile_path(0, self._blocks, len(leaves)), b"".join(leaves)

    def rest(self) -> Iterator[tuple[str, bytes]]:
        """Path and content of the hash tiles above the lowest level that are not full."""
        for level, hashes in enumerate(self._levels, start=1):
            if hashes:
                yield tile_path(level, self._blocks >> HEIGHT * level, len(hashes)), b"".join(hashes)


def roots(blocks: Iterable[Sequence[bytes]], sizes: Collection[int]) -> tuple[int, dict[int, bytes]]:
    """How many entries these blocks of 256 hold, and the root at each of `sizes` that they reach."""
    tiling, found = Tiling(), {}
    for block in blocks:
        for size in sizes:
            if 0 <= size - tiling.size < len(block):
                found[size] = tiling.root(merkle.leaf_hashes(block[: size - tiling.size]))
        for _ in tiling.hash(block):
            pass
    found[tiling.size] = tiling.root()
    return tiling.size, found


def _number(index: int, width: int) -> str:
    expect(index >= 0 and 0 < width <= WIDTH, "A tile has a number, and 1 to 256 hashes.")
    groups = [f"{index % _GROUP:03d}"]
    while index := index // _GROUP:
        groups.insert(0, f"x{index % _GROUP:03d}")
    suffix = "" if width == WIDTH else f".p/{width}"
    return "/".join(groups) + suffix
