"""`expunge unlearn` and `expunge evaluate`: the engine on folders and files, without a desk or a database."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from audits import model as folders
from compliance.cli.engines import naming_log
from compliance.cli.failures import FailedError
from compliance.cli.inputs import settings
from compliance.cli.options import Json, ModelDir, Seed, Settings, Threads, example, group
from compliance.cli.output import answer, sheet, table
from compliance.cli.progress import progress
from compliance.errors import InvalidInputError
from compliance.execution.process import EngineProcess
from compliance.store import check_model
from engine import catalogue
from engine.catalogue import check_options
from engine.contract import Evidence, Finding, Job, Kind

app = group()
MEMBERSHIP = "membership"
SUITES = ("muse", "restor", MEMBERSHIP)

Model = Annotated[Path | None, typer.Option(metavar="DIR", exists=True, file_okay=False, help="The trained model.")]
Base = Annotated[
    Path | None, typer.Option(metavar="DIR", exists=True, file_okay=False, help="The model to begin anew with.")
]
Forget = Annotated[
    Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="The records to be forgotten.")
]
Retain = Annotated[
    Path | None, typer.Option(metavar="FILE", exists=True, dir_okay=False, help="The records that stay.")
]


@app.command(
    "unlearn",
    epilog=example(
        "expunge unlearn npo --model m --forget f.jsonl --retain r.jsonl --out new --set steps=40",
        "expunge unlearn retrain --base start --forget f.jsonl --retain r.jsonl --out new",
    ),
)
def unlearn(
    *,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="One of 'expunge method list'.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the new model goes; must not exist.")],
    model: Model = None,
    forget: Forget = None,
    retain: Retain = None,
    base: Base = None,
    pairs: Settings = None,
    seed: Seed = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Unlearn a forget set from a model folder; no desk is needed.

    Writes a new folder. Records are JSON lines with record_id, unit, and text or question and answer. Which of
    --model, --base, --forget and --retain a method needs stands in 'expunge method list'. Nothing is signed here.
    """
    options = settings(pairs)
    spec = catalogue.method(method)
    given = {"model": model, "base": base, "forget": forget, "retain": retain}
    missing = [f"--{need}" for need in spec.needs if given[need] is None]
    if missing:
        raise InvalidInputError(f"the method '{method}' needs {' and '.join(missing)}", code="missing-input")
    check_options(Kind.UNLEARN, method, options)
    for folder in (model, base):
        if folder is not None:
            check_model(folder)
    job = Job(
        version=1,
        kind=Kind.UNLEARN,
        method=method,
        seed=seed,
        threads=threads,
        out=str(out),
        model=_path(model),
        base=_path(base),
        forget=_path(forget),
        retain=_path(retain),
        options=options,
    )
    evidence = _run(job, name=method)
    value = {"out": str(out), "model_digest": folders.digest_folder(out), "evidence": evidence.to_mapping()}
    answer(value, as_json=as_json, people=_unlearned)


@app.command(
    "evaluate",
    epilog=example(
        "expunge evaluate muse --model new --data ./news --reference retrained --json",
        "expunge evaluate restor --model new --data ./restor --reference clean --corrupted before",
    ),
)
def evaluate(
    *,
    suite: Annotated[str, typer.Argument(metavar="SUITE", help=f"One of: {', '.join(SUITES)}.")],
    model: ModelDir,
    data: Annotated[
        Path, typer.Option(metavar="PATH", exists=True, file_okay=False, help="The suite's data, as published.")
    ],
    reference: Annotated[
        Path | None,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="The model retrained without the forget set."),
    ] = None,
    corrupted: Annotated[
        Path | None,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="The model before unlearning (restor)."),
    ] = None,
    pairs: Settings = None,
    seed: Seed = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Measure a model folder with one suite; no desk is needed.

    Prints values with 95 % intervals; what could not be measured is left out, never guessed. muse and restor
    read a folder in the benchmark's published layout, membership one with forget.jsonl and holdout.jsonl.
    """
    if suite not in SUITES:
        raise InvalidInputError(f"there is no suite '{suite}'; use one of: {', '.join(SUITES)}", code="unknown-suite")
    options = settings(pairs) | {"suite": suite}
    check_options(Kind.EVALUATE, None, options)
    given = {"after": model, "reference": reference, "before": corrupted}
    models = {role: folder for role, folder in given.items() if folder is not None}
    for folder in models.values():
        check_model(folder)
    job = Job(
        version=1,
        kind=Kind.EVALUATE,
        seed=seed,
        threads=threads,
        models={role: str(folder) for role, folder in models.items()},
        data=str(data) if suite != MEMBERSHIP else None,
        forget=_member(suite, data, "forget"),
        holdout=_member(suite, data, "holdout"),
        options=options,
    )
    evidence = _run(job, name=suite)
    value = {
        "suite": suite,
        "metrics": {
            finding.metric: number for finding in evidence.findings if (number := _number(finding)) is not None
        },
        "model_digest": evidence.model_digests["after"],
        "data_digest": evidence.data_digests["items"],
        "suite_version": evidence.suite_version,
    }
    answer(value, as_json=as_json, people=_measured)


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _member(suite: str, folder: Path, name: str) -> str | None:
    """One of the two record files of the membership suite; the other suites read their folder themselves."""
    if suite != MEMBERSHIP:
        return None
    file = folder / f"{name}.jsonl"
    if not file.is_file():
        message = f"--data lacks {file.name}; membership needs forget.jsonl and holdout.jsonl"
        raise InvalidInputError(message, code="missing-input")
    return str(file)


def _run(job: Job, *, name: str) -> Evidence:
    with (
        _engine_log() as log,
        naming_log(log),
        progress() as say,
        EngineProcess(log=log, threads=job.threads) as process,
    ):
        return process.run(job, lambda event: say(name, event))


@contextmanager
def _engine_log() -> Iterator[Path]:
    """A file for the engine's log, which stays only when the engine itself failed."""
    with tempfile.NamedTemporaryFile(prefix="expunge-engine-", suffix=".log", delete=False) as file:
        log = Path(file.name)
    try:
        yield log
    except FailedError:
        raise
    except BaseException:
        log.unlink()
        raise
    log.unlink()


def _number(finding: Finding) -> dict[str, Any] | None:
    found = finding.after
    return None if found is None else {"value": found.value, "ci95": list(found.ci95), "n": found.n}


def _unlearned(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    shown = {**value, **value["evidence"]}
    labels = {"out": "Model", "model_digest": "Digest", "method": "Method", "guarantee": "May claim"}
    yield from sheet(labels | {"steps": "Steps", "seconds": "Seconds"})(shown)


def _measured(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    columns = {"metric": "Metric", "value": "Value", "low": "95 % from", "high": "to", "n": "Units"}
    rows = [
        {"metric": name, "value": one["value"], "low": one["ci95"][0], "high": one["ci95"][1], "n": one["n"]}
        for name, one in value["metrics"].items()
    ]
    yield table(columns, rows)
    yield from sheet({"model_digest": "Model", "data_digest": "Data"})(value)
