"""A series step by step: unlearn, retrain the reference, measure; what is done already is not done again.

Each stage leaves a JSON file beside what it made, with the key of everything that it depends on: the digests of the
models and records that went in, the method and its settings, the seed. A stage whose file has the same key and whose
model folder has the digest in it is taken as it is; anything else is made anew. Records are written to a temporary
folder for the engine and never to the output: a series leaves models, numbers and digests.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audits import model as folders
from compliance.cli.engines import naming_log
from compliance.cli.folds import Folds, Records, forgotten, read, staying
from compliance.cli.progress import progress
from compliance.execution.process import EngineProcess
from engine.contract import Evidence, Job, Kind, canonical
from engine.corpus import Record, digest, write_records

SCALABILITY, SUSTAINABILITY = "scalability", "sustainability"
CACHE, LOG = "cache", "engine.log"

Run = Callable[[Job], Evidence]
Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Everything that a series depends on."""

    name: str
    method: str
    out: Path
    model: Path
    folds: Folds
    retain: Records
    holdout: Records = ()
    data: Path | None = None
    base: Path | None = None
    reference_start: Path | None = None
    dictionary: Path | None = None
    alternatives: Path | None = None
    settings: Settings = field(default_factory=dict)
    reference_settings: Settings = field(default_factory=dict)
    measure_settings: Settings = field(default_factory=dict)
    seed: int = 0
    threads: int = 1

    @property
    def suite(self) -> str:
        """MUSE's own data where a folder was given, else what is drawn from the records."""
        return "records" if self.data is None else "muse"

    def forget(self, step: int) -> Records:
        """The forget set of one step: everything so far from the same start, or one request after the other."""
        return forgotten(self.folds, step) if self.name == SCALABILITY else self.folds[step - 1]

    def start(self, step: int) -> Path:
        """The model that a step begins with."""
        return self.model if self.name == SCALABILITY or step == 1 else self.folder(step - 1) / "model"

    def folder(self, step: int) -> Path:
        """Where a step leaves what it made."""
        return self.out / f"step-{step}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What one step made."""

    number: int
    unlearned: Evidence
    reference: Evidence | None
    measured: Evidence


def run(series: Series) -> list[Step]:
    """All steps in order, in one engine process."""
    series.out.mkdir(parents=True, exist_ok=True)
    log = series.out / LOG
    with (
        tempfile.TemporaryDirectory(prefix="expunge-series-") as inbox,
        naming_log(log),
        progress() as say,
        EngineProcess(log=log, threads=series.threads) as process,
    ):

        def engine(label: str) -> Run:
            return lambda job: process.run(job, lambda event: say(label, event))

        numbers = range(1, len(series.folds) + 1)
        labels = {number: f"{series.name} {number} of {len(numbers)}" for number in numbers}
        return [_Stages(series, Path(inbox), engine(labels[number])).step(number) for number in numbers]


class _Stages:
    """The stages of a series, with the engine that does them."""

    def __init__(self, series: Series, inbox: Path, engine: Run) -> None:
        self._series, self._inbox, self._engine = series, inbox, engine

    def step(self, number: int) -> Step:
        series = self._series
        series.folder(number).mkdir(exist_ok=True)
        unlearned = self._unlearn(number)
        reference = self._retrain(number) if series.reference_start else None
        return Step(number=number, unlearned=unlearned, reference=reference, measured=self._measure(number))

    def _unlearn(self, number: int) -> Evidence:
        series, place = self._series, self._series.folder(number) / "model"
        job = self._job(
            Kind.UNLEARN,
            method=series.method,
            out=str(place),
            model=str(series.start(number)),
            base=_path(series.base),
            forget=self._file("forget", series.forget(number)),
            retain=self._file("retain", staying(series.retain, series.folds, number)),
            dictionary=_path(series.dictionary),
            alternatives=_path(series.alternatives),
            options=dict(series.settings),
        )
        return once(place, job, self._engine)

    def _retrain(self, number: int) -> Evidence:
        series, place = self._series, self._series.folder(number) / "reference"
        job = self._job(
            Kind.TRAIN,
            out=str(place),
            model=_path(series.reference_start),
            train=self._file("retain", staying(series.retain, series.folds, number)),
            options=dict(series.reference_settings),
        )
        return once(place, job, self._engine)

    def _measure(self, number: int) -> Evidence:
        series, folder = self._series, self._series.folder(number)
        models = {"before": str(series.model), "after": str(folder / "model")}
        if series.reference_start:
            models["reference"] = str(folder / "reference")
        told: dict[str, Any] = {"data": _path(series.data)}
        if series.data is None:
            told = {
                "forget": self._file("forgotten", forgotten(series.folds, number)),
                "retain": self._file("retain", staying(series.retain, series.folds, number)),
                "holdout": self._file("holdout", series.holdout),
            }
        options = {**series.measure_settings, "suite": series.suite}
        job = self._job(Kind.EVALUATE, models=models, cache=str(series.out / CACHE), options=options, **told)
        return once(folder / "measured", job, self._engine)

    def _job(self, kind: Kind, **fields: Any) -> Job:  # noqa: ANN401 - fields of a job
        return Job(version=1, kind=kind, seed=self._series.seed, threads=self._series.threads, **fields)

    def _file(self, name: str, records: Sequence[Record]) -> str:
        path = self._inbox / f"{name}.jsonl"
        write_records(path, records)
        return str(path)


def once(place: Path, job: Job, engine: Run) -> Evidence:
    """The evidence of a job whose output is `place`: what lies there from the same job before, or of a new run."""
    record, key = place.with_suffix(".json"), _key(job)
    kept = _kept(record, place, key)
    if kept is not None:
        return kept
    record.unlink(missing_ok=True)
    for left in (place, *place.parent.glob(f".{place.name}.partial-*")):  # of an engine that was killed
        shutil.rmtree(left, ignore_errors=True)
    evidence = engine(job)
    made = folders.digest_folder(place) if place.is_dir() else None
    with whole(record) as partial:
        partial.write_text(json.dumps({"key": key, "made": made, "evidence": evidence.to_mapping()}))
    return evidence


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file that appears whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    partial.replace(path)


def _kept(record: Path, place: Path, key: str) -> Evidence | None:
    try:
        value = json.loads(record.read_text(encoding="utf-8"))
        evidence = Evidence.from_mapping(value["evidence"])
        made = folders.digest_folder(place) if place.is_dir() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return evidence if (value.get("key"), value.get("made")) == (key, made) else None


def _key(job: Job) -> str:
    """A digest of what the job says, with digests in the place of paths."""
    parts: dict[str, Any] = {"kind": job.kind, "method": job.method, "seed": job.seed, "options": job.options}
    for role in ("model", "base"):
        parts[role] = _folder_digest(getattr(job, role))
    parts["models"] = {role: _folder_digest(path) for role, path in job.models.items()}
    for role in ("train", "forget", "retain", "holdout"):
        path = getattr(job, role)
        parts[role] = digest(read(Path(path))) if path else None
    for role in ("dictionary", "alternatives"):
        path = getattr(job, role)
        parts[role] = hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None
    parts["data"] = _folder_digest(job.data)
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def _folder_digest(path: str | None) -> str | None:
    return folders.digest_folder(Path(path)) if path else None


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)
