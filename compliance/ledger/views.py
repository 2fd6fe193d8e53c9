"""What the ledger answers: frozen values, detached from any session and free of personal data.

`Subject` alone carries personal data; it leaves the vault only through `Ledger.open_subject`.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import Any

from audits import opening
from compliance.ledger.lifecycle import AttemptOutcome, ItemState, RequestState, RunState


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Who asks, and by what they can be found. Its repr shows nothing.

    `target` names the class or domain of a request of that scope, and is empty for one about records. A class can be
    a person's name (of faces), so it is personal data like the rest.
    """

    name: str = field(repr=False)
    email: str = field(repr=False)
    identifiers: tuple[str, ...] = field(default=(), repr=False)
    statement: str = field(default="", repr=False)
    target: str = field(default="", repr=False)

    def canonical(self) -> bytes:
        """The bytes that are committed to and encrypted: sorted JSON, without a target where there is none."""
        values = {name: value for name, value in asdict(self).items() if name != "target" or value}
        return opening.canonical(values)

    @classmethod
    def parse(cls, raw: bytes) -> "Subject":
        """Undo `canonical`."""
        values = json.loads(raw)
        return cls(**(values | {"identifiers": tuple(values["identifiers"])}))


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestView:
    """A request as anyone entitled may see it."""

    id: str
    state: RequestState
    regime: str
    scope: str
    door: str
    agent: str | None
    country: str
    subdivision: str
    test: bool
    received_at: datetime
    acknowledge_by: date | None
    respond_by: date
    extended: bool
    closed_at: datetime | None
    denial_code: str | None
    commitment: str
    receipt: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryView:
    """One thing that happened to a request, and where the log has it."""

    index: int
    at: datetime
    kind: str
    state: str | None
    code: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeAttempt:
    """What one attempt at the identity code is compared with."""

    digest: str
    expires_at: datetime
    attempts_left: int
    issued: int


@dataclass(frozen=True, kw_only=True, slots=True)
class IdempotentAnswer:
    """What an Idempotency-Key already led to."""

    body_digest: str
    request_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoticeView:
    """Something to be told to the person behind a request."""

    id: str
    request_id: str
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSetView:
    """A data set and how many of its records are still in it."""

    id: str
    name: str
    subject_field: str
    digest: str
    added_at: datetime
    records: int
    forgotten: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordView:
    """A training record by its tags."""

    record_id: str
    content_tag: str
    subject_tag: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelView:
    """A registered model."""

    id: str
    name: str
    dataset_id: str
    holdout_id: str | None
    policy: str
    start: str
    start_digest: str
    every_seconds: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionView:
    """One version of a model."""

    id: str
    model_id: str
    number: int
    state: str
    digest: str
    files: dict[str, dict[str, Any]]
    path: str
    guarantee: str
    report_digest: str | None
    published_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseView:
    """A DP base and how many units have been deleted since it was trained."""

    id: str
    model_id: str
    state: str
    digest: str
    path: str
    accountant: dict[str, Any]
    learned: dict[str, Any]
    seed_commitment: str
    units: int
    units_deleted: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemView:
    """One model a request concerns."""

    id: str
    request_id: str
    model_id: str
    model_name: str
    dataset_id: str
    state: ItemState
    batch_id: str | None
    denial_code: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchView:
    """A record a request concerns, and why."""

    dataset_id: str
    record_id: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchView:
    """A planned batch and its run."""

    id: str
    model_id: str
    plan: dict[str, Any]
    plan_digest: str
    plan_index: int
    planned_at: datetime
    challenge_ends: datetime | None
    run_id: str
    run_state: RunState
    progress: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A worker's right to a run until the lease ends; a newer epoch voids it."""

    run_id: str
    batch_id: str
    epoch: int
    leased_until: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptView:
    """One rung tried, with its evidence record."""

    id: str
    run_id: str
    epoch: int
    rung: str
    outcome: AttemptOutcome
    record: dict[str, Any]
    log_index: int | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportView:
    """A signed report."""

    id: str
    batch_id: str
    digest: str
    envelope: bytes
    log_index: int
    ledger_to: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceKeyView:
    """A registered key; `revoked_index` is None while it is in force."""

    key_id: str
    role: str
    algorithm: str
    public_key: bytes
    log_index: int
    revoked_index: int | None
    revoked_reason: str | None

    @property
    def retired(self) -> bool:
        """Whether it was given up in good order: what it signed before is not in doubt."""
        return self.revoked_reason in {"rotated", "retired"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The log's size, and the newest checkpoint with the size it covers."""

    size: int
    checkpoint: str
    checkpoint_size: int
