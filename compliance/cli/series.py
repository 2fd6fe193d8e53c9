"""`expunge series`: MUSE's criteria 5 and 6 (arXiv 2407.06460, section 3) as commands that run, measure and draw.

scalability     one forget set after the other from the *same* target model: fold 1, folds 1-2, 1-3, 1-4
sustainability  four requests one after the other: request t starts from the model that request t-1 made

After each step VerbMem, KnowMem on forget and retain, and PrivLeak are measured on the target, the unlearned model
and, with --reference-start, a reference: that public start trained on what stays at this step, which is the retain
set and the folds that nobody has asked to forget yet. Nothing that was ever forgotten is in a retain set again.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from audits import model as folders
from compliance.cli import folds, plans, stages
from compliance.cli.charts import check_drawing, draw
from compliance.cli.inputs import settings, writing
from compliance.cli.options import Json, ModelDir, Seed, Settings, Threads, example, group
from compliance.cli.output import answer, cell, table
from compliance.cli.stages import SCALABILITY, SUSTAINABILITY, Series, Step
from compliance.errors import InvalidInputError
from compliance.store import check_model
from engine import catalogue
from engine.catalogue import check_options
from engine.contract import Finding, Kind, canonical

app = group()
VERSION = 1
RESULT = "series.json"
SHOWN = {"verbmem_f": "VerbMem", "knowmem_f": "KnowMem forget", "privleak": "PrivLeak %", "knowmem_r": "KnowMem retain"}

Name = Annotated[str, typer.Argument(metavar="SERIES", help=f"{SCALABILITY} or {SUSTAINABILITY}.")]
Method = Annotated[str, typer.Argument(metavar="METHOD", help="One of 'expunge method list'.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the series goes; the same series goes on there.")]
_dir = {"metavar": "DIR", "exists": True, "file_okay": False}
_file = {"metavar": "FILE", "exists": True, "dir_okay": False}
Retain = Annotated[
    Path | None, typer.Option(**_file, help="The records that stay, or a JSON list of texts; MUSE: raw/retain1.json.")
]
Forget = Annotated[Path | None, typer.Option(**_file, help="The forget set, to be cut in four folds by unit.")]
Four = Annotated[
    tuple[Path, Path, Path, Path] | None,
    typer.Option("--folds", metavar="F1 F2 F3 F4", help="Four disjoint folds of your own."),
]
Data = Annotated[
    Path | None, typer.Option(**_dir, help="A folder in MUSE's layout: what is asked, and scal/ or sust/ as folds.")
]
Holdout = Annotated[Path | None, typer.Option(**_file, help="Records never seen, for PrivLeak without --data.")]
Start = Annotated[
    Path | None, typer.Option(**_dir, help="The public start from which a reference is trained for each step.")
]
NoReference = Annotated[bool, typer.Option("--no-reference", help="Train no references; PrivLeak falls away.")]
Base = Annotated[Path | None, typer.Option(**_dir, help="The model to begin anew with, for methods that do.")]
Dictionary = Annotated[Path | None, typer.Option(**_file, help="Anchored terms with their generic substitutes.")]
Alternatives = Annotated[Path | None, typer.Option(**_file, help="Other answers, by record_id.")]
ReferenceSettings = Annotated[
    list[str] | None,
    typer.Option("--set-reference", metavar="KEY=VALUE", help="An option of the references' training."),
]
MeasureSettings = Annotated[
    list[str] | None, typer.Option("--set-measure", metavar="KEY=VALUE", help="An option of the measurements.")
]


@app.command(
    "series",
    epilog=example(
        "expunge series scalability npo --model m --forget f.jsonl --retain r.jsonl --no-reference --out scal",
        "expunge series sustainability graddiff --model m --data ./news --no-reference --out sust",
    ),
)
def series(  # noqa: PLR0913 - one parameter an option
    *,
    name: Name,
    method: Method,
    model: ModelDir,
    out: Out,
    retain: Retain = None,
    forget: Forget = None,
    four: Four = None,
    data: Data = None,
    holdout: Holdout = None,
    reference_start: Start = None,
    no_reference: NoReference = False,
    base: Base = None,
    dictionary: Dictionary = None,
    alternatives: Alternatives = None,
    pairs: Settings = None,
    reference_pairs: ReferenceSettings = None,
    measure_pairs: MeasureSettings = None,
    seed: Seed = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Unlearn in four steps, measure and draw; no desk is needed.

    scalability unlearns nested forget sets, x1 to x4, each from the same model; sustainability serves four requests,
    each from the model before. A series that was interrupted goes on when the same command is given again.
    """
    given = {key: value for key, value in locals().items() if key not in {"name", "as_json"}}
    if name not in (SCALABILITY, SUSTAINABILITY):
        message = f"there is no series '{name}'; use one of: {SCALABILITY}, {SUSTAINABILITY}"
        raise InvalidInputError(message, code="unknown-series")
    check_drawing()
    answer(_made(_series(name, given)), as_json=as_json, people=_people)


def _made(asked: Series) -> dict[str, Any]:
    plan = _plan(asked)
    with writing(asked.out):
        plans.begin(asked.out, plan, what="series")
    value = {**plan, "steps": [_step(asked, step) for step in stages.run(asked)]}
    with stages.whole(asked.out / RESULT) as partial:
        partial.write_text(canonical(value) + "\n", encoding="utf-8")
    return {"out": str(asked.out), **value, "charts": draw(asked.out / RESULT)}


def _series(name: str, given: Mapping[str, Any]) -> Series:
    """What was asked for, read and checked, before anything is written."""
    data, start = given["data"], given["reference_start"]
    if (start is None) != given["no_reference"]:
        message = "give --reference-start DIR, or --no-reference; without a reference nobody knows what is good enough"
        raise InvalidInputError(message, code="missing-input")
    asks = data if data is not None and (data / "verbmem").is_dir() else None
    if asks is None and given["holdout"] is None:
        raise InvalidInputError(
            "give --holdout FILE, or --data with verbmem/, knowmem/, privleak/", code="missing-input"
        )
    asked = Series(
        name=name,
        folds=_folds(name, given),
        retain=folds.read(_retain(given)),
        holdout=() if given["holdout"] is None else folds.read(given["holdout"]),
        data=asks,
        settings=settings(given["pairs"]),
        reference_settings=settings(given["reference_pairs"]),
        measure_settings=settings(given["measure_pairs"]),
        **{key: given[key] for key in ("method", "out", "model", "base", "reference_start")},
        **{key: given[key] for key in ("dictionary", "alternatives", "seed", "threads")},
    )
    _check(asked)
    return asked


def _folds(name: str, given: Mapping[str, Any]) -> folds.Folds:
    forget, four, data = given["forget"], given["four"], given["data"]
    if (forget is not None) + (four is not None) > 1:
        raise InvalidInputError("give --forget or --folds, not both", code="bad-folds")
    if forget is not None:
        found = folds.cut(folds.read(forget), seed=given["seed"])
    elif four is not None:
        found = tuple(map(folds.read, four))
    elif data is not None:
        found = folds.from_muse(data, name)
    else:
        raise InvalidInputError(
            "give --forget FILE, --folds F1 F2 F3 F4, or --data with scal/ or sust/", code="bad-folds"
        )
    folds.check_disjoint(found)
    return found


def _retain(given: Mapping[str, Any]) -> Path:
    if given["retain"] is not None:
        return Path(given["retain"])
    if given["data"] is None or not (given["data"] / "raw" / "retain1.json").is_file():
        raise InvalidInputError(
            "give --retain FILE; only a --data folder with raw/retain1.json has one", code="missing-input"
        )
    return Path(given["data"]) / "raw" / "retain1.json"


def _check(asked: Series) -> None:
    """Refuse before hours are spent what the engine would refuse after them."""
    spec = catalogue.method(asked.method)
    always = {"model", "forget", "retain"}
    missing = [f"--{need}" for need in spec.needs if need not in always and getattr(asked, need) is None]
    if missing:
        raise InvalidInputError(f"the method '{asked.method}' needs {' and '.join(missing)}", code="missing-input")
    check_options(Kind.UNLEARN, asked.method, asked.settings)
    check_options(Kind.TRAIN, None, asked.reference_settings)
    check_options(Kind.EVALUATE, None, {**asked.measure_settings, "suite": asked.suite})
    for folder in (asked.model, asked.base, asked.reference_start):
        if folder is not None:
            check_model(folder)
    folds.staying(asked.retain, asked.folds, len(asked.folds))


def _plan(asked: Series) -> dict[str, Any]:
    """What a series depends on, by digests: equal plans are the same series."""
    return {
        "version": VERSION,
        "series": asked.name,
        "method": asked.method,
        "guarantee": catalogue.method(asked.method).guarantee.value,
        "seed": asked.seed,
        "suite": asked.suite,
        "settings": {
            "method": dict(asked.settings),
            "reference": dict(asked.reference_settings),
            "measure": dict(asked.measure_settings),
        },
        "target_model": folders.digest_folder(asked.model),
        "reference_start": _digest(asked.reference_start),
        "base": _digest(asked.base),
        "dictionary": _file_digest(asked.dictionary),
        "alternatives": _file_digest(asked.alternatives),
        "data": _digest(asked.data),
        "folds": [folds.described(fold) for fold in asked.folds],
        "retain": folds.described(asked.retain),
        "holdout": folds.described(asked.holdout),
    }


def _step(asked: Series, step: Step) -> dict[str, Any]:
    """One step as the result has it: what went in and out by digest, and every finding on every model."""
    digests = step.measured.model_digests
    return {
        "step": step.number,
        "start": folders.digest_folder(asked.start(step.number)),
        "after": digests["after"],
        "reference": digests.get("reference"),
        "forget": folds.described(asked.forget(step.number)),
        "forgotten": folds.described(folds.forgotten(asked.folds, step.number)),
        "retain": folds.described(folds.staying(asked.retain, asked.folds, step.number)),
        "items": step.measured.data_digests["items"],
        "suite_version": step.measured.suite_version,
        "code": sorted({step.unlearned.code_digest, step.measured.code_digest}),
        "seconds": step.unlearned.seconds,
        "parameters": step.unlearned.parameters,
        "metrics": {finding.metric: _finding(finding) for finding in step.measured.findings},
    }


def _finding(finding: Finding) -> dict[str, Any]:
    roles = ("before", "after", "reference", "difference")
    made = {role: getattr(finding, role) for role in roles}
    return {
        role: None if one is None else {"value": one.value, "ci95": list(one.ci95), "n": one.n}
        for role, one in made.items()
    }


def _digest(folder: Path | None) -> str | None:
    return None if folder is None else folders.digest_folder(folder)


def _file_digest(path: Path | None) -> str | None:
    return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def _people(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    rows = [
        {"step": step["step"], "units": step["forgotten"]["units"], **{m: _shown(step, m) for m in SHOWN}}
        for step in value["steps"]
    ]
    yield table({"step": "Step", "units": "Forgotten", **SHOWN}, rows)
    yield "Each cell: after [95 %] · reference."
    yield f"{value['out']}/{RESULT}, {', '.join(value['charts'])}"


def _shown(step: Mapping[str, Any], metric: str) -> str | None:
    found = step["metrics"].get(metric) or {}
    after, reference = found.get("after"), found.get("reference")
    if after is None:
        return None
    low, high = after["ci95"]
    return f"{cell(after['value'])} [{cell(low)} {cell(high)}] · {cell(reference and reference['value'])}"
