"""`expunge forget-set stress`: methods on a random forget set and on the hardest one, beside retraining.

A method that was only measured on random forget sets may fail on others (Fan et al. 2024, arXiv 2403.07362). Both
sets have the same size; each method starts from the same model; with --reference-start that public start is trained
on what stays of each set. An interrupted test goes on when the same command is given again.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from audits import model as folders
from compliance.cli import folds, plans, stages, stress_stages
from compliance.cli.inputs import settings, writing
from compliance.cli.options import Json, ModelDir, Seed, Settings, Threads
from compliance.cli.output import answer, table
from compliance.cli.stress_stages import BY, SUITE, Row, Stress
from compliance.errors import InvalidInputError
from compliance.store import check_model, task_in
from engine import catalogue
from engine.catalogue import check_options
from engine.contract import Estimate, Evidence, Kind, canonical

VERSION = 1
RESULT = "stress.json"
GIVEN = {"model", "forget", "retain"}  # what a method is given here
METRICS = {"ua": "UA", "ra": "RA", "ta": "TA", "mia_efficacy": "MIA", "gap": "Gap"}
ROLES = ("before", "after", "reference", "difference")
EXAMPLES = (
    (
        "expunge forget-set stress --model m --data all.jsonl --holdout strangers.jsonl --count 500 "
        "--methods l1-sparse,random-labels --reference-start start --out stress"
    ),
)
_file = {"metavar": "FILE", "exists": True}

Methods = Annotated[str, typer.Option(metavar="A,B,...", help="Methods of 'expunge method list --task image'.")]
Data = Annotated[Path, typer.Option(**_file, help="All records that --model was trained on.")]
Holdout = Annotated[Path, typer.Option(**_file, help="Records that no model saw.")]
Count = Annotated[int, typer.Option(min=1, metavar="N", help="How many records, data subjects or classes to forget.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the test goes; the same test goes on there.")]
By = Annotated[str, typer.Option("--by", metavar="KIND", help=f"What is forgotten together: {', '.join(BY)}.")]
Start = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", exists=True, file_okay=False, help="The public start that references are trained from."
    ),
]
NoReference = Annotated[bool, typer.Option("--no-reference", help="Train no references; the gap falls away.")]
SearchSettings = Annotated[
    list[str] | None, typer.Option("--set-search", metavar="KEY=VALUE", help="An option of the search.")
]
ReferenceSettings = Annotated[
    list[str] | None,
    typer.Option("--set-reference", metavar="KEY=VALUE", help="An option of the references' training."),
]
MeasureSettings = Annotated[
    list[str] | None, typer.Option("--set-measure", metavar="KEY=VALUE", help="An option of the measurements.")
]


def stress(  # noqa: PLR0913 - one parameter an option
    *,
    methods: Methods,
    model: ModelDir,
    data: Data,
    holdout: Holdout,
    count: Count,
    out: Out,
    by: By = "record",
    reference_start: Start = None,
    no_reference: NoReference = False,
    pairs: Settings = None,
    search_pairs: SearchSettings = None,
    reference_pairs: ReferenceSettings = None,
    measure_pairs: MeasureSettings = None,
    seed: Seed = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Unlearn a random and a worst-case forget set by some methods, and measure both; no desk is needed.

    --set METHOD.KEY=VALUE gives an option of one method. DIR keeps models, numbers and the worst-case set, which are
    records; delete it when the test has been read. That no harder set exists is not shown.
    """
    given = {key: value for key, value in locals().items() if key != "as_json"}
    asked = _asked(given)
    with writing(out):
        plans.begin(out, _plan(asked), what="stress test")
    rows = stress_stages.run(asked)
    value = {**_plan(asked), "sets": {one.name: _set(one) for one in stress_stages.sets(rows)}, "rows": _rows(rows)}
    with stages.whole(out / RESULT) as partial:
        partial.write_text(canonical(value) + "\n", encoding="utf-8")
    answer({"out": str(out), **value}, as_json=as_json, people=_people)


def _asked(given: Mapping[str, Any]) -> Stress:
    """What was asked for, read and checked, before anything is written."""
    if (given["reference_start"] is None) != given["no_reference"]:
        message = "give --reference-start DIR, or --no-reference; without a reference nobody knows what is good enough"
        raise InvalidInputError(message, code="missing-input")
    names = tuple(dict.fromkeys(name for name in given["methods"].split(",") if name))
    if not names:
        raise InvalidInputError("--methods names no method; give some with commas between them", code="missing-input")
    asked = Stress(
        methods=names,
        data=folds.read(given["data"]),
        holdout=folds.read(given["holdout"]),
        settings=_each(settings(given["pairs"]), names),
        search_settings=settings(given["search_pairs"]),
        reference_settings=settings(given["reference_pairs"]),
        measure_settings=settings(given["measure_pairs"]),
        **{key: given[key] for key in ("out", "model", "count", "by", "reference_start", "seed", "threads")},
    )
    _check(asked)
    return asked


def _each(pairs: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options by method, of keys METHOD.KEY."""
    found: dict[str, dict[str, Any]] = {}
    for pair, value in pairs.items():
        name, dot, key = pair.partition(".")
        if not dot or name not in names:
            raise InvalidInputError(
                f"--set {pair} must be METHOD.KEY=VALUE with a METHOD of --methods", code="bad-setting"
            )
        found.setdefault(name, {})[key] = value
    return found


def _check(asked: Stress) -> None:
    """Refuse before hours are spent what would be refused after them."""
    for folder in (asked.model, asked.reference_start):
        if folder is not None:
            check_model(folder)
            if task_in(folder) != "image":
                raise InvalidInputError(f"{folder} is no image classifier; a stress test needs one", code="bad-model")
    for name in asked.methods:
        spec = catalogue.method(name)
        spec.form("image")
        if not GIVEN.issuperset(spec.needs):
            lacks = " and ".join(need for need in spec.needs if need not in GIVEN)
            raise InvalidInputError(
                f"the method '{name}' needs {lacks}, which a stress test has not", code="bad-method"
            )
        check_options(Kind.UNLEARN, name, asked.settings.get(name, {}), "image")
    twice = sorted({"count", "by"} & set(asked.search_settings))
    if twice:
        raise InvalidInputError(f"--set-search {twice[0]} has an option of its own: --{twice[0]}", code="bad-setting")
    check_options(Kind.WORST_CASE, None, {**asked.search_settings, "count": asked.count, "by": asked.by}, "image")
    check_options(Kind.TRAIN, None, asked.reference_settings, "image")
    check_options(Kind.EVALUATE, None, {**asked.measure_settings, "suite": SUITE}, "image")
    stress_stages.drawn(asked.data, count=asked.count, by=asked.by, seed=asked.seed)
    if {one.record_id for one in asked.data} & {one.record_id for one in asked.holdout}:
        raise InvalidInputError("--holdout shares a record_id with --data; give records no model saw", code="overlap")


def _plan(asked: Stress) -> dict[str, Any]:
    """What a test depends on, by digests: equal plans are the same test."""
    start = asked.reference_start
    return {
        "version": VERSION,
        "methods": {name: catalogue.method(name).guarantee.value for name in asked.methods},
        "count": asked.count,
        "by": asked.by,
        "seed": asked.seed,
        "suite": SUITE,
        "settings": {
            "methods": {name: dict(one) for name, one in asked.settings.items()},
            "search": dict(asked.search_settings),
            "reference": dict(asked.reference_settings),
            "measure": dict(asked.measure_settings),
        },
        "model": folders.digest_folder(asked.model),
        "reference_start": None if start is None else folders.digest_folder(start),
        "data": folds.described(asked.data),
        "holdout": folds.described(asked.holdout),
    }


def _set(chosen: stress_stages.Chosen) -> dict[str, Any]:
    """A set by digest; of the worst one how far it is from a random one, and how well its records stay fitted."""
    told = {"forget": folds.described(chosen.forget), "retain": folds.described(chosen.retain)}
    found = chosen.search and chosen.search.training
    if not found:
        return told
    by_chance = found["chosen"] / found["candidates"]
    return {**told, "by_chance": by_chance, **{key: found[key] for key in ("overlap", "loss_chosen", "loss_all")}}


def _rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "set": row.chosen.name,
            "method": row.method,
            "seconds": row.unlearned.seconds,
            "model_digests": row.measured.model_digests,
            "metrics": _metrics(row.measured),
        }
        for row in rows
    ]


def _metrics(measured: Evidence) -> dict[str, dict[str, Any]]:
    """Every metric on every model; what could not be measured is null."""
    found = {one.metric: {role: getattr(one, role) for role in ROLES} for one in measured.findings}
    return {metric: {role: _estimate(one) for role, one in roles.items()} for metric, roles in found.items()}


def _estimate(one: Estimate | None) -> dict[str, Any] | None:
    return None if one is None else {"value": one.value, "ci95": list(one.ci95), "n": one.n}


def _people(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    columns = {"set": "Set", "method": "Method", **METRICS}
    shown: list[dict[str, Any]] = []
    for row in value["rows"]:
        if value["reference_start"] and row["set"] not in {one["set"] for one in shown}:
            shown.append({"set": row["set"], "method": "retrained", **_cells(row, "reference")})
        shown.append({"set": row["set"], "method": row["method"], **_cells(row, "after")})
    yield table(columns, shown)
    worst = value["sets"][stress_stages.WORST]
    yield f"Worst-case set: {worst['overlap']:.3f} of it is in a random set, {worst['by_chance']:.3f} by chance."
    yield f"Intervals are 95 %, over data subjects. {value['out']}/{RESULT}"


def _cells(row: Mapping[str, Any], role: str) -> dict[str, str | None]:
    return {metric: _interval((row["metrics"].get(metric) or {}).get(role)) for metric in METRICS}


def _interval(one: Mapping[str, Any] | None) -> str | None:
    return None if one is None else f"{one['value']:.3f} [{one['ci95'][0]:.3f} {one['ci95'][1]:.3f}]"
