"""The deletion budget in the ledger: whatever happens in whatever order, each published batch pays once.

A model of the ledger is carried along: what was published under which base. After every step the two must agree.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text

from compliance.errors import ConflictError
from compliance.ledger.database import upgrade
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import ItemState
from compliance.ledger.views import BatchView, Claim
from compliance.wiring import Services
from tests.compliance.builders import LEASE, add_base, before_guards, before_revocation, desk_with_people, publish
from tests.compliance.conftest import Clock, both_databases

pytestmark = both_databases
STEPS = 60


class Crash(Exception):  # noqa: N818 - what happens to a worker, not an error of ours
    """The worker dies before its transaction ends."""


def _perhaps(*, dies: bool) -> None:
    if dies:
        raise Crash


@dataclass
class Story:
    """What was done to the desk, and what must therefore be in its ledger."""

    desk: Services
    clock: Clock
    dice: random.Random
    claims: list[Claim] = field(default_factory=list)
    batch: BatchView | None = None
    paid: dict[str, int] = field(default_factory=dict)
    planned: int = 0

    def plan(self) -> None:
        """A batch with a cost, when none is open."""
        if self.batch is not None:
            return
        self.planned += 1
        with self.desk.transaction() as ledger:
            self.batch = ledger.plan_batch(
                batch_id=f"b{self.planned}",
                run_id=f"r{self.planned}",
                model_id="m1",
                items=[],
                plan={"units": self.dice.randint(1, 4)},
                plan_digest="0",
                rules_digest="0",
                now=self.clock(),
            )

    def claim(self) -> None:
        """A message is delivered: perhaps again, perhaps after the lease of the one before ran out."""
        if self.batch is None:
            return
        self.clock.advance(seconds=self.dice.choice([1, LEASE.total_seconds() + 1]))
        with self.desk.transaction() as ledger:
            mine = ledger.claim(run_id=self.batch.run_id, lease=LEASE, now=self.clock())
        self.claims += [mine] if mine is not None else []

    def publish(self) -> None:
        """Some worker publishes, alone or superseded, for the first time or again, and may die before the commit."""
        if not self.claims or self.batch is None:
            return
        mine, dies = self.dice.choice(self.claims), self.dice.random() < 0.4
        stale = mine is not self.claims[-1]
        try:
            with self.desk.transaction() as ledger:
                self._pay(ledger, mine, self.batch)
                _perhaps(dies=dies)
        except Crash:
            assert not stale
            return
        except ConflictError as error:
            assert stale or self.batch.id in self.paid
            assert error.code in {"claim-superseded", "charged-already"}
            return
        assert not stale
        assert self.batch.id not in self.paid
        self.paid[self.batch.id] = self.batch.plan["units"]

    def _pay(self, ledger: Ledger, mine: Claim, batch: BatchView) -> None:
        ledger.move_batch_items(mine, state=ItemState.PUBLISHED, now=self.clock())
        publish(self.desk, ledger)
        base = ledger.base("m1")
        assert base is not None
        ledger.spend_budget(base_id=base.id, units=batch.plan["units"], batch_id=batch.id, now=self.clock())

    def end(self) -> None:
        """The batch that was published is closed, and the model is free for the next one."""
        if self.batch is None or self.batch.id not in self.paid or not self.claims:
            return
        with self.desk.transaction() as ledger:
            ledger.finish_run(self.claims[-1], challenge_ends=self.clock(), now=self.clock())
        self.batch, self.claims = None, []

    def renew(self) -> None:
        """A new base, between two batches."""
        if self.batch is None and self.dice.random() < 0.2:
            add_base(self.desk)
            self.paid.clear()

    def agree(self) -> None:
        """The base in use was charged for what was published under it: each batch once, and nothing else."""
        with self.desk.read() as ledger:
            base = ledger.base("m1")
            assert base is not None
            charges = ledger.charges(base.id)
        assert charges == self.paid
        assert base.units_deleted == sum(charges.values())


@pytest.mark.parametrize("seed", range(3))
def test_every_published_batch_pays_once(services: Services, clock: Clock, seed: int) -> None:
    """Deliveries, crashes, take-overs and second publications in any order leave the budget exact."""
    desk_with_people(services)
    add_base(services)
    dice = random.Random(seed)  # noqa: S311 - a test's order of events
    story = Story(desk=services, clock=clock, dice=dice)

    for _ in range(STEPS):
        step: Any = dice.choice([story.plan, story.claim, story.publish, story.publish, story.end, story.renew])
        step()
        story.agree()

    assert story.planned > 1


def test_a_charge_that_makes_no_sense_is_refused(services: Services, clock: Clock) -> None:
    """Not for nothing, not to a base that was replaced, and not twice."""
    desk_with_people(services)
    add_base(services)
    story = Story(desk=services, clock=clock, dice=random.Random(0))  # noqa: S311 - as above
    story.plan()
    with services.read() as ledger:
        old = ledger.base("m1")
    add_base(services)
    with services.read() as ledger:
        new = ledger.base("m1")
    assert old is not None
    assert new is not None

    refused = []
    for base_id, units in ((new.id, 0), (old.id, 1), (new.id, 1), (new.id, 1)):
        try:
            with services.transaction() as ledger:
                ledger.spend_budget(base_id=base_id, units=units, batch_id="b1", now=clock())
        except ConflictError as error:
            refused.append(error.code)

    assert refused == ["wrong-charge", "wrong-charge", "charged-already"]
    with services.read() as ledger:
        assert ledger.charges(new.id) == {"b1": 1}


def test_charges_of_an_older_desk_come_from_its_log(services: Services, clock: Clock) -> None:
    """A desk from before the table was there has the same charges after the migration."""
    desk_with_people(services)
    add_base(services)
    story = Story(desk=services, clock=clock, dice=random.Random(2))  # noqa: S311 - as above
    for _ in range(3):
        story.plan()
        clock.advance(seconds=1)
        story.claim()
        while story.batch is not None and story.batch.id not in story.paid:
            story.publish()
        story.end()
    with services.database.begin() as connection:
        before_revocation(connection)
        before_guards(connection)
        connection.execute(text("DROP TABLE charges"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))

    upgrade(services.database)

    assert len(story.paid) == 3
    story.agree()
