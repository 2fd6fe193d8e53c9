"""The tables. Private to the ledger: nothing outside `compliance.ledger` and the migrations imports them.

Ids, times and states come from the caller. Columns marked *operational* (leases, heartbeats, counters)
may change without a log entry; every other change is made by `Ledger` together with its entry.
Personal data stands only in `personal_data.ciphertext`, under the request's own key.
"""

from datetime import UTC, date, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID = String(64)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time on both databases (SQLite has no zone; a naive time is a bug, so it raises)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = "a time without a zone reached the database"
            raise ValueError(message)
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Naming convention and types shared by all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        dict[str, Any]: JSON(),
        bytes: LargeBinary(),
        float: Float(),
        str: String(),
    }


class LogEntry(Table):
    """One leaf of the log: RFC 8785 JSON, never changed (triggers), in sequence (trigger)."""

    __tablename__ = "log_entries"
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(40), index=True)
    request_id: Mapped[str | None] = mapped_column(String(64), index=True)
    payload: Mapped[bytes]
    recorded_at: Mapped[datetime]


class LogHead(Table):
    """The single row whose lock orders appends; `checkpoint` is the newest one signed."""

    __tablename__ = "log_head"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    checkpoint: Mapped[str] = mapped_column(Text)
    checkpoint_size: Mapped[int] = mapped_column(BigInteger)


class Request(Table):
    """A removal request without anything that says who filed it."""

    __tablename__ = "requests"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    state: Mapped[str] = mapped_column(String(24), index=True)
    resume_state: Mapped[str | None] = mapped_column(String(24))
    regime: Mapped[str] = mapped_column(String(24))
    scope: Mapped[str] = mapped_column(String(24))
    door: Mapped[str] = mapped_column(String(16))
    agent: Mapped[str | None] = mapped_column(String(64), index=True)
    country: Mapped[str] = mapped_column(String(2))
    subdivision: Mapped[str] = mapped_column(String(8))
    test: Mapped[bool] = mapped_column(Boolean, server_default=false())
    received_at: Mapped[datetime] = mapped_column(index=True)
    acknowledge_by: Mapped[date | None]
    respond_by: Mapped[date] = mapped_column(index=True)
    extended: Mapped[bool] = mapped_column(Boolean, server_default=false())
    closed_at: Mapped[datetime | None]
    denial_code: Mapped[str | None] = mapped_column(String(48))
    commitment: Mapped[str] = mapped_column(String(64))
    status_digest: Mapped[str] = mapped_column(String(64), unique=True)
    receipt: Mapped[dict[str, Any]]


class RequestKey(Table):
    """A request's own key, wrapped; deleting the row is the erasure of everything under it."""

    __tablename__ = "request_keys"
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.id"), primary_key=True)
    wrapped: Mapped[bytes]


class PersonalData(Table):
    """AES-256-GCM ciphertext under the request's key, by purpose."""

    __tablename__ = "personal_data"
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.id"), primary_key=True)
    purpose: Mapped[str] = mapped_column(String(24), primary_key=True)
    ciphertext: Mapped[bytes]


class IdentityCode(Table):
    """The one-time code by keyed digest; `attempts_left` falls by one atomic UPDATE (operational)."""

    __tablename__ = "identity_codes"
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[datetime]
    attempts_left: Mapped[int]
    issued: Mapped[int]


class IdempotencyKey(Table):
    """Which requests an Idempotency-Key already made, and from which body."""

    __tablename__ = "idempotency_keys"
    key_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    body_digest: Mapped[str] = mapped_column(String(64))
    request_ids: Mapped[dict[str, Any]]
    recorded_at: Mapped[datetime]


class Notice(Table):
    """The outbox: what has to be told to whom; written in the transaction that is its reason."""

    __tablename__ = "notices"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.id"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime]
    sent_at: Mapped[datetime | None] = mapped_column(index=True)


class DataSet(Table):
    """A registered data set; its records lie in the store, its manifest digest here."""

    __tablename__ = "datasets"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    subject_field: Mapped[str] = mapped_column(String(120))
    digest: Mapped[str] = mapped_column(String(64))
    added_at: Mapped[datetime]


class TrainingRecord(Table):
    """One training record: its random id, content tag and subject tag (both keyed hashes)."""

    __tablename__ = "training_records"
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    record_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    content_tag: Mapped[str] = mapped_column(String(64))
    subject_tag: Mapped[str | None] = mapped_column(String(64), index=True)
    forgotten_at: Mapped[datetime | None]


class Suppression(Table):
    """Keyed hashes of what was forgotten, so that it is refused when it comes back."""

    __tablename__ = "suppressions"
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    recorded_at: Mapped[datetime]


class Model(Table):
    """A model: its data sets, policy, where it started, its schedule and its current version."""

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), index=True)
    holdout_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"))
    policy: Mapped[str] = mapped_column(Text)
    start: Mapped[str] = mapped_column(Text)
    start_digest: Mapped[str] = mapped_column(String(64))
    every_seconds: Mapped[int | None]
    added_at: Mapped[datetime]


class ModelVersion(Table):
    """One version of a model; at most one is current."""

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        Index(
            "uq_model_versions_current",
            "model_id",
            unique=True,
            sqlite_where=text("state = 'current'"),
            postgresql_where=text("state = 'current'"),
        ),
    )
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64))
    files: Mapped[dict[str, Any]]
    path: Mapped[str] = mapped_column(Text)
    guarantee: Mapped[str] = mapped_column(String(16))
    report_digest: Mapped[str | None] = mapped_column(String(64))
    published_at: Mapped[datetime]


class Base(Table):
    """A DP base, its accountant record and the deletion budget spent on it."""

    __tablename__ = "bases"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    state: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    accountant: Mapped[dict[str, Any]]
    learned: Mapped[dict[str, Any]]
    seed_commitment: Mapped[str] = mapped_column(String(64))
    units: Mapped[int]
    units_deleted: Mapped[int]
    trained_at: Mapped[datetime]


class Charge(Table):
    """What a batch cost a DP base. A batch pays once: it is the key."""

    __tablename__ = "charges"
    __table_args__ = (CheckConstraint("units > 0", name="ck_charges_units"),)
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"), primary_key=True)
    base_id: Mapped[str] = mapped_column(ForeignKey("bases.id"), index=True)
    units: Mapped[int]


class Item(Table):
    """One model (and its data set) a request concerns."""

    __tablename__ = "items"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.id"), index=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    state: Mapped[str] = mapped_column(String(16), index=True)
    batch_id: Mapped[str | None] = mapped_column(ForeignKey("batches.id"), index=True)
    denial_code: Mapped[str | None] = mapped_column(String(48))


class Match(Table):
    """A training record a request concerns, and why."""

    __tablename__ = "matches"
    request_id: Mapped[str] = mapped_column(ForeignKey("requests.id"), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    record_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    reason: Mapped[str] = mapped_column(String(48), primary_key=True)


class Batch(Table):
    """Approved items of one model to be unlearned together, with the plan logged before the run."""

    __tablename__ = "batches"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"), index=True)
    plan: Mapped[dict[str, Any]]
    plan_digest: Mapped[str] = mapped_column(String(64))
    plan_index: Mapped[int] = mapped_column(BigInteger)
    planned_at: Mapped[datetime]
    challenge_ends: Mapped[datetime | None]


class BatchKey(Table):
    """The key that seals a batch's forget set and before-weights; deleting the row destroys them."""

    __tablename__ = "batch_keys"
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"), primary_key=True)
    wrapped: Mapped[bytes]


class Run(Table):
    """The execution of a batch. Lease and progress are operational; `epoch` fences stale workers."""

    __tablename__ = "runs"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"), unique=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    epoch: Mapped[int]
    leased_until: Mapped[datetime | None]
    progress: Mapped[dict[str, Any]]
    queued_at: Mapped[datetime]
    woken_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Attempt(Table):
    """One rung tried by one claim of a run."""

    __tablename__ = "attempts"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    epoch: Mapped[int]
    rung: Mapped[str] = mapped_column(String(24))
    outcome: Mapped[str] = mapped_column(String(16))
    record: Mapped[dict[str, Any]]
    log_index: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class Report(Table):
    """A signed report, by the digest of its payload, and the bundle that carries it."""

    __tablename__ = "reports"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    envelope: Mapped[bytes]
    log_index: Mapped[int] = mapped_column(BigInteger)
    ledger_to: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class ServiceKey(Table):
    """Public half of a signing key, and the log entries of its registration and of its revocation."""

    __tablename__ = "service_keys"
    key_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16), index=True)
    public_key: Mapped[bytes]
    log_index: Mapped[int] = mapped_column(BigInteger)
    algorithm: Mapped[str] = mapped_column(String(16), server_default="ed25519")
    revoked_index: Mapped[int | None] = mapped_column(BigInteger)
    revoked_reason: Mapped[str | None] = mapped_column(String(16))
