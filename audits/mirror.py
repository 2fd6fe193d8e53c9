"""A copy of the log (c2sp.org/tlog-tiles folder) as somebody holds it, judged by a trust policy from outside.

Opening one checks that a log of the policy signed its checkpoint, with a key that no entry under it revokes, that the
policy's quorum cosigned it, and that its entries lead to the checkpoint's root. Whether the copy is the *newest* it
can't tell: `newest` says how far in time it reaches, by its last entry and by its witnesses, and no judgement is made
about what lies after.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from audits import checkpoint as checkpoints
from audits import keys, merkle, note, tiles
from audits import log as logs
from audits import policy as policies
from audits.errors import require
from audits.register import Register


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A trusted checkpoint, and when its witnesses had seen it: the latest of their times, None without any."""

    checkpoint: checkpoints.Checkpoint
    at: datetime | None

    @property
    def size(self) -> int:
        """The number of entries under it."""
        return self.checkpoint.size


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirror:
    """The entries of a log that lead to a trusted checkpoint."""

    trust: policies.Trust
    entries: Sequence[bytes] = field(repr=False)
    tree: merkle.Tree = field(repr=False)
    seen: Seen

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self.entries)

    def newest(self) -> datetime:
        """The latest time that the copy itself shows: of its last entry, or of its cosignatures."""
        last = logs.parse_time(logs.parse_entry(self.entries[-1]).at)
        return last if self.seen.at is None else max(last, self.seen.at)

    def extends(self, older: checkpoints.Checkpoint) -> None:
        """Check that this log is the one of an `older` checkpoint, grown."""
        require(older.origin == self.trust.checkpoint.origin, "The checkpoint is of another log than this copy.")
        require(
            older.size <= self.size, f"This copy of the log has {self.size} entries, fewer than were signed before."
        )
        agree = self.tree.root(older.size) == older.root
        require(agree, f"This log is another one than was signed at {older.size} entries: its history was forked.")

    def register(self) -> Register:
        """Every key of the log, and what became of it."""
        found = Register()
        for index, entry in self.about(b'"type":"key.'):
            found.apply(index, entry)
        return found

    def about(self, words: bytes) -> Iterator[tuple[int, logs.Entry]]:
        """The entries whose bytes hold `words`, with their indexes: only these are taken apart."""
        for index, raw in enumerate(self.entries):
            if words in raw:
                yield index, logs.parse_entry(raw)


def read(folder: Path, policy: policies.Policy) -> Mirror:
    """The copy in `folder`, under `policy`; `VerificationError` unless everything holds together."""
    signed = tiles.read_checkpoint(folder)
    trust = policies.verify_log(policy, signed)
    policies.require_quorum(policy, trust)
    size = trust.checkpoint.size
    require(size > 0, "This copy of the log is empty.")
    entries = tiles.read_entries(folder, size)
    tree = merkle.Tree(merkle.leaf_hash(one) for one in entries)
    require(tree.root() == trust.checkpoint.root, "The log's entries do not lead to its checkpoint's root.")
    seen = Seen(checkpoint=trust.checkpoint, at=witnessed_at(policy, signed))
    found = Mirror(trust=trust, entries=entries, tree=tree, seen=seen)
    register = found.register()
    in_force = any(register.revoked(keys.key_id(one.public_key), size) is None for one in trust.signers)
    require(in_force, "The copy's checkpoint is signed by a log key that an entry under it revokes.")
    return found


def witnessed_at(policy: policies.Policy, signed: str) -> datetime | None:
    """When all the policy's witnesses on a checkpoint had seen it: the latest of their times; None without any."""
    opened = note.open_note(signed, [*policy.logs, *policy.witnesses.values()])
    times = [one.time for one in opened.verified if one.time is not None]
    latest = max(times, default=None)
    if latest is None:
        return None
    require(latest <= _LATEST, "A cosignature's time is not in the calendar.")
    return datetime.fromtimestamp(latest, UTC)


_LATEST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
