"""Which approved items form the next batch of a model, and which rungs of the ladder may be tried.

One batch a model at a time. Its forget set is the records of its items; its retain set is the rest of the
data set, from which everything forgotten earlier has already gone. The plan (rungs, gates, margins,
parameters, digests of the inputs, how the test seed will be drawn) is logged before the run starts, so that
nothing can be chosen after the numbers are known.

A rung that cannot succeed is refused in the plan with its reason: a method that does not serve what the
requests ask for (its scopes in the catalogue), an `empirical` method or a guard with fewer subjects than a
gate needs, a DP base that is missing or whose budget does not reach, a method that starts from the model
where the version in use came with a guard, any rung where nothing would be left to learn from or a model of
domains would forget a part of one. A base that did not learn is still a start for dp2, but the rung then
counts as `empirical` and carries no certificate.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from audits import accountant, budget, mechanisms
from audits.statement import GUARD, policy_digest
from compliance import policy as policies
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import FINAL
from compliance.ledger.vault import Vault
from compliance.ledger.views import BaseView, BatchView, ItemView, ModelView
from compliance.policy import Policy
from compliance.registry import subject_tag
from compliance.store import Store
from engine import catalogue
from engine.contract import TASKS, Guarantee
from engine.corpus import Record, digest

EVIDENCE_ALONE = {Guarantee.EMPIRICAL: "an empirical method", Guarantee.SUPPRESSION: "a guard"}
DOMAINS = TASKS[-1]
PART_OF_DOMAIN = "the requests concern some pictures of a domain, and what this model forgot is measured on whole ones"
GUARDED = "the version in use came with a guard, and this method starts from it; only one that trains anew can be tried"
NOTHING_LEFT = "the requests concern every record that is left in the data set; nothing remains to learn from"
SEED_RULE = "the engine's seed is derived from the log checkpoint that contains the digest of the weights"


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A data set divided for one batch."""

    forget: tuple[Record, ...]
    retain: tuple[Record, ...]

    @property
    def units(self) -> int:
        """How many data subjects the forget set belongs to."""
        return len({record.unit for record in self.forget})

    @property
    def charge(self) -> int:
        """What the deletion costs a DP base whose unit is the data subject, under "add or remove one unit".

        A subject who leaves whole is one unit removed. One who leaves in part (a text about somebody else that named
        the person) is a unit removed and another added: two.
        """
        staying = {record.unit for record in self.retain}
        return sum(2 if unit in staying else 1 for unit in {record.unit for record in self.forget})

    @property
    def divides_domain(self) -> bool:
        """Whether pictures of one domain are to be forgotten in part."""
        return not {record.domain for record in self.forget}.isdisjoint(record.domain for record in self.retain)

    def charge_of(self, base: BaseView | None) -> int:
        """The same for the unit that a base was trained with: where that is the record, each one counts."""
        by_record = base is not None and base.accountant.get("unit") == "record"
        return len(self.forget) if by_record else self.charge


def plan_batch(
    ledger: Ledger, store: Store, *, model: ModelView, ids: Callable[[], str], now: datetime
) -> BatchView | None:
    """Plan and log the model's next batch; None when nothing is approved, or too few to be a batch yet."""
    policy = policies.parse(model.policy)
    items = _remembered(ledger, store, model, ledger.approved_items(model.id), ids=ids, now=now)
    parts = split(ledger, store, [item.request_id for item in items], model)
    if not items or parts.units < policy.minimum_subjects:
        return None
    batch_id = ids()
    plan = _plan(ledger, model=model, policy=policy, items=items, parts=parts, batch_id=batch_id)
    return ledger.plan_batch(
        batch_id=batch_id,
        run_id=ids(),
        model_id=model.id,
        items=items,
        plan=plan,
        plan_digest=digest_of(plan),
        rules_digest=policy_digest(policy.reported()),
        now=now,
    )


def split(ledger: Ledger, store: Store, request_ids: Sequence[str], model: ModelView) -> Split:
    """Divide a model's data set into the records the requests concern and those that stay.

    A record that another model's batch has forgotten already is in the file until the last model has; it may be in
    the forget set of a model that has not, and is in no retain set.
    """
    records = store.records(model.dataset_id)
    wanted = {record_id for request_id in request_ids for record_id in matched(ledger, request_id, model.dataset_id)}
    gone = wanted | ledger.forgotten_ids(model.dataset_id)
    wanted -= ledger.forgotten_by(model_id=model.id, dataset_id=model.dataset_id)
    return Split(
        forget=tuple(record for record in records if record.record_id in wanted),
        retain=tuple(record for record in records if record.record_id not in gone),
    )


def split_by_subjects(vault: Vault, records: Sequence[Record], subjects: Sequence[str]) -> Split:
    """Divide records by their subject field: what a batch for these people will be, as far as that field tells."""
    units = {subject_tag(vault, subject) for subject in subjects}
    return Split(
        forget=tuple(record for record in records if record.unit in units),
        retain=tuple(record for record in records if record.unit not in units),
    )


def matched(ledger: Ledger, request_id: str, dataset_id: str) -> set[str]:
    """The ids of the records of one data set that a request concerns."""
    return {match.record_id for match in ledger.matches(request_id) if match.dataset_id == dataset_id}


def _remembered(
    ledger: Ledger, store: Store, model: ModelView, items: Sequence[ItemView], *, ids: Callable[[], str], now: datetime
) -> list[ItemView]:
    """The items with something left to forget; one whose records went with an earlier batch ends here."""
    present = {record.record_id for record in store.records(model.dataset_id)}
    present -= ledger.forgotten_by(model_id=model.id, dataset_id=model.dataset_id)
    left = []
    for item in items:
        if matched(ledger, item.request_id, model.dataset_id) & present:
            left.append(item)
        elif ledger.fulfil_forgotten(item_id=item.id, now=now) in FINAL:
            ledger.enqueue_notice(notice_id=ids(), request_id=item.request_id, kind="completed", now=now)
    return left


def digest_of(value: Mapping[str, Any]) -> str:
    """SHA-256 of sorted JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def group_bound(base: BaseView, *, units: int, delta: float) -> float:
    """ε at `delta` for this batch's units together with all units deleted since the base was trained."""
    return budget.bound(mechanism_of(base), delta=delta, group=base.units_deleted + units)


def mechanism_of(base: BaseView) -> dict[str, Any]:
    """The accountant record of a base, as `audits` reads it."""
    return {"mechanism": mechanisms.POISSON, **base.accountant}


def _plan(
    ledger: Ledger, *, model: ModelView, policy: Policy, items: Sequence[ItemView], parts: Split, batch_id: str
) -> dict[str, Any]:
    requests = list(dict.fromkeys(item.request_id for item in items))
    scopes = sorted({ledger.request(request_id).scope for request_id in requests})
    base, current = ledger.base(model.id), ledger.current_version(model.id)
    charge = parts.charge_of(base)
    guarded = any(name.startswith(GUARD) for name in current.files)

    def refused(rung: str) -> str | None:
        if not parts.retain:
            return NOTHING_LEFT
        if policy.task == DOMAINS and parts.divides_domain:
            return PART_OF_DOMAIN
        if guarded and "model" in catalogue.method(rung).needs:
            return GUARDED
        return refusal(rung, policy=policy, base=base, units=parts.units, charge=charge, scopes=scopes)

    return {
        "batchId": batch_id,
        "modelId": model.id,
        "requests": requests,
        "scopes": scopes,
        "subjects": parts.units,
        "units": charge,
        "records": len(parts.forget),
        "population": len({record.unit for record in (*parts.forget, *parts.retain)}),
        "forgetDigest": digest(parts.forget),
        "retainDigest": digest(parts.retain),
        "beforeDigest": current.digest,
        "startDigest": model.start_digest,
        "baseDigest": None if base is None else base.digest,
        "policy": policy.to_json(),
        "policyDigest": policy.digest,
        "rungs": [{"rung": rung, "refused": refused(rung)} for rung in policy.ladder],
        "suite": policies.SUITES[policy.task],
        "seedRule": SEED_RULE,
    }


def refusal(
    rung: str, *, policy: Policy, base: BaseView | None, units: int, charge: int, scopes: Sequence[str] = ()
) -> str | None:
    """Why a rung cannot be tried for a batch of `units` subjects that costs a DP base `charge` units, or None.

    `scopes` are those of its requests.
    """
    for scope in scopes:
        if scope not in catalogue.method(rung).scopes:
            return f"the method {rung} does not serve requests of the scope {scope}"
    if rung == "dp2":
        return _refuse_dp2(policy, base, charge)
    guarantee = catalogue.method(rung).guarantee
    if guarantee in EVIDENCE_ALONE:
        for gate in policy.gates:
            if units < gate.minimum_n:
                return (
                    f"the gate on {gate.metric} needs {gate.minimum_n} subjects and the batch has {units}: "
                    f"for {EVIDENCE_ALONE[guarantee]} an underpowered finding is a failed gate"
                )
    return None


def _refuse_dp2(policy: Policy, base: BaseView | None, units: int) -> str | None:
    if base is None:
        return "the model has no DP base"
    if base.state == "spent":
        return "the deletion budget of the DP base is spent"
    if base.units_deleted + units >= base.units:
        return "the batch would delete every unit the DP base was trained on"
    if policy.delta >= 1 / base.units:
        return f"delta must stay below 1/{base.units}, one over the number of units"
    return _refuse_group(policy, base, units)


def _refuse_group(policy: Policy, base: BaseView, units: int) -> str | None:
    if base.units_deleted + units > accountant.LARGEST_GROUP:
        return f"the accountant bounds groups of at most {accountant.LARGEST_GROUP} units, and this is a larger one"
    bound = group_bound(base, units=units, delta=policy.delta)
    if bound > policy.epsilon_limit:
        return (
            f"the group bound for {base.units_deleted + units} deleted units is epsilon {bound:.2f}, above the "
            f"policy's limit of {policy.epsilon_limit:g}: the deletion budget of the DP base does not reach"
        )
    return None
