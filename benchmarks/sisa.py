"""What exact deletion by shards costs in accuracy and saves in time, at 1, 2 and 4 shards, and what retraining gives.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/sisa.py --data ../shared/data/tofu

A small Llama learns the questions about 60 of TOFU's fictitious authors (arXiv 2401.06121, MIT) from nothing: the
public base. Eight other authors are then learned by adapters, in shards; one of them leaves. KnowMem is that of MUSE
(ROUGE-L of answers, with its 95 % interval over authors): of those who stay, and of the one who left. Seconds are of
processor time. `retrain` trains all weights of the base on those who stay.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from engine.contract import Estimate, Evidence, Job, Kind
from engine.corpus import Record, write_records
from engine.run import run

PUBLIC, PRIVATE, QUESTIONS = 60, 8, 20
SHARDS = (1, 2, 4)
SHAPE = {"vocabulary": 2000, "hidden": 128, "layers": 4, "heads": 4, "intermediate": 256, "context": 256}
START = {**SHAPE, "epochs": 4, "tokens_per_batch": 2000, "learning_rate": 5e-3, "matrix_learning_rate": 1e-2}
LEARN = {"epochs": 20, "tokens_per_batch": 1000}
ADAPTERS = {**LEARN, "lora_rank": 32, "lora_alpha": 32.0, "learning_rate": 1e-2}


def main() -> None:
    """Train, let one person leave, and print a line for each number of shards."""
    parser = argparse.ArgumentParser(description="Measure SISA on adapters.")
    parser.add_argument("--data", type=Path, required=True, help="a folder with TOFU's full.json")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder, parser.parse_args().data)
        _do(folder, Kind.INITIALISE, out="base", train="public.jsonl", options=START)
        print(f"{'':<14}{'KnowMem, stay':>24}{'KnowMem, left':>24}{'trained':>10}{'to delete':>11}{'shards':>9}")
        _print(folder, "base alone", "base", "", "", "")
        for shards in SHARDS:
            for combine in ("mean", "sum") if shards > 1 else ("mean",):
                _sharded(folder, shards, combine)
        made = _unlearn(folder, "retrain", "stay", "retrained", LEARN)
        _print(folder, "retrain", "retrained", "", f"{made.cpu_seconds:.0f} s", "")


def _sharded(folder: Path, shards: int, combine: str) -> None:
    options = {**ADAPTERS, "shards": shards, "combine": combine}
    name = f"{shards} by {combine}"
    before = _unlearn(folder, "sisa", "all", f"{name}, all", options)
    after = _unlearn(folder, "sisa", "stay", f"{name}, stay", options)
    trained, again = (evidence.training or {} for evidence in (before, after))
    whole = len(trained["shards_trained"]) == trained["shards_with_records"]
    seconds = f"{before.cpu_seconds:.0f} s" if whole else "in part"
    shown = f"{len(again['shards_trained'])} of {shards}"
    _print(folder, name, f"{name}, stay", seconds, f"{after.cpu_seconds:.0f} s", shown)


def _write(folder: Path, data: Path) -> None:
    lines = (data / "full.json").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines[: QUESTIONS * (PUBLIC + PRIVATE)]]
    records = [
        Record(record_id=f"{i:05}", unit=f"author-{i // QUESTIONS}", question=x["question"], answer=x["answer"])
        for i, x in enumerate(told)
    ]
    private = records[QUESTIONS * PUBLIC :]
    write_records(folder / "public.jsonl", records[: QUESTIONS * PUBLIC])
    write_records(folder / "all.jsonl", private)
    write_records(folder / "left.jsonl", private[:QUESTIONS])
    write_records(folder / "stay.jsonl", private[QUESTIONS:])


def _unlearn(folder: Path, method: str, retain: str, out: str, options: dict[str, Any]) -> Evidence:
    told = {"base": "base", "retain": f"{retain}.jsonl", "cache": "cache"}
    return _do(folder, Kind.UNLEARN, method=method, out=out, options=options, **told)


def _do(folder: Path, kind: Kind, *, options: dict[str, Any], **fields: Any) -> Evidence:  # noqa: ANN401 - fields of a job
    return run(Job(version=1, kind=kind, seed=1, options=options, **fields), folder, lambda *_: None)


def _print(folder: Path, name: str, model: str, trained: str, deleted: str, shards: str) -> None:
    told = {"models": {"after": model}, "forget": "left.jsonl", "retain": "stay.jsonl"}
    options = {"suite": "records", "shots": 0, "retain_questions": 140}
    evidence = _do(folder, Kind.EVALUATE, options=options, **told)
    found = {finding.metric: finding.after for finding in evidence.findings}
    stay, left = (_written(found[f"knowmem_{side}"]) for side in "rf")
    print(f"{name:<14}{stay:>24}{left:>24}{trained:>10}{deleted:>11}{shards:>9}", flush=True)


def _written(estimate: Estimate | None) -> str:
    if estimate is None:
        return "not to be had"
    return f"{estimate.value:.3f} [{', '.join(f'{end:.3f}' for end in estimate.ci95)}]"


if __name__ == "__main__":
    main()
