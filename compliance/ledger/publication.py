"""Making the log public: one signed checkpoint over all entries, and static tiles anyone can mirror.

The database transaction that appended an entry is the commit point; checkpoint and tiles are derived.
Publishing after a crash is the same call as publishing on an ordinary day: it reads the entries,
rebuilds the tree and writes what is missing. A file lock lets one process publish at a time, so that an
older checkpoint never overwrites a newer one.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audits import checkpoint, tiles
from audits.keys import Signer
from audits.log import Log
from audits.merkle import RangeProof
from compliance.errors import UnavailableError
from compliance.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Published:
    """The log as it was signed: its checkpoint, and entries and proofs under it."""

    checkpoint: str
    _entries: tuple[bytes, ...]
    _log: Log

    @property
    def size(self) -> int:
        """The number of entries under the checkpoint."""
        return self._log.size

    @property
    def root(self) -> bytes:
        """The checkpoint's root."""
        return self._log.root()

    def entry(self, index: int) -> bytes:
        """One entry's bytes."""
        return self._entries[index]

    def entries(self, start: int, stop: int) -> list[bytes]:
        """The entries from `start` up to but not including `stop`."""
        return list(self._entries[start:stop])

    def proof(self, index: int) -> str:
        """The `.tlog-proof` of an entry under this checkpoint."""
        return self._log.proof(index, self.checkpoint)

    def range_proof(self, start: int, stop: int) -> RangeProof:
        """The proof that `entries(start, stop)` are those of this checkpoint (`audits.merkle.verify_range`)."""
        return self._log.range_proof(start, stop)

    def consistency_proof(self, size1: int) -> list[bytes]:
        """The proof that this log extends the one over its first `size1` entries."""
        return self._log.consistency_proof(size1)


class Cosigner(Protocol):
    """Whoever asks witnesses for their cosignatures; its adapter speaks HTTP."""

    def cosign(self, signed: str, consistency: Callable[[int], list[bytes]]) -> str:
        """The checkpoint `signed` with the cosignature lines that could be had.

        `consistency(size)` proves that the log extends its own first `size` entries. A witness that does not answer
        is no error: the checkpoint comes back with fewer lines, at worst as it was.
        """


@dataclass(frozen=True, slots=True)
class Publisher:
    """Signs checkpoints of the log called `origin` and keeps its static files in `folder`."""

    origin: str
    signer: Signer
    folder: Path
    cosigner: Cosigner | None = None

    def publish(self, ledger: Ledger) -> Published:
        """The log as of now and its newest checkpoint, signed anew when entries were added.

        UnavailableError when the entries contradict the last checkpoint: the log never signs two histories.
        """
        with self._alone():
            head = ledger.head()
            entries = tuple(ledger.entries(0, head.size))
            log = Log(origin=self.origin, entries=entries)
            if log.size != head.size:
                message = "the log's entries and its head disagree; run 'expunge log verify'"
                raise UnavailableError(message, code="log-damaged")
            self._refuse_rewritten(log, head.checkpoint)
            text = head.checkpoint
            if not text or head.checkpoint_size < log.size:
                text = log.checkpoint(self.signer)
                ledger.record_checkpoint(checkpoint=text, size=log.size)
            tiles.write_tiles(self.folder, entries, text)
            return Published(text, entries, log)

    def _refuse_rewritten(self, log: Log, signed: str) -> None:
        if not signed:
            return
        last = checkpoint.peek(signed)
        if last.size > log.size or log.root(last.size) != last.root:
            message = "the log was rewritten since its last checkpoint; run 'expunge log verify' and call the auditor"
            raise UnavailableError(message, code="log-rewritten")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
