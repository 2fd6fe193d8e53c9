"""`expunge audit shadows`: per-example membership attacks with shadow models, on folders and files alone.

The engine trains the shadows as it trains everything, attacks, and reports findings and counts; here its answer is
shown, with what such an audit could have seen at most said in words. The folder of an audit holds its evidence and
numbers of shadows by digest, so that the same command goes on where it stopped; once it has ended, no weights, ids or
texts are there.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from compliance.cli.audit_limits import SPELLED, limits, resolvable
from compliance.cli.engines import naming_log
from compliance.cli.inputs import settings, writing
from compliance.cli.options import Json, ModelDir, Seed, Settings, Threads, example, group
from compliance.cli.output import answer, table
from compliance.cli.progress import progress
from compliance.errors import InvalidInputError
from compliance.execution.process import EngineProcess
from compliance.store import check_model, task_in
from engine import catalogue
from engine.catalogue import check_options
from engine.contract import Evidence, Finding, Job, Kind, canonical

app = group()
NUMBERS, LOG = "shadows", "engine.log"
ROLES = {"before": "Before", "after": "After", "reference": "Reference"}
METRICS = {"auc": "AUC", **{name: f"TPR at {rate}" for name, rate in SPELLED.items()}}
METRICS |= {"balanced_accuracy": "Bal. accuracy"}
PAIRS, THREES = 16, 18  # shadows by default: pairs of opposite coins, or threes where a method is audited

_dir = {"metavar": "DIR", "exists": True, "file_okay": False}
_data = {"metavar": "FILE", "exists": True}
Start = Annotated[Path, typer.Option(**_dir, help="The model that training began with; shadows begin there too.")]
Train = Annotated[Path, typer.Option(**_data, help="All records that --model was trained on.")]
Forget = Annotated[Path, typer.Option(**_data, help="The forget set, within --train: the members that are guessed.")]
Holdout = Annotated[Path, typer.Option(**_data, help="People no model saw: outsiders to guess, and a population.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where evidence goes; the same audit goes on there.")]
After = Annotated[Path | None, typer.Option(**_dir, help="The unlearned model.")]
Reference = Annotated[Path | None, typer.Option(**_dir, help="The model retrained without the forget set.")]
Method = Annotated[
    str | None,
    typer.Option(metavar="METHOD", help="The method that made --after: shadows unlearn too (U-LiRA, RULI)."),
]
TrainSettings = Annotated[
    list[str] | None,
    typer.Option("--set-train", metavar="KEY=VALUE", help="An option of the training, as --model had it."),
]
Shadows = Annotated[
    int | None, typer.Option("--shadows", metavar="N", help="How many; even, or a multiple of 3 with --method.")
]
Outsiders = Annotated[
    int, typer.Option(min=0, metavar="N", help="Units of --holdout to guess about; 0: up to twice the forget set's.")
]
Resamples = Annotated[int, typer.Option(min=100, metavar="N", help="Draws of an interval.")]
Processes = Annotated[int, typer.Option(min=1, metavar="N", help="Train this many shadows side by side.")]


@app.command(
    "shadows",
    epilog=example(
        "expunge audit shadows --model m --start s --train all.jsonl --forget f.jsonl --holdout h.jsonl --out audit",
        "expunge audit shadows --model m --start s --train all.jsonl --forget f.jsonl --holdout h.jsonl --out audit "
        "--after new --reference retrained --method npo --set steps=40 --set-train epochs=8 --processes 4",
    ),
)
def shadows(  # noqa: PLR0913 - one parameter an option
    *,
    model: ModelDir,
    start: Start,
    train: Train,
    forget: Forget,
    holdout: Holdout,
    out: Out,
    after: After = None,
    reference: Reference = None,
    method: Method = None,
    pairs: Settings = None,
    train_pairs: TrainSettings = None,
    count: Shadows = None,
    outsiders: Outsiders = 0,
    resamples: Resamples = 1000,
    processes: Processes = 1,
    seed: Seed = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Attack single examples with shadow models: LiRA, RMIA, one threshold for all, U-LiRA and RULI.

    Shadows are trained like --model, each on what stays and on a random part of the forget set and of outsiders.
    With --method (and --set for its settings) each then unlearns a third of them. The attacks guess who was in the
    model before, after and in the reference. An interrupted audit goes on when the same command is given again; a
    finished shadow is not trained again, and its weights are not kept.
    """
    models = {"before": model, "after": after, "reference": reference}
    options = {
        "shadows": count if count is not None else PAIRS if method is None else THREES,
        "outsiders": outsiders,
        "resamples": resamples,
        "processes": processes,
        "training": settings(train_pairs),
        "method_options": settings(pairs),
    }
    job = Job(
        version=1,
        kind=Kind.AUDIT,
        task=_task([start, *(folder for folder in models.values() if folder is not None)]),
        method=method,
        model=str(start),
        models={role: str(folder) for role, folder in models.items() if folder is not None},
        cache=str(out / NUMBERS),
        seed=seed,
        threads=threads,
        options=options,
        train=str(train),
        forget=str(forget),
        holdout=str(holdout),
    )
    _check(job)
    answer(_made(job, out), as_json=as_json, people=_people)


def _task(models: list[Path]) -> str:
    for folder in models:
        check_model(folder)
    tasks = {task_in(folder) for folder in models}
    if len(tasks) > 1:
        raise InvalidInputError("the models are of different kinds; give models of one kind", code="mixed-models")
    return tasks.pop()


def _check(job: Job) -> None:
    """What the options alone say, before an engine is started; the engine checks the same and the data."""
    check_options(Kind.AUDIT, None, job.options, job.task)
    check_options(Kind.TRAIN, None, job.options["training"], job.task)
    size = 2 if job.method is None else 3
    if job.options["shadows"] < 2 * size or job.options["shadows"] % size:
        message = (
            f"--shadows must be at least {2 * size} and a multiple of {size}{' with --method' if job.method else ''}"
        )
        raise InvalidInputError(message, code="bad-shadows")
    if job.method is None:
        if job.options["method_options"]:
            raise InvalidInputError("--set is for --method; the training takes --set-train", code="bad-setting")
        return
    catalogue.method(job.method)
    check_options(Kind.UNLEARN, job.method, job.options["method_options"], job.task)
    if "after" not in job.models:
        raise InvalidInputError("--method needs --after, the model that it made", code="missing-input")


def _made(job: Job, out: Path) -> dict[str, Any]:
    with writing(out):
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / NUMBERS).is_dir())):
            raise InvalidInputError(f"{out} exists already and holds no audit; choose a new --out", code="not-empty")
        (out / NUMBERS).mkdir(parents=True, exist_ok=True)
        log = out / LOG
        with naming_log(log), progress() as say, EngineProcess(log=log, threads=job.threads) as process:
            evidence = process.run(job, lambda event: say("audit", event))
        name = f"audit-{_digest(evidence)[:16]}.json"
        (out / name).write_text(canonical(evidence) + "\n", encoding="utf-8")
    return {"evidence": str(out / name), **_value(evidence)}


def _digest(evidence: Evidence) -> str:
    """Of what was asked and of whom: another question gets another file."""
    parts = [evidence.config_digest, evidence.model_digests, evidence.data_digests, evidence.code_digest]
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def _value(evidence: Evidence) -> dict[str, Any]:
    found = evidence.rests_on or {}
    return {
        **found,
        "metrics": {finding.metric: _finding(finding) for finding in evidence.findings},
        "limits": limits(found),
        "model_digests": evidence.model_digests,
        "data_digests": evidence.data_digests,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    made = {role: getattr(finding, role) for role in (*ROLES, "difference")}
    return {
        role: None if one is None else {"value": one.value, "ci95": list(one.ci95), "n": one.n}
        for role, one in made.items()
    }


def _people(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    roles = [role for role in ROLES if role == "before" or role in value["model_digests"]]
    for name, title in METRICS.items():
        outsiders = value["outsiders"]["records"]
        if resolvable(name, outsiders):
            yield table({"attack": title, **{role: ROLES[role] for role in roles}}, _rows(value["metrics"], name))
        else:
            yield f"{title}: not resolvable with {outsiders} outsiders."
    counts = [{"part": part, **value[part]} for part in ("members", "outsiders", "strangers", "stays")]
    yield table({"part": "Examples", "records": "Records", "units": "Units"}, counts)
    yield f"{value['shadows']} shadow models, {value['trained_now']} of them trained now. Intervals of 95 %, by unit."
    yield from value["limits"]
    yield value["evidence"]


def _rows(metrics: Mapping[str, Any], name: str) -> Iterator[dict[str, str | None]]:
    for metric, found in metrics.items():
        if metric.endswith(f"_{name}"):
            yield {"attack": metric.removesuffix(f"_{name}"), **{role: _interval(found[role]) for role in ROLES}}


def _interval(one: Mapping[str, Any] | None) -> str | None:
    return None if one is None else f"{one['value']:.3f} [{one['ci95'][0]:.3f} {one['ci95'][1]:.3f}]"
