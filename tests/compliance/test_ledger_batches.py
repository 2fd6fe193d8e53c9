"""The ledger as the queue: one claim at a time, stale workers fenced off, budgets that survive; on both databases."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from compliance.errors import ConflictError, NotFoundError
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import AttemptOutcome, ItemState, RequestState, RunState
from compliance.ledger.views import BatchView, Claim
from compliance.wiring import Services
from tests.compliance.builders import (
    LEASE,
    add_base,
    approved_request,
    claim,
    claimed,
    desk_with_people,
    log_size,
    plan,
    planned_batch,
    publish,
)
from tests.compliance.conftest import Clock, both_databases

pytestmark = both_databases

FENCED: dict[str, Callable[[Ledger, Claim, Any], object]] = {
    "move_batch_items": lambda ledger, mine, now: ledger.move_batch_items(mine, state=ItemState.UNLEARNING, now=now),
    "start_attempt": lambda ledger, mine, now: ledger.start_attempt(mine, attempt_id="a9", rung="npo", now=now),
    "fix_weights": lambda ledger, mine, now: ledger.fix_weights(mine, attempt_id="a1", digest="0" * 64, now=now),
    "finish_attempt": lambda ledger, mine, now: ledger.finish_attempt(
        mine, attempt_id="a1", outcome=AttemptOutcome.PUBLISHED, record={}, now=now
    ),
    "log_report": lambda ledger, mine, now: ledger.log_report(
        mine, report_id="p1", digest="0" * 64, envelope=b"{}", key_id="0" * 64, ledger_to=1, now=now
    ),
    "finish_run": lambda ledger, mine, now: ledger.finish_run(mine, challenge_ends=now, now=now),
    "release_run": lambda ledger, mine, _: ledger.release_run(mine, stuck=False),
}


class Crash(Exception):  # noqa: N818 - what happens to a worker, not an error of ours
    """The worker dies before its transaction ends."""


def _run_state(desk: Services, batch: BatchView) -> RunState:
    with desk.read() as ledger:
        return ledger.batch(batch.id).run_state


def _start(desk: Services, mine: Claim, attempt_id: str, rung: str = "npo") -> None:
    with desk.transaction() as ledger:
        ledger.start_attempt(mine, attempt_id=attempt_id, rung=rung, now=desk.clock())


def test_planned_batch_queues_its_items_and_its_run(services: Services) -> None:
    """Planning is one entry for the batch and one for each item, and the plan's index is that of its entry."""
    people = desk_with_people(services)
    approved_request(services, people[0])
    before = log_size(services)

    batch = plan(services)

    assert batch is not None
    with services.read() as ledger:
        assert [item.state for item in ledger.batch_items(batch.id)] == [ItemState.QUEUED]
        assert b"batch.planned" in next(iter(ledger.entries(batch.plan_index, batch.plan_index + 1)))
    assert (batch.run_state, batch.plan_index, log_size(services)) == (RunState.QUEUED, before, before + 2)


def test_model_has_one_open_batch(services: Services) -> None:
    """While a batch has not ended, nobody can plan another, not even with items of its own."""
    batch = planned_batch(services)

    with pytest.raises(ConflictError, match="has not ended") as caught, services.transaction() as ledger:
        ledger.plan_batch(
            batch_id="b2",
            run_id="r2",
            model_id="m1",
            items=[],
            plan={},
            plan_digest="0",
            rules_digest="0",
            now=services.clock(),
        )

    assert caught.value.code == "batch-open"
    with services.read() as ledger:
        assert [one.id for one in ledger.batches()] == [batch.id]


def test_two_schedulers_plan_one_batch(services: Services) -> None:
    """A second plan waits for the first transaction, and then finds the model busy."""
    people = desk_with_people(services)
    approved_request(services, people[0])
    refused: list[ConflictError | None] = []

    def second() -> None:
        try:
            with services.transaction() as ledger:
                _plan_by_hand(ledger, "b2", services)
        except ConflictError as error:
            refused.append(error)
        else:
            refused.append(None)

    with services.transaction() as ledger:
        _plan_by_hand(ledger, "b1", services)
        other = threading.Thread(target=second)
        other.start()
        other.join(0.3)
    other.join()

    assert [error.code for error in refused if error] == ["batch-open"]
    with services.read() as ledger:
        assert [batch.id for batch in ledger.batches()] == ["b1"]


def _plan_by_hand(ledger: Ledger, batch_id: str, desk: Services) -> None:
    ledger.plan_batch(
        batch_id=batch_id,
        run_id=f"run-{batch_id}",
        model_id="m1",
        items=ledger.approved_items("m1"),
        plan={},
        plan_digest="0",
        rules_digest="0",
        now=desk.clock(),
    )


def test_run_is_claimed_once(services: Services) -> None:
    """Who comes second goes away empty-handed, as does who names a run that does not exist."""
    batch = planned_batch(services)

    mine = claimed(services, batch.run_id)

    assert (mine.batch_id, mine.epoch, mine.leased_until) == (batch.id, 1, services.clock() + LEASE)
    assert claim(services, batch.run_id) is None
    assert claim(services, "unknown") is None


def test_of_many_workers_at_once_one_wins(services: Services) -> None:
    """Six workers claim in parallel: one gets the run, with the first epoch."""
    batch = planned_batch(services)

    with ThreadPoolExecutor(6) as pool:
        claims = list(pool.map(lambda _: claim(services, batch.run_id), range(6)))

    assert [one.epoch for one in claims if one] == [1]


def test_lease_that_ran_out_is_taken_over(services: Services, clock: Clock) -> None:
    """Until the lease ends the run is held; after it another worker takes it with the next epoch."""
    batch = planned_batch(services)
    claimed(services, batch.run_id)

    clock.advance(seconds=LEASE.total_seconds())
    assert claim(services, batch.run_id) is None
    clock.advance(seconds=1)

    assert claimed(services, batch.run_id).epoch == 2


def test_heartbeat_keeps_the_run(services: Services, clock: Clock) -> None:
    """A worker that beats keeps its lease and shows how far it is; its beats are no entries."""
    batch = planned_batch(services)
    mine = claimed(services, batch.run_id)
    before = log_size(services)

    for fraction in (0.25, 0.75):
        clock.advance(seconds=LEASE.total_seconds() - 1)
        with services.transaction() as ledger:
            assert ledger.heartbeat(mine, lease=LEASE, progress={"fraction": fraction}, now=clock())

    assert claim(services, batch.run_id) is None
    with services.read() as ledger:
        assert ledger.batch(batch.id).progress == {"fraction": 0.75}
    assert before == log_size(services)


def test_heartbeat_of_a_superseded_worker_says_stop(services: Services, clock: Clock) -> None:
    """Who was only slow learns from the next beat that another worker has the run, and prolongs nothing."""
    batch = planned_batch(services)
    slow = claimed(services, batch.run_id)
    clock.advance(seconds=61)
    quick = claimed(services, batch.run_id)

    clock.advance(seconds=30)
    with services.transaction() as ledger:
        assert not ledger.heartbeat(slow, lease=LEASE, progress={"fraction": 1.0}, now=clock())

    with services.read() as ledger:
        assert ledger.batch(batch.id).progress == {}
    clock.advance(seconds=31)
    assert claimed(services, batch.run_id).epoch == quick.epoch + 1


def test_every_write_of_a_superseded_worker_is_refused(services: Services, clock: Clock) -> None:
    """A stale epoch moves no item, closes no attempt, logs no report and ends no run: nothing is written at all."""
    batch = planned_batch(services)
    stale = claimed(services, batch.run_id)
    _start(services, stale, "a1")
    clock.advance(seconds=61)
    claimed(services, batch.run_id)
    before = log_size(services)

    for write in FENCED.values():
        with pytest.raises(ConflictError, match="taken over") as caught, services.transaction() as ledger:
            write(ledger, stale, clock())
        assert caught.value.code == "claim-superseded"

    assert before == log_size(services)
    with services.read() as ledger:
        assert [attempt.outcome for attempt in ledger.attempts(batch.run_id)] == [AttemptOutcome.RUNNING]
        assert {item.state for item in ledger.batch_items(batch.id)} == {ItemState.QUEUED}
        assert not ledger.reports()


def test_fence_holds_until_the_write_is_committed(services: Services, clock: Clock) -> None:
    """Between the check of the epoch and the commit nobody can take the run over: the claim waits."""
    batch = planned_batch(services)
    mine = claimed(services, batch.run_id)
    clock.advance(seconds=61)
    taken: list[Claim | None] = []

    with services.transaction() as ledger:
        ledger.start_attempt(mine, attempt_id="a1", rung="npo", now=clock())
        other = threading.Thread(target=lambda: taken.append(claim(services, batch.run_id)))
        other.start()
        other.join(0.4)
        assert not taken
    other.join()

    assert [one.epoch for one in taken if one] == [2]


def test_sweep_finds_what_was_lost(services: Services, clock: Clock) -> None:
    """A run is due again when its lease ran out, or when it was queued long ago and nobody came."""
    batch = planned_batch(services)

    def lost(*, queued_before: timedelta) -> list[str]:
        with services.read() as ledger:
            return ledger.lost_runs(now=clock(), queued_before=clock() - queued_before)

    assert not lost(queued_before=timedelta(seconds=60))
    clock.advance(seconds=61)
    assert lost(queued_before=timedelta(seconds=60)) == [batch.run_id]
    claimed(services, batch.run_id)
    assert not lost(queued_before=timedelta())
    clock.advance(seconds=61)
    assert lost(queued_before=timedelta()) == [batch.run_id]


def test_returned_run_can_be_claimed_at_once(services: Services) -> None:
    """A worker that failed gives the run back to the queue, and the next claim has the next epoch."""
    batch = planned_batch(services)
    with services.transaction() as ledger:
        ledger.release_run(_claim_in(ledger, batch, services), stuck=False)

    assert claimed(services, batch.run_id).epoch == 2


def _claim_in(ledger: Ledger, batch: BatchView, desk: Services) -> Claim:
    mine = ledger.claim(run_id=batch.run_id, lease=LEASE, now=desk.clock())
    assert mine is not None
    return mine


def test_stuck_run_waits_for_an_operator(services: Services, clock: Clock) -> None:
    """Nobody claims or sweeps a stuck run, and its model gets no other batch, until it is queued again."""
    batch = planned_batch(services)
    mine = claimed(services, batch.run_id)
    with services.transaction() as ledger:
        ledger.release_run(mine, stuck=True)
    clock.advance(days=9)

    assert claim(services, batch.run_id) is None
    with services.transaction() as ledger:
        assert not ledger.lost_runs(now=clock(), queued_before=clock())
        assert ledger.open_batch("m1") is not None
        ledger.requeue(batch.run_id)

    assert claimed(services, batch.run_id).epoch == 2


def test_requeueing_disturbs_nobody(services: Services) -> None:
    """A run that is not stuck stays with the worker that has it."""
    batch = planned_batch(services)
    claimed(services, batch.run_id)

    with services.transaction() as ledger:
        ledger.requeue(batch.run_id)

    assert _run_state(services, batch) is RunState.CLAIMED
    assert claim(services, batch.run_id) is None


def test_attempt_of_a_dead_worker_is_closed_by_the_next(services: Services, clock: Clock) -> None:
    """An attempt that nobody ended is logged as lost when the run goes on, so that none is unaccounted for."""
    batch = planned_batch(services)
    _start(services, claimed(services, batch.run_id), "a1")
    clock.advance(seconds=61)

    _start(services, claimed(services, batch.run_id), "a2")

    with services.read() as ledger:
        lost, running = ledger.attempts(batch.run_id)
    assert (lost.id, lost.outcome, lost.record["code"]) == ("a1", AttemptOutcome.ERROR, "worker-lost")
    assert (running.id, running.outcome, running.epoch) == ("a2", AttemptOutcome.RUNNING, 2)
    assert lost.log_index is not None


def test_items_move_together_and_once(services: Services) -> None:
    """A batch's items change state in one transaction, and moving them again is no second entry."""
    batch = planned_batch(services)
    mine = claimed(services, batch.run_id)
    before = log_size(services)

    for _ in range(2):
        with services.transaction() as ledger:
            ledger.move_batch_items(mine, state=ItemState.UNLEARNING, now=services.clock())

    assert log_size(services) == before + 1
    with pytest.raises(ConflictError, match="cannot become 'sealed'"), services.transaction() as ledger:
        ledger.move_batch_items(mine, state=ItemState.SEALED, now=services.clock())


def test_report_written_again_replaces_the_first(services: Services) -> None:
    """A batch has one report: the one that was logged last, at its own index."""
    batch = planned_batch(services)
    mine = claimed(services, batch.run_id)

    for report_id in ("p1", "p2"):
        with services.transaction() as ledger:
            ledger.log_report(
                mine,
                report_id=report_id,
                digest="0" * 64,
                envelope=b"{}",
                key_id="k",
                ledger_to=1,
                now=services.clock(),
            )

    with services.read() as ledger:
        assert [report.id for report in ledger.reports()] == ["p2"]
        assert ledger.report("p2").log_index == ledger.head().size - 1


def _finish(desk: Services, batch: BatchView, mine: Claim) -> None:
    now = desk.clock()
    with desk.transaction() as ledger:
        for state in (ItemState.UNLEARNING, ItemState.VERIFYING, ItemState.PUBLISHED, ItemState.SEALED):
            ledger.move_batch_items(mine, state=state, now=now)
        ledger.settle_batch(batch_id=batch.id, now=now)
        ledger.finish_run(mine, challenge_ends=now + timedelta(days=30), now=now)


def test_finished_batch_fulfils_its_requests(services: Services) -> None:
    """The run is done for good, the request fulfilled and closed, and the model free for its next batch."""
    batch = planned_batch(services)
    _finish(services, batch, claimed(services, batch.run_id))

    assert _run_state(services, batch) is RunState.DONE
    assert claim(services, batch.run_id) is None
    with services.read() as ledger:
        request = ledger.request("r1")
        assert (request.state, request.closed_at) == (RequestState.FULFILLED, services.clock())
        assert ledger.open_batch("m1") is None


def test_batch_key_lives_as_long_as_the_challenge(services: Services, clock: Clock) -> None:
    """Until the period ends the remains can be opened; then the key is destroyed, which is an entry."""
    batch = planned_batch(services)
    _finish(services, batch, claimed(services, batch.run_id))

    clock.advance(days=29)
    with services.read() as ledger:
        assert not ledger.challenge_over(clock())
        assert len(ledger.batch_key(batch.id)) == 32
    clock.advance(days=1)
    with services.transaction() as ledger:
        assert ledger.challenge_over(clock()) == [batch.id]
        ledger.destroy_batch_key(batch_id=batch.id, now=clock())

    with services.read() as ledger:
        assert not ledger.challenge_over(clock())
        assert b"batch.key_destroyed" in next(iter(ledger.entries(ledger.head().size - 1, ledger.head().size)))
        with pytest.raises(NotFoundError):
            ledger.batch_key(batch.id)


def _publish_and_spend(desk: Services, ledger: Ledger, batch: BatchView) -> None:
    publish(desk, ledger)
    base = ledger.base("m1")
    assert base is not None
    ledger.spend_budget(base_id=base.id, units=3, batch_id=batch.id, now=desk.clock())


def test_budget_is_spent_with_the_version_or_not_at_all(services: Services) -> None:
    """A crash between publication and budget leaves neither; together they survive the process."""
    batch = planned_batch(services)
    add_base(services)
    before = log_size(services)

    with pytest.raises(Crash), services.transaction() as ledger:
        _publish_and_spend(services, ledger, batch)
        raise Crash
    with services.read() as ledger:
        base = ledger.base("m1")
        assert (len(ledger.versions("m1")), base and base.units_deleted, ledger.head().size) == (1, 0, before)

    with services.transaction() as ledger:
        _publish_and_spend(services, ledger, batch)
    with services.read() as ledger:
        base = ledger.base("m1")
        assert (len(ledger.versions("m1")), base and base.units_deleted, ledger.head().size) == (2, 3, before + 2)


def _another(desk: Services, ledger: Ledger, number: int) -> BatchView:
    """One more batch of the model, with no items: the ones before it count as ended."""
    if (open_ := ledger.open_batch("m1")) is not None:
        mine = ledger.claim(run_id=open_.run_id, lease=LEASE, now=desk.clock())
        assert mine is not None
        ledger.finish_run(mine, challenge_ends=desk.clock(), now=desk.clock())
    _plan_by_hand(ledger, f"another-{number}", desk)
    return ledger.batch(f"another-{number}")


def test_budget_cumulates_until_a_new_base(services: Services) -> None:
    """Units add up over batches; a spent base stays spent; a new base starts at nothing."""
    batch = planned_batch(services)
    add_base(services)
    for number in range(2):
        with services.transaction() as ledger:
            _publish_and_spend(services, ledger, _another(services, ledger, number))
    with services.transaction() as ledger:
        base = ledger.base("m1")
        assert base is not None
        ledger.mark_spent(base_id=base.id, batch_id=batch.id, now=services.clock())
        ledger.mark_spent(base_id=base.id, batch_id=batch.id, now=services.clock())
    with services.read() as ledger:
        spent = ledger.base("m1")
    assert spent is not None
    assert (spent.units_deleted, spent.state) == (6, "spent")

    add_base(services)

    with services.read() as ledger:
        fresh = ledger.base("m1")
    assert fresh is not None
    assert (fresh.units_deleted, fresh.state, fresh.id == spent.id) == (0, "active", False)


def test_one_version_is_current(services: Services) -> None:
    """Publishing moves the pointer and supersedes what it pointed at, in one step."""
    planned_batch(services)

    with services.transaction() as ledger:
        publish(services, ledger)

    with services.read() as ledger:
        assert [(one.number, one.state) for one in ledger.versions("m1")] == [(1, "superseded"), (2, "current")]
        assert ledger.current_version("m1").number == 2


def test_registered_key_keeps_its_first_entry(services: Services) -> None:
    """A key is registered once; asking again gives the entry's index and writes nothing."""
    signer = services.signers["report"]
    before = log_size(services)

    with services.transaction() as ledger:
        first = ledger.service_key(signer.key_id).log_index
        again = ledger.register_key(
            key_id=signer.key_id, role="report", public_key=signer.public_key, data={}, now=services.clock()
        )

    assert (first, before) == (again, log_size(services))
