"""What an attempt's evidence becomes: values that are there in the report, metrics that are not among its limits."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audits import statement
from audits.gates import Gate, judge_all
from compliance.certification.guarantee import limits_of
from compliance.execution.attempts import measured
from compliance.execution.references import Recipe, drop_reference, reference_path, run_time, training_time
from compliance.execution.rungs import Rung
from compliance.ledger.lifecycle import RunState
from compliance.ledger.views import BatchView
from compliance.policy import parse
from compliance.store import Store
from engine.contract import Job
from tests.audits.bundles import Desk

NOTHING = {"metric": "recovery", "before": None, "after": None, "reference": None, "difference": None}
BATCH = BatchView(
    id="b",
    model_id="m",
    plan={"subjects": 12},
    plan_digest="0",
    plan_index=1,
    planned_at=datetime(2026, 11, 20, tzinfo=UTC),
    challenge_ends=None,
    run_id="r",
    run_state=RunState.CLAIMED,
    progress={},
)
GATE = Gate(metric="recovery", direction="within", margin=0.1, minimum_n=1)


def test_a_metric_that_could_not_be_measured_is_named_and_has_no_place_among_findings() -> None:
    """A report with the finding itself breaks the schema, and its run would never end."""
    report = Desk().predicate()
    findings = [dict(one) for one in report["evidence"]["findings"]]

    found, missing = measured([*findings, dict(NOTHING)])

    assert (found, missing) == (findings, ["recovery"])
    assert "recovery" in limits_of(BATCH, missing)[-1]
    assert limits_of(BATCH) == limits_of(BATCH, [])
    report["evidence"]["findings"] = found  # type: ignore[typeddict-item]
    statement.build(report)


def test_a_gate_on_it_fails_with_the_finding_and_without() -> None:
    """So that the verifier, who sees the report alone, judges as the desk did."""
    (with_it,), (without,) = judge_all([GATE], [dict(NOTHING)]), judge_all([GATE], [])

    assert with_it.outcome == without.outcome == "missing"
    assert with_it.to_json() == without.to_json()


class Told:
    """An engine that notes what it is told."""

    def __init__(self) -> None:
        """With nothing told yet."""
        self.jobs: list[Job] = []

    def run(self, job: Job, progress: object) -> None:
        """Note it."""
        del progress
        self.jobs.append(job)


@pytest.mark.parametrize(("name", "kept"), [("descent-to-delete", "states"), ("newton-noise", None)])
def test_a_method_that_keeps_a_state_is_told_where_and_no_other_is(tmp_path: Path, name: str, kept: str | None) -> None:
    """The same folder at every request, outside of what is removed with the run."""
    table = '[methods.descent-to-delete]\nclasses = 4\npoints = 40\n[[gate]]\nmetric = "ra"\ndirection = "at_least"\n'
    space: Any = type("Space", (), {"retain": tmp_path / "r", "forget": tmp_path / "f"})
    model: Any = type("Model", (), {"start_digest": "0", "name": "m"})
    engine: Any = Told()
    rung = Rung(
        name=name,
        store=Store(tmp_path),
        space=space,
        batch=dataclasses.replace(BATCH, plan={**BATCH.plan, "rungs": [], "requests": [], "beforeDigest": "0"}),
        model=model,
        policy=parse(f'name = "x"\ntask = "image"\nladder = ["descent-to-delete", "newton-noise"]\n{table}'),
        base=None,
        before=tmp_path / "before",
        threads=1,
        progress=lambda _event: None,
    )
    (tmp_path / "out" / "model").mkdir(parents=True)
    rung.unlearn(engine, tmp_path / "out")

    assert engine.jobs[0].cache == (None if kept is None else str(tmp_path / kept))


def test_what_a_reference_took_lies_beside_it_and_goes_with_it(tmp_path: Path) -> None:
    """Outside of its folder, whose digest is the model's; a reference of earlier days says nothing."""
    store = Store(tmp_path)
    recipe = Recipe(start_digest="0", retain_digest="1", options={})
    folder = reference_path(store, recipe)
    folder.mkdir(parents=True)
    unknown = training_time(folder)
    noted = folder.with_name(f"{folder.name}.time.json")
    noted.write_text('{"minutes": 1.5, "cpuMinutes": 2.5}')

    assert unknown is None
    assert training_time(folder) == {"minutes": 1.5, "cpuMinutes": 2.5}
    drop_reference(store, recipe)
    assert list(folder.parent.iterdir()) == []


def test_run_time_adds_up_in_minutes() -> None:
    """The papers' RTE, by the clock and of processors; a base that was trained on the way counts."""
    jobs: list[Any] = [SimpleNamespace(seconds=90.0, cpu_seconds=30.0), SimpleNamespace(seconds=30.0, cpu_seconds=0.0)]

    assert run_time(*jobs) == {"minutes": 2.0, "cpuMinutes": 0.5}
