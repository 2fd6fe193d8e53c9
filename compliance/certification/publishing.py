"""From a passed attempt to a published version.

1. The statement is built, signed, and its digest logged under the worker's claim.
2. A bundle is written over a fresh checkpoint, and our own offline verifier judges it under our own policy.
3. Only a bundle that it accepts takes its place, and only then is the version made current, in one
   transaction with the deletion budget and the items. A bundle that fails leaves everything as it was.

A guard that held is published in the same way while its batch goes on: its version becomes the current one, and nothing
else happens. No item moves and no budget is spent (`docs/adr/0022`).
"""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audits import budget, bundle, dsse, excerpt, mechanisms, statement, verify
from audits import policy as trust
from audits.keys import RoleSigner
from audits.render import html
from compliance import policy as policies
from compliance.certification.companions import companions, summary
from compliance.certification.report import ended_attempts, entries_needed, is_interim, predicate_of
from compliance.desk import Desk
from compliance.errors import ConflictError, UnavailableError
from compliance.ledger.entries import rfc3339
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import ItemState
from compliance.ledger.publication import Published
from compliance.ledger.views import AttemptView, BatchView, Claim, ReportView
from compliance.policy import Policy
from engine.contract import Guarantee

UNWITNESSED = "unwitnessed"


def certify(desk: Desk, claim: Claim, batch: BatchView, attempt: AttemptView) -> None:
    """Sign, log, verify and publish.

    UnavailableError when our own verifier rejects the bundle, and while a key is revoked or fewer witnesses answer than
    the policy asks for (UNWITNESSED: trying again later is all that it takes). Both are asked before anything is
    logged; a witness that goes away in between leaves a logged report, which the next one names as unpublished.
    """
    if desk.settings.witnesses:
        _cosigned(desk)
    keys = _Keys(report=desk.signers["report"], model=desk.signers["model"])  # also when a role gets another meanwhile
    logged = _log_report(desk, claim, batch, attempt, keys)
    published, weights = _cosigned(desk), desk.store.model_path(attempt.record["weightsDigest"])
    envelope = dsse.sign(logged.payload, payload_type=dsse.INTOTO, signer=keys.report)
    files = {
        bundle.REPORT: envelope,
        bundle.REPORT_ENTRY: published.entry(logged.index),
        bundle.REPORT_PROOF: published.proof(logged.index).encode(),
        bundle.KEY_ENTRY: published.entry(logged.key_index),
        bundle.KEY_PROOF: published.proof(logged.key_index).encode(),
        bundle.EVIDENCE: attempt.record["numbers"].encode(),
        bundle.PAGE: html.page(logged.payload),
        bundle.LEDGER: _excerpt(published, logged),
        **companions(desk, payload=logged.payload, envelope=envelope, signer=keys.model),
    }
    partial = _write_bundle(_partial(desk, batch, interim=is_interim(attempt)), files)
    verdict = verify.verify(partial, desk.policy_text(), model=weights)
    if not verdict.ok:
        failed = next(step for step in verdict.steps if not step.ok)
        step = f"step {failed.n} ({failed.name})"
        message = f"our own verifier rejected the report at {step}, so nothing was published: {failed.why}"
        raise UnavailableError(message, code="report-rejected")
    _write(partial, summary(desk, verdict, envelope, signer=keys.report))
    _publish(desk, claim, batch, attempt, hashlib.sha256(logged.payload).hexdigest())


def place_bundle(desk: Desk, batch: BatchView, *, interim: bool = False) -> None:
    """Move the verified bundle of a published batch, or of its guard, to its place; after a crash it does nothing."""
    partial = _partial(desk, batch, interim=interim)
    with desk.read() as ledger:
        report = report_of(ledger, batch, interim=interim)
    if report is not None and partial.is_dir():
        target = bundle_path(desk, report)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


def report_of(ledger: Ledger, batch: BatchView, *, interim: bool = False) -> ReportView | None:
    """The published report on a batch's end, or on its guard (`interim`); None while there is none."""
    classes = {version.report_digest: version.guarantee for version in ledger.versions(batch.model_id)}
    for report in ledger.reports_of(batch.id):
        if report.digest in classes and (classes[report.digest] == Guarantee.SUPPRESSION) is interim:
            return report
    return None


def bundle_path(desk: Desk, report: ReportView) -> Path:
    """Where a report's bundle lies: under the model's name and the number of the version it published."""
    with desk.read() as ledger:
        model = ledger.model(ledger.batch(report.batch_id).model_id)
        numbers = {version.report_digest: version.number for version in ledger.versions(model.id)}
    return desk.settings.workdir / "bundles" / f"{model.name}-v{numbers.get(report.digest, 0)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Keys:
    """What a report and the files beside it are signed with."""

    report: RoleSigner
    model: RoleSigner


@dataclass(frozen=True, kw_only=True, slots=True)
class _Logged:
    """A report's payload, its entry and its key's, and what else of the log its bundle shows."""

    payload: bytes
    index: int
    key_index: int
    start: int
    older: set[int]


def _cosigned(desk: Desk) -> Published:
    """The log as of now, under a checkpoint that enough witnesses cosigned; UnavailableError (UNWITNESSED)."""
    published = desk.publish()
    if desk.settings.witnesses and not desk.witnessed(published.checkpoint):
        message = "too few of the log's witnesses answer, and without them no report can go out; it is tried again"
        raise UnavailableError(message, code=UNWITNESSED)
    return published


def _log_report(desk: Desk, claim: Claim, batch: BatchView, attempt: AttemptView, keys: _Keys) -> _Logged:
    report_id = desk.ids()
    witnessed = trust.parse(desk.policy_text()).quorum is not None
    with desk.transaction() as ledger:
        key = ledger.key_in_force(keys.report.key_id)
        ledger.key_in_force(keys.model.key_id)  # or our verifier would reject what lies beside the report, each time
        now, attempts = desk.clock(), ended_attempts(ledger, attempt)
        told = {"report_id": report_id, "created_at": rfc3339(now)}
        predicate: Any = predicate_of(ledger, batch, attempts, **told, witnessed=witnessed)
        payload = statement.build(predicate)
        index = ledger.log_report(
            claim,
            report_id=report_id,
            digest=hashlib.sha256(payload).hexdigest(),
            envelope=dsse.sign(payload, payload_type=dsse.INTOTO, signer=keys.report),
            key_id=key.key_id,
            ledger_to=predicate["requestBatch"]["ledgerRange"]["to"],
            now=now,
        )
        return _Logged(
            payload=payload,
            index=index,
            key_index=key.log_index,
            start=min(predicate["requestBatch"]["ledgerRange"]["from"], batch.plan_index),
            older=entries_needed(ledger, batch),
        )


def _excerpt(published: Published, logged: _Logged) -> bytes:
    """The part of the log that the report speaks of, proved under the same checkpoint."""
    cut = excerpt.build(published, start=logged.start, stop=logged.index + 1, singles=logged.older)
    return cut.format()


def _partial(desk: Desk, batch: BatchView, *, interim: bool) -> Path:
    return desk.settings.workdir / "bundles" / f".{batch.id}{'.interim' if interim else ''}.partial"


def _write_bundle(folder: Path, files: dict[str, bytes]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write(folder, files)
    return folder


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _publish(desk: Desk, claim: Claim, batch: BatchView, attempt: AttemptView, report_digest: str) -> None:
    now, record = desk.clock(), attempt.record
    with desk.transaction() as ledger:
        ledger.check_claim(claim)
        if not is_interim(attempt):
            _account(desk, ledger, claim, batch, record["newBase"])
        ledger.publish_version(
            version_id=desk.ids(),
            model_id=batch.model_id,
            digest=record["weightsDigest"],
            files=record["files"],
            path=str(desk.store.model_path(record["weightsDigest"])),
            guarantee=record["class"],
            report_digest=report_digest,
            now=now,
        )


def _account(desk: Desk, ledger: Ledger, claim: Claim, batch: BatchView, made: dict[str, Any] | None) -> None:
    """The items are published, and a DP base pays for them or is replaced."""
    ledger.move_batch_items(claim, state=ItemState.PUBLISHED, now=desk.clock())
    if made is not None:
        _replace_base(desk, ledger, batch, made)
    else:
        _spend(desk, ledger, batch, policies.parse(ledger.model(batch.model_id).policy))


def _replace_base(desk: Desk, ledger: Ledger, batch: BatchView, made: dict[str, Any]) -> None:
    ledger.add_base(
        base_id=desk.ids(),
        model_id=batch.model_id,
        digest=made["digest"],
        path=str(desk.store.model_path(made["digest"])),
        accountant=made["accountant"],
        learned=made["learned"],
        seed_commitment=made["seedCommitment"],
        units=made["accountant"]["units"],
        now=desk.clock(),
    )


def _spend(desk: Desk, ledger: Ledger, batch: BatchView, policy: Policy) -> None:
    """The base that stays has seen the deleted units: whatever rung published, they count against it."""
    base = ledger.base(batch.model_id)
    if (None if base is None else base.digest) != batch.plan["baseDigest"]:
        message = "the DP base is not the one that the batch was planned for; nothing was published"
        raise ConflictError(message, code="base-changed")
    if base is None:
        return
    base = ledger.spend_budget(base_id=base.id, units=batch.plan["units"], batch_id=batch.id, now=desk.clock())
    record = {"mechanism": mechanisms.POISSON, **base.accountant}
    if budget.bound(record, delta=policy.delta, group=base.units_deleted) > policy.epsilon_limit:
        ledger.mark_spent(base_id=base.id, batch_id=batch.id, now=desk.clock())
