"""Data sets, training records, models, versions, DP bases and their deletion budgets."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update

from compliance.errors import ConflictError, NotFoundError
from compliance.ledger import tables
from compliance.ledger.core import LedgerCore
from compliance.ledger.entries import EntryKind
from compliance.ledger.views import BaseView, DataSetView, ModelView, RecordView, VersionView

CURRENT = "current"


class Training(LedgerCore):
    """What an ML engineer registers, and what a batch changes of it."""

    def add_dataset(
        self,
        *,
        dataset_id: str,
        name: str,
        subject_field: str,
        digest: str,
        records: Sequence[RecordView],
        now: datetime,
    ) -> None:
        """Register a data set; ConflictError when the name is taken."""
        if self._session.scalar(select(tables.DataSet.id).where(tables.DataSet.name == name)) is not None:
            message = f"a data set named '{name}' exists; choose another name"
            raise ConflictError(message, code="name-taken")
        row = tables.DataSet(id=dataset_id, name=name, subject_field=subject_field, digest=digest, added_at=now)
        self._session.add(row)
        self._session.flush()
        values = [
            {
                "dataset_id": dataset_id,
                "record_id": r.record_id,
                "content_tag": r.content_tag,
                "subject_tag": r.subject_tag,
            }
            for r in records
        ]
        self._session.execute(insert(tables.TrainingRecord), values)
        self._append(EntryKind.DATASET_ADDED, {"datasetId": dataset_id, "digest": digest, "records": len(records)}, now)

    def datasets(self) -> list[DataSetView]:
        """Every data set, by name."""
        return [
            self._dataset(row) for row in self._session.scalars(select(tables.DataSet).order_by(tables.DataSet.name))
        ]

    def dataset(self, dataset_id: str) -> DataSetView:
        """One data set; NotFoundError."""
        return self._dataset(self._get(tables.DataSet, dataset_id, "data set"))

    def dataset_named(self, name: str) -> DataSetView:
        """One data set by name; NotFoundError."""
        row = self._session.scalar(select(tables.DataSet).where(tables.DataSet.name == name))
        if row is None:
            message = f"there is no data set named '{name}'; see 'expunge dataset list'"
            raise NotFoundError(message, code="no-such-data-set")
        return self._dataset(row)

    def _dataset(self, row: tables.DataSet) -> DataSetView:
        record = tables.TrainingRecord
        counts = select(func.count(), func.count(record.forgotten_at)).where(record.dataset_id == row.id)
        total, forgotten = self._session.execute(counts).one()
        return DataSetView(
            id=row.id,
            name=row.name,
            subject_field=row.subject_field,
            digest=row.digest,
            added_at=row.added_at,
            records=total - forgotten,
            forgotten=forgotten,
        )

    def records_of(self, *, dataset_id: str, subject_tags: Iterable[str]) -> list[RecordView]:
        """The records still in a data set whose subject field has one of these tags."""
        record = tables.TrainingRecord
        query = select(record).where(
            record.dataset_id == dataset_id,
            record.subject_tag.in_(list(subject_tags)),
            record.forgotten_at.is_(None),
        )
        return [_record(row) for row in self._session.scalars(query)]

    def records_named(self, *, dataset_id: str, record_ids: Sequence[str]) -> list[RecordView]:
        """Tags of the named records, forgotten ones included."""
        record = tables.TrainingRecord
        query = select(record).where(record.dataset_id == dataset_id, record.record_id.in_(list(record_ids)))
        return [_record(row) for row in self._session.scalars(query)]

    def forget_records(
        self, *, dataset_id: str, record_ids: Sequence[str], digest: str, batch_id: str, now: datetime
    ) -> None:
        """Take records out of a data set: mark them, suppress their return, log the new digest. Repeats safely."""
        record_ids = sorted(set(record_ids) - self.forgotten_ids(dataset_id))
        if not record_ids:
            return
        for record in self.records_named(dataset_id=dataset_id, record_ids=record_ids):
            self._session.merge(tables.Suppression(tag=record.content_tag, kind="record", recorded_at=now))
        row = tables.TrainingRecord
        self._session.execute(
            update(row)
            .where(row.dataset_id == dataset_id, row.record_id.in_(list(record_ids)))
            .values(forgotten_at=now, subject_tag=None)
        )
        self._get(tables.DataSet, dataset_id, "data set").digest = digest
        data = {"datasetId": dataset_id, "digest": digest, "removed": len(record_ids), "batchId": batch_id}
        self._append(EntryKind.DATASET_CHANGED, data, now)

    def forgotten_ids(self, dataset_id: str) -> set[str]:
        """The records of a data set that were forgotten; none of them enters a retain set again."""
        record = tables.TrainingRecord
        query = select(record.record_id).where(record.dataset_id == dataset_id, record.forgotten_at.is_not(None))
        return set(self._session.scalars(query))

    def suppress(self, kind: str, *, tag: str, request_id: str, now: datetime) -> None:
        """Refuse every later record with this tag of a subject, a class or a domain (`kind`)."""
        if self._session.get(tables.Suppression, tag) is None:
            self._append(EntryKind(f"{kind}.suppressed"), {"requestId": request_id}, now)
        self._session.merge(tables.Suppression(tag=tag, kind=kind, recorded_at=now))

    def suppressed(self, tags: Iterable[str]) -> set[str]:
        """Which of these tags belong to something forgotten."""
        wanted = list(tags)
        found: set[str] = set()
        for start in range(0, len(wanted), 500):
            query = select(tables.Suppression.tag).where(tables.Suppression.tag.in_(wanted[start : start + 500]))
            found.update(self._session.scalars(query))
        return found

    def add_model(
        self,
        *,
        model_id: str,
        name: str,
        dataset_id: str,
        holdout_id: str | None,
        policy: str,
        start: str,
        start_digest: str,
        now: datetime,
    ) -> None:
        """Register a model; ConflictError when the name is taken."""
        self.refuse_taken(name)
        self._session.add(
            tables.Model(
                id=model_id,
                name=name,
                dataset_id=dataset_id,
                holdout_id=holdout_id,
                policy=policy,
                start=start,
                start_digest=start_digest,
                every_seconds=None,
                added_at=now,
            )
        )
        self._session.flush()
        data = {"modelId": model_id, "datasetId": dataset_id, "startDigest": start_digest}
        self._append(EntryKind.MODEL_ADDED, data, now)

    def refuse_taken(self, name: str) -> None:
        """ConflictError when a model has this name."""
        if self._session.scalar(select(tables.Model.id).where(tables.Model.name == name)) is not None:
            message = f"a model named '{name}' exists; choose another name"
            raise ConflictError(message, code="name-taken")

    def schedule(self, *, model_id: str, every_seconds: int | None, now: datetime) -> None:
        """Plan and run batches of this model every so often; None switches it off."""
        self._get(tables.Model, model_id, "model").every_seconds = every_seconds
        self._append(EntryKind.MODEL_SCHEDULED, {"modelId": model_id, "everySeconds": every_seconds}, now)

    def models(self, *, dataset_id: str | None = None) -> list[ModelView]:
        """Every model (trained on this data set), by name."""
        query = select(tables.Model).order_by(tables.Model.name)
        if dataset_id is not None:
            query = query.where(tables.Model.dataset_id == dataset_id)
        return [_model(row) for row in self._session.scalars(query)]

    def model(self, model_id: str) -> ModelView:
        """One model; NotFoundError."""
        return _model(self._get(tables.Model, model_id, "model"))

    def model_named(self, name: str) -> ModelView:
        """One model by name; NotFoundError."""
        row = self._session.scalar(select(tables.Model).where(tables.Model.name == name))
        if row is None:
            message = f"there is no model named '{name}'; see 'expunge model list'"
            raise NotFoundError(message, code="no-such-model")
        return _model(row)

    def publish_version(
        self,
        *,
        version_id: str,
        model_id: str,
        digest: str,
        files: dict[str, Any],
        path: str,
        guarantee: str,
        report_digest: str | None,
        now: datetime,
    ) -> VersionView:
        """Make a version current and the one before it superseded: the atomic `current` pointer."""
        versions = self.versions(model_id)
        version = tables.ModelVersion
        self._session.execute(
            update(version).where(version.model_id == model_id, version.state == CURRENT).values(state="superseded")
        )
        row = version(
            id=version_id,
            model_id=model_id,
            number=len(versions) + 1,
            state=CURRENT,
            digest=digest,
            files=files,
            path=path,
            guarantee=guarantee,
            report_digest=report_digest,
            published_at=now,
        )
        self._session.add(row)
        self._session.flush()
        data = {
            "modelId": model_id,
            "versionId": version_id,
            "number": row.number,
            "digest": digest,
            "guarantee": guarantee,
            "reportDigest": report_digest,
        }
        self._append(EntryKind.VERSION_PUBLISHED, data, now)
        return _version(row)

    def versions(self, model_id: str) -> list[VersionView]:
        """A model's versions, oldest first."""
        query = select(tables.ModelVersion).where(tables.ModelVersion.model_id == model_id)
        return [_version(row) for row in self._session.scalars(query.order_by(tables.ModelVersion.number))]

    def current_version(self, model_id: str) -> VersionView:
        """The version in use; NotFoundError when none was published."""
        query = select(tables.ModelVersion).where(
            tables.ModelVersion.model_id == model_id, tables.ModelVersion.state == CURRENT
        )
        row = self._session.scalar(query)
        if row is None:
            message = "this model has no version yet; run 'expunge model train' or 'expunge model add'"
            raise NotFoundError(message, code="no-version")
        return _version(row)

    def check_served(self, *, model_id: str, served: str, outcome: str, now: datetime) -> int:
        """Log what a look at a served folder found, against the version in use; the entry's index."""
        current = self.current_version(model_id)
        data = {"modelId": model_id, "version": current.number, "digest": current.digest, "served": served}
        return self._append(EntryKind.MODEL_CHECKED, data | {"outcome": outcome}, now)

    def in_use(self, digest: str) -> bool:
        """Whether the folder with this digest, which is kept once, is some model's current version, base or start."""
        version, base, model = tables.ModelVersion, tables.Base, tables.Model
        uses = (
            select(version.id).where(version.digest == digest, version.state == CURRENT),
            select(base.id).where(base.digest == digest, base.state != "retired"),
            select(model.id).where(model.start_digest == digest),
        )
        return any(self._session.scalar(use.limit(1)) is not None for use in uses)

    def version_sealed(self, *, version_id: str, batch_id: str, path: str, now: datetime) -> None:
        """The superseded weights now exist only under the batch key, or where another model uses the same."""
        row = self._get(tables.ModelVersion, version_id, "version")
        row.state, row.path = "sealed", path
        data = {"versionId": version_id, "batchId": batch_id, "digest": row.digest}
        self._append(EntryKind.VERSION_SEALED, data, now)

    def version_destroyed(self, *, version_id: str, now: datetime) -> None:
        """The sealed weights are gone for good."""
        row = self._get(tables.ModelVersion, version_id, "version")
        row.state, row.path = "destroyed", ""
        self._append(EntryKind.VERSION_DESTROYED, {"versionId": version_id, "digest": row.digest}, now)

    def add_base(
        self,
        *,
        base_id: str,
        model_id: str,
        digest: str,
        path: str,
        accountant: dict[str, Any],
        learned: dict[str, Any],
        seed_commitment: str,
        units: int,
        now: datetime,
    ) -> None:
        """Record a DP base; the one before it, if any, is retired."""
        base = tables.Base
        self._session.execute(
            update(base).where(base.model_id == model_id, base.state != "retired").values(state="retired")
        )
        self._session.add(
            base(
                id=base_id,
                model_id=model_id,
                state="active",
                digest=digest,
                path=path,
                accountant=accountant,
                learned=learned,
                seed_commitment=seed_commitment,
                units=units,
                units_deleted=0,
                trained_at=now,
            )
        )
        self._session.flush()
        data = {
            "baseId": base_id,
            "modelId": model_id,
            "digest": digest,
            "units": units,
            "seedCommitment": seed_commitment,
        }
        self._append(EntryKind.BASE_TRAINED, data, now)

    def base(self, model_id: str) -> BaseView | None:
        """The model's DP base in use, active or spent."""
        query = select(tables.Base).where(tables.Base.model_id == model_id, tables.Base.state != "retired")
        row = self._session.scalar(query)
        return None if row is None else _base(row)

    def base_with(self, *, model_id: str, digest: str) -> BaseView:
        """The model's DP base of these weights, in use or retired; NotFoundError."""
        query = select(tables.Base).where(tables.Base.model_id == model_id, tables.Base.digest == digest)
        row = self._session.scalars(query.order_by(tables.Base.trained_at)).first()
        if row is None:
            message = "the model has no DP base with the weights that the batch was planned on"
            raise NotFoundError(message, code="no-such-base")
        return _base(row)

    def spend_budget(self, *, base_id: str, units: int, batch_id: str, now: datetime) -> BaseView:
        """Count a batch's deleted units against the base (in the transaction that publishes the batch).

        ConflictError for a batch that has paid, for one of another model, and for a base that was replaced: whoever
        asks for that is about to publish twice.
        """
        row = self._get(tables.Base, base_id, "base")
        batch = self._get(tables.Batch, batch_id, "batch")
        if self._session.get(tables.Charge, batch_id) is not None:
            message = "this batch was charged to the deletion budget already; nothing was written"
            raise ConflictError(message, code="charged-already")
        if row.state == "retired" or row.model_id != batch.model_id or units < 1:
            message = "this batch cannot be charged to that DP base; nothing was written"
            raise ConflictError(message, code="wrong-charge")
        self._session.add(tables.Charge(batch_id=batch_id, base_id=base_id, units=units))
        row.units_deleted += units
        self._session.flush()
        data = {"baseId": base_id, "batchId": batch_id, "unitsDeleted": row.units_deleted}
        self._append(EntryKind.BUDGET_CHANGED, data, now)
        return _base(row)

    def charges(self, base_id: str) -> dict[str, int]:
        """The units that each batch was charged to a base, by batch; they add up to what was deleted."""
        charge = tables.Charge
        query = select(charge.batch_id, charge.units).where(charge.base_id == base_id)
        return {batch_id: units for batch_id, units in self._session.execute(query)}  # noqa: C416 - rows are no pairs

    def mark_spent(self, *, base_id: str, batch_id: str, now: datetime) -> None:
        """The base's group bound passed the policy's limit: no further certificate rests on it."""
        row = self._get(tables.Base, base_id, "base")
        if row.state == "active":
            row.state = "spent"
            self._append(EntryKind.BASE_SPENT, {"baseId": base_id, "batchId": batch_id}, now)


def _record(row: tables.TrainingRecord) -> RecordView:
    return RecordView(record_id=row.record_id, content_tag=row.content_tag, subject_tag=row.subject_tag)


def _model(row: tables.Model) -> ModelView:
    return ModelView(
        id=row.id,
        name=row.name,
        dataset_id=row.dataset_id,
        holdout_id=row.holdout_id,
        policy=row.policy,
        start=row.start,
        start_digest=row.start_digest,
        every_seconds=row.every_seconds,
    )


def _version(row: tables.ModelVersion) -> VersionView:
    return VersionView(
        id=row.id,
        model_id=row.model_id,
        number=row.number,
        state=row.state,
        digest=row.digest,
        files=row.files,
        path=row.path,
        guarantee=row.guarantee,
        report_digest=row.report_digest,
        published_at=row.published_at,
    )


def _base(row: tables.Base) -> BaseView:
    return BaseView(
        id=row.id,
        model_id=row.model_id,
        state=row.state,
        digest=row.digest,
        path=row.path,
        accountant=row.accountant,
        learned=row.learned,
        seed_commitment=row.seed_commitment,
        units=row.units,
        units_deleted=row.units_deleted,
    )
