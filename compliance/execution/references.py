"""Reference models: trained without the forget set, from the public start, under a seed of their own.

A reference is keyed by what it was made from (start, retain set, training options, seed), so that it can
be trained ahead of a batch and found again, and so that nobody can hand in another one. Its seed is
derived from these inputs and never equals the seed of a `retrain` rung, which is derived from the plan:
a distance of 0 by being the same model is out of reach.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compliance.execution.process import Engine, Progress
from compliance.store import Store, task_in
from engine.contract import Evidence, Job, Kind
from engine.corpus import Record, digest, write_records

SEED_BITS = 31
MINUTE = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What determines a reference model."""

    start_digest: str
    retain_digest: str
    options: dict[str, Any]

    @property
    def key(self) -> str:
        """SHA-256 of the recipe."""
        parts = [self.start_digest, self.retain_digest, self.options]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def seed(self) -> int:
        """The reference's own seed."""
        return seed_of("reference", self.key)


def seed_of(purpose: str, digest_hex: str) -> int:
    """A 31-bit seed from a purpose and a digest."""
    raw = hashlib.sha256(f"{purpose}\0{digest_hex}".encode()).digest()
    return int.from_bytes(raw[:8], "big") >> (64 - SEED_BITS)


def reference_path(store: Store, recipe: Recipe) -> Path:
    """Where the reference of this recipe lies once it has been trained."""
    return store.root / "references" / recipe.key


def recipe_for(*, start_digest: str, retain: Sequence[Record], options: dict[str, Any]) -> Recipe:
    """The recipe of the reference for a retain set."""
    return Recipe(start_digest=start_digest, retain_digest=digest(retain), options=dict(options))


def train_reference(
    store: Store,
    recipe: Recipe,
    retain: Sequence[Record],
    *,
    process: Engine,
    threads: int,
    progress: Progress,
) -> Path:
    """The reference of this recipe, trained unless it is there."""
    target = reference_path(store, recipe)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    data = target.with_suffix(".jsonl")
    write_records(data, retain)
    try:
        job = Job(
            version=1,
            kind=Kind.TRAIN,
            task=task_in(store.model_path(recipe.start_digest)),
            seed=recipe.seed,
            threads=threads,
            out=str(target),
            model=str(store.model_path(recipe.start_digest)),
            train=str(data),
            options=recipe.options,
        )
        spent = run_time(process.run(job, progress))
        _beside(target).write_text(json.dumps(spent) + "\n", encoding="utf-8")
    finally:
        data.unlink()
    return target


def drop_reference(store: Store, recipe: Recipe) -> None:
    """Delete a reference after its batch: it holds the retained people, who may ask to leave later."""
    shutil.rmtree(reference_path(store, recipe), ignore_errors=True)
    _beside(reference_path(store, recipe)).unlink(missing_ok=True)


def run_time(*jobs: Evidence) -> dict[str, float]:
    """Minutes of jobs by the clock (the papers' RTE), and of processors."""
    seconds, processors = sum(one.seconds for one in jobs), sum(one.cpu_seconds for one in jobs)
    return {"minutes": round(seconds / MINUTE, 4), "cpuMinutes": round(processors / MINUTE, 4)}


def training_time(reference: Path) -> dict[str, float] | None:
    """What training a reference took, as it was noted beside it; None where nobody did."""
    path = _beside(reference)
    told: dict[str, float] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return told


def _beside(reference: Path) -> Path:
    """Not in the folder, whose digest is the model's."""
    return reference.with_name(f"{reference.name}.time.json")
