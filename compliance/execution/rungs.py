"""One rung of the ladder: the engine's jobs for it, and what may be claimed when its gates hold.

`retrain` of a model that descends from a DP base whose budget is spent (or would be by this batch) also
trains a new base on the retain set, so that the next batch has a full budget: the base then never saw
the forget set either, and the rung stays exact.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audits import accountant
from audits.gates import GuaranteeClass
from compliance import cards
from compliance import policy as policies
from compliance.execution.process import Engine, Progress
from compliance.execution.references import seed_of
from compliance.execution.workspace import Workspace
from compliance.ledger.views import BaseView, BatchView, ModelView
from compliance.policy import Policy
from compliance.store import Store
from engine import catalogue
from engine.contract import Evidence, Job, Kind


@dataclass(frozen=True, kw_only=True, slots=True)
class NewBase:
    """A DP base made on the way: where it lies and what its training says."""

    path: Path
    evidence: Evidence


@dataclass(frozen=True, kw_only=True, slots=True)
class Unlearned:
    """Weights of an attempt, not yet measured."""

    path: Path
    evidence: Evidence
    base: NewBase | None = None


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Everything the jobs of one rung need."""

    name: str
    store: Store
    space: Workspace
    batch: BatchView
    model: ModelView
    policy: Policy
    base: BaseView | None
    before: Path
    threads: int
    progress: Progress

    @property
    def seed(self) -> int:
        """Derived from the logged plan and the rung: chosen before, different for every rung."""
        return seed_of(self.name, self.batch.plan_digest)

    @property
    def rebases(self) -> bool:
        """Whether this rung replaces a DP base that carries no further certificate."""
        refused = {entry["rung"]: entry["refused"] for entry in self.batch.plan["rungs"]}
        return self.name == "retrain" and self.base is not None and refused.get("dp2") is not None

    def unlearn(self, process: Engine, out: Path) -> Unlearned:
        """Make the weights below `out`; EngineFailedError or UnavailableError."""
        start = self.store.model_path(self.model.start_digest)
        if self.name == "dp2" and self.base is not None:
            start = Path(self.base.path)
        made = None
        if self.rebases:
            made = train_base(
                self.policy,
                process,
                start=start,
                train=self.space.retain,
                holdout=self.space.holdout,
                out=out / "base",
                seed=self.seed,
                threads=self.threads,
                progress=self.progress,
            )
            start = made.path
        evidence = process.run(self._job(start, out / "model"), self.progress)
        if not policies.suppresses(self.name):
            cards.carry(out / "model", self.before, self._told())
        return Unlearned(path=out / "model", evidence=evidence, base=made)

    @property
    def guarantee(self) -> GuaranteeClass:
        """The catalogue's class; a DP base that did not learn leaves evidence only."""
        if self.name == "dp2" and (self.base is None or self.base.learned.get("learned") is not True):
            return "empirical"
        return catalogue.method(self.name).guarantee.value

    def _told(self) -> cards.Told:
        """What the model's card says; a repetition of the run says the same."""
        return cards.Told(
            model=self.model.name,
            method=self.name,
            guarantee=self.guarantee,
            requests=len(self.batch.plan["requests"]),
            before=self.batch.plan["beforeDigest"],
            batch=self.batch.id,
        )

    def _job(self, start: Path, out: Path) -> Job:
        shared: dict[str, Any] = {
            "version": 1,
            "kind": Kind.UNLEARN,
            "task": self.policy.task,
            "method": self.name,
            "seed": self.seed,
            "threads": self.threads,
            "out": str(out),
            "retain": str(self.space.retain),
        }
        own = dict(self.policy.methods.get(self.name, {}))
        if "base" in catalogue.method(self.name).needs:
            return Job(**shared, base=str(start), options={**self.policy.training, **own})
        kept = str(self.store.states) if self.name in catalogue.KEEPING else None
        return Job(**shared, model=str(self.before), forget=str(self.space.forget), cache=kept, options=own)


def train_base(
    policy: Policy,
    process: Engine,
    *,
    start: Path,
    train: Path,
    holdout: Path,
    out: Path,
    seed: int,
    threads: int,
    progress: Progress,
) -> NewBase:
    """A DP base under the policy's [base] settings.

    The noise follows from the target ε by the same accountant that the verifier recomputes with.
    """
    options = dict(policy.base)
    target = options.pop("epsilon")
    options["sigma"] = accountant.noise_multiplier_for(
        target_epsilon=target, sample_rate=options["sample_rate"], steps=options["steps"], delta=policy.delta
    )
    job = Job(
        version=1,
        kind=Kind.DP_BASE,
        task=policy.task,
        seed=seed,
        threads=threads,
        out=str(out),
        model=str(start),
        train=str(train),
        holdout=str(holdout),
        options=options,
    )
    return NewBase(path=out, evidence=process.run(job, progress))


def relay(progress: Callable[[dict[str, Any]], None], rung: str) -> Progress:
    """Add the rung's name to the engine's progress events."""
    return lambda event: progress({**event, "rung": rung})
