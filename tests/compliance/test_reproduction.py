"""Repeating a run from its sealed inputs: the same weights, agreeing evidence, and every way in which it is not so."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from audits import model as folders
from compliance.broker import make_app
from compliance.certification.publishing import bundle_path
from compliance.cli.output import answer
from compliance.cli.reproducing import shown, value_of
from compliance.errors import InvalidInputError
from compliance.execution.closing import end_challenge
from compliance.execution.comparison import Outcome
from compliance.execution.inputs import private_folder
from compliance.execution.process import EngineFailedError, Progress
from compliance.execution.reproduction import (
    FOLDER,
    Challenge,
    Reproduction,
    reproduce,
    sweep_reproductions,
)
from compliance.execution.run import run
from compliance.scheduler import keep_house
from compliance.settings import initialise
from compliance.wiring import Services, open_services, prepare
from engine.contract import Estimate, Evidence, Finding, Job, Kind
from engine.corpus import digest, read_records
from tests.compliance.conftest import Clock, both_databases, file_request
from tests.compliance.pretence import GUARDING, PretendEngine, furnish, planned
from tests.compliance.terminal import at, refusal

AMPLE = 60.0
CHOSEN = 20270114
ENOUGH_FOR_ONE = 0.8
COMMITTED = "ab" * 32


def method_of(job: Job) -> str:
    """What a deterministic method's weights follow from: its inputs by content, seed and settings, and no path."""
    sets = [None if one is None else digest(read_records(Path(one))) for one in (job.forget, job.retain)]
    starts = [None if one is None else Path(one).name for one in (job.base, job.model)]
    return json.dumps([job.kind, job.method, job.seed, job.options, starts, sets], sort_keys=True)


@dataclass
class Methodical(PretendEngine):
    """An engine that makes the same weights from the same inputs; `found` is what it measures of the new model."""

    text: Callable[[Job], str] = method_of
    code: str = "c" * 64
    settings: str = "0" * 64
    commitment: str | None = None
    found: Callable[[Job], float] = field(default=lambda _job: 0.1)

    def run(self, job: Job, progress: Progress) -> Evidence:
        """As the engine that it extends, with these evidence fields."""
        made = super().run(job, progress)
        value = self.found(job)
        estimate = Estimate(value=value, ci95=(value - 0.02, value + 0.02), n=20)
        zero = Estimate(value=0.0, ci95=(0.0, 0.0), n=20)
        finding = Finding(metric="verbmem_f", before=estimate, after=estimate, reference=estimate, difference=zero)
        return replace(
            made,
            code_digest=self.code,
            config_digest=self.settings,
            environment={"threads": 1},
            seed_commitment=self.commitment if job.kind is Kind.UNLEARN else made.seed_commitment,
            findings=(finding,) if job.kind is Kind.EVALUATE else (),
        )


def noisy(**given: Any) -> Methodical:  # noqa: ANN401 - fields of the engine
    """One that draws a fresh secret each time."""
    return Methodical(text=lambda _job: secrets.token_hex(), commitment=COMMITTED, **given)


def fitted(engine: PretendEngine) -> Any:  # noqa: ANN401 - an `Engines`
    """This engine, whenever one is asked for."""
    return lambda **_kwargs: engine


def published(desk: Services, number: int, engine: PretendEngine) -> Path:
    """A batch of the person with this number, run with `engine`; its bundle."""
    assert run(desk, planned(desk, number), engines=fitted(engine))
    with desk.read() as ledger:
        return bundle_path(desk, ledger.reports()[-1])


def repeated(desk: Services, bundle: Path, engine: PretendEngine, **given: Any) -> Reproduction:  # noqa: ANN401
    """The repetition; nothing of it is left, whatever came of it."""
    try:
        return reproduce(desk, bundle, policy_text=None, say=lambda _event: None, engines=fitted(engine), **given)
    finally:
        assert [path.name for path in (desk.store.root / FOLDER).iterdir()] == [".lock"]


def failed(found: Reproduction) -> tuple[str, str]:
    """Name and reason of the first step that does not hold."""
    assert not found.ok
    return next((step.name, step.why) for step in found.steps.steps if not step.ok)


def entries(desk: Services, kind: str) -> list[tuple[int, Any]]:
    """Index and data of each log entry of a kind."""
    with desk.read() as ledger:
        found = [json.loads(entry) for entry in ledger.entries(0, ledger.head().size)]
    return [(index, one["data"]) for index, one in enumerate(found) if one["type"] == kind]


@contextmanager
def ended(folder: Path, engine: PretendEngine) -> Iterator[tuple[Services, Path]]:
    """A desk whose one batch was run by `engine`, and its bundle."""
    settings = initialise(folder / "desk")
    prepare(settings)
    desk = open_services(settings)
    furnish(desk, 4, limit=AMPLE, ladder='"retrain"')
    yield desk, published(desk, 0, engine)
    desk.database.dispose()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, Path]]:
    """A batch that a deterministic method ran."""
    with ended(tmp_path_factory.mktemp("honest"), Methodical()) as found:
        yield found


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Services, Path]]:
    """A batch that a method ran which adds noise."""
    with ended(tmp_path_factory.mktemp("noisy"), noisy()) as found:
        yield found


def test_the_same_inputs_make_the_same_weights(honest: tuple[Services, Path], tmp_path: Path) -> None:
    """Every step holds, the weights are the published ones, and the log says so."""
    desk, bundle = honest

    found = repeated(desk, bundle, Methodical(), out=tmp_path / "out")

    assert [step.why for step in found.steps.steps if not step.ok] == []
    assert (found.ok, found.outcome) == (True, Outcome.SAME_WEIGHTS)
    with desk.read() as ledger:
        current = ledger.current_version(ledger.models()[0].id)
    assert found.weights_digest == current.digest == folders.digest_folder(tmp_path / "out")
    index, data = entries(desk, "report.reproduced")[-1]
    assert (index, data["reportId"], data["outcome"]) == (found.log_index, found.report_id, "same_weights")
    assert data["weightsDigest"] == current.digest


def test_a_chosen_test_stands_beside_the_report(honest: tuple[Services, Path]) -> None:
    """The published weights are asked with the auditor's suite and seed, and the answer does not change."""
    desk, bundle = honest
    asked: list[Job] = []
    engine = Methodical(before=asked.append, found=lambda job: 0.9 if job.seed == CHOSEN else 0.1)

    found = repeated(desk, bundle, engine, challenge=Challenge(suite="attacks", seed=CHOSEN))

    assert found.ok
    (one,) = found.chosen
    assert one.reported is not None
    assert one.measured is not None
    assert (one.metric, one.agrees) == ("verbmem_f", False)
    assert (one.reported["value"], one.measured["value"]) == (0.1, 0.9)
    job = asked[-1]
    assert (job.seed, job.options, Path(job.models["after"]).name) == (
        CHOSEN,
        {"suite": "attacks"},
        found.weights_digest,
    )


def test_people_read_the_evidence_beside_the_report(
    secret: tuple[Services, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same value that programs get: values with intervals, what was chosen, and one answer with its log entry."""
    desk, bundle = secret
    challenge = Challenge(suite="records", seed=CHOSEN)

    found = repeated(desk, bundle, noisy(found=lambda _job: 0.13), challenge=challenge)
    answer(value_of(found, challenge), as_json=False, people=shown)

    told = capsys.readouterr().out
    assert re.search(r"0\.1 \[0\.08, 0\.12\].*0\.13 \[0\.11, 0\.15\].*0\.13", told, re.DOTALL)
    assert f"Chosen now: the suite records, seed {CHOSEN}." in told
    assert f"REPRODUCED (log entry {found.log_index})" in told


def test_a_suite_of_another_family_is_bad_input(honest: tuple[Services, Path]) -> None:
    """Before anything is opened; at the terminal it is one line and exit 2, and no folder is left."""
    desk, bundle = honest
    out = desk.settings.workdir / "never"

    with pytest.raises(InvalidInputError, match="attacks"):
        repeated(desk, bundle, Methodical(), challenge=Challenge(suite="domain", seed=7))
    assert "records" in refusal(at(desk, "report", "reproduce", bundle, "--suite", "domain", "--out", out))
    assert not out.exists()


def test_other_code_is_named_and_does_not_matter_for_the_same_weights(honest: tuple[Services, Path]) -> None:
    """A change that the run did not touch leaves the digest as it was."""
    desk, bundle = honest

    found = repeated(desk, bundle, Methodical(code="d" * 64))

    assert (found.ok, found.outcome) == (True, Outcome.SAME_WEIGHTS)
    assert found.conditions == ["the engine's code (cccccccccccccccc…, now dddddddddddddddd…)"]


@pytest.mark.parametrize(("value", "outcome"), [(0.12, Outcome.EVIDENCE_AGREES), (0.4, Outcome.EVIDENCE_DIFFERS)])
def test_other_weights_under_other_code_are_compared_by_evidence(
    honest: tuple[Services, Path], value: float, outcome: Outcome
) -> None:
    """What differs is said, and the evidence of both models must agree with the report all the same."""
    desk, bundle = honest
    engine = Methodical(text=lambda job: "new " + method_of(job), code="d" * 64, found=lambda _job: value)

    found = repeated(desk, bundle, engine)

    assert (found.ok, found.outcome) == (outcome is Outcome.EVIDENCE_AGREES, outcome)
    assert entries(desk, "report.reproduced")[-1][1]["outcome"] == outcome.value


def test_a_report_of_other_settings_is_noticed(honest: tuple[Services, Path]) -> None:
    """The cheat: the weights are the method's, and the report claims settings that nobody ran."""
    desk, bundle = honest

    found = repeated(desk, bundle, Methodical(settings="e" * 64))

    assert (found.outcome, failed(found)[0]) == (Outcome.SETTINGS_DIFFER, "comparison")


def test_an_engine_that_fails_is_no_reproduction(honest: tuple[Services, Path]) -> None:
    """Its sentence is the reason, nothing is logged, and what was opened is gone."""
    desk, bundle = honest
    before = entries(desk, "report.reproduced")

    def refuse(_job: Job) -> None:
        raise EngineFailedError("there is not enough memory", code="memory")

    assert failed(repeated(desk, bundle, Methodical(before=refuse))) == ("run", "There is not enough memory.")
    assert entries(desk, "report.reproduced") == before


def test_a_bundle_that_does_not_verify_is_not_repeated(honest: tuple[Services, Path], tmp_path: Path) -> None:
    """The verifier's own step is named; so is a report that this desk did not publish."""
    desk, bundle = honest
    (other := tmp_path / "bundle").mkdir()
    for file in bundle.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / "report.html").write_text("<p>All is well.</p>")

    name, why = failed(repeated(desk, other, Methodical()))

    assert (name, "(page)" in why) == ("bundle", True)


def test_weights_that_the_method_did_not_make_are_noticed(services: Services, tmp_path: Path) -> None:
    """The cheat: nothing was unlearned, the old weights with one bit changed were published, and every gate holds."""
    furnish(services, 4, limit=AMPLE, ladder='"retrain"')
    bundle = published(services, 0, Methodical(text=lambda _job: "the weights as they were"))

    found = repeated(services, bundle, Methodical(), out=tmp_path / "out")

    name, why = failed(found)
    assert (name, found.outcome) == ("comparison", Outcome.WEIGHTS_DIFFER)
    assert "model.safetensors (changed)" in why
    assert folders.digest_folder(tmp_path / "out") == found.weights_digest
    assert entries(services, "report.reproduced")[-1][1]["outcome"] == "weights_differ"


def test_a_noisy_method_is_compared_by_evidence(secret: tuple[Services, Path]) -> None:
    """A fresh secret makes other weights; both models must measure as reported, on the report's own test items."""
    desk, bundle = secret
    asked: list[Job] = []

    found = repeated(desk, bundle, noisy(before=asked.append, found=lambda _job: 0.13))

    assert (found.ok, found.outcome) == (True, Outcome.EVIDENCE_AGREES)
    assert [one.agrees for one in (*found.published, *found.repeated)] == [True, True]
    with desk.read() as ledger:
        record = ledger.attempts(ledger.batches()[0].run_id)[-1].record
    assert [job.seed for job in asked if job.kind is Kind.EVALUATE] == [int(record["seed"])] * 2


def test_forged_evidence_of_a_noisy_method_is_noticed(secret: tuple[Services, Path]) -> None:
    """The cheat: numbers that nobody measured. The published weights do not show them."""
    desk, bundle = secret
    with desk.read() as ledger:
        weights = ledger.current_version(ledger.models()[0].id).digest

    def measured(job: Job) -> float:
        return 0.6 if weights in job.models.get("after", "") else 0.1

    found = repeated(desk, bundle, noisy(found=measured))

    assert (found.outcome, failed(found)[0]) == (Outcome.EVIDENCE_DIFFERS, "evidence")
    assert "verbmem_f" in failed(found)[1]
    assert [one.agrees for one in (*found.published, *found.repeated)] == [False, True]


def test_a_method_that_leads_elsewhere_is_noticed(secret: tuple[Services, Path]) -> None:
    """The cheat: weights that measure well came from somewhere else, and the method with another secret does not."""
    desk, bundle = secret

    def measured(job: Job) -> float:
        return 0.6 if "/run/" in job.models.get("after", "") else 0.1

    found = repeated(desk, bundle, noisy(found=measured))

    assert (found.outcome, failed(found)[0]) == (Outcome.EVIDENCE_DIFFERS, "comparison")


def test_numbers_that_nobody_measured_are_noticed_beside_true_weights(honest: tuple[Services, Path]) -> None:
    """The cheat: the method ran, and its evidence was made up."""
    desk, bundle = honest

    found = repeated(desk, bundle, Methodical(found=lambda _job: 0.6))

    assert (found.outcome, failed(found)[0]) == (Outcome.EVIDENCE_DIFFERS, "evidence")


@both_databases
def test_after_the_challenge_period_the_entry_is_named(services: Services, clock: Clock) -> None:
    """Exit 1, with index and time of the entry that logged the destruction of the key."""
    furnish(services, 4, limit=AMPLE, ladder='"retrain"')
    bundle = published(services, 0, Methodical())
    clock.advance(days=31)
    assert end_challenge(services) == 1

    ran = at(services, "report", "reproduce", bundle, "--out", services.settings.workdir / "out", "--json")

    assert ran.code == 1
    ((index, _),) = entries(services, "batch.key_destroyed")
    why = next(step["why"] for step in ran.value["steps"] if not step["ok"])
    assert f"entry {index} of the log, batch.key_destroyed, made at 2026-12-22" in why
    assert (ran.value["outcome"], ran.value["log_index"]) == (None, None)
    assert not (services.settings.workdir / "out").exists()


def test_what_later_batches_took_away_is_put_back(services: Services) -> None:
    """The retain set is that of its day while the later batch's key lives; then that batch's entry is named."""
    furnish(services, 5, limit=AMPLE, ladder='"retrain"')
    bundle = published(services, 0, Methodical())
    published(services, 1, Methodical())

    assert repeated(services, bundle, Methodical()).outcome is Outcome.SAME_WEIGHTS

    with services.transaction() as ledger:
        (later,) = (one.id for one in ledger.batches() if one.plan["requests"] == ["request1"])
        ledger.destroy_batch_key(batch_id=later, now=services.clock())
    ((index, data),) = entries(services, "batch.key_destroyed")
    name, why = failed(repeated(services, bundle, Methodical()))
    assert (name, data["batchId"]) == ("retain set", later)
    assert f"entry {index} of the log" in why
    assert "2 of the retained records" in why


def test_sealed_inputs_that_were_exchanged_are_noticed(honest: tuple[Services, Path]) -> None:
    """The cheat: another forget set is sealed under the batch's key, so that a repeat would find what was published."""
    desk, bundle = honest
    with desk.read() as ledger:
        batch = ledger.batches()[0]
        key = ledger.batch_key(batch.id)
    raw = desk.store.open_bytes(desk.vault, key, batch_id=batch.id, name="forget")

    try:
        half = raw.splitlines(keepends=True)[0]
        desk.store.seal_bytes(desk.vault, key, half, batch_id=batch.id, name="forget")
        name, why = failed(repeated(desk, bundle, Methodical()))
    finally:
        desk.store.seal_bytes(desk.vault, key, raw, batch_id=batch.id, name="forget")

    assert (name, "planned" in why) == ("sealed inputs", True)


def test_what_a_killed_repetition_had_opened_is_swept(honest: tuple[Services, Path]) -> None:
    """A folder that no living process holds goes with the housekeeping; one in use stays."""
    desk, _ = honest
    root = desk.store.root / FOLDER
    with private_folder(root) as used:
        (left := root / "left").mkdir()
        (left / "forget.jsonl").write_text("a person")

        sweep_reproductions(desk)

        assert (used.is_dir(), used.stat().st_mode & 0o777, left.exists()) == (True, 0o700, False)
    assert not used.exists()


def test_a_folder_that_goes_while_it_is_swept_stops_nothing(honest: tuple[Services, Path]) -> None:
    """A repetition may end, and remove its folder, between the sweeper's two looks at it."""
    desk, _ = honest
    (going := desk.store.root / FOLDER / "going").mkdir(parents=True)
    (going / ".lock").symlink_to(going / "gone" / ".lock")  # so that its lock can't be opened, as then

    sweep_reproductions(desk)

    assert not going.exists()


def test_housekeeping_signs_the_log_though_a_part_of_it_cannot_work(services: Services) -> None:
    """A fault of the disk in one part is told by its kind, and the parts after it are done."""
    (services.store.root / FOLDER / ".lock").mkdir(parents=True)
    file_request(services)
    with capture_logs() as told:
        keep_house(services, make_app(services.settings))

    with services.read() as ledger:
        head = ledger.head()
    assert head.checkpoint_size == head.size
    assert [(one["part"], one["kind"]) for one in told if one["event"] == "housekeeping failed"] == [
        ("sweep_reproductions", "IsADirectoryError")
    ]


def test_a_base_is_opened_from_the_batch_that_replaced_it(services: Services) -> None:
    """The first batch goes on from the DP base, the second trains a new one: a fresh secret, compared by evidence."""
    furnish(services, 4, limit=ENOUGH_FOR_ONE)
    first = published(services, 0, Methodical())
    second = published(services, 1, Methodical())

    one, two = repeated(services, first, Methodical()), repeated(services, second, noisy())

    assert one.outcome is Outcome.SAME_WEIGHTS, failed(one)
    assert two.outcome is Outcome.EVIDENCE_AGREES, failed(two)
    assert [step.why for step in one.steps.steps][5].startswith("dp2 was repeated")
    assert [step.why for step in two.steps.steps][5].startswith("retrain was repeated")


def test_a_guard_is_reproduced_too(services: Services) -> None:
    """The report on a guard, whose batch went on and ended, is repeated from the same inputs."""
    furnish(services, 4, limit=AMPLE, ladder=f'"{GUARDING}", "retrain"')
    published(services, 0, Methodical())
    with services.read() as ledger:
        guard = bundle_path(services, ledger.reports()[0])

    found = repeated(services, guard, Methodical())

    assert found.outcome is Outcome.SAME_WEIGHTS, failed(found)
    assert found.steps.steps[5].why.startswith(f"{GUARDING} was repeated")
