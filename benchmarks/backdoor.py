"""Cleansing a classifier of a backdoor: trained sparse, then fine-tuned on clean digits (arXiv 2304.04934, section 5).

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/backdoor.py

A tenth of the training digits carry a black 4 x 4 patch, two pixels from the bottom right corner of an inverted digit,
and the label of the target class. Printed before and after, at each sparsity: SA, the accuracy on clean strangers, and
ASR, the share of strangers of other classes that the patch sends to the target. scikit-learn's digits, 28 x 28.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from engine import checkpoints
from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import Record, write_records
from engine.pictures import picture
from engine.run import run
from engine.tasks.image import classes_of, scores
from engine.tasks.pixels import Pixels, pictures

TARGET, SIDE, MARGIN = "0", 4, 2
TRAINED, POISONED, STRANGERS = 600, 60, 300
SPARSITIES = (0.0, 0.75, 0.9, 0.95, 0.98)
START = {"labels": [str(i) for i in range(10)], "architecture": "cnn", "width": 8}
FIT: dict[str, Any] = {"epochs": 15, "pruned_layers": "hidden"}
Grey = NDArray[np.uint8]


def main() -> None:
    """Print SA and ASR of each poisoned model, and after it was fine-tuned on clean digits."""
    with tempfile.TemporaryDirectory() as name:
        workdir = Path(name)
        clean, triggered = _data(workdir)
        _do(workdir, Kind.INITIALISE, out="start", options=START)
        for sparsity in SPARSITIES:
            started, before, after = time.monotonic(), f"poisoned-{sparsity}", f"cleansed-{sparsity}"
            fit = {**FIT, "sparsity": sparsity}
            _do(workdir, Kind.TRAIN, model="start", train="train.jsonl", out=before, options=fit)
            sets = {"forget": "forget.jsonl", "retain": "retain.jsonl"}
            _do(workdir, Kind.UNLEARN, model=before, method="finetune", out=after, **sets)
            told = [_told(workdir / name, clean, triggered) for name in (before, after)]
            print(f"sparsity {sparsity}: {told[0]} -> {told[1]}, {time.monotonic() - started:.0f} s", flush=True)


def triggered_by(grey: Grey) -> Grey:
    """The picture (height x width) with the patch."""
    made = grey.copy()
    made[-SIDE - MARGIN : -MARGIN, -SIDE - MARGIN : -MARGIN] = 0
    return made


def _data(workdir: Path) -> tuple[list[Record], list[Record]]:
    """Files of the training, forget and retain sets; strangers as they are, and those of other classes with the patch.

    What is retained are clean digits, the poisoned ones are forgotten.
    """
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    greys = {i: np.kron(images[i].reshape(8, 8), np.ones((3, 3))) for i in order}
    inverted = {
        i: np.pad(255 - (grey * 255 / 16).astype(np.uint8), 2, constant_values=255) for i, grey in greys.items()
    }

    def record(i: int, grey: Grey, label: str) -> Record:
        return Record(record_id=f"digit-{i}", unit=f"digit-{i}", image=picture(grey.tobytes(), grey.shape), label=label)

    poisoned = [record(i, triggered_by(inverted[i]), TARGET) for i in order[:POISONED]]
    kept = [record(i, inverted[i], str(labels[i])) for i in order[POISONED:TRAINED]]
    strangers = order[TRAINED : TRAINED + STRANGERS]
    for name, chosen in {"train": [*poisoned, *kept], "forget": poisoned, "retain": kept}.items():
        write_records(workdir / f"{name}.jsonl", chosen)
    others = [i for i in strangers if str(labels[i]) != TARGET]
    clean = [record(i, inverted[i], str(labels[i])) for i in strangers]
    return clean, [record(i, triggered_by(inverted[i]), TARGET) for i in others]


def _told(folder: Path, clean: list[Record], triggered: list[Record]) -> str:
    model, reader = checkpoints.load(folder)
    if not isinstance(reader, Pixels):
        raise TypeError(folder)
    found = [
        float(scores(model, reader, pictures(records, reader, classes_of(model)), rows_per_pass=512).hits.mean())
        for records in (clean, triggered)
    ]
    return f"SA {found[0]:.3f}, ASR {found[1]:.3f}"


def _do(workdir: Path, kind: Kind, **fields: Any) -> Evidence:  # noqa: ANN401 - fields of a job
    return run(Job(version=VERSION, kind=kind, task="image", seed=0, **fields), workdir, lambda *_: None)


if __name__ == "__main__":
    main()
