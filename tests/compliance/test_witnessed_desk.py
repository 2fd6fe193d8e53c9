"""A desk with a witness: what it publishes is cosigned, and what happens while the witness is away."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from audits import log, policy, verify
from audits.errors import VerificationError
from compliance import settings as settings_module
from compliance.errors import UnavailableError
from compliance.execution.run import MAX_EPOCHS, run
from compliance.ledger.lifecycle import RunState
from compliance.scheduler import _sign
from compliance.wiring import Services, open_services
from tests.compliance.conftest import Clock, file_request
from tests.compliance.pretence import engines, furnish, kinds, past_the_lease, planned
from tests.compliance.witnesses import Running, running

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("witness")]

AMPLE = 60.0  # a limit that every batch fits in


def log_vkey(desk: Services) -> str:
    """The desk's log, as a witness is told of it."""
    return log.vkey(desk.settings.origin, desk.signers["log"].public_key)


def introduced(desk: Services, *known: Running) -> Services:
    """The desk, with these witnesses in its settings."""
    settings_module.remember(desk.settings, witnesses=json.dumps([one.as_setting() for one in known]))
    return open_services(settings_module.load(desk.settings.workdir), clock=desk.clock)


def newest(desk: Services) -> str:
    """The newest checkpoint, as the database and the published files have it."""
    with desk.read() as ledger:
        recorded = ledger.head().checkpoint
    assert (desk.settings.workdir / "log" / "checkpoint").read_text() == recorded
    return recorded


def test_what_is_published_is_cosigned(services: Services, tmp_path: Path) -> None:
    """The checkpoint that was there, and every later one; the policy that the desk hands out asks for it."""
    with running(tmp_path / "witness", log_vkey(services)) as one:
        desk = introduced(services, one)
        trust = policy.parse(desk.policy_text())
        assert not desk.witnessed(newest(desk))

        desk.publish()
        first = policy.evaluate(trust, newest(desk))
        file_request(desk)
        published = desk.publish()

    assert (first.level, first.witnesses) == ("witnessed", ("w1",))
    assert policy.evaluate(trust, newest(desk)).checkpoint.size == published.size > first.checkpoint.size
    assert desk.policy_text().splitlines()[1] == f"witness w1 {one.printed['vkey']} {one.url}"
    assert desk.witnessed(newest(desk))
    desk.database.dispose()


def test_a_witness_that_is_away_delays_its_line_only(services: Services, tmp_path: Path, clock: Clock) -> None:
    """The log is published without it, nobody takes that for witnessed, and the beat asks again when it is back."""
    with running(tmp_path / "witness", log_vkey(services)) as one:
        desk = introduced(services, one)
        desk.publish()
    file_request(desk)
    clock.advance(seconds=1)
    with capture_logs() as told:
        size = desk.publish().size
    away = newest(desk)

    with running(tmp_path / "witness") as back:
        again = introduced(desk, back)
        _sign(again)

    assert [entry["event"] for entry in told] == ["no cosignature"]
    with pytest.raises(VerificationError, match="quorum"):
        policy.evaluate(policy.parse(desk.policy_text()), away)
    assert policy.evaluate(policy.parse(again.policy_text()), newest(again)).checkpoint.size == size
    assert newest(again).startswith(away)
    for used in (desk, again):
        used.database.dispose()


def test_a_report_waits_for_the_quorum(services: Services, tmp_path: Path, clock: Clock) -> None:
    """More tries than a run has, none of them logs a report or gives the run up; then the report says witnessed."""
    with running(tmp_path / "witness", log_vkey(services)) as one:
        desk = introduced(services, one)
        furnish(desk, 3, limit=AMPLE, ladder='"retrain"')
        run_id = planned(desk, 0)
    for _ in range(MAX_EPOCHS + 1):
        with pytest.raises(UnavailableError, match="witnesses"):
            run(desk, run_id, engines=engines())
        clock.advance(seconds=past_the_lease(desk))
    with desk.read() as ledger:
        assert ledger.batch_of(run_id).run_state is RunState.QUEUED
    assert kinds(desk, log.REPORT_LOGGED) == 0

    with running(tmp_path / "witness") as back:
        again = introduced(desk, back)
        assert run(again, run_id, engines=engines())

    verdict = verify.verify(tmp_path / "desk" / "bundles" / "m-v2", again.policy_text())
    assert verdict.ok, [step for step in verdict.steps if not step.ok]
    assert verdict.trust == "witnessed"
    assert kinds(again, log.REPORT_LOGGED) == 1
    for used in (desk, again):
        used.database.dispose()


def test_a_witness_that_leaves_midway_gives_no_run_up(services: Services, tmp_path: Path, clock: Clock) -> None:
    """A report that was logged and not cosigned is retried as a waiting one is, and named by the one that follows."""

    class Fickle:
        def cosign(self, signed: str, consistency: Callable[[int], list[bytes]]) -> str:
            """Answers until the report is in the log."""
            real = desk.publisher.cosigner
            assert real is not None
            return signed if kinds(desk, log.REPORT_LOGGED) else real.cosign(signed, consistency)

    with running(tmp_path / "witness", log_vkey(services)) as one:
        desk = introduced(services, one)
        left = dataclasses.replace(desk, publisher=dataclasses.replace(desk.publisher, cosigner=Fickle()))
        furnish(desk, 3, limit=AMPLE, ladder='"retrain"')
        run_id = planned(desk, 0)
        for _ in range(MAX_EPOCHS + 1):
            with pytest.raises(UnavailableError, match="witnesses"):
                run(left, run_id, engines=engines())
            clock.advance(seconds=past_the_lease(desk))
        assert kinds(desk, log.REPORT_LOGGED) == 1

        assert run(desk, run_id, engines=engines())
    verdict = verify.verify(tmp_path / "desk" / "bundles" / "m-v2", desk.policy_text())
    assert (verdict.ok, kinds(desk, log.REPORT_LOGGED)) == (True, 2), verdict.steps
    desk.database.dispose()
