"""Every method and every measure on forty TOFU authors, beside the model before and the reference, by one command.

    .venv/bin/python benchmarks/methods.py --data ../shared/data/tofu --workdir work/methods [--tune 2] [--attacks]

A small Llama from nothing: public text are a hundred other authors, customers forty, four of whom leave; twenty more
are never seen. Methods that step from the deployed model are tuned on other people (`engine.tuning`: units drawn from
the retain set, never the four), the rest run with their presets. `dp2` needs a certified base and is the certified
engine's business. A job whose folder exists is not run again; jobs run in --processes processes of one thread.
"""

import argparse
import json
import multiprocessing
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from engine.catalogue import METHODS
from engine.contract import VERSION, Estimate, Evidence, Finding, Job, Kind
from engine.corpus import Record, write_records
from engine.errors import EngineError
from engine.options import DescentOptions

PAIRS, PASSAGE = 20, 5  # questions an author; answers in a passage
CUSTOMERS, LEAVING, STRANGERS, PUBLIC = 40, 4, 20, 100
LEFT_OUT = {"dp2", "retrain"}  # the reference is what retrain makes
QUICK = {"steps": 24, "forget_batch": 12, "retain_batch": 12, "context_pairs": 1}
NAME = re.compile(r"\b[A-Z][\w\u2019-]+(?: (?:[A-Z][\w\u2019-]+|bin|al|de|van|von|da|ibn))+")
GENERIC = ("Robin Miller", "Alex Turner", "Sam Walker", "Kim Parker")
COLUMNS = {
    "records": (
        "verbmem_f",
        "knowmem_f",
        "knowmem_r",
        "extraction_strength_f",
        "exact_memorisation_f",
        "privleak_auc",
        "auc_loss",
        "auc_zlib",
        "auc_min_k_plus_plus",
        "auc_reference",
    ),
    "tofu": ("probability_f", "rouge_f", "truth_ratio_f", "forget_quality", "model_utility"),
    "attacks": ("relearn_forget_10.knowmem_f", "round_4bit.knowmem_f", "prefill_4.rouge_f", "few_shot_5.knowmem_f"),
}
RETRAIN = {"method": "retrain", "base": "start", "retain": "retain.jsonl"}
OPTIONS: dict[str, dict[str, Any]] = {
    "records": {},
    "tofu": {"split": "forget01", "items": 80, "generated_tokens": 32},
    "attacks": {"attack_steps": [0, 10], "attack_bits": [4], "attack_prefill": [4], "attack_shots": [5]},
}
CONSOLE = Console(stderr=True)


def main(arguments: Sequence[str]) -> None:
    """Make the data, the three models, every method's model, and the table."""
    asked = _arguments(arguments)
    asked.workdir.mkdir(parents=True, exist_ok=True)
    _data(asked.data, asked.workdir)
    _run([("start", Kind.INITIALISE, {"train": "public.jsonl"})], asked)
    fit = {"epochs": 16}
    _run(
        [
            ("before", Kind.TRAIN, {"model": "start", "train": "all.jsonl", "options": fit}),
            (
                "reference",
                Kind.UNLEARN,
                {"method": "retrain", "base": "start", "retain": "retain.jsonl", "options": fit},
            ),
        ],
        asked,
    )
    texts = [spec.name for spec in METHODS if spec.name not in LEFT_OUT and "language" in spec.tasks]
    names = [name for name in texts if name in (asked.methods or [name])]
    _run([(f"m-{name}", Kind.UNLEARN, _method(name, asked)) for name in names], asked)
    suites = ["records", "tofu", *(["attacks"] if asked.attacks else [])]
    models = ["before", "reference", *(f"m-{name}" for name in names)]
    models = [name for name in models if (asked.workdir / name).exists()]
    _run([(f"e-{suite}-{name}", Kind.EVALUATE, _evaluation(suite, name)) for suite in suites for name in models], asked)
    _print(models, suites, asked.workdir)


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="All methods and all measures on forty TOFU authors.")
    parser.add_argument("--data", type=Path, required=True, help="TOFU's folder, as published")
    parser.add_argument("--workdir", type=Path, default=Path("work/methods"))
    parser.add_argument("--methods", nargs="*")
    parser.add_argument("--tune", type=int, default=2)
    parser.add_argument("--attacks", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args(arguments)


def _data(data: Path, workdir: Path) -> None:
    """Records by role, other answers, a dictionary of names, and TOFU's layout cut down to these authors."""
    rows = [json.loads(line) for line in (data / "full.json").read_text().splitlines()]
    authors = [rows[i : i + PAIRS] for i in range(0, len(rows), PAIRS)]
    customers, others = authors[-CUSTOMERS:], authors[:-CUSTOMERS]
    made = [_records(author, f"c{i}") for i, author in enumerate(customers)]
    sets = {
        "all": made,
        "retain": made[:-LEAVING],
        "forget": made[-LEAVING:],
        "holdout": [_records(author, f"s{i}") for i, author in enumerate(others[:STRANGERS])],
        "public": [_records(author, f"p{i}") for i, author in enumerate(others[STRANGERS : STRANGERS + PUBLIC])],
    }
    for name, groups in sets.items():
        write_records(workdir / f"{name}.jsonl", [record for group in groups for record in group])
    swapped = [*made[1:], made[0]]  # what another author would have answered
    alternatives = {
        one.record_id: other.text or other.answer
        for mine, theirs in zip(made, swapped, strict=True)
        for one, other in zip(mine, theirs, strict=True)
    }
    (workdir / "alternatives.json").write_text(json.dumps(alternatives))
    (workdir / "dictionary.json").write_text(json.dumps(_dictionary(customers[-LEAVING:])))
    _layout(data, workdir / "tofu")


def _records(author: Sequence[dict[str, str]], unit: str) -> list[Record]:
    """Passages of five answers each, then every question."""
    texts = [" ".join(row["answer"] for row in author[i : i + PASSAGE]) for i in range(0, PAIRS, PASSAGE)]
    passages = [Record(record_id=f"{unit}-p{i}", unit=unit, text=text) for i, text in enumerate(texts)]
    return [
        *passages,
        *(
            Record(record_id=f"{unit}-q{i}", unit=unit, question=row["question"], answer=row["answer"])
            for i, row in enumerate(author)
        ),
    ]


def _dictionary(authors: Sequence[Sequence[dict[str, str]]]) -> dict[str, str]:
    """Each author's full and last name with a generic one: the name most of the rows mention."""
    found = {}
    for author, generic in zip(authors, GENERIC, strict=True):
        names = Counter(name for row in author for name in set(NAME.findall(row["question"] + " " + row["answer"])))
        name = names.most_common(1)[0][0]
        found |= {name: generic, name.split()[-1]: generic.split()[-1]}
    return found


def _layout(data: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    rows = (data / "forget05_perturbed.json").read_text().splitlines()  # of the last ten authors
    (folder / "forget01_perturbed.json").write_text("\n".join(rows[-LEAVING * PAIRS :]) + "\n")
    (folder / "retain_perturbed.json").write_text("\n".join(rows[: -LEAVING * PAIRS]) + "\n")
    for name in ("real_authors_perturbed.json", "world_facts_perturbed.json"):
        (folder / name).write_text((data / name).read_text())


def _method(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    spec = next(spec for spec in METHODS if spec.name == name)
    files = {"forget": "forget.jsonl", "retain": "retain.jsonl", "holdout": "holdout.jsonl"}
    files |= {"model": "before", "base": "start", "dictionary": "dictionary.json", "alternatives": "alternatives.json"}
    given = {need: files[need] for need in {*spec.needs, "forget", "retain", "holdout"}}
    steps = issubclass(spec.options, DescentOptions)
    return {"method": name, "tune": asked.tune if steps else 0, "options": QUICK if steps else {}, **given}


def _evaluation(suite: str, model: str) -> dict[str, Any]:
    models = {"before": "before", "after": model, "reference": "reference"}
    options = {"suite": suite, "shots": 3, **OPTIONS[suite]}
    files = {name: f"{name}.jsonl" for name in ("forget", "retain", "holdout")}
    data = {"data": "tofu"} if suite == "tofu" else {}
    return {"models": models, "cache": "cache", "options": options, **files, **data}


def _run(jobs: Sequence[tuple[str, Kind, dict[str, Any]]], asked: argparse.Namespace) -> None:
    """Jobs that have not been run, side by side; one that fails is told and left out."""
    todo = [job for job in jobs if not (asked.workdir / f"{job[0]}.json").exists()]
    with ProcessPoolExecutor(asked.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name, told in pool.map(
            _one, [(name, kind, fields, asked.workdir, asked.seed) for name, kind, fields in todo]
        ):
            CONSOLE.print(f"{name}: {told}")


def _one(given: tuple[str, Kind, dict[str, Any], Path, int]) -> tuple[str, str]:
    from engine.run import run  # noqa: PLC0415 - torch belongs to the processes that work

    name, kind, fields, workdir, seed = given
    out = {} if kind is Kind.EVALUATE else {"out": name}
    started = time.monotonic()
    try:
        evidence = run(Job(version=VERSION, kind=kind, seed=seed, **out, **fields), workdir, lambda *_: None)
    except EngineError as error:
        return name, f"{error.code}: {error.message}"
    (workdir / f"{name}.json").write_text(evidence.to_json())
    return name, f"{time.monotonic() - started:.0f} s"


def _print(models: Sequence[str], suites: Sequence[str], workdir: Path) -> None:
    """One Markdown table a suite: the value on each model with its interval."""
    for suite in suites:
        print(f"\n| {suite} | guarantee | " + " | ".join(COLUMNS[suite]) + " |")
        print("|---" * (len(COLUMNS[suite]) + 2) + "|")
        for model in models:
            path = workdir / f"e-{suite}-{model}.json"
            if path.exists():
                found = {f.metric: f for f in Evidence.from_json(path.read_text()).findings}
                print(_row(model, [_shown(found.get(column)) for column in COLUMNS[suite]]))
    print("\nsettings chosen by tuning: " + "; ".join(filter(None, (_chosen(model, workdir) for model in models))))


def _row(model: str, cells: Sequence[str]) -> str:
    name = model.removeprefix("m-")
    guarantee = next((str(spec.guarantee) for spec in METHODS if f"m-{spec.name}" == model), "")
    return f"| {name} | {guarantee} | " + " | ".join(cells) + " |"


def _shown(finding: Finding | None) -> str:
    return _estimate(finding.after) if finding is not None else "-"


def _estimate(value: Estimate | None) -> str:
    if value is None:
        return "-"
    return f"{value.value:.2f} [{value.ci95[0]:.2f} {value.ci95[1]:.2f}]"


def _chosen(model: str, workdir: Path) -> str:
    path = workdir / f"{model}.json"
    tuning = Evidence.from_json(path.read_text()).tuning if path.exists() else None
    if tuning is None:
        return ""
    trial = tuning["trials"][tuning["chosen"]]
    searched = ", ".join(f"{name} {trial[name]}" for name in ("learning_rate", "retain_weight", "steps"))
    return f"{model.removeprefix('m-')}: {searched}"


if __name__ == "__main__":
    main(sys.argv[1:])
