"""`expunge unlearn` and `expunge evaluate`: the engine on folders and files, without a desk or a database."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from audits import model as folders
from compliance.cli import certified, restor
from compliance.cli.engines import alone
from compliance.cli.inputs import settings
from compliance.cli.options import Json, ModelDir, Seed, Settings, Threads, example, group
from compliance.cli.output import answer, sheet, table
from compliance.errors import InvalidInputError
from compliance.store import check_model, task_in
from engine import catalogue
from engine.catalogue import check_options
from engine.contract import Estimate, Evidence, Job, Kind

app = group()
MINUTE = 60.0
THREE = ("forget", "retain", "holdout")
RECORDS = {"membership": ("forget", "holdout"), "attacks": THREE, "image": THREE, "domain": THREE}  # sets of records
FORMS = (".jsonl", ".npz", ".bin", ".mat", "")  # of a set of pictures; the last is a folder
SUITES = ("muse", "restor", "tofu", *RECORDS)

Model = Annotated[Path | None, typer.Option(metavar="DIR", exists=True, file_okay=False, help="The trained model.")]
Base = Annotated[
    Path | None, typer.Option(metavar="DIR", exists=True, file_okay=False, help="The model to begin anew with.")
]
Forget = Annotated[Path | None, typer.Option(metavar="FILE", exists=True, help="The records to be forgotten.")]
Retain = Annotated[Path | None, typer.Option(metavar="FILE", exists=True, help="The records that stay.")]
Epsilon = Annotated[
    float | None, typer.Option(min=0, metavar="E", help="The bound that a certified method keeps; its noise follows.")
]
Delta = Annotated[float, typer.Option(min=0, max=1, metavar="D", help="The delta that goes with --epsilon.")]
Holdout = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, help="Records of people no model saw, for --tune."),
]
Dictionary = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, dir_okay=False, help="A JSON object: each term, and what stands for it."),
]
Cache = Annotated[
    Path | None,
    typer.Option(metavar="DIR", file_okay=False, help="What models said is kept here; a second run asks none again."),
]
Alternatives = Annotated[
    Path | None,
    typer.Option(metavar="FILE", exists=True, dir_okay=False, help="A JSON object: record_id, and the other answer."),
]


@app.command(
    "unlearn",
    epilog=example(
        "expunge unlearn npo --model m --forget f.jsonl --retain r.jsonl --out new --set steps=40",
        "expunge unlearn retrain --base start --forget f.jsonl --retain r.jsonl --out new",
        "expunge unlearn noisy-ft --model m --retain r.jsonl --epsilon 4 --out new",
        "expunge unlearn newton-noise --model classifier --retain r.npz --epsilon 1 --out new",
    ),
)
def unlearn(  # noqa: PLR0913 - a parameter is an option of the command
    *,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="One of 'expunge method list'.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the new model goes; must not exist.")],
    model: Model = None,
    forget: Forget = None,
    retain: Retain = None,
    base: Base = None,
    holdout: Holdout = None,
    dictionary: Dictionary = None,
    alternatives: Alternatives = None,
    pairs: Settings = None,
    tune: Annotated[
        int, typer.Option("--tune", min=0, metavar="N", help="Try N settings on other people first; needs --holdout.")
    ] = 0,
    processes: Annotated[int, typer.Option(min=1, metavar="N", help="Share every step among N processes.")] = 1,
    cache: Cache = None,
    epsilon: Epsilon = None,
    delta: Delta = 1e-5,
    seed: Seed = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Unlearn a forget set from a model folder; no desk is needed.

    Writes a new folder. Records are JSON lines with record_id, unit, and text, or question and answer, or image or
    file and label; pictures may also be an .npz file, a folder, or a release that 'expunge dataset add' takes, of which
    the part 'train' is read. What a method needs stands in 'expunge
    method list', and its settings in 'expunge method show'. Nothing is signed here.
    """
    options = settings(pairs)
    spec = catalogue.method(method)
    given = {
        "model": model,
        "base": base,
        "forget": forget,
        "retain": retain,
        "dictionary": dictionary,
        "alternatives": alternatives,
    }
    missing = [f"--{need}" for need in spec.needs if given[need] is None]
    if missing:
        raise InvalidInputError(f"the method '{method}' needs {' and '.join(missing)}", code="missing-input")
    task = _task([folder for folder in (model, base) if folder is not None])
    certified.refuse_delta(method, retain, delta=delta)
    options = certified.told_of(method, options, model=model, retain=retain)
    options = certified.with_noise(method, options, task=task, epsilon=epsilon, delta=delta)
    check_options(Kind.UNLEARN, method, options, task)
    files = {name: str(path) for name, path in {**given, "holdout": holdout, "cache": cache}.items() if path}
    told: dict[str, Any] = {**files, "out": str(out), "processes": processes, "tune": tune, "options": options}
    told["task"] = task
    job = Job(version=1, kind=Kind.UNLEARN, method=method, seed=seed, threads=threads, **told)
    evidence = alone(job, name=method)
    made = {"out": str(out), "model_digest": folders.digest_folder(out), "evidence": evidence.to_mapping()}
    made["rte"] = {"minutes": evidence.seconds / MINUTE, "cpu_minutes": evidence.cpu_seconds / MINUTE}
    value: dict[str, Any] = made | certified.bound(evidence.accountant, delta=delta)
    answer(value, as_json=as_json, people=_unlearned)


@app.command(
    "evaluate",
    epilog=example(
        "expunge evaluate muse --model new --data ./news --reference retrained --json",
        "expunge evaluate tofu --model new --data ./tofu --reference retrained --cache ./measured",
        "expunge evaluate restor --model new --data ./restor --reference clean --corrupted before",
    ),
)
def evaluate(  # noqa: PLR0913 - one parameter an option
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
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="The model before unlearning."),
    ] = None,
    cache: Cache = None,
    answers_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="restor: write questions, answers and verdicts here.")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="URL", help="restor: also ask a chat model; its key is in EXPUNGE_JUDGE_KEY."),
    ] = None,
    judge_model: Annotated[str | None, typer.Option(metavar="NAME", help="The judge's model.")] = None,
    pairs: Settings = None,
    seed: Seed = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Measure a model folder with one suite; no desk is needed.

    Prints values with 95 % intervals; what could not be measured is left out, never guessed. muse, restor and
    tofu read a folder in the benchmark's published layout, membership one with forget.jsonl and holdout.jsonl,
    attacks, image and domain one with retain.jsonl too. A set of pictures may be an .npz file or a folder in its place,
    or a release that 'expunge dataset add' takes; of that the holdout set reads 'test', the others 'train'. Attacks
    need --reference: what they find there was never unlearned.

    --judge URL sends RESTOR's questions and the models' answers to URL/chat/completions. They are about public
    facts; nothing of any other suite is ever sent. Its verdicts stand beside the judge-free scores.
    """
    if suite not in SUITES:
        raise InvalidInputError(f"there is no suite '{suite}'; use one of: {', '.join(SUITES)}", code="unknown-suite")
    asked = restor.beside(suite, answers_out, judge, judge_model)
    options = settings(pairs) | {"suite": suite}
    check_options(Kind.EVALUATE, None, options)
    given = {"after": model, "reference": reference, "before": corrupted}
    models = {role: folder for role, folder in given.items() if folder is not None}
    task = _task(list(models.values()))
    files = _files(suite, data)
    job = Job(
        version=1,
        kind=Kind.EVALUATE,
        seed=seed,
        threads=threads,
        models={role: str(folder) for role, folder in models.items()},
        task=task,
        data=str(data) if suite not in ("membership", "image", "domain") else None,
        forget=files.get("forget"),
        retain=files.get("retain"),
        holdout=files.get("holdout"),
        options=options,
    )
    with restor.cache(cache, wanted=asked.wanted) as kept:
        job = dataclasses.replace(job, cache=_path(kept))
        evidence = alone(job, name=suite)
        more = restor.finish(asked, job, evidence, lambda judged: alone(judged, name="verdicts"))
    value = {
        "suite": suite,
        "metrics": _numbers(evidence, "after"),
        "model_digest": evidence.model_digests["after"],
        "data_digest": evidence.data_digests["items"],
        "suite_version": evidence.suite_version,
        **({role: _numbers(evidence, role) for role in ("reference", "difference")} if reference else {}),
        **({"excluded_classes": evidence.aggregates["excluded"]} if evidence.aggregates is not None else {}),
        **more,
    }
    answer(value, as_json=as_json, people=_measured)


def _path(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _files(suite: str, folder: Path) -> dict[str, str]:
    """The sets of records of a suite that has some; the others read their folder themselves."""
    names, found = RECORDS.get(suite, ()), {}
    forms = FORMS if suite in ("image", "domain") else FORMS[:1]
    for name in names:
        path = next((folder / f"{name}{form}" for form in forms if (folder / f"{name}{form}").exists()), None)
        if path is None:
            needed = " and ".join(f"{one}.jsonl" for one in names)
            raise InvalidInputError(f"--data lacks {name}.jsonl; {suite} needs {needed}", code="missing-input")
        found[name] = str(path)
    return found


def _task(models: Sequence[Path]) -> str:
    """The one family of all models, each of them checked."""
    for folder in models:
        check_model(folder)
    tasks = {task_in(folder) for folder in models}
    if len(tasks) > 1:
        raise InvalidInputError("the models are of different kinds; give models of one kind", code="mixed-models")
    return tasks.pop() if tasks else "language"


def _numbers(evidence: Evidence, role: str) -> dict[str, dict[str, Any]]:
    """What was measured of a role, by metric; what could not be measured is left out."""
    found: dict[str, Estimate | None] = {finding.metric: getattr(finding, role) for finding in evidence.findings}
    return {
        metric: {"value": one.value, "ci95": list(one.ci95), "n": one.n}
        for metric, one in found.items()
        if one is not None
    }


def _unlearned(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    shown = {**value, **value["evidence"]}
    if "epsilon" in value and value["epsilon"] is None:
        shown["epsilon"] = "none: with so little noise there is no bound"
    labels = {"out": "Model", "model_digest": "Digest", "method": "Method", "guarantee": "May claim"}
    bound = {"epsilon": "Epsilon", "delta": "Delta"} if "epsilon" in value else {}
    yield from sheet(labels | bound | {"steps": "Steps", "seconds": "Seconds"})(shown)


def _measured(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    beside = [name for name in ("reference", "difference") if name in value]
    labels = {"metric": "Metric", "metrics": "Value", "reference": "Reference", "difference": "Value - reference"}
    columns = {key: label for key, label in labels.items() if key in ("metric", "metrics", *beside)}
    rows = [
        {"metric": name, "n": one["n"]} | {key: _interval(value[key].get(name)) for key in ("metrics", *beside)}
        for name, one in value["metrics"].items()
    ]
    yield table(columns | {"n": "Units"}, rows)
    left_out = {"excluded_classes": "Classes left out of ta"} if value.get("excluded_classes") else {}
    yield from sheet(left_out | {"model_digest": "Model", "data_digest": "Data"})(value)


def _interval(one: Mapping[str, Any] | None) -> str | None:
    """A value with its 95 % interval."""
    return None if one is None else f"{one['value']:.3f} [{one['ci95'][0]:.3f} {one['ci95'][1]:.3f}]"
