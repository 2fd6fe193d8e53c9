"""After publication: nothing forgotten stays in use, and nothing forgotten comes back (invariant 11).

1. The forget set, the superseded weights and a replaced DP base are encrypted under the batch key.
2. The ledger marks the records forgotten, with keyed suppressions that refuse their return.
3. The data set's file is rewritten. Records that another model has still to forget stay in it until that model's
   batch, but are in no retain set any more.
4. Only then are the items sealed, then fulfilled, the requests settled and the people told.

Every step may be repeated: sealing skips what is gone, marking what is marked, and the file is the same each time.
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
from compliance.planning import Split, matched, split
from compliance.registry import kind_tag, subject_tag
from engine.corpus import digest

FORGET = "forget"
PERSONAL = "records"


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
    store = desk.store
    with desk.read() as ledger:
        parts = split(ledger, store, batch.plan["requests"], model)
        superseded = [version for version in ledger.versions(model.id) if version.state == "superseded"]
        _encrypt(desk, ledger, batch, parts, superseded, _retired_base(ledger, batch, model))
    with desk.transaction() as ledger:
        _forget(desk, ledger, batch, model, digest(parts.retain))
    with desk.transaction() as ledger:
        awaited = ledger.awaited_records(model.dataset_id, besides=batch.id)
        gone = ledger.forgotten_ids(model.dataset_id) - awaited
        kept = [record for record in store.records(model.dataset_id) if record.record_id not in gone]
        store.write_dataset(model.dataset_id, kept)
        for version in superseded:
            path = store.sealed_path(batch.id) / f"version-{version.number}"
            ledger.version_sealed(version_id=version.id, batch_id=batch.id, path=str(path), now=desk.clock())
        ledger.move_batch_items(claim, state=ItemState.SEALED, now=desk.clock())
    policy = policies.parse(model.policy)
    recipe = recipe_for(start_digest=model.start_digest, retain=parts.retain, options=dict(policy.training))
    drop_reference(store, recipe)
    shutil.rmtree(store.run_folder(claim.run_id), ignore_errors=True)


def _encrypt(
    desk: Desk, ledger: Ledger, batch: BatchView, parts: Split, superseded: list[VersionView], base: str | None
) -> None:
    store, key = desk.store, ledger.batch_key(batch.id)
    if parts.forget:
        lines = "".join(json.dumps(record.to_mapping(), sort_keys=True) + "\n" for record in parts.forget)
        store.seal_bytes(desk.vault, key, lines.encode(), batch_id=batch.id, name=FORGET)
    folders = {f"version-{version.number}": version.digest for version in superseded}
    if base is not None:
        folders["base"] = base
    for name, folder_digest in folders.items():
        folder = store.model_path(folder_digest)
        keep = ledger.in_use(folder_digest) or ledger.awaits_weights(folder_digest, besides=batch.id)
        store.seal_folder(desk.vault, key, folder=folder, batch_id=batch.id, name=name, keep=keep)


def _forget(desk: Desk, ledger: Ledger, batch: BatchView, model: ModelView, retain_digest: str) -> None:
    now = desk.clock()
    for request_id in batch.plan["requests"]:
        ids = matched(ledger, request_id, model.dataset_id)
        ledger.forget_records(
            dataset_id=model.dataset_id, record_ids=sorted(ids), digest=retain_digest, batch_id=batch.id, now=now
        )
        _suppress(desk, ledger, request_id)


def _suppress(desk: Desk, ledger: Ledger, request_id: str) -> None:
    """Refuse new records of what was asked to be forgotten: of the person, or of the class or domain."""
    scope, subject = ledger.request(request_id).scope, ledger.open_subject(request_id)
    if scope == PERSONAL:
        tag = subject_tag(desk.vault, subject.email)
        ledger.suppress("subject", tag=tag, request_id=request_id, now=desk.clock())
    else:
        tag = kind_tag(desk.vault, scope, subject.target)
        ledger.suppress(scope, tag=tag, request_id=request_id, now=desk.clock())


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
