"""The engine's side of a repetition: a published rung once more, and weights measured, all below one private folder.

Nothing of the first run is used but its inputs. Methods that add noise draw a fresh secret. Those that keep a state
between requests begin without one: the first run's state is as secret as its noise. The cache is empty, so that no
number is taken over that was not measured here, and the reference is trained anew.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compliance import policy as policies
from compliance.desk import Desk
from compliance.execution.process import Engine, Engines, Progress
from compliance.execution.references import recipe_for, train_reference
from compliance.execution.rungs import Rung, Unlearned
from compliance.execution.workspace import Workspace
from compliance.ledger.views import BaseView, BatchView, ModelView
from compliance.store import Store
from engine.contract import Job, Kind

LOG = "engine-reproduce.log"


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What the published rung was run with; `store` is the private one, with the folders that the rung starts from."""

    store: Store
    space: Workspace
    batch: BatchView
    model: ModelView
    base: BaseView | None
    method: Mapping[str, Any]

    @property
    def threads(self) -> int:
        """As many as the first run had: sums in another order are other weights."""
        return int(self.method["environment"].get("threads", 1))

    @property
    def task(self) -> str:
        """The family of the model."""
        return policies.parse(self.model.policy).task


class Repeater:
    """An engine for one repetition, started when it is first needed and ended with `stack`."""

    def __init__(self, desk: Desk, stack: ExitStack, engines: Engines, say: Progress) -> None:
        self._desk = desk
        self._stack = stack
        self._engines = engines
        self._say = say
        self._process: Engine | None = None

    def run(self, inputs: Inputs, out: Path) -> Unlearned:
        """The published rung again, below `out`; EngineFailedError or UnavailableError."""
        rung = Rung(
            name=inputs.method["rung"],
            store=inputs.store,
            space=inputs.space,
            batch=inputs.batch,
            model=replace(inputs.model, start_digest=inputs.batch.plan["startDigest"]),
            policy=policies.parse(inputs.model.policy),
            base=inputs.base,
            before=inputs.store.model_path(inputs.batch.plan["beforeDigest"]),
            threads=inputs.threads,
            progress=self._say,
        )
        return rung.unlearn(self._engine(), out)

    def measure(self, inputs: Inputs, after: Path, *, suite: str, seed: int) -> Sequence[Mapping[str, Any]]:
        """The findings of a suite on weights, with the test items that `seed` draws."""
        space, before = inputs.space, inputs.store.model_path(inputs.batch.plan["beforeDigest"])
        job = Job(
            version=1,
            kind=Kind.EVALUATE,
            task=inputs.task,
            seed=seed,
            threads=inputs.threads,
            models={"before": str(before), "after": str(after), "reference": str(self._reference(inputs))},
            forget=str(space.forget),
            retain=str(space.retain),
            holdout=str(space.holdout) if space.holdout.exists() else None,
            cache=str(inputs.store.cache),
            options={"suite": suite},
        )
        findings: Sequence[Mapping[str, Any]] = self._engine().run(job, self._say).to_mapping()["findings"]
        return findings

    def _reference(self, inputs: Inputs) -> Path:
        retain, options = inputs.space.parts.retain, dict(policies.parse(inputs.model.policy).training)
        recipe = recipe_for(start_digest=inputs.batch.plan["startDigest"], retain=retain, options=options)
        process = self._engine()
        return train_reference(
            inputs.store, recipe, retain, process=process, threads=inputs.threads, progress=self._say
        )

    def _engine(self) -> Engine:
        if self._process is None:
            logs = self._desk.settings.workdir / "logs"
            logs.mkdir(parents=True, exist_ok=True)
            self._process = self._engines(log=logs / LOG, threads=self._desk.settings.engine_threads)
            self._stack.callback(self._process.close)
        return self._process


def is_noisy(made: Unlearned) -> bool:
    """Whether the run drew a secret: its method adds noise, or a DP base was trained on the way."""
    return made.evidence.seed_commitment is not None or made.base is not None
