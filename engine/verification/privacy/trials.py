"""Shadow models: each trained, and unlearned where that is audited, by ordinary engine jobs, asked, and removed.

A *trial* is one shadow. Its numbers are kept by the digest of everything that they depend on (start, records, method,
settings, seed, code, who is asked), so that an audit that was interrupted goes on, and a finished shadow is never
trained again. Its weights and its files of records hold what is to be forgotten: they live in one folder for as long
as the trial takes, and what an engine that was killed left there is removed by the next audit.
"""

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from engine import catalogue, checkpoints
from engine.contract import Evidence, Job, Kind
from engine.corpus import Record, digest, write_records
from engine.digests import code_digest, config_digest
from engine.errors import EngineError
from engine.seeds import derive
from engine.training import Progress
from engine.verification.evaluation import Numbers, cached
from engine.verification.privacy.asking import ask
from engine.verification.privacy.assignment import Casting, Records
from engine.verification.privacy.crew import side_by_side
from engine.verification.privacy.shadows import UNLEARNT

Run = Callable[[Job, Path, Progress], Evidence]

AT_WORK, LOCK = ".at-work", ".lock"
UNLEARNED = "unlearned_"  # stands before the names of what a shadow says after unlearning


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How every shadow is made: from `start` with these options, then by `method`; and where numbers are kept."""

    task: str
    start: Path
    start_digest: str
    training: Mapping[str, Any]
    method: str | None
    method_options: Mapping[str, Any]
    seed: int
    threads: int
    folder: Path

    def job(self, kind: Kind, number: int, **fields: Any) -> Job:  # noqa: ANN401 - fields of a job
        """A job for one shadow."""
        return Job(version=1, kind=kind, task=self.task, seed=self.seed_of(number), threads=self.threads, **fields)

    def seed_of(self, number: int) -> int:
        """The seed of one shadow: its own."""
        return derive(self.seed, "shadow", str(number))


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One shadow: what it is trained on, what it then forgets (nothing without a method), and what it is asked.

    `key` is the digest of everything that its numbers depend on.
    """

    number: int
    recipe: Recipe
    trained: Records
    forgets: Records
    asked: Records
    key: str

    @property
    def retains(self) -> Records:
        """What it keeps."""
        gone = {record.record_id for record in self.forgets}
        return tuple(record for record in self.trained if record.record_id not in gone)


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What a shadow said, and whether it was trained for that now."""

    numbers: Numbers
    trained: bool


def trials(recipe: Recipe, casting: Casting) -> list[Trial]:
    """One trial a row of the coins."""
    return [_trial(recipe, casting, number) for number in range(len(casting.roles))]


def _trial(recipe: Recipe, casting: Casting, number: int) -> Trial:
    trained, forgets = casting.trained(number), casting.having(number, UNLEARNT)
    parts = {
        "start": recipe.start_digest,
        "train": [digest(trained), dict(recipe.training)],
        "unlearn": recipe.method and [recipe.method, digest(forgets), dict(recipe.method_options)],
        "seed": recipe.seed_of(number),
        "threads": recipe.threads,
    }
    key = config_digest({**parts, "asked": digest(casting.asked), "code": code_digest()})
    return Trial(number=number, recipe=recipe, trained=trained, forgets=forgets, asked=casting.asked, key=key)


def told(planned: Sequence[Trial], *, run: Run, processes: int, progress: Progress) -> list[Told]:
    """What every shadow says, in order; `run` does a job in a folder, in several processes where that is asked for."""
    found: dict[int, Told] = {}
    begun = time.monotonic()
    alone = processes == 1
    one = partial(tell, run=run, progress=progress if alone else _silent)
    for place, said in side_by_side(one, planned, processes=processes):
        found[place] = said
        fresh = sum(said.trained for said in found.values())
        left = (time.monotonic() - begun) / fresh * (len(planned) - len(found)) if fresh else None
        progress(f"shadows ({len(found)} of {len(planned)})", len(found) / len(planned), left)
    return [found[place] for place in range(len(planned))]


def tell(trial: Trial, *, run: Run, progress: Progress) -> Told:
    """The numbers of one shadow: kept, or of one that is trained now."""
    fresh = False

    def make() -> Mapping[str, Sequence[float]]:
        nonlocal fresh
        fresh = True
        folder = trial.recipe.folder / AT_WORK / str(trial.number)
        folder.mkdir(parents=True)
        try:
            return _made(trial, folder, run, progress)
        finally:
            shutil.rmtree(folder)

    return Told(numbers=cached(trial.recipe.folder, trial.key, make), trained=fresh)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One audit at a time in a folder of numbers, and nothing of an earlier one's weights or records in it.

    Raises:
        EngineError: `bad_job` when another audit is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"another audit is at work in {folder.name!r}; wait for it, or choose another folder"
            raise EngineError("bad_job", message) from error
        shutil.rmtree(folder / AT_WORK, ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(folder / AT_WORK, ignore_errors=True)


def _made(trial: Trial, folder: Path, run: Run, progress: Progress) -> Mapping[str, Sequence[float]]:
    recipe, number = trial.recipe, trial.number

    def say(stage: str, fraction: float, left: float | None) -> None:
        progress(f"shadow {number + 1}: {stage}", fraction, left)

    train = recipe.job(
        Kind.TRAIN,
        number,
        out="trained",
        model=str(recipe.start.resolve()),
        train=_file(folder / "train.jsonl", trial.trained),
        options=dict(recipe.training),
    )
    run(train, folder, say)
    numbers = ask(*checkpoints.load(folder / "trained"), trial.asked)
    if recipe.method is None:
        return numbers
    run(_unlearning(trial, folder), folder, say)
    after = ask(*checkpoints.load(folder / "unlearned"), trial.asked)
    return {**numbers, **{UNLEARNED + name: values for name, values in after.items()}}


def _unlearning(trial: Trial, folder: Path) -> Job:
    recipe = trial.recipe
    job = recipe.job(
        Kind.UNLEARN,
        trial.number,
        method=recipe.method,
        out="unlearned",
        model="trained",
        forget=_file(folder / "forget.jsonl", trial.forgets),
        retain=_file(folder / "retain.jsonl", trial.retains),
        options=dict(recipe.method_options),
    )
    needs = catalogue.method(recipe.method or "").needs
    return replace(job, base=str(recipe.start.resolve())) if "base" in needs else job


def _file(path: Path, records: Sequence[Record]) -> str:
    write_records(path, records)
    return path.name


def _silent(_stage: str, _fraction: float, _left: float | None) -> None:
    """Several processes at once are told of as a whole."""
