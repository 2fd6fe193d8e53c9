"""The part every other part of the ledger stands on: the session, the append, the lookups.

`_append` takes the row lock of the log head first, so appends are in one order on both databases and the
entry and the change it reports commit together or not at all (invariant 1).
"""

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import event, insert, select, update
from sqlalchemy.orm import Session

from audits import checkpoint as checkpoints
from audits import log
from audits.tiles import WIDTH
from compliance.errors import NotFoundError, UnavailableError
from compliance.ledger import tables
from compliance.ledger.entries import SALT_BYTES, EntryKind, rfc3339
from compliance.ledger.vault import Vault
from compliance.ledger.views import Head

_T = TypeVar("_T", bound=tables.Table)


class LedgerCore:
    """A session, the vault and a source of random bytes."""

    def __init__(self, session: Session, *, vault: Vault, secrets: Callable[[int], bytes]) -> None:
        self._session = session
        self._vault = vault
        self._secrets = secrets

    def _append(self, kind: EntryKind, data: dict[str, Any], now: datetime) -> int:
        """Append one entry and return its index."""
        grow = update(tables.LogHead).where(tables.LogHead.id == 1).values(size=tables.LogHead.size + 1)
        index = self._session.execute(grow.returning(tables.LogHead.size)).scalar_one() - 1
        payload = log.entry(type=kind.value, at=rfc3339(now), salt=self._secrets(SALT_BYTES).hex(), data=data)
        self._session.execute(
            insert(tables.LogEntry).values(
                seq=index, kind=kind.value, request_id=data.get("requestId"), payload=payload, recorded_at=now
            )
        )
        return index

    def _get(self, table: type[_T], key: Any, what: str) -> _T:  # noqa: ANN401 - any primary key
        row = self._session.get(table, key)
        if row is None:
            message = f"there is no such {what}; check the id"
            raise NotFoundError(message, code=f"no-such-{what.replace(' ', '-')}")
        return row

    def serialise(self) -> None:
        """Wait for every other writer, as SQLite's BEGIN IMMEDIATE does: what is read from here on stays true.

        PostgreSQL would otherwise let two transactions read the same state and both act on it.
        """
        self._session.execute(select(tables.LogHead.id).where(tables.LogHead.id == 1).with_for_update())

    def on_rollback(self, undo: Callable[[], None]) -> None:
        """Call `undo` when this transaction does not commit, for what was done outside the database."""
        event.listen(self._session, "after_rollback", lambda _session: undo(), once=True)

    def head(self) -> Head:
        """The log's size and newest checkpoint."""
        row = self._get(tables.LogHead, 1, "log head")
        return Head(size=row.size, checkpoint=row.checkpoint, checkpoint_size=row.checkpoint_size)

    def entries(self, start: int, stop: int) -> Iterator[bytes]:
        """The raw entries with indexes in [start, stop)."""
        query = (
            select(tables.LogEntry.payload)
            .where(tables.LogEntry.seq >= start, tables.LogEntry.seq < stop)
            .order_by(tables.LogEntry.seq)
            .execution_options(yield_per=1024)
        )
        return iter(self._session.scalars(query))

    def blocks(self, start: int, stop: int) -> Iterator[list[bytes]]:
        """The same entries in blocks of 256, the last one shorter: what a full tile holds, when `start` begins one."""
        entries = self.entries(start, stop)
        while block := list(itertools.islice(entries, WIDTH)):
            yield block

    def record_checkpoint(self, *, checkpoint: str, size: int) -> None:
        """Remember a signed checkpoint; an older one than the newest is ignored.

        UnavailableError when another root was signed at this size: one of them must never be shown to anybody.
        """
        last = self.head()
        if last.checkpoint and last.checkpoint_size == size and _root(last.checkpoint) != _root(checkpoint):
            message = "the log has signed another root at this size; run 'expunge log fsck' and call the auditor"
            raise UnavailableError(message, code="log-rewritten")
        newer = tables.LogHead.checkpoint_size <= size
        self._session.execute(
            update(tables.LogHead)
            .where(tables.LogHead.id == 1, newer)
            .values(checkpoint=checkpoint, checkpoint_size=size)
        )


def _root(checkpoint: str) -> bytes:
    return checkpoints.peek(checkpoint).root
