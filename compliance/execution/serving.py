"""Is what is served what was published? One look at a folder, compared by the digest of every file, and logged.

A report is about weights, and weights can be exchanged after it was signed (threat 6 of the design's list). A process
that serves a model, or an auditor beside it, hands over the folder that is served; what was found is a log entry,
`model.checked`, so that nobody can say later that nobody looked.

    current      the version in use, file by file
    superseded   an earlier version of the same model, which may still hold what was forgotten since
    changed      shares files with a version of the model and is none of them
    unknown      shares no file with any version

Only `current` is a yes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from audits import model
from audits.model import FileDigest
from compliance.desk import Desk
from compliance.errors import InvalidInputError
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import ModelView, VersionView


class Outcome(StrEnum):
    """What a served folder is."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    CHANGED = "changed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """A folder against the model it is, or comes nearest to.

    `version` is what the folder is, None when it is no version; `differing` compares it with the one in use.
    """

    model: ModelView
    current: VersionView
    version: int | None
    digest: str
    files: Mapping[str, FileDigest]
    outcome: Outcome
    differing: Mapping[str, str]
    log_index: int


def check_served(desk: Desk, folder: Path, *, name: str | None = None) -> Served:
    """Compare and log; `name` is the model that the folder should be of, else the one it comes nearest to.

    Raises VerificationError for a folder that cannot be hashed (links, nothing in it), InvalidInputError when it is
    not clear which model is meant, NotFoundError when there is no such model or it has no version.
    """
    found = model.files(folder)
    digest = model.digest(found)
    with desk.transaction() as ledger:
        meant = _meant(ledger, found, digest) if name is None else ledger.model_named(name)
        current = ledger.current_version(meant.id)
        numbers = [version.number for version in ledger.versions(meant.id) if version.digest == digest]
        outcome = _outcome(ledger, meant, found, is_current=current.digest == digest, known=bool(numbers))
        index = ledger.check_served(model_id=meant.id, served=digest, outcome=outcome.value, now=desk.clock())
    desk.publish()
    return Served(
        model=meant,
        current=current,
        version=current.number if outcome is Outcome.CURRENT else next(reversed(numbers), None),
        digest=digest,
        files=found,
        outcome=outcome,
        differing=model.differences(found, _files(current)),
        log_index=index,
    )


def _meant(ledger: Ledger, found: Mapping[str, FileDigest], digest: str) -> ModelView:
    """The model of which this is the version in use, else an older one, else with whose files it has most in common."""
    ranked = [
        ((version.digest == digest, version.state == "current", _shared(found, version)), one)
        for one in ledger.models()
        for version in ledger.versions(one.id)
    ]
    alike = [(rank, one) for rank, one in ranked if rank[-1]]
    models = {one.id: one for _, one in alike or ranked}
    if not models:
        raise InvalidInputError("there is no model to compare with; register it with 'expunge model add'", code="empty")
    if not alike and len(models) > 1:
        message = "the folder has no file in common with any model; say which one it should be with --model NAME"
        raise InvalidInputError(message, code="which-model")
    return max(alike or ranked, key=lambda pair: pair[0])[1]


def _outcome(
    ledger: Ledger, meant: ModelView, found: Mapping[str, FileDigest], *, is_current: bool, known: bool
) -> Outcome:
    if is_current:
        return Outcome.CURRENT
    if known:
        return Outcome.SUPERSEDED
    alike = any(_shared(found, version) for version in ledger.versions(meant.id))
    return Outcome.CHANGED if alike else Outcome.UNKNOWN


def _shared(found: Mapping[str, FileDigest], version: VersionView) -> int:
    """How many files are the same, name and content."""
    known = dict(_files(version))
    return sum(known.get(file) == one for file, one in found.items())


def _files(version: VersionView) -> Mapping[str, FileDigest]:
    return cast("Mapping[str, FileDigest]", version.files)


def in_words(served: Served) -> Iterator[str]:
    """The finding in sentences: what the folder is, and how it differs from the version in use."""
    told: dict[Outcome, Any] = {
        Outcome.CURRENT: "This is the version in use.",
        Outcome.SUPERSEDED: f"This is version {served.version}, and version {served.current.number} is in use.",
        Outcome.CHANGED: f"This is no version of the model, and shares files with one. Version {served.current.number}"
        " is in use.",
        Outcome.UNKNOWN: f"This shares no file with any version. Version {served.current.number} is in use.",
    }
    yield told[served.outcome]
    if served.differing:
        yield f"{len(served.differing)} file(s) differ from it: {model.told(served.differing)}."
