"""Making the log public: one signed checkpoint over all entries, and static tiles anyone can mirror.

The database transaction that appended an entry is the commit point; everything here is derived from it, and recovery is
the ordinary path. In this order, so that a crash at any point costs work and never an entry or a promise:

1. A file lock lets one process publish at a time.
2. The edge of the published tiles, with the newest entries of the database, must lead to the root that was signed last
   (in the database, or in the folder when that is newer: a database restored from a backup has forgotten one).
   Where it doesn't, the tiles are read again from all entries; where these don't lead there either, the log was
   rewritten, and nothing is written or signed: a log never signs two histories.
3. Bundles and tiles of what is new are written; the bundles are durable before anything is signed.
   *A crash leaves files that no checkpoint speaks of. The next publication compares and overwrites them.*
4. The checkpoint is signed and recorded in the database. *A crash before the commit leaves a signature that nobody saw,
   over entries that are all committed: whatever is signed next extends it.*
5. Witnesses are asked, outside any transaction; what they add is recorded too. *A crash here leaves a checkpoint with
   the log's signature alone; they are asked again.*
6. The checkpoint file is replaced. *A crash before leaves the older one, which is true; the next publication, with or
   without new entries, replaces it from the database.*

Hash tiles follow from bundles, so they are not forced to the disk one by one. `.durable` in the folder says up to which
entry everything is on the disk, and in which boot of the machine that was; files beyond it are compared with the
entries once after a boot, when a power cut may have taken them (docs/adr/0030).

The cost is O(new entries + log n), besides that.
"""

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from audits import checkpoint as checkpoints
from audits import log, merkle, mldsa, note, proof, tiles
from audits.checkpoint import Checkpoint
from audits.disk import Disk, Files, put
from audits.errors import VerificationError, require
from audits.keys import RoleSigner, Signer
from audits.tiles import WIDTH, TileReader, Tiling
from compliance.errors import UnavailableError
from compliance.ledger.ledger import Ledger

LAG = 256 * WIDTH
"""How many entries may be published before everything is forced to the disk together."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def machine_boot() -> str:
    """Which boot of the machine this is; where it can't be told, every publication is the first of one."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


class Access(Protocol):
    """Whoever opens the ledger: the composition root."""

    def transaction(self) -> AbstractContextManager[Ledger]:
        """Read and write, all or nothing."""

    def read(self) -> AbstractContextManager[Ledger]:
        """Read one consistent state."""


class Cosigner(Protocol):
    """Whoever asks witnesses for their cosignatures; its adapter speaks HTTP."""

    def cosign(self, signed: str, consistency: Callable[[int], list[bytes]]) -> str:
        """The checkpoint `signed` with the cosignature lines that could be had.

        `consistency(size)` proves that the log extends its own first `size` entries; for size 0 it is empty. A witness
        that does not answer is no error: the checkpoint comes back with fewer lines, at worst as it was.
        """


@dataclass(frozen=True, slots=True)
class Published:
    """The log as it was signed: its checkpoint, and entries and proofs under it, read from the tiles.

    UnavailableError when a file that is asked for is missing or damaged.
    """

    checkpoint: str
    _reader: TileReader

    @property
    def size(self) -> int:
        """The number of entries under the checkpoint."""
        return self._reader.size

    @property
    def root(self) -> bytes:
        """The checkpoint's root."""
        return checkpoints.peek(self.checkpoint).root

    def entry(self, index: int) -> bytes:
        """One entry's bytes."""
        (found,) = self.entries(index, index + 1)
        return found

    def entries(self, start: int, stop: int) -> list[bytes]:
        """The entries from `start` up to but not including `stop`."""
        with _whole_files():
            return self._reader.entries(start, stop)

    def proof(self, index: int) -> str:
        """The `.tlog-proof` of an entry under this checkpoint; checked before it is handed out."""
        with _whole_files():
            hashes = tuple(self._reader.inclusion_proof(index))
            leaf = self._reader.subtree(0, index)
            merkle.verify_inclusion(leaf=leaf, index=index, size=self.size, proof=hashes, root=self.root)
        return proof.Proof(index=index, hashes=hashes, checkpoint=self.checkpoint).format()

    def range_proof(self, start: int, stop: int) -> merkle.RangeProof:
        """The proof that `entries(start, stop)` are those of this checkpoint (`audits.merkle.verify_range`)."""
        with _whole_files():
            return self._reader.range_proof(start, stop)

    def consistency_proof(self, size1: int) -> list[bytes]:
        """The proof that this log extends the one over its first `size1` entries; empty from none."""
        with _whole_files():
            return self._reader.consistency_proof(size1) if size1 else []


@dataclass(frozen=True, slots=True)
class _Durable:
    """Up to which entry every file is on the disk, and the boot in which later ones were written."""

    size: int = 0
    boot: str = ""


@dataclass(frozen=True, slots=True)
class Publisher:
    """Signs checkpoints of the log called `origin` and keeps its static files in `folder`."""

    origin: str
    signer: Signer
    folder: Path
    cosigner: Cosigner | None = None
    disk: Disk = field(default_factory=Files)
    second: RoleSigner | None = None
    """The log's ML-DSA-44 key, whose line stands below the log's own."""
    boot: Callable[[], str] = machine_boot
    lag: int = LAG

    def publish(self, access: Access) -> Published:
        """The log as of now and its newest checkpoint, signed anew when entries were added.

        Call it outside any transaction. UnavailableError when the entries contradict the last checkpoint, or the
        folder can't be written.
        """
        with self.alone(), _writable():
            text = self._signed(access)
            published = self.published(text)
            text = self._cosigned(access, published)
            put(self.disk, self.folder / "checkpoint", text.encode())
            return self.published(text)

    def published(self, checkpoint: str) -> Published:
        """The log under a checkpoint of its own whose tiles are written."""
        return Published(checkpoint, TileReader(self.folder, checkpoints.peek(checkpoint).size))

    def _signed(self, access: Access) -> str:
        with access.read() as ledger:
            head = ledger.head()
            last = self._last(ledger, head.checkpoint)
            if last.size > head.size:
                raise _rewritten()
            tiling = self._write(ledger, last, head.size)
        if head.checkpoint and head.checkpoint_size == head.size:
            return head.checkpoint
        state = Checkpoint(origin=self.origin, size=tiling.size, root=tiling.root())
        text = checkpoints.sign(state, self.signer)
        if self.second is not None:
            text = mldsa.add(text, self.second)
        with access.transaction() as ledger:
            ledger.record_checkpoint(checkpoint=text, size=state.size)
        return text

    def opened(self, ledger: Ledger, signed: str) -> Checkpoint:
        """A checkpoint that this log signed, with its key of now or with one that it had before; VerificationError."""
        own = (key.public_key for key in ledger.service_keys() if key.role == "log" and key.algorithm == "ed25519")
        known = [log.vkey(self.origin, key) for key in {self.signer.public_key, *own}]
        found = checkpoints.parse(note.open_note(signed, map(note.parse_vkey, known)).text)
        require(found.origin == self.origin, "The checkpoint is of another log.")
        return found

    def _last(self, ledger: Ledger, recorded: str) -> Checkpoint:
        """What this log has signed last: recorded in the database, or found in the folder."""
        empty = Checkpoint(origin=self.origin, size=0, root=merkle.EMPTY_ROOT)
        last = checkpoints.peek(recorded) if recorded else empty
        found = self._found(ledger) or last
        if found.size == last.size and found.root != last.root:
            raise _rewritten()
        return max(last, found, key=lambda state: state.size)

    def _found(self, ledger: Ledger) -> Checkpoint | None:
        """The checkpoint in the folder, if this log signed it; anything else there is damage."""
        try:
            return self.opened(ledger, tiles.read_checkpoint(self.folder))
        except VerificationError:
            return None

    def _write(self, ledger: Ledger, last: Checkpoint, size: int) -> Tiling:
        """Bring the tiles up to `size`, from as far back as they may not be what was signed."""
        durable, boot = self._durable(), self.boot()
        same = bool(boot) and durable.boot == boot
        tiling = self._edge(ledger, last, last.size if same else min(durable.size, last.size))
        if tiling is None:
            durable, same = _Durable(), False
            tiling = self._edge(ledger, last, 0)
        if tiling is None:
            raise _rewritten()
        wait: Callable[[], None] = _nothing
        for path, content in tiles.files_of(tiling, ledger.blocks(tiling.size, size)):
            if put(self.disk, self.folder / path, content) and path.startswith("tile/entries/"):
                wait()
                wait = self.disk.flush(self.folder / path)
        wait()
        if tiling.size != size:
            message = "the log's entries and its head disagree; run 'expunge log fsck'"
            raise UnavailableError(message, code="log-damaged")
        self._mark(durable, size, boot, same=same)
        return tiling

    def _mark(self, durable: _Durable, size: int, boot: str, *, same: bool) -> None:
        """Say what is on the disk: once in a while everything is forced there, together."""
        reached = durable.size
        if size - reached >= self.lag:
            self.disk.flush_all()
            reached = size
        if not same or reached != durable.size:
            mark = json.dumps({"size": reached, "boot": boot})
            put(self.disk, self.folder / ".durable", mark.encode())

    def _edge(self, ledger: Ledger, last: Checkpoint, kept: int) -> Tiling | None:
        """The tiles up to the last full one before `kept`, if with the entries from there they lead to `last`."""
        blocks = kept // WIDTH
        try:
            tiling = TileReader(self.folder, last.size).tiling(blocks)
            ahead = TileReader(self.folder, last.size).tiling(blocks)
        except VerificationError:
            return None
        tail: list[bytes] = []
        for block in ledger.blocks(blocks * WIDTH, last.size):
            tail = [merkle.leaf_hash(one) for one in block] if len(block) < WIDTH else []
            if not tail:
                _use_up(ahead.feed(block))
        whole = ahead.size + len(tail) == last.size and ahead.root(tail) == last.root
        return tiling if whole else None

    def _cosigned(self, access: Access, published: Published) -> str:
        """The checkpoint with what the witnesses add, recorded; whoever has not answered is asked at each call."""
        text = published.checkpoint
        if self.cosigner is None:
            return text
        found = self.cosigner.cosign(text, published.consistency_proof)
        if found != text and found.startswith(text):
            with access.transaction() as ledger:
                ledger.record_checkpoint(checkpoint=found, size=published.size)
            return found
        return text

    def _durable(self) -> _Durable:
        try:
            value = json.loads((self.folder / ".durable").read_bytes())
            return _Durable(int(value["size"]), str(value["boot"]))
        except (OSError, ValueError, KeyError, TypeError):
            return _Durable()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other publication waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _use_up(files: Iterator[object]) -> None:
    for _ in files:
        pass


def _nothing() -> None:
    """There is nothing to wait for."""


@contextmanager
def _whole_files() -> Iterator[None]:
    try:
        yield
    except VerificationError as fault:
        message = f"{fault} Run 'expunge log fsck'."
        raise UnavailableError(message, code="log-damaged") from fault


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        message = "the log's folder can't be written; see that its disk is there and not full"
        raise UnavailableError(message, code="log-unwritable") from fault


def _rewritten() -> UnavailableError:
    message = "the log was rewritten since its last checkpoint; run 'expunge log fsck' and call the auditor"
    return UnavailableError(message, code="log-rewritten")
