"""`expunge forget-set worst-case`: the records that a classifier would find hardest to forget, as two files.

A method that was only measured on random forget sets may fail on others (Fan et al. 2024, arXiv 2403.07362). The files
are what `expunge unlearn` and `expunge evaluate` take, so that each method can be measured on both kinds. The folder
holds the records themselves; evidence and everything printed holds numbers and digests.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from compliance.cli import choosing, stress
from compliance.cli.engines import alone
from compliance.cli.inputs import settings
from compliance.cli.options import Json, ModelDir, Seed, Settings, Threads, example, group
from compliance.cli.output import answer, sheet
from compliance.errors import InvalidInputError
from compliance.store import check_model, task_in
from engine.catalogue import check_options
from engine.contract import Job, Kind

app = group()
KINDS = ("record", "unit", "class")
NAMED = {"count", "by", "reverse"}  # have an option of their own
SHOWN = {
    "out": "Folder",
    "forget_records": "To forget",
    "retain_records": "To keep",
    "overlap": "Overlap with a random set",
    "by_chance": "Overlap by chance",
    "loss_chosen": "Loss of the chosen",
    "loss_all": "Loss of all",
    "seconds": "Seconds",
}

Data = Annotated[Path, typer.Option(metavar="FILE", exists=True, help="All records that --model was trained on.")]
Count = Annotated[int, typer.Option(min=1, metavar="N", help="How many records, data subjects or classes to choose.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where forget.jsonl and retain.jsonl go; must not exist.")]
By = Annotated[str, typer.Option("--by", metavar="KIND", help=f"What is chosen: {', '.join(KINDS)}.")]
Easiest = Annotated[bool, typer.Option("--easiest", help="The set that is easiest to forget, in its place.")]


@app.command(
    "worst-case",
    epilog=example(
        "expunge forget-set worst-case --model m --data all.jsonl --count 500 --out worst",
        "expunge forget-set worst-case --model m --data all.npz --count 1 --by class --set rounds=20 --out class",
    ),
)
def worst_case(
    *,
    model: ModelDir,
    data: Data,
    count: Count,
    out: Out,
    by: By = "record",
    easiest: Easiest = False,
    pairs: Settings = None,
    seed: Seed = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Choose the forget set that a classifier would find hardest to forget; no desk is needed.

    Rounds of softly forgetting and of moving weight to what stays well fitted all the same. Printed is also how far
    the set is from a random one: an overlap near 1 would mean that nothing was chosen. Which set is hardest depends on
    the model and on how it is made to forget; no set is proved to be the worst.
    """
    options = settings(pairs)
    twice = sorted(NAMED & set(options))
    if twice:
        message = f"--set {twice[0]} has an option of its own: --count, --by or --easiest"
        raise InvalidInputError(message, code="bad-setting")
    check_model(model)
    task = task_in(model)
    if task != "image":
        raise InvalidInputError("worst-case sets are chosen for image classifiers; this is none", code="bad-model")
    options |= {"count": count, "by": by, "reverse": easiest}
    check_options(Kind.WORST_CASE, None, options, task)
    job = Job(
        version=1,
        kind=Kind.WORST_CASE,
        seed=seed,
        threads=threads,
        task=task,
        model=str(model),
        train=str(data),
        out=str(out),
        options=options,
    )
    evidence = alone(job, name="worst case")
    found = evidence.training or {}
    value = {
        "out": str(out),
        **{name: found[name] for name in ("forget_records", "retain_records", "overlap", "loss_chosen", "loss_all")},
        "by_chance": found["chosen"] / found["candidates"],
        "evidence": evidence.to_mapping(),
    }
    answer(value, as_json=as_json, people=_people)


def _people(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    yield from sheet(SHOWN)({**value, "seconds": value["evidence"]["seconds"]})


app.command("choose", epilog=example(*choosing.EXAMPLES))(choosing.choose)
app.command("stress", epilog=example(*stress.EXAMPLES))(stress.stress)
