"""The files of one claim of a run: forget, retain and holdout sets in a folder that is emptied at the end.

The folder's name carries the epoch, so two claims never write into the same one; a new claim sweeps the
folders of the old ones, which hold personal data.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compliance.errors import ConflictError
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import BatchView, Claim, ModelView
from compliance.planning import Split, split
from compliance.store import Store
from engine.corpus import Record, digest, write_records


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """Paths and records of one claim."""

    folder: Path
    parts: Split

    @property
    def forget(self) -> Path:
        """The forget set."""
        return self.folder / "forget.jsonl"

    @property
    def retain(self) -> Path:
        """The retain set."""
        return self.folder / "retain.jsonl"

    @property
    def holdout(self) -> Path:
        """People no model has seen."""
        return self.folder / "holdout.jsonl"

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)


def open_workspace(ledger: Ledger, store: Store, *, claim: Claim, batch: BatchView, model: ModelView) -> Workspace:
    """Write the batch's files; ConflictError when the data set is not the one that was planned for."""
    run_folder = store.run_folder(claim.run_id)
    shutil.rmtree(run_folder, ignore_errors=True)
    folder = run_folder / str(claim.epoch)
    folder.mkdir(parents=True)
    parts = split(ledger, store, batch.plan["requests"], model)
    if digest(parts.forget) != batch.plan["forgetDigest"] or digest(parts.retain) != batch.plan["retainDigest"]:
        message = "the data set changed after the plan was logged; restore it from its backup and run the batch again"
        raise ConflictError(message, code="data-set-changed")
    held = None if model.holdout_id is None else store.records(model.holdout_id)
    return fill_workspace(folder, parts, held)


def fill_workspace(folder: Path, parts: Split, held: Sequence[Record] | None) -> Workspace:
    """Write the sets of a batch into an empty folder; `held` are people whom no model has seen, if there are any."""
    space = Workspace(folder=folder, parts=parts)
    _write(space.forget, parts.forget)
    _write(space.retain, parts.retain)
    if held is not None:
        _write(space.holdout, _asked(held, parts))
    return space


def _asked(held: Sequence[Record], parts: Split) -> list[Record]:
    """What the holdout set has to say: a domain that left earlier is in no set, and no model is asked about it."""
    known = {record.domain for record in (*parts.forget, *parts.retain)}
    return [record for record in held if record.domain in known] if known != {None} else list(held)


def _write(path: Path, records: Sequence[Record]) -> None:
    path.touch(mode=0o600)
    write_records(path, records)
