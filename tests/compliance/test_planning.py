"""Batches: who is in, what is left for training, which rungs may be tried, and all of it logged before the run."""

import json
import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance import policy as policies
from compliance.errors import NotFoundError
from compliance.ledger.lifecycle import ItemState, RequestState
from compliance.ledger.views import BaseView, BatchView
from compliance.planning import Split, digest_of, group_bound, refusal, split, split_by_subjects
from compliance.wiring import Services
from engine.corpus import Record, digest
from tests.compliance.builders import (
    POLICY,
    add_base,
    add_dataset,
    add_model,
    approved_request,
    claimed,
    desk_with_people,
    log_size,
    person,
    plan,
    rows,
)
from tests.compliance.conftest import Clock, verified_request

AUC = '\n[[gate]]\nmetric = "privleak_auc"\ndirection = "within"\n'
DP2 = POLICY.replace('"npo", "retrain"', '"dp2"').replace(
    "[[gate]]", "[base]\nepsilon = 8\nsample_rate = 0.1\nsteps = 10\n\n[[gate]]"
)


def _base(**changes: object) -> BaseView:
    values: dict[str, object] = {
        "id": "b",
        "model_id": "m1",
        "state": "active",
        "digest": "0" * 64,
        "path": "",
        "accountant": {"sampleRate": 0.1, "noiseMultiplier": 4.0, "steps": 10},
        "learned": {"learned": True},
        "seed_commitment": "0" * 64,
        "units": 100,
        "units_deleted": 0,
    }
    return BaseView(**values | changes)  # type: ignore[arg-type]


def _planned(desk: Services, model_id: str = "m1") -> BatchView:
    batch = plan(desk, model_id=model_id)
    assert batch is not None
    return batch


def _end(desk: Services, batch: BatchView) -> None:
    """The batch as a worker leaves it: published, its records forgotten, fulfilled."""
    mine, now = claimed(desk, batch.run_id), desk.clock()
    with desk.transaction() as ledger:
        for state in (ItemState.UNLEARNING, ItemState.VERIFYING, ItemState.PUBLISHED):
            ledger.move_batch_items(mine, state=state, now=now)
        parts = split(ledger, desk.store, batch.plan["requests"], ledger.model(batch.model_id))
        ledger.forget_records(
            dataset_id="d1",
            record_ids=[record.record_id for record in parts.forget],
            digest=digest(parts.retain),
            batch_id=batch.id,
            now=now,
        )
        awaited = ledger.awaited_records("d1", besides=batch.id)
        ledger.move_batch_items(mine, state=ItemState.SEALED, now=now)
        gone = ledger.forgotten_ids("d1") - awaited
        desk.store.write_dataset("d1", [one for one in desk.store.records("d1") if one.record_id not in gone])
        ledger.settle_batch(batch_id=batch.id, now=now)
        ledger.finish_run(mine, challenge_ends=now, now=now)


def test_nothing_approved_is_no_batch(services: Services) -> None:
    """A matched request waits for its approval, and nothing is planned or logged for it."""
    people = desk_with_people(services)
    verified_request(services, subject=people[0])
    services.verified("r1")
    before = log_size(services)

    assert plan(services) is None
    assert before == log_size(services)


def test_forget_and_retain_set_divide_the_data_set(services: Services) -> None:
    """Every record is in one of the two, and the plan names both by digest."""
    people = desk_with_people(services, 4)
    approved_request(services, people[1])

    batch = _planned(services)

    with services.read() as ledger:
        parts = split(ledger, services.store, batch.plan["requests"], ledger.model("m1"))
    assert [record.record_id for record in parts.forget] == ["line-3", "line-4"]
    assert {*parts.forget} | {*parts.retain} == {*services.store.records("d1")}
    assert len(parts.forget) + len(parts.retain) == 8
    assert (batch.plan["subjects"], batch.plan["records"]) == (1, 2)
    assert (batch.plan["forgetDigest"], batch.plan["retainDigest"]) == (digest(parts.forget), digest(parts.retain))


def test_plan_is_in_the_log_before_the_run(services: Services) -> None:
    """The log holds the digest of the very plan that the batch carries, gates and margins included."""
    people = desk_with_people(services)
    approved_request(services, people[0])

    batch = _planned(services)

    with services.read() as ledger:
        (raw,) = ledger.entries(batch.plan_index, batch.plan_index + 1)
    entry = json.loads(raw)
    assert (entry["type"], entry["data"]["planDigest"]) == ("batch.planned", batch.plan_digest)
    assert batch.plan_digest == digest_of(batch.plan)
    assert batch.plan["policy"]["gates"] == [
        {"metric": "verbmem_f", "direction": "at_most", "margin": 0.05, "minimumN": 1}
    ]
    assert batch.plan["seedRule"]


def test_earliest_deadline_goes_first(services: Services) -> None:
    """The requests of a batch stand in the order of their due dates."""
    people = desk_with_people(services)
    for number, one in enumerate(people):
        approved_request(services, one, request_id=f"r{number}")
    with services.transaction() as ledger:
        for request_id, day in (("r0", 3), ("r1", 1), ("r2", 2)):
            ledger.extend_request(
                request_id=request_id, actor="o", code="complex", respond_by=date(2027, 1, day), now=services.clock()
            )

    assert _planned(services).plan["requests"] == ["r1", "r2", "r0"]


def test_batch_waits_for_enough_subjects(services: Services) -> None:
    """The policy's minimum counts people: two requests of one person are still one."""
    people = desk_with_people(services, policy=f"minimum_subjects = 2\n{POLICY}")
    approved_request(services, people[0], request_id="r1")
    approved_request(services, people[0], request_id="r2")
    assert plan(services) is None

    approved_request(services, people[1], request_id="r3")

    batch = _planned(services)
    assert (batch.plan["requests"], batch.plan["subjects"]) == (["r1", "r2", "r3"], 2)


def test_next_batch_retains_nobody_forgotten(services: Services) -> None:
    """What the first batch forgot is in no later retain set."""
    people = desk_with_people(services)
    approved_request(services, people[0], request_id="r1")
    first = _planned(services)
    _end(services, first)
    approved_request(services, people[1], request_id="r2")

    second = _planned(services)

    with services.read() as ledger:
        parts = split(ledger, services.store, second.plan["requests"], ledger.model("m1"))
        assert first.plan["retainDigest"] == ledger.dataset("d1").digest
    assert [record.record_id for record in parts.forget] == ["line-3", "line-4"]
    assert [record.record_id for record in parts.retain] == ["line-5", "line-6"]


def test_each_model_forgets_what_they_share(services: Services) -> None:
    """Two models on one data set: the second still finds what it must forget after the first has forgotten it."""
    people = desk_with_people(services)
    add_model(services, model_id="m2")
    approved_request(services, people[0])
    _end(services, _planned(services, "m1"))

    second = _planned(services, "m2")

    assert second.plan["records"] == 2
    with services.read() as ledger:
        assert ledger.request("r1").state is RequestState.APPROVED
    _end(services, second)
    with services.read() as ledger:
        assert ledger.request("r1").state is RequestState.FULFILLED
    assert [record.record_id for record in services.store.records("d1")] == ["line-3", "line-4", "line-5", "line-6"]


def test_second_model_retains_nothing_the_first_forgot(services: Services) -> None:
    """A record that waits in the file for another model's batch is in no retain set any more."""
    people = desk_with_people(services)
    add_model(services, model_id="m2")
    approved_request(services, people[0], request_id="r1")
    approved_request(services, people[1], request_id="r2")
    with services.transaction() as ledger:
        ledger.hold_request(request_id="r2", actor="o", code="legal-hold", now=services.clock())
    _end(services, _planned(services, "m1"))

    with services.read() as ledger:
        parts = split(ledger, services.store, ["r2"], ledger.model("m1"))

    assert [record.record_id for record in parts.retain] == ["line-5", "line-6"]


def test_request_whose_records_are_gone_is_fulfilled_and_told(services: Services) -> None:
    """A second request of somebody already forgotten needs no run: it ends, and the person hears of it."""
    people = desk_with_people(services)
    approved_request(services, people[0], request_id="r1")
    approved_request(services, people[0], request_id="r2")
    with services.transaction() as ledger:
        ledger.hold_request(request_id="r2", actor="o", code="legal-hold", now=services.clock())
    _end(services, _planned(services))
    with services.transaction() as ledger:
        ledger.release_request(request_id="r2", actor="o", now=services.clock())

    assert plan(services) is None

    with services.read() as ledger:
        assert ledger.request("r2").state is RequestState.FULFILLED
        assert [notice.kind for notice in ledger.pending_notices() if notice.request_id == "r2"] == ["completed"]


def test_model_without_a_version_cannot_be_planned_for(services: Services) -> None:
    """There is nothing to unlearn from a model that was never trained."""
    add_dataset(services, rows([person(0)]))
    with services.transaction() as ledger:
        ledger.add_model(
            model_id="m1", name="m1", dataset_id="d1", holdout_id=None, policy=POLICY,
            start="", start_digest="0" * 64, now=services.clock(),
        )  # fmt: skip
    approved_request(services, person(0))

    with pytest.raises(NotFoundError, match="no version yet"):
        plan(services)


def test_plan_says_of_each_rung_whether_it_is_tried(services: Services, clock: Clock) -> None:
    """The ladder stands in the plan, with a reason beside each rung that is refused."""
    people = desk_with_people(services, policy=POLICY + AUC)
    approved_request(services, people[0])
    clock.advance(hours=1)

    rungs = {entry["rung"]: entry["refused"] for entry in _planned(services).plan["rungs"]}

    assert list(rungs) == ["npo", "retrain"]
    assert rungs["retrain"] is None
    assert rungs["npo"].startswith("the gate on privleak_auc needs 10 subjects and the batch has 1")


def test_plan_counts_the_budget_of_the_base(services: Services) -> None:
    """A base that reaches is tried and named by its digest; after it was spent the plan refuses it."""
    people = desk_with_people(services, policy=DP2)
    add_base(services, sigma=40.0)
    approved_request(services, people[0])

    batch = _planned(services)

    with services.transaction() as ledger:
        base = ledger.base("m1")
        assert base is not None
        ledger.mark_spent(base_id=base.id, batch_id=batch.id, now=services.clock())
    assert batch.plan["rungs"] == [{"rung": "dp2", "refused": None}]
    assert batch.plan["baseDigest"] == base.digest
    _end(services, batch)
    approved_request(services, people[1], request_id="r2")
    assert "is spent" in _planned(services).plan["rungs"][0]["refused"]


@pytest.mark.parametrize(
    ("base", "units", "reason"),
    [
        (None, 1, "no DP base"),
        (_base(state="spent"), 1, "is spent"),
        (_base(units=3), 3, "every unit"),
        (_base(units=5, units_deleted=4), 1, "every unit"),
        (_base(units=100_000), 1, "below 1/100000"),
        (_base(accountant={"sampleRate": 0.5, "noiseMultiplier": 0.6, "steps": 40}), 9, "does not reach"),
        (_base(units_deleted=60), 9, "does not reach"),
        (_base(units=5000, units_deleted=1020), 9, "at most 1024 units"),
        (_base(), 1, None),
    ],
    ids=["none", "spent", "all", "rest", "delta", "noise", "cumulated", "many", "sound"],
)
def test_dp2_is_refused_for_what_would_void_its_certificate(
    base: BaseView | None, units: int, reason: str | None
) -> None:
    """No base, a spent one, a delta of one over the points, or a group bound above the limit: each has its sentence."""
    why = refusal("dp2", policy=policies.parse(DP2), base=base, units=units, charge=units)

    assert (why is None) if reason is None else (why is not None and reason in why)


@pytest.mark.parametrize(("units", "tried"), [(9, False), (10, True), (11, True)])
def test_empirical_method_needs_every_gates_subjects(units: int, tried: bool) -> None:  # noqa: FBT001 - a table
    """With fewer subjects than a gate asks for, an empirical rung could only fail; retraining does not mind."""
    policy = policies.parse(POLICY + AUC)

    assert (refusal("npo", policy=policy, base=None, units=units, charge=units) is None) is tried
    assert refusal("retrain", policy=policy, base=None, units=units, charge=units) is None


@given(deleted=st.integers(0, 8), units=st.integers(1, 8))
def test_bound_grows_with_everybody_deleted_since_the_base(deleted: int, units: int) -> None:
    """The group bound is of the sum, however it came about, and one more unit never makes it smaller."""
    once = group_bound(_base(units_deleted=0), units=deleted + units, delta=1e-5)

    assert group_bound(_base(units_deleted=deleted), units=units, delta=1e-5) == once
    assert once <= group_bound(_base(), units=deleted + units + 1, delta=1e-5)
    assert math.isfinite(once)


def test_people_can_be_split_off_by_their_subject_field(services: Services) -> None:
    """What a batch for these people will be can be told ahead, in any spelling of the subject."""
    people = desk_with_people(services)

    parts = split_by_subjects(services.vault, services.store.records("d1"), [people[2].email.upper()])

    assert [record.record_id for record in parts.forget] == ["line-5", "line-6"]
    assert (len(parts.retain), parts.units) == (4, 1)


def test_subject_who_leaves_in_part_costs_two_units() -> None:
    """Under "add or remove one unit", a unit that loses a record is one removed and another added."""
    mine, other = Record(record_id="1", unit="a", text="x"), Record(record_id="2", unit="b", text="names a")
    kept = Record(record_id="3", unit="b", text="y")

    whole = Split(forget=(mine,), retain=(other, kept))
    in_part = Split(forget=(mine, other), retain=(kept,))

    assert (whole.units, whole.charge) == (1, 1)
    assert (in_part.units, in_part.charge) == (2, 3)
