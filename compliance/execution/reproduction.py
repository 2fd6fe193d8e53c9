"""Repeating a reported run from its sealed inputs, in numbered steps, while the challenge period lasts.

    1  bundle          the report verifies offline under the trust policy
    2  report          this desk published it, about a batch that has ended and the plan that was logged for it
    3  batch key       the challenge period is not over
    4  sealed inputs   forget set, weights before and what the method starts from are those of the plan
    5  retain set      it is put together again, and is the data set that the report says was left
    6  run             the engine repeats the published rung: its method, settings, seed and threads
    7  comparison      the same weights; for noisy methods, or under other code, weights that measure as reported
    8  evidence        the published weights, measured again on the report's own test items, show what it says

A run that did not happen fails at step 7: whoever publishes weights that the method did not make, with a report that
passes every gate, cannot make the method make them. Numbers that nobody measured fail at step 8. What the last two
found is a log entry, `report.reproduced`. What was opened lay in a private folder, which is destroyed with everything
in it, whatever happens.

Beside the steps an auditor may ask for a test that nobody could prepare for (a `Challenge`): the published weights are
measured on the sealed forget set with a suite and a seed chosen now, and what is found stands beside the report.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from audits import model as folders
from audits import statement, verify
from audits.errors import VerificationError, require
from audits.predicate import Predicate
from audits.protocol import Recorder, Verification, present
from compliance import policy as policies
from compliance.desk import Desk
from compliance.errors import ComplianceError, InvalidInputError
from compliance.execution.comparison import (
    REPRODUCED,
    Compared,
    Outcome,
    beside,
    compare,
    other_conditions,
    other_settings,
)
from compliance.execution.inputs import Sealed, private_folder, sweep_folders
from compliance.execution.process import CpuEngineProcess, Engines, Progress
from compliance.execution.repeating import Inputs, Repeater, is_noisy
from compliance.execution.rungs import Unlearned
from compliance.execution.workspace import fill_workspace
from compliance.ledger.ledger import Ledger
from compliance.ledger.lifecycle import RunState
from compliance.ledger.views import BaseView, BatchView, ModelView
from compliance.planning import Split, digest_of
from compliance.store import Store
from engine.corpus import Record

FOLDER = "reproductions"
BASED = "dp2"  # the rung that starts from the DP base
CHOSEN = {"language": ("records", "membership", "attacks"), "image": ("image",), "vision-language": ("domain",)}
"""Suites that the sets of a batch alone can answer, by family of models."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """A test chosen after the fact: a suite of `CHOSEN` (None: the report's own), and a seed drawn now."""

    suite: str | None
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """The steps and what came of them. `outcome` is None when the run was not repeated; so are the others, or empty.

    `published` and `repeated` hold evidence on those weights (the latter where they are others), `chosen` the
    challenge's.
    """

    steps: Verification
    report_id: str | None
    outcome: Outcome | None
    weights_digest: str | None
    conditions: Sequence[str]
    published: Sequence[Compared]
    repeated: Sequence[Compared]
    chosen: Sequence[Compared]
    log_index: int | None

    @property
    def ok(self) -> bool:
        """Whether the run was repeated and led to the same."""
        return self.steps.ok and self.outcome in REPRODUCED


@dataclass(slots=True)
class _State:
    """What the steps so far have established."""

    verdict: Verification | None = None
    predicate: Predicate | None = None
    report_id: str | None = None
    batch: BatchView | None = None
    model: ModelView | None = None
    base: BaseView | None = None
    forget: tuple[Record, ...] = ()
    inputs: Inputs | None = None
    made: Unlearned | None = None
    digest: str | None = None
    outcome: Outcome | None = None
    conditions: Sequence[str] = ()
    published: Sequence[Compared] = ()
    repeated: Sequence[Compared] = ()


def reproduce(
    desk: Desk,
    bundle: Path,
    *,
    policy_text: str | None,
    say: Progress,
    challenge: Challenge | None = None,
    out: Path | None = None,
    engines: Engines = CpuEngineProcess,
) -> Reproduction:
    """Repeat the run of a bundle's report and compare; without a trust policy under the desk's own.

    `out` is a new folder for the repeated weights. The steps say why the answer is no; ComplianceError only where the
    challenge itself cannot be met, OSError where `out` cannot be written.
    """
    with private_folder(desk.store.root / FOLDER) as folder, ExitStack() as stack:
        repetition = _Repetition(desk, folder, Repeater(desk, stack, engines, say))
        steps = repetition.steps(bundle, policy_text, challenge)
        state = repetition.state
        index = None if state.outcome is None else repetition.log(state.outcome)
        chosen = repetition.meet(challenge) if challenge is not None and state.inputs is not None else []
        if out is not None and state.made is not None:
            shutil.copytree(state.made.path, out)
    return Reproduction(
        steps=steps,
        report_id=state.report_id,
        outcome=state.outcome,
        weights_digest=state.digest,
        conditions=state.conditions,
        published=state.published,
        repeated=state.repeated,
        chosen=chosen,
        log_index=index,
    )


def sweep_reproductions(desk: Desk) -> None:
    """Destroy what a repetition that was killed had opened."""
    sweep_folders(desk.store.root / FOLDER)


class _Repetition:
    """One repetition in its private folder."""

    def __init__(self, desk: Desk, folder: Path, repeater: Repeater) -> None:
        self.state = _State()
        self._desk = desk
        self._folder = folder
        self._store = Store(folder / "store")
        self._repeater = repeater

    def steps(self, bundle: Path, policy_text: str | None, challenge: Challenge | None) -> Verification:
        """The protocol; InvalidInputError, before anything is opened, for a challenge to another family of models."""
        recorder = Recorder()
        recorder.run("bundle", lambda: self._bundle(bundle, policy_text))
        recorder.run("report", _told(self._report))
        if challenge is not None and self.state.model is not None:
            _check(challenge, policies.parse(self.state.model.policy).task)
        for name, check in (
            ("batch key", self._key),
            ("sealed inputs", self._sealed),
            ("retain set", self._retain),
            ("run", self._run),
            ("comparison", self._compare),
            ("evidence", self._evidence),
        ):
            recorder.run(name, _told(check))
        return recorder.verification("none" if self.state.verdict is None else self.state.verdict.trust, None)

    # (1): the same verifier, and the same answer, as anybody has offline.
    def _bundle(self, bundle: Path, policy_text: str | None) -> str:
        verdict = self.state.verdict = verify.verify(bundle, policy_text or self._desk.policy_text())
        failed = next((step for step in verdict.steps if not step.ok), None)
        if failed is not None:
            raise VerificationError(f"Step {failed.n} of the verifier ({failed.name}) failed: {failed.why}")
        self.state.predicate = statement.parse(present(verdict.payload))
        whose = "the desk's own trust policy" if policy_text is None else "the given trust policy"
        return f"All {len(verdict.steps)} steps of the verifier hold under {whose}."

    # (2): the ledger has this report, and the plan that it names.
    def _report(self) -> str:
        predicate = present(self.state.predicate)
        digest = hashlib.sha256(present(present(self.state.verdict).payload)).hexdigest()
        with self._desk.read() as ledger:
            found = next((one for one in ledger.reports() if one.digest == digest), None)
            if found is None:
                raise VerificationError("This desk has published no such report; ask the desk that it is of.")
            batch = self.state.batch = ledger.batch(found.batch_id)
            model = self.state.model = ledger.model(batch.model_id)
        self.state.report_id = found.id
        same = digest_of(batch.plan) == predicate["plan"]["digest"]
        require(same, "The plan in the ledger is not the one that was logged and reported.")
        policy = policies.parse(model.policy).digest
        require(policy == batch.plan["policyDigest"], "The model's policy is not the one of the plan.")
        require(batch.run_state is RunState.DONE, "The batch has not ended; its inputs are sealed when it has.")
        return f"Report {found.id} is about batch {batch.id}, whose plan is entry {batch.plan_index} of the log."

    # (3): the key that opens the inputs still exists.
    def _key(self) -> str:
        with self._desk.read() as ledger:
            self._opened(ledger).key()
        ends = present(self.state.batch).challenge_ends
        return "The inputs are sealed" + (f" until {ends:%Y-%m-%d}." if ends is not None else ".")

    # (4): what was sealed is what the plan names.
    def _sealed(self) -> str:
        batch, predicate = present(self.state.batch), present(self.state.predicate)
        plan, before = batch.plan, predicate["model"]["before"]
        require(plan["beforeDigest"] == before["digest"], "The report's weights before are not those of the plan.")
        with self._desk.read() as ledger:
            self.state.forget = self._opened(ledger).forget()
            self._folder_of(ledger, before["digest"], "weights before")
            self._folder_of(ledger, plan["startDigest"], "public start")
            if plan["baseDigest"] is not None:
                base = ledger.base_with(model_id=batch.model_id, digest=plan["baseDigest"])
                if predicate["method"]["rung"] == BASED:
                    base = replace(base, path=str(self._folder_of(ledger, base.digest, "DP base")))
                self.state.base = base
        return f"{len(self.state.forget)} record(s) that left, and the weights of version {before['version']}."

    # (5): the records that stayed are those that the report says were left.
    def _retain(self) -> str:
        batch, model, predicate = present(self.state.batch), present(self.state.model), present(self.state.predicate)
        with self._desk.read() as ledger:
            retain = self._opened(ledger).retain()
        after = predicate["dataset"]["afterDigest"]
        left = not predicate["dataset"]["removed"] or after == batch.plan["retainDigest"]
        require(left, "The report's data set after is not the retain set of the plan.")
        held = None if model.holdout_id is None else self._desk.store.records(model.holdout_id)
        (folder := self._folder / "sets").mkdir()
        self.state.inputs = Inputs(
            store=self._store,
            space=fill_workspace(folder, Split(forget=self.state.forget, retain=retain), held),
            batch=batch,
            model=model,
            base=self.state.base,
            method=predicate["method"],
        )
        return f"{len(retain)} record(s), whose digest is {batch.plan['retainDigest']}."

    # (6): the published rung once more.
    def _run(self) -> str:
        method = present(self.state.predicate)["method"]
        made = self._repeater.run(present(self.state.inputs), self._folder / "run")
        self.state.digest = folders.digest_folder(made.path)
        self.state.conditions = other_conditions(method, made.evidence)
        self.state.made = made
        under = "the code and environment of the report"
        if self.state.conditions:
            under = f"conditions that are not the report's: {', '.join(self.state.conditions)}"
        return f"{method['rung']} was repeated in {made.evidence.seconds:.1f} s, under {under}."

    # (7): the same weights, or evidence that agrees where the method or the conditions allow no more.
    def _compare(self) -> str:
        after, made = present(self.state.predicate)["model"]["after"], present(self.state.made)
        told = other_settings(present(self.state.predicate)["method"], made.evidence) and not is_noisy(made)
        lie = "The report names other settings than its plan gives the method. " if told else ""
        if self.state.digest == after["digest"]:
            self.state.outcome = Outcome.SETTINGS_DIFFER if lie else Outcome.SAME_WEIGHTS
            require(not lie, lie.rstrip())
            return f"The repeated weights are the published ones, byte for byte: {after['digest']}."
        if not is_noisy(made) and not self.state.conditions:
            self.state.outcome = Outcome.WEIGHTS_DIFFER
            found = folders.differences(folders.files(made.path), after["files"])
            raise VerificationError(
                f"{lie}From the same inputs, seed, code and environment the method makes other weights than were "
                f"published: {folders.told(found)}. It makes {self.state.digest}, not {after['digest']}."
            )
        self.state.outcome = Outcome.EVIDENCE_DIFFERS  # until it is found to agree
        self.state.repeated = self._measured(made.path)
        _require_agreement(self.state.repeated, "repeated")
        self.state.outcome = Outcome.EVIDENCE_AGREES
        why = "a fresh secret" if is_noisy(made) else "other conditions"
        return f"Other weights, as {why} may make; their {len(self.state.repeated)} metric(s) agree with the report."

    # (8): the numbers in the report are those of the weights that were published.
    def _evidence(self) -> str:
        outcome, self.state.outcome = self.state.outcome, Outcome.EVIDENCE_DIFFERS
        self.state.published = self._measured(self._published())
        _require_agreement(self.state.published, "published")
        self.state.outcome = outcome
        return f"Measured again, the published weights show {len(self.state.published)} metric(s) as reported."

    def _measured(self, weights: Path) -> list[Compared]:
        """Weights on the test items that the report's own seed draws, beside the report."""
        evidence, inputs = present(self.state.predicate)["evidence"], present(self.state.inputs)
        seed, suite = int(evidence["seed"]), evidence["suite"]
        measured = self._repeater.measure(inputs, weights, suite=suite, seed=seed)
        return compare(evidence["findings"], measured, task=inputs.task)

    def log(self, outcome: Outcome) -> int:
        """Append what the comparison found; the entry's index."""
        report_id, digest = present(self.state.report_id), present(self.state.digest)
        with self._desk.transaction() as ledger:
            index = ledger.reproduced(
                report_id=report_id, outcome=outcome.value, weights_digest=digest, now=self._desk.clock()
            )
        self._desk.publish()
        return index

    def meet(self, challenge: Challenge) -> list[Compared]:
        """The published weights under a test chosen now, beside the report; ComplianceError when it cannot be made."""
        evidence, inputs = present(self.state.predicate)["evidence"], present(self.state.inputs)
        suite = challenge.suite or evidence["suite"]
        measured = self._repeater.measure(inputs, self._published(), suite=suite, seed=challenge.seed)
        return beside(evidence["findings"], measured, task=inputs.task)

    def _published(self) -> Path:
        with self._desk.read() as ledger:
            return self._folder_of(
                ledger, present(self.state.predicate)["model"]["after"]["digest"], "published weights"
            )

    def _folder_of(self, ledger: Ledger, digest: str, what: str) -> Path:
        """A model's folder below the private one, which is filled once."""
        path = self._store.model_path(digest)
        return path if path.exists() else self._opened(ledger).model(digest, into=self._store, what=what)

    def _opened(self, ledger: Ledger) -> Sealed:
        return Sealed(desk=self._desk, ledger=ledger, batch=present(self.state.batch), folder=self._folder)


def _check(challenge: Challenge, task: str) -> None:
    if challenge.suite is not None and challenge.suite not in CHOSEN[task]:
        message = f"this model cannot be asked the suite '{challenge.suite}'; use one of: {', '.join(CHOSEN[task])}"
        raise InvalidInputError(message, code="unknown-suite")


def _require_agreement(found: Sequence[Compared], whose: str) -> None:
    names = ", ".join(one.metric for one in found if not one.agrees)
    require(not names, f"The {whose} weights, measured now, do not show what the report says of {names}.")


def _told(check: Callable[[], str]) -> Callable[[], str]:
    """What the desk or the engine refuses is why a step does not hold."""

    def checked() -> str:
        try:
            return check()
        except ComplianceError as error:
            told = str(error)
            raise VerificationError(f"{told[:1].upper()}{told[1:]}.") from error

    return checked
