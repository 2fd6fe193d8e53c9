"""Checking and mending the whole log of a desk: everything is made anew from the raw entries, and compared.

1  entries              none is missing, each is well formed
2  checkpoint           the newest one in the database is the log's own, and the entries lead to its root
3  public checkpoint    the one in the folder is a beginning of the same log, unless it can't be read at all
4  files                every tile and bundle, those of older sizes too, and the checkpoint file are what they must be

Mending writes the files of step 4 and nothing else: an entry or a signed root that is wrong is evidence, and stays. So
it does nothing when one of the first three steps fails.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from audits import checkpoint as checkpoints
from audits import log as logs
from audits import merkle, tiles, tiling
from audits.checkpoint import Checkpoint
from audits.disk import put
from audits.errors import VerificationError, require
from audits.protocol import Recorder, Verification
from compliance.ledger.ledger import Ledger
from compliance.ledger.publication import Publisher

_NAMED = 5
Say = Callable[[int, int], None]


@dataclass(slots=True)
class _Check:
    """One run: where the log is, and what it has found so far."""

    ledger: Ledger
    publisher: Publisher
    repair: bool
    say: Say
    public: Checkpoint | None = None
    roots: dict[int, bytes] = field(default_factory=dict)

    def entries(self) -> str:
        """Step 1, and the roots that the next steps ask for."""
        head = self.ledger.head()
        try:
            self.public = self.publisher.opened(self.ledger, tiles.read_checkpoint(self.publisher.folder))
        except VerificationError:
            self.public = None
        sizes = {head.checkpoint_size, self.public.size if self.public else 0}
        found, self.roots = tiling.roots(self._well_formed(head.size), sizes)
        require(found == head.size, f"The database has {found} entries, and its head says {head.size}.")
        return f"{found} entries are well formed."

    def checkpoint(self) -> str:
        """Step 2."""
        head = self.ledger.head()
        if not head.checkpoint:
            return "Nothing was signed yet."
        state = self.publisher.opened(self.ledger, head.checkpoint)
        agree = state.size == head.checkpoint_size and self.roots.get(state.size) == state.root
        require(agree, "The entries do not lead to the root that was signed last: they were rewritten.")
        return f"The checkpoint over {state.size} entries has their root."

    def public_checkpoint(self) -> str:
        """Step 3."""
        if self.public is None:
            return "The folder holds no checkpoint that can be read; nothing contradicts the database."
        same = self.roots.get(self.public.size) == self.public.root
        require(same, f"The checkpoint in the folder, over {self.public.size} entries, is of another history.")
        return f"The checkpoint in the folder, over {self.public.size} entries, is of the same history."

    def files(self) -> str:
        """Step 4."""
        head = self.ledger.head()
        size = max(head.checkpoint_size, self.public.size if self.public else 0)
        wrong, count = [], 0
        for path, content in self._expected(size, head.checkpoint):
            count += 1
            if _differs(self.publisher.folder / path, content):
                wrong.append(path)
                if self.repair:
                    put(self.publisher.disk, self.publisher.folder / path, content)
        if wrong and self.repair:
            self.publisher.disk.flush_all()
            return f"{count} files; {_named(wrong)} were not what they must be and were written again."
        require(not wrong, f"Of {count} files these are not what they must be: {_named(wrong)}. Use --repair.")
        return f"{count} files are what they must be."

    def _expected(self, size: int, signed: str) -> Iterator[tuple[str, bytes]]:
        blocks = self.ledger.blocks(0, size)
        for path, content in tiles.files_of(tiles.Tiling(), self._told(blocks, size)):
            yield from _older(self.publisher.folder, path, content)
            yield path, content
        if signed and (self.public is None or self.public.size <= checkpoints.peek(signed).size):
            yield "checkpoint", signed.encode()

    def _well_formed(self, size: int) -> Iterator[list[bytes]]:
        for block in self._told(self.ledger.blocks(0, size), size):
            for entry in block:
                logs.parse_entry(entry)
            yield block

    def _told(self, blocks: Iterator[list[bytes]], size: int) -> Iterator[list[bytes]]:
        for number, block in enumerate(blocks):
            self.say(number * tiles.WIDTH, size)
            yield block


def fsck(ledger: Ledger, publisher: Publisher, *, repair: bool, say: Say) -> Verification:
    """Check the log; with `repair`, write again the derived files that are not what they must be."""
    check, recorder = _Check(ledger, publisher, repair, say), Recorder()
    with publisher.alone():
        recorder.run("entries", check.entries)
        recorder.run("checkpoint", check.checkpoint)
        recorder.run("public checkpoint", check.public_checkpoint)
        recorder.run("files", check.files)
    return recorder.verification("none", None)


def _older(folder: Path, path: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """The narrower tiles beside a tile that are there, and what they must hold: its beginning."""
    full, _, width = path.partition(".p/")
    entries = tiling.split_bundle(content) if full.startswith("tile/entries/") else None
    last = int(width or tiles.WIDTH)
    beside = folder / f"{full}.p"
    for name in sorted(one.name for one in beside.iterdir()) if beside.is_dir() else ():
        if name.isdecimal() and 0 < int(name) < last:
            narrow = content[: int(name) * merkle.HASH_SIZE]
            yield f"{full}.p/{name}", narrow if entries is None else tiling.join_bundle(entries[: int(name)])


def _differs(path: Path, content: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(content) + 1) != content
    except OSError:
        return True


def _named(paths: list[str]) -> str:
    more = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {more} more" if more > 0 else "")
