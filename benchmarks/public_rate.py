"""Where the image demo's learning rate comes from: scikit-learn's digits, which are public and none of MNIST's.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/public_rate.py

The demo's DP base (`compliance/demo/digits.toml`), its noise and its unit of four digits, on 350 made-up people, at
four rates and three seeds of the start. Settings that were chosen on the data that a certificate is about are outside
its theorem; these were not.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import Record, write_records
from engine.pictures import picture
from engine.run import run

RATES = (3e-3, 1e-2, 3e-2, 1e-1)
TRAINED, EACH = 1400, 4
MECHANISM = {"sigma": 3.683, "sample_rate": 0.25, "steps": 40, "clip": 0.3}
START = {"labels": [str(i) for i in range(10)], "architecture": "gabor"}


def main() -> None:
    """Print the held-out accuracy of each rate."""
    with tempfile.TemporaryDirectory() as name:
        workdir = Path(name)
        _data(workdir)
        for rate in RATES:
            found = [_accuracy(workdir, rate, seed) for seed in range(3)]
            print(f"rate {rate}: held-out accuracy {', '.join(f'{value:.3f}' for value in found)}", flush=True)


def _data(workdir: Path) -> None:
    """8 x 8 digits in a margin of a quarter on each side, as MNIST's have."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    records = []
    for place, i in enumerate(order.tolist()):
        grey = np.pad((images[i].reshape(8, 8) * 255 / 16).astype(np.uint8), 2)
        image = picture(grey.tobytes(), grey.shape)
        unit = f"contributor-{place // EACH}"
        records.append(Record(record_id=f"digit-{i}", unit=unit, image=image, label=str(labels[i])))
    write_records(workdir / "train.jsonl", records[:TRAINED])
    write_records(workdir / "holdout.jsonl", records[TRAINED:])


def _accuracy(workdir: Path, rate: float, seed: int) -> float:
    start, base = f"start-{seed}", f"base-{rate}-{seed}"
    if not (workdir / start).exists():
        _do(workdir, Kind.INITIALISE, seed=seed, out=start, options=START)
    files = {"model": start, "train": "train.jsonl", "holdout": "holdout.jsonl"}
    _do(workdir, Kind.DP_BASE, seed=seed, out=base, options={**MECHANISM, "learning_rate": rate}, **files)
    sets = {"forget": "holdout.jsonl", "retain": "train.jsonl", "holdout": "holdout.jsonl"}
    told = _do(workdir, Kind.EVALUATE, seed=seed, models={"after": base}, options={"suite": "image"}, **sets)
    found = {one.metric: one.after for one in told.findings}
    return found["ta"].value if found["ta"] else float("nan")


def _do(workdir: Path, kind: Kind, **fields: Any) -> Evidence:  # noqa: ANN401 - fields of a job
    return run(Job(version=VERSION, kind=kind, task="image", **fields), workdir, lambda *_: None)


if __name__ == "__main__":
    main()
