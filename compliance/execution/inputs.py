"""What a batch was made from, opened again so that its run can be repeated while its key exists.

    forget       the records that left, sealed when the batch closes (`closing`)
    retain       the ids of those that stayed, in their order, sealed before the first rung is tried
    version-N    the weights before, and a guard's
    base         the DP base, in the batch that replaced it

Records that stayed are not sealed: they lie in the data set, which only ever loses some. What it lost since is in the
sealed forget sets of other batches, and once the key of such a batch is destroyed nobody can have it back; the run can
then not be repeated either, and the log entry that says so is named.

Nothing that is opened is believed: the plan, whose digest was logged before the run and stands in the report, has the
digests of both sets, of the weights before and of the base.
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from audits import model as folders
from audits.errors import VerificationError, require
from compliance.desk import Desk
from compliance.errors import NotFoundError
from compliance.execution.closing import FORGET
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import BatchView
from compliance.store import Store
from engine.corpus import Record, digest, read_records

RETAIN, BASE = "retain", "base"
LOCK = ".lock"
GONE = "The challenge period is over: entry {index} of the log, batch.key_destroyed, made at {at}, {what}."


def seal_names(desk: Desk, ledger: Ledger, batch: BatchView, retain: Sequence[Record]) -> None:
    """Seal the ids of the retain set as the run has it; another model's batch may take records away before it ends."""
    names = json.dumps([record.record_id for record in retain]).encode()
    desk.store.seal_bytes(desk.vault, ledger.batch_key(batch.id), names, batch_id=batch.id, name=RETAIN)


@contextmanager
def private_folder(root: Path) -> Iterator[Path]:
    """A folder of mode 0700 below `root` that is gone when the block ends; what a killed process left goes first."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        with _door(root):
            _sweep(root)
            folder = Path(tempfile.mkdtemp(dir=root))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            fcntl.flock(stack.enter_context((folder / LOCK).open("w")), fcntl.LOCK_EX)
        yield folder


def sweep_folders(root: Path) -> None:
    """Remove the private folders that no living process has."""
    if root.is_dir():
        with _door(root):
            _sweep(root)


@contextmanager
def _door(root: Path) -> Iterator[None]:
    """One process at a time, so that nobody takes a folder that is not locked yet for an abandoned one."""
    with (root / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep(root: Path) -> None:
    for old in (path for path in root.iterdir() if path.is_dir()):
        try:
            with (old / LOCK).open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # a living process has it
        except FileNotFoundError:
            pass  # its process removes it at this moment
        shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sealed:
    """A batch whose sealed remains are opened into `folder`, which is private and soon gone."""

    desk: Desk
    ledger: Ledger
    batch: BatchView
    folder: Path

    def key(self) -> bytes:
        """The batch's key; VerificationError names the log entry of its destruction."""
        return self._key_of(self.batch.id, "destroyed the key of the sealed inputs")

    def forget(self) -> tuple[Record, ...]:
        """The records that the batch forgot; VerificationError when they are not those of the plan."""
        records = self._forgotten(self.batch.id, self.key())
        self._require_planned(records, "forget")
        return records

    def retain(self) -> tuple[Record, ...]:
        """The retain set, put together from the data set and from what other batches took from it since."""
        raw = self.desk.store.open_bytes(self.desk.vault, self.key(), batch_id=self.batch.id, name=RETAIN)
        names: list[str] = json.loads(raw)
        dataset_id = self.ledger.model(self.batch.model_id).dataset_id
        found = {record.record_id: record for record in self.desk.store.records(dataset_id)}
        missing = set(names) - found.keys()
        gone: list[str] = []
        for other in self._others(dataset_id) if missing else ():
            key = self._live_key(other)
            if key is None:
                gone.append(other)
            else:
                found.update({record.record_id: record for record in self._forgotten(other, key)})
        lost = missing - found.keys()
        if lost and gone:
            what = f"destroyed the key of a later batch, which took {len(lost)} of the retained records away"
            self._key_of(gone[0], what)
        require(not lost, f"{len(lost)} of the retained records are neither in the data set nor sealed.")
        records = tuple(found[name] for name in names)
        self._require_planned(records, "retain")
        return records

    def model(self, folder_digest: str, *, into: Store, what: str) -> Path:
        """A model folder by its digest below `into`: a link to the stored one, or opened from where it was sealed."""
        target = into.model_path(folder_digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        stored = self.desk.store.model_path(folder_digest)
        if stored.is_dir():
            require(folders.digest_folder(stored) == folder_digest, f"The stored {what} was changed.")
            target.symlink_to(stored.resolve(), target_is_directory=True)
            return target
        for batch_id, name in self._places(folder_digest):
            key = self._key_of(batch_id, f"destroyed the key of {what}")
            self.desk.store.open_folder(self.desk.vault, key, batch_id=batch_id, name=name, target=target)
            if folders.digest_folder(target) == folder_digest:
                return target
            shutil.rmtree(target)
        raise VerificationError(f"The {what} is neither stored nor sealed, or was changed.")

    def _places(self, folder_digest: str) -> Iterator[tuple[str, str]]:
        """Where a folder may be sealed: as a version, or as the base that some batch of the model replaced."""
        for version in self.ledger.versions(self.batch.model_id):
            if version.digest == folder_digest and version.path:
                yield Path(version.path).parent.name, Path(version.path).name
        for batch in self.ledger.batches(self.batch.model_id):
            if batch.planned_at >= self.batch.planned_at and (self.desk.store.sealed_path(batch.id) / BASE).is_dir():
                yield batch.id, BASE

    def _others(self, dataset_id: str) -> list[str]:
        """The batches of any model that may have taken records from the data set."""
        models = {one.id for one in self.ledger.models(dataset_id=dataset_id)}
        return [one.id for one in self.ledger.batches() if one.model_id in models and one.id != self.batch.id]

    def _forgotten(self, batch_id: str, key: bytes) -> tuple[Record, ...]:
        store = self.desk.store
        if not store.sealed_path(batch_id).joinpath(f"{FORGET}.sealed").is_file():
            return ()  # the batch has not ended: what it forgets is in the data set
        path = self.folder / f"{batch_id}.jsonl"
        path.write_bytes(store.open_bytes(self.desk.vault, key, batch_id=batch_id, name=FORGET))
        try:
            return read_records(path)
        finally:
            path.unlink()

    def _live_key(self, batch_id: str) -> bytes | None:
        try:
            return self.ledger.batch_key(batch_id)
        except NotFoundError:
            return None

    def _key_of(self, batch_id: str, what: str) -> bytes:
        key = self._live_key(batch_id)
        if key is None:
            entry = self.ledger.key_destroyed(batch_id)
            require(entry is not None, "The key of a batch is gone, and no entry of the log says why.")
            index, at = entry or (0, "")
            raise VerificationError(GONE.format(index=index, at=at, what=what))
        return key

    def _require_planned(self, records: Sequence[Record], name: str) -> None:
        same = digest(records) == self.batch.plan[f"{name}Digest"]
        require(same, f"The {name} set that was put together is not the one that was planned for.")
