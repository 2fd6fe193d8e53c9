"""A worker dies, or loses its claim, at every point of a batch: its units are charged once, and none comes back."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from audits import verify
from compliance.execution.run import run
from compliance.ledger.lifecycle import RequestState, RunState
from compliance.wiring import Services
from engine.contract import Job, Kind
from tests.compliance.conftest import Clock
from tests.compliance.pretence import Crash, Fuse, die, doomed, engines, furnish, kinds, past_the_lease, planned

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
MOST_POINTS = 25
LATE = 7  # the transaction that publishes and charges; forgetting, sealing and fulfilling come after it
AMPLE, SCANT = 60.0, 0.01  # limits: every batch fits, or none does and each makes a new base


@dataclass(frozen=True)
class State:
    """What the ledger says of the model's base and versions."""

    base: str
    charges: dict[str, int]
    deleted: int
    bases: int
    versions: int


def _state(desk: Services) -> State:
    with desk.read() as ledger:
        (model,) = ledger.models()
        base = ledger.base(model.id)
        assert base is not None
        charges, versions = ledger.charges(base.id), len(ledger.versions(model.id))
    return State(base.digest, charges, base.units_deleted, kinds(desk, "base.trained"), versions)


def _batch_of(desk: Services, run_id: str) -> str:
    with desk.read() as ledger:
        return ledger.batch_of(run_id).id


def _done(desk: Services, run_id: str) -> bool:
    with desk.read() as ledger:
        return ledger.batch_of(run_id).run_state is RunState.DONE


def _ended_once(desk: Services, run_id: str, before: State) -> None:
    """One version more; one charge more of one unit, or one base more without any."""
    after, batch = _state(desk), _batch_of(desk, run_id)
    with desk.read() as ledger:
        states = {ledger.request(one).state for one in ledger.batch(batch).plan["requests"]}
    assert states == {RequestState.FULFILLED}
    assert after.versions == before.versions + 1
    if after.bases == before.bases:
        assert after.charges == {**before.charges, batch: 1}
    else:
        assert (after.bases, after.charges) == (before.bases + 1, {})
    assert after.deleted == sum(after.charges.values())


def _between(desk: Services, run_id: str, before: State) -> None:
    """After a crash version and budget are both changed or both unchanged."""
    now, batch = _state(desk), _batch_of(desk, run_id)
    moved = now.versions > before.versions
    assert moved == (batch in now.charges or now.bases > before.bases)
    assert now.deleted == sum(now.charges.values())


def _every_point(desk: Services, interrupt: Callable[[str, int], Fuse], *, first: int = 0) -> int:
    """Interrupt one batch after the other, each at its next point, until one comes through; how many points it has."""
    for point in range(first, MOST_POINTS):
        run_id, before = planned(desk, point), _state(desk)
        fuse = interrupt(run_id, point)
        try:
            ended = run(doomed(desk, fuse), run_id, engines=engines())
        except Crash:
            ended = False
            _between(desk, run_id, before)
            desk.clock.advance(seconds=past_the_lease(desk))  # type: ignore[attr-defined]
            assert run(desk, run_id, engines=engines()) or _done(desk, run_id)
        _ended_once(desk, run_id, before)
        assert not run(desk, run_id, engines=engines())
        if not fuse.burnt:
            assert ended
            return point
    pytest.fail("a batch has more points than there are people")


@pytest.mark.parametrize(
    ("limit", "inside", "first"),
    [(AMPLE, False, 0), (AMPLE, True, LATE), (SCANT, False, LATE)],
    ids=["charged", "charged, uncommitted", "new base"],
)
def test_a_worker_that_dies_anywhere_is_charged_once(
    services: Services, *, limit: float, inside: bool, first: int
) -> None:
    """After each commit, or before it, from claim to fulfilment; the next worker goes on, and a third finds nothing."""
    furnish(services, MOST_POINTS + 5, limit=limit)

    points = _every_point(services, lambda _run, point: Fuse(act=die, at=point, inside=inside), first=first)

    bundles = sorted((services.settings.workdir / "bundles").iterdir())
    verdict = verify.verify(bundles[-1], services.policy_text())
    assert verdict.ok, [step for step in verdict.steps if not step.ok]
    assert points > LATE + 3
    assert len(bundles) == points - first + 1


def test_a_worker_that_lost_its_claim_late_charges_nothing(services: Services, clock: Clock) -> None:
    """Another one takes over between two of its transactions and ends the batch; what the first writes is refused."""
    furnish(services, MOST_POINTS + 5, limit=AMPLE)

    def interrupt(run_id: str, point: int) -> Fuse:
        def take_over() -> None:
            clock.advance(seconds=past_the_lease(services))
            run(services, run_id, engines=engines())

        return Fuse(act=take_over, at=point, inside=False)

    assert _every_point(services, interrupt, first=LATE) > LATE + 3


@pytest.mark.parametrize("kind", [Kind.UNLEARN, Kind.EVALUATE])
def test_a_worker_that_was_only_slow_charges_nothing(services: Services, clock: Clock, kind: Kind) -> None:
    """It trains or measures until its lease is over; the one that took over has published, and is charged alone."""
    furnish(services, 6, limit=AMPLE)
    run_id, before = planned(services, 0), _state(services)
    others: list[bool] = []

    def dawdle(job: Job) -> None:
        if job.kind is kind and not others:
            clock.advance(seconds=past_the_lease(services))
            others.append(run(services, run_id, engines=engines()))

    assert not run(services, run_id, engines=engines(before=dawdle))

    assert others == [True]
    _ended_once(services, run_id, before)


def test_earlier_deletions_do_not_count_against_a_new_base(services: Services) -> None:
    """Its data never held them: the count starts at zero, and the first batch under it is charged alone."""
    furnish(services, 8, limit=AMPLE)
    for number in range(2):
        assert run(services, planned(services, number), engines=engines())
    old = _state(services)
    with services.transaction() as ledger:
        (model,) = ledger.models()
        base = ledger.base(model.id)
        assert base is not None
        ledger.mark_spent(base_id=base.id, batch_id=next(iter(old.charges)), now=services.clock())

    assert run(services, planned(services, 2), engines=engines())
    new = _state(services)
    run_id = planned(services, 3)
    assert run(services, run_id, engines=engines())

    report = _report(services, 4)
    why = "because the earlier one could not carry another certificate: the deletion budget of the DP base is spent"
    assert why in report["guarantee"]["statement"]
    assert "The earlier base had 2 deleted units counted against it" in report["guarantee"]["statement"]
    assert _report(services, 5)["guarantee"]["certificate"]["unitsDeletedSinceBase"] == 1
    assert (old.deleted, new.deleted, new.charges) == (2, 0, {})
    assert new.base != old.base
    assert _state(services).charges == {_batch_of(services, run_id): 1}


def test_any_rung_charges_the_base_and_sisa_warns_of_adaptive_requests(services: Services) -> None:
    """A batch that shards published is charged like any other, and its page says what voids the guarantee."""
    furnish(services, 4, limit=AMPLE, ladder='"sisa"')
    run_id, before = planned(services, 0), _state(services)

    assert run(services, run_id, engines=engines())

    _ended_once(services, run_id, before)
    report, page = _report(services, 2), (_bundle(services, 2) / "report.html").read_text()
    (warning,) = (one for one in report["guarantee"]["conditions"] if "not adaptive" in one)
    assert report["guarantee"]["class"] == "exact"
    assert "filed after looking at a published model can void the guarantee" in warning
    assert warning in page
    assert "nobody filed after looking at a published model" in page


def _bundle(desk: Services, version: int) -> Path:
    return desk.settings.workdir / "bundles" / f"m-v{version}"


def _report(desk: Services, version: int) -> Any:  # noqa: ANN401 - a report's predicate
    envelope = json.loads((_bundle(desk, version) / "report.dsse.json").read_bytes())
    return json.loads(base64.b64decode(envelope["payload"]))["predicate"]
