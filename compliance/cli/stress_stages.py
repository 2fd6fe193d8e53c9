"""The stages of a stress test: choose two forget sets, unlearn each by each method, retrain, measure.

What is done already is not done again (`compliance.cli.stages`). The output holds models, numbers, digests and the
worst-case set itself; other records go to the engine in a temporary folder.
"""

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compliance.cli.engines import naming_log
from compliance.cli.folds import Records, read
from compliance.cli.progress import progress
from compliance.cli.stages import CACHE, LOG, Run, Settings, once
from compliance.errors import InvalidInputError
from compliance.execution.process import EngineProcess, Engines
from engine.contract import Evidence, Job, Kind
from engine.corpus import Record, write_records

RANDOM, WORST = SETS = ("random", "worst")
BY = ("record", "unit", "class")
SUITE = "image"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stress:
    """Everything that a stress test depends on; without a `reference_start` nothing is retrained."""

    methods: tuple[str, ...]
    out: Path
    model: Path
    data: Records
    holdout: Records
    count: int
    by: str = "record"
    reference_start: Path | None = None
    settings: Mapping[str, Settings] = field(default_factory=dict)
    search_settings: Settings = field(default_factory=dict)
    reference_settings: Settings = field(default_factory=dict)
    measure_settings: Settings = field(default_factory=dict)
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """One of the two sets; the worst one with the evidence of its search."""

    name: str
    forget: Records
    retain: Records
    search: Evidence | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One method on one set."""

    chosen: Chosen
    method: str
    unlearned: Evidence
    measured: Evidence


def run(stress: Stress, engines: Engines = EngineProcess) -> list[Row]:
    """Every method on the random set, then on the worst-case one, in one engine."""
    stress.out.mkdir(parents=True, exist_ok=True)
    log = stress.out / LOG
    with (
        tempfile.TemporaryDirectory(prefix="expunge-stress-") as inbox,
        naming_log(log),
        progress() as say,
        closing(engines(log=log, threads=stress.threads)) as process,
    ):

        def engine(label: str) -> Run:
            return lambda job: process.run(job, lambda event: say(label, event))

        stages = _Stages(stress, Path(inbox))
        random_set = drawn(stress.data, count=stress.count, by=stress.by, seed=stress.seed)
        sets = (random_set, stages.search(engine("worst case")))
        return [
            stages.row(chosen, method, engine(f"{method}, {chosen.name}"))
            for chosen in sets
            for method in stress.methods
        ]


def drawn(records: Sequence[Record], *, count: int, by: str, seed: int) -> Chosen:
    """`count` records, data subjects (`unit`) or classes, drawn with the seed; fewer than there are."""
    names = [group(record, by) for record in records]
    known = list(dict.fromkeys(names))
    if not 0 < count < len(known):
        words = {"record": "records", "unit": "data subjects", "class": "classes"}[by]
        raise InvalidInputError(f"--count must be below the number of {words}, which is {len(known)}", code="bad-count")
    gone = set(random.Random(seed).sample(known, count))  # noqa: S311 - repeatable by design
    inside = [(record, name in gone) for record, name in zip(records, names, strict=True)]
    forget, retain = (tuple(record for record, leaves in inside if leaves is kind) for kind in (True, False))
    return Chosen(name=RANDOM, forget=forget, retain=retain)


def group(record: Record, by: str) -> str | None:
    """What is forgotten together with a record."""
    return {"record": record.record_id, "unit": record.unit, "class": record.label}[by]


class _Stages:
    def __init__(self, stress: Stress, inbox: Path) -> None:
        self._stress, self._inbox = stress, inbox

    def search(self, engine: Run) -> Chosen:
        """The set that the model would find hardest to forget."""
        stress, place = self._stress, self._stress.out / WORST
        options = {**stress.search_settings, "count": stress.count, "by": stress.by}
        files = {"model": str(stress.model), "train": self._file("all", stress.data)}
        evidence = once(place, self._job(Kind.WORST_CASE, out=str(place), options=options, **files), engine)
        forget, retain = (read(place / f"{name}.jsonl") for name in ("forget", "retain"))
        return Chosen(name=WORST, forget=forget, retain=retain, search=evidence)

    def row(self, chosen: Chosen, method: str, engine: Run) -> Row:
        """Unlearn and measure, beside a retrained model where there is a start."""
        stress, folder = self._stress, self._stress.out / "models" / chosen.name
        folder.mkdir(parents=True, exist_ok=True)
        sets = {name: self._file(f"{chosen.name}-{name}", getattr(chosen, name)) for name in ("forget", "retain")}
        models = {"after": folder / method}
        if stress.reference_start:
            models["reference"] = folder / "reference"
            told = {"model": str(stress.reference_start), "train": sets["retain"]}
            place, options = models["reference"], dict(stress.reference_settings)
            once(place, self._job(Kind.TRAIN, out=str(place), options=options, **told), engine)
        place, options = models["after"], dict(stress.settings.get(method, {}))
        job = self._job(Kind.UNLEARN, method=method, model=str(stress.model), out=str(place), options=options, **sets)
        unlearned = once(place, job, engine)
        asked = self._job(
            Kind.EVALUATE,
            models={"before": str(stress.model), **{role: str(path) for role, path in models.items()}},
            cache=str(stress.out / CACHE),
            options={**stress.measure_settings, "suite": SUITE},
            holdout=self._file("holdout", stress.holdout),
            **sets,
        )
        measured = once(folder / f"{method}-measured", asked, engine)
        return Row(chosen=chosen, method=method, unlearned=unlearned, measured=measured)

    def _job(self, kind: Kind, **fields: Any) -> Job:  # noqa: ANN401 - fields of a job
        return Job(version=1, kind=kind, task="image", seed=self._stress.seed, threads=self._stress.threads, **fields)

    def _file(self, name: str, records: Sequence[Record]) -> str:
        path = self._inbox / f"{name}.jsonl"
        if not path.exists():
            write_records(path, records)
        return str(path)


def sets(rows: Sequence[Row]) -> Iterator[Chosen]:
    """The sets of some rows, each once."""
    seen: set[str] = set()
    for row in rows:
        if row.chosen.name not in seen:
            seen.add(row.chosen.name)
            yield row.chosen
