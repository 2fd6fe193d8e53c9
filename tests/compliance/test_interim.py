"""A guard while the batch goes on: a version and a report of its own, which fulfil nothing, crash or no crash."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from audits import verify
from compliance.certification.publishing import report_of
from compliance.errors import NotAllowedError
from compliance.execution.process import EngineFailedError
from compliance.execution.run import run
from compliance.ledger.database import differences, upgrade
from compliance.ledger.lifecycle import AttemptOutcome, ItemState, RequestState
from compliance.ledger.views import VersionView
from compliance.web.app import create_pages
from compliance.wiring import Services
from engine.contract import Job, Kind
from tests.compliance.browsing import sign_in, text_of
from tests.compliance.builders import before_guards, before_revocation
from tests.compliance.conftest import both_databases
from tests.compliance.pretence import (
    GUARDING,
    Crash,
    Fuse,
    die,
    doomed,
    engines,
    furnish,
    kinds,
    past_the_lease,
    planned,
)  # fmt: skip
from tests.compliance.terminal import answer, at

pytestmark = pytest.mark.timeout(120)
LADDER = f'"{GUARDING}", "retrain"'
POINTS = range(4, 9)  # a worker's transactions from the guard's outcome to the start of the next rung
AMPLE, NOT_FOUND = 60.0, 404


def versions(desk: Services) -> list[VersionView]:
    """The model's versions."""
    with desk.read() as ledger:
        (model,) = ledger.models()
        return ledger.versions(model.id)


def told(desk: Services) -> list[tuple[int, str, str]]:
    """Number, state and guarantee of each version."""
    return [(one.number, one.state, one.guarantee) for one in versions(desk)]


def bundle(desk: Services, number: int) -> Path:
    """The bundle of a version."""
    return desk.settings.workdir / "bundles" / f"m-v{number}"


def report(desk: Services, number: int) -> Any:  # noqa: ANN401 - a report's predicate
    """What the report on a version says, verified as an auditor does."""
    verdict = verify.verify(bundle(desk, number), desk.policy_text())
    assert verdict.ok, [step for step in verdict.steps if not step.ok]
    envelope = json.loads((bundle(desk, number) / "report.dsse.json").read_bytes())
    return json.loads(base64.b64decode(envelope["payload"]))["predicate"]


def outcomes(desk: Services, run_id: str) -> list[tuple[str, str]]:
    """Rung and outcome of each attempt."""
    with desk.read() as ledger:
        return [(one.rung, one.outcome.value) for one in ledger.attempts(run_id)]


def test_a_guard_is_a_version_at_once_and_the_batch_goes_on(services: Services) -> None:
    """While the next rung is tried the guard is in use, the requests are open and everything is still there."""
    furnish(services, 4, limit=AMPLE, ladder=LADDER)
    run_id = planned(services, 0)
    seen: list[Any] = []

    def look(job: Job) -> None:
        if job.method == "retrain":
            with services.read() as ledger:
                batch = ledger.batch_of(run_id)
                base = ledger.base(batch.model_id)
                states = {item.state for item in ledger.batch_items(batch.id)}
                seen.append((told(services), states, ledger.request("request0").state, base and base.units_deleted))
        if job.kind is Kind.EVALUATE:
            seen.append(Path(job.models["before"]).name)

    assert run(services, run_id, engines=engines(before=look))

    first = versions(services)[0].digest
    guarded = [(1, "superseded", "none"), (2, "current", "suppression")]
    assert seen == [first, (guarded, {ItemState.UNLEARNING}, RequestState.APPROVED, 0), first]
    assert told(services) == [(1, "sealed", "none"), (2, "sealed", "suppression"), (3, "current", "exact")]
    assert [one.path.rsplit("/", 1)[-1] for one in versions(services)[:2]] == ["version-1", "version-2"]
    assert outcomes(services, run_id) == [(GUARDING, "interim"), ("retrain", "published")]
    assert (kinds(services, "version.published"), kinds(services, "budget.changed")) == (3, 1)
    with services.read() as ledger:
        assert ledger.request("request0").state is RequestState.FULFILLED
        assert not services.store.model_path(versions(services)[1].digest).exists()


def test_both_reports_verify_and_tell_of_each_other(services: Services) -> None:
    """The first removed nothing and says so; the second starts from the same version and names the first."""
    furnish(services, 4, limit=AMPLE, ladder=LADDER)
    assert run(services, planned(services, 0), engines=engines())

    guard, end = report(services, 2), report(services, 3)
    listed = answer(services, "report", "list")

    assert guard["guarantee"]["class"] == "suppression"
    assert (guard["dataset"]["removed"], end["dataset"]["removed"]) == (0, 2)
    assert guard["model"]["before"] == end["model"]["before"]
    assert (guard["model"]["after"]["version"], end["model"]["after"]["version"]) == (2, 3)
    assert set(guard["model"]["after"]["files"]) - set(guard["model"]["before"]["files"]) == {"guard/guard.json"}
    assert [one["outcome"] for one in guard["attempts"]] == ["interim"]
    assert [one["outcome"] for one in end["attempts"]] == ["interim", "published"]
    assert (guard["attempts"][0]["gates"], end["attempts"][0]) == (guard["gates"], guard["attempts"][0])
    assert end["previousReportDigest"] == listed[0]["digest"]
    assert end["requestBatch"]["ledgerRange"]["from"] == guard["requestBatch"]["ledgerRange"]["to"]
    assert {one["state"] for one in guard["requestBatch"]["accounted"]} == {"approved"}
    assert "byte for byte, and still hold the data" in guard["guarantee"]["statement"]
    assert "no answer to the requests" in " ".join(guard["limits"])
    assert "Nothing was removed" in (bundle(services, 2) / "report.html").read_text()


def test_a_certificate_after_a_guard_says_what_was_measured_before(services: Services) -> None:
    """The guard's scores on the forget set came before the release, and its version paid nothing."""
    furnish(services, 4, limit=AMPLE, ladder=f'"{GUARDING}", "dp2"')
    assert run(services, planned(services, 0), engines=engines())

    guarantee = report(services, 3)["guarantee"]

    (choice,) = (one for one in guarantee["conditions"] if "choice is outside the theorem" in one)
    assert f"{GUARDING} had been measured on the forget set before and released as a guard" in choice
    assert (guarantee["class"], guarantee["certificate"]["unitsDeletedSinceBase"]) == ("certified", 1)
    assert report(services, 2)["guarantee"]["certificate"] is None


def test_two_reports_of_a_batch_are_listed_shown_and_exported(services: Services, tmp_path: Path) -> None:
    """Each under its own version, on the command line; the batch names who guarded and who published."""
    furnish(services, 4, limit=AMPLE, ladder=LADDER)
    run_id = planned(services, 0)
    assert run(services, run_id, engines=engines())

    listed = answer(services, "report", "list")
    for number, one in zip((2, 3), listed, strict=True):
        assert (one["version"], one["bundle"]) == (number, str(bundle(services, number)))
        assert answer(services, "report", "show", one["id"])["statement"]["reportId"] == one["id"]
        answer(services, "report", "export", one["id"], "--out", tmp_path / str(number))
    (batch,) = answer(services, "batch", "list")

    assert [one["guarantee"] for one in listed] == ["suppression", "exact"]
    assert (batch["interim"], batch["rung"], batch["run_id"]) == (GUARDING, "retrain", run_id)
    assert [one["outcome"] for one in answer(services, "batch", "show", batch["id"])["attempts"]] == [
        "interim",
        "published",
    ]


def _tried(desk: Services, run_id: str) -> list[str | None]:
    """Run a batch; the methods that its engine was asked for."""
    jobs: list[str | None] = []
    assert run(desk, run_id, engines=engines(before=lambda job: jobs.append(job.method)))
    return jobs


@pytest.mark.slow
def test_a_worker_that_dies_anywhere_makes_each_version_once(services: Services) -> None:
    """After each of its transactions in turn: the guard is not tried or published again, nor left out."""
    furnish(services, POINTS.stop + 1, limit=AMPLE, ladder=LADDER)
    for point in POINTS:
        run_id, before = planned(services, point), len(versions(services))
        with pytest.raises(Crash):
            run(doomed(services, Fuse(act=die, at=point, inside=False)), run_id, engines=engines())
        crashed = outcomes(services, run_id)
        services.clock.advance(seconds=past_the_lease(services))  # type: ignore[attr-defined]
        again = _tried(services, run_id)

        assert (GUARDING, "interim") not in crashed or GUARDING not in again
        assert [one[2] for one in told(services)[before:]] == ["suppression", "exact"]
        ended = [one for one in outcomes(services, run_id) if one[1] != AttemptOutcome.ERROR]
        assert ended == [(GUARDING, "interim"), ("retrain", "published")]
        assert {one[1] for one in told(services)[:-1]} == {"sealed"}
        with services.read() as ledger:
            assert len(ledger.reports_of(ledger.batch_of(run_id).id)) == 2
    left = {one.name for one in (services.settings.workdir / "bundles").iterdir()}
    assert left == {f"m-v{number}" for number in range(2, len(versions(services)) + 1)}
    for number in (2, 3, 6, 7):
        report(services, number)


def test_a_worker_that_lost_its_claim_publishes_no_guard(services: Services) -> None:
    """Another one has taken over while the guard was measured: one version of it comes out."""
    furnish(services, 4, limit=AMPLE, ladder=LADDER)
    run_id, others = planned(services, 0), list[bool]()

    def dawdle(job: Job) -> None:
        if job.kind is Kind.EVALUATE and not others:
            services.clock.advance(seconds=past_the_lease(services))  # type: ignore[attr-defined]
            others.append(run(services, run_id, engines=engines()))

    assert not run(services, run_id, engines=engines(before=dawdle))

    assert others == [True]
    assert [one[2] for one in told(services)] == ["none", "suppression", "exact"]


def test_a_guard_stays_when_nothing_after_it_holds(services: Services) -> None:
    """The run is stuck, says so, and goes on later from the weights without the guard."""
    furnish(services, 4, limit=AMPLE, ladder=f'"{GUARDING}", "npo"')
    run_id = planned(services, 0)
    failing = engines(before=_fail)

    with pytest.raises(NotAllowedError, match="no rung that removes anything held its gates; the guard stays in use"):
        run(services, run_id, engines=failing)

    assert told(services) == [(1, "superseded", "none"), (2, "current", "suppression")]
    with services.read() as ledger:
        batch = ledger.batch_of(run_id)
        assert report_of(ledger, batch, interim=True) is not None
        assert report_of(ledger, batch) is None
        assert ledger.awaits_weights(versions(services)[0].digest, besides="another")
        assert not ledger.awaits_weights(versions(services)[0].digest, besides=batch.id)
        ledger_state = ledger.request("request0").state
    assert ledger_state is RequestState.APPROVED
    shown = at(services, "model", "show", "m").out
    assert "a guard, the weights still hold the data" in " ".join(shown.split())

    with TestClient(create_pages(services)) as browser:
        sign_in(services, browser)
        page = text_of(browser.get("/desk/models").text)
        assert "A guard is in use (suppression)" in page
        assert f"{GUARDING} interim, npo error on its guard" in page
        assert "Nothing was removed" in browser.get(f"/desk/reports/{batch.id}?interim").text
        assert browser.get(f"/desk/reports/{batch.id}").status_code == NOT_FOUND

    starts: list[str] = []
    with services.transaction() as ledger:
        ledger.requeue(run_id)
    assert run(services, run_id, engines=engines(before=lambda job: starts.append(Path(job.model or "").name)))

    assert versions(services)[0].digest in starts
    assert versions(services)[1].digest not in starts
    assert told(services)[-1] == (3, "current", "empirical")


def test_a_model_that_came_with_a_guard_can_only_be_trained_anew(services: Services) -> None:
    """Methods that start from it would learn through the guard: the plan refuses them, and says why."""
    furnish(services, 4, limit=AMPLE, ladder=f'"{GUARDING}", "npo", "retrain"')
    folder = services.settings.workdir / "given" / "model"
    (folder / "guard").mkdir()
    (folder / "guard" / "guard.json").write_text("{}\n")
    digest, files = services.store.import_model(folder)
    with services.transaction() as ledger:
        (model,) = ledger.models()
        path = str(services.store.model_path(digest))
        ledger.publish_version(
            version_id="v2", model_id=model.id, digest=digest, files=files, path=path, guarantee="none",
            report_digest=None, now=services.clock(),
        )  # fmt: skip
    run_id = planned(services, 0)
    with services.read() as ledger:
        refused = {one["rung"]: one["refused"] for one in ledger.batch_of(run_id).plan["rungs"]}
    assert {rung for rung, why in refused.items() if why and "came with a guard" in why} == {GUARDING, "npo"}

    assert run(services, run_id, engines=engines())

    assert told(services)[-1] == (3, "current", "exact")
    assert report(services, 3)["model"]["before"]["digest"] == digest


def _fail(job: Job) -> None:
    if job.method == "npo":
        raise EngineFailedError("it did not work", code="failed")


@both_databases
def test_an_older_desk_keeps_its_reports(services: Services) -> None:
    """The migration lets a batch have two and loses none."""
    furnish(services, 4, limit=AMPLE, ladder='"retrain"')
    assert run(services, planned(services, 0), engines=engines())
    with services.database.begin() as connection:
        before_revocation(connection)
        before_guards(connection)
        connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))

    upgrade(services.database)

    assert differences(services.database) == []
    with services.read() as ledger:
        assert len(ledger.reports()) == 1
