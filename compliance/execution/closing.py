"""After publication: nothing forgotten stays in use, and nothing forgotten comes back (invariant 11).

1. The forget set, the superseded weights and a replaced DP base are encrypted under the batch key.
2. The records leave the data set; keyed suppressions refuse their return.
3. Only then are the items sealed, then fulfilled, the requests settled and the people told.

Every step may be repeated: sealing skips what is gone, and the rewritten data set is the same each time.
"""

import json
import shutil
from datetime import timedelta

from compliance import policy as policies
from compliance.desk import Desk
from compliance.execution.references import drop_reference, recipe_for
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import FINAL, ItemState
from compliance.ledger.views import BatchView, Claim, ModelView, VersionView
from compliance.planning import split
from compliance.registry import subject_tag

FORGET = "forget"


def close_batch(desk: Desk, claim: Claim) -> None:
    """Seal, forget and fulfil the published batch of `claim`."""
    with desk.read() as ledger:
        batch = ledger.batch(claim.batch_id)
        model = ledger.model(batch.model_id)
        sealed = {item.state for item in ledger.batch_items(batch.id)} <= {
            ItemState.SEALED,
            ItemState.FULFILLED,
        }
    if not sealed:
        _seal(desk, claim, batch, model)
    _fulfil(desk, claim, batch, model)
    desk.publish()


def _seal(desk: Desk, claim: Claim, batch: BatchView, model: ModelView) -> None:
    store, now = desk.store, desk.clock()
    records = store.records(model.dataset_id)
    with desk.read() as ledger:
        key = ledger.batch_key(batch.id)
        parts = split(ledger, records, batch.plan["requests"], model.dataset_id)
        superseded = [v for v in ledger.versions(model.id) if v.state == "superseded"]
        retired = _retired_base(ledger, batch, model)
    if parts.forget:
        lines = "".join(json.dumps(r.to_mapping(), sort_keys=True) + "\n" for r in parts.forget)
        target = store.sealed_path(batch.id)
        target.mkdir(parents=True, exist_ok=True)
        sealed = desk.vault.seal(key, f"{batch.id}/{FORGET}", lines.encode())
        partial = target / f"{FORGET}.partial"
        partial.write_bytes(sealed)
        partial.replace(target / f"{FORGET}.sealed")
    for version in superseded:
        store.seal_folder(
            desk.vault,
            key,
            folder=store.model_path(version.digest),
            batch_id=batch.id,
            name=f"version-{version.number}",
        )
    if retired is not None:
        store.seal_folder(desk.vault, key, folder=store.model_path(retired), batch_id=batch.id, name="base")
    digest = store.write_dataset(model.dataset_id, parts.retain)
    with desk.transaction() as ledger:
        _log_sealed(desk, ledger, batch, superseded, digest=digest, record_ids=[r.record_id for r in parts.forget])
        ledger.move_batch_items(claim, state=ItemState.SEALED, now=now)
    policy = policies.parse(model.policy)
    recipe = recipe_for(start_digest=model.start_digest, retain=parts.retain, options=dict(policy.training))
    drop_reference(store, recipe)
    shutil.rmtree(store.run_folder(claim.run_id), ignore_errors=True)


def _log_sealed(
    desk: Desk,
    ledger: Ledger,
    batch: BatchView,
    superseded: list[VersionView],
    *,
    digest: str,
    record_ids: list[str],
) -> None:
    now = desk.clock()
    for version in superseded:
        path = desk.store.sealed_path(batch.id) / f"version-{version.number}"
        ledger.version_sealed(version_id=version.id, batch_id=batch.id, path=str(path), now=now)
    if record_ids:
        ledger.forget_records(
            dataset_id=ledger.model(batch.model_id).dataset_id,
            record_ids=record_ids,
            digest=digest,
            batch_id=batch.id,
            now=now,
        )
    for request_id in batch.plan["requests"]:
        if ledger.request(request_id).scope == "records":
            email = ledger.open_subject(request_id).email
            ledger.suppress_subject(tag=subject_tag(desk.vault, email), now=now)


def _retired_base(ledger: Ledger, batch: BatchView, model: ModelView) -> str | None:
    """The digest of the DP base this batch replaced, if it replaced one."""
    base = ledger.base(model.id)
    planned: str | None = batch.plan["baseDigest"]
    return planned if planned is not None and (base is None or base.digest != planned) else None


def _fulfil(desk: Desk, claim: Claim, batch: BatchView, model: ModelView) -> None:
    now = desk.clock()
    challenge = timedelta(days=policies.parse(model.policy).challenge_days)
    with desk.transaction() as ledger:
        for request_id in ledger.settle_batch(batch_id=batch.id, now=now):
            if ledger.request(request_id).state in FINAL:
                ledger.enqueue_notice(notice_id=desk.ids(), request_id=request_id, kind="completed", now=now)
        ledger.finish_run(claim, challenge_ends=now + challenge, now=now)


def end_challenge(desk: Desk) -> int:
    """Destroy the keys and sealed remains of batches whose challenge period is over; how many."""
    with desk.read() as ledger:
        over = ledger.challenge_over(desk.clock())
    for batch_id in over:
        with desk.transaction() as ledger:
            ledger.destroy_batch_key(batch_id=batch_id, now=desk.clock())
            model_id = ledger.batch(batch_id).model_id
            for version in ledger.versions(model_id):
                if version.state == "sealed" and version.path.startswith(str(desk.store.sealed_path(batch_id))):
                    ledger.version_destroyed(version_id=version.id, now=desk.clock())
        desk.store.destroy_sealed(batch_id)
    return len(over)
