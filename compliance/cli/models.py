"""`expunge model`: register, train, list, check and schedule models."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from audits import model as folders
from compliance import policy as policies
from compliance.cli.desk import open_desk
from compliance.cli.engines import naming_log
from compliance.cli.inputs import read_text, seconds, settings
from compliance.cli.options import CURRENT, Json, Seed, Settings, Workdir, example, group
from compliance.cli.output import answer, listing, sheet
from compliance.cli.progress import progress
from compliance.errors import InvalidInputError
from compliance.execution.serving import Outcome, check_served, in_words
from compliance.execution.training import Order, default_policy, register_model, train_model
from compliance.forecast import forecast_of
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import DataSetView, ModelView, VersionView
from compliance.policy import Policy
from compliance.store import check_model
from compliance.wiring import Services
from engine.contract import TASKS, Guarantee

app = group()
_LABELS = {
    "name": "Name",
    "id": "Id",
    "task": "Task",
    "dataset": "Data set",
    "holdout": "Holdout",
    "version": "In use",
    "guarantee": "Guarantee",
    "base": "DP base",
    "unit": "Its unit",
    "deleted": "Units deleted",
    "bound": "Their bound",
    "left": "Units left",
    "forecast": "Forecast",
    "policy": "Policy",
    "every_seconds": "Every (s)",
    "digest": "Digest",
}
_COLUMNS = {"name": "Name", "dataset": "Data set", "version": "Version", "guarantee": "Guarantee"}
_COLUMNS |= {"base": "DP base", "deleted": "Deleted", "left": "Left", "every_seconds": "Every (s)"}
GUARDED = "suppression: a guard, the weights still hold the data"
_EMPTY = "There is no model yet; train one with 'expunge model train NAME --dataset NAME'."
_SERVED = {"model": "Model", "outcome": "Served", "current": "In use", "digest": "Digest", "log_index": "Log entry"}
_VERSIONS = {"number": "Version", "state": "State", "guarantee": "Guarantee", "published_at": "Published"}

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the model is called.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A Hugging Face folder.")]
DataSet = Annotated[str, typer.Option("--dataset", metavar="NAME", help="The data set that it learns from.")]
Holdout = Annotated[
    str | None, typer.Option("--holdout", metavar="NAME", help="A data set of people that no model has seen.")
]
PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", exists=True, dir_okay=False, help="The method policy (TOML)."),
]


def _sheet(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    return sheet(_LABELS)(_told(value))


def _list(values: Sequence[Mapping[str, Any]]) -> Iterable[RenderableType]:
    return listing(_COLUMNS, empty=_EMPTY)([_told(value) for value in values])


def _told(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value with its deletion budget in words, and suppression as what it is."""
    found = value["budget"]
    if value["guarantee"] == Guarantee.SUPPRESSION:
        value = {**value, "guarantee": GUARDED}
    if found is None:
        return dict(value)
    bound = "none" if found["epsilon"] is None else f"epsilon {found['epsilon']:.2f}"
    return {
        **value,
        "base": value["base"] if found["learned"] else f"{value['base']}, did not learn",
        "unit": found["unit"],
        "deleted": f"{found['deleted']} of {found['units']}",
        "bound": f"{bound} of {found['epsilon_limit']:g} at delta {found['delta']:g}",
        "left": str(found["left"]),
        "forecast": found["says"],
    }


@app.command("add", epilog=example("expunge model add assistant ./assistant --dataset customers --start ./base"))
def add(
    *,
    name: Name,
    folder: Folder,
    dataset: DataSet,
    start: Annotated[
        Path,
        typer.Option(
            "--start", metavar="DIR", exists=True, file_okay=False, help="The model that training began with."
        ),
    ],
    holdout: Holdout = None,
    policy: PolicyFile = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Register a model that was trained elsewhere on a registered data set, as its version 1.

    The start must not have seen the data set: references and retrained versions begin with it.
    """
    given = _given(policy)
    with open_desk(workdir) as desk:
        data, held = _data(desk, dataset, holdout)
        chosen = given or _default(desk, data)
        register_model(desk, name=name, folder=folder, start=start, dataset=data, holdout=held, policy=chosen)
        value = _named(desk, name)
    answer(value, as_json=as_json, people=_sheet)


@app.command(
    "train",
    epilog=example(
        "expunge model train assistant --dataset customers --public public.jsonl --holdout others",
        "expunge model train assistant --dataset customers --start ./base --policy policy.toml",
        "expunge model train reader --dataset digits --holdout strangers --set architecture=gabor",
    ),
)
def train(
    *,
    name: Name,
    dataset: DataSet,
    public: Annotated[
        Path | None,
        typer.Option("--public", metavar="FILE", exists=True, help="Public text or pictures to begin with."),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--start", metavar="DIR", exists=True, file_okay=False, help="A model folder to begin with."),
    ] = None,
    holdout: Holdout = None,
    policy: PolicyFile = None,
    seed: Seed = 0,
    initialise: Settings = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Train a model on a registered data set and publish it as version 1.

    With a [base] in the policy, a DP base is trained first. --set changes the public model's size, for
    example --set layers=4. A classifier of pictures may begin with nothing: it takes its classes from the data
    set's labels, which everybody may then know, and its shape from --set architecture=gabor, --set size=32.
    """
    given = _given(policy)
    options = settings(initialise)
    with open_desk(workdir) as desk:
        data, held = _data(desk, dataset, holdout)
        chosen = given or _default(desk, data)
        order = Order(
            name=name,
            dataset=data,
            holdout=held,
            policy=chosen,
            public=public,
            start=start,
            initialise=options,
            seed=seed,
        )
        with naming_log(desk.settings.workdir / "logs" / "engine-train.log"), progress() as say:
            train_model(desk, order, say=say)
        value = _named(desk, name)
    answer(value, as_json=as_json, people=_sheet)


@app.command("list", epilog=example("expunge model list"))
def list_(*, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """List the models with the version in use, its guarantee class, and what is left of the deletion budget."""
    with open_desk(workdir) as desk, desk.read() as ledger:
        value = [_value(desk, ledger, model) for model in ledger.models()]
    answer(value, as_json=as_json, people=_list)


@app.command("show", epilog=example("expunge model show assistant"))
def show(*, name: Name, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """Show a model: the version in use, and its deletion budget with the batch that will spend it.

    The forecast says what it rests on: the open batch, the approved requests, or the pace of the last batches.
    """
    with open_desk(workdir) as desk:
        value = _named(desk, name)
    answer(value, as_json=as_json, people=_sheet)


@app.command("versions", epilog=example("expunge model versions assistant"))
def versions(*, name: Name, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """List a model's versions: which one is in use, and which were sealed or destroyed."""
    with open_desk(workdir) as desk, desk.read() as ledger:
        value = [_version(view) for view in ledger.versions(ledger.model_named(name).id)]
    answer(value, as_json=as_json, people=listing(_VERSIONS, empty="This model has no version yet."))


@app.command(
    "check",
    epilog=example(
        "expunge model check /srv/assistant",
        "expunge model check /srv/assistant --model assistant --json",
        "expunge model check ./assistant --registrable",
    ),
)
def check(
    *,
    folder: Folder,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="The model it should be; else the one it is nearest to."),
    ] = None,
    registrable: Annotated[
        bool, typer.Option("--registrable", help="Only say whether the folder can be registered; no desk is needed.")
    ] = False,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> int:
    """Say whether a folder that is served is the version in use, file by file, and log what was found.

    Exit 1 when it is not, with the version that it is if it is an older one, and with the files that differ.
    """
    if registrable:
        return _registrable(folder, as_json=as_json)
    with open_desk(workdir) as desk:
        found = check_served(desk, folder, name=model)
    ok = found.outcome is Outcome.CURRENT
    value = {
        "ok": ok,
        "outcome": found.outcome,
        "model": found.model.name,
        "version": found.version,
        "current": found.current.number,
        "digest": found.digest,
        "current_digest": found.current.digest,
        "report_digest": found.current.report_digest,
        "differing": found.differing,
        "files": found.files,
        "log_index": found.log_index,
    }
    answer(value, as_json=as_json, people=lambda value: [*sheet(_SERVED)(value), *in_words(found)])
    return int(not ok)


def _registrable(folder: Path, *, as_json: bool) -> int:
    """Safetensors only, a configuration, no pickle and no link; InvalidInputError otherwise."""
    check_model(folder)
    files = folders.files(folder)
    value = {"ok": True, "digest": folders.digest(files), "files": files}
    answer(value, as_json=as_json, people=sheet({"ok": "Accepted", "digest": "Digest"}))
    return 0


@app.command(
    "schedule",
    epilog=example("expunge model schedule assistant --every 7d", "expunge model schedule assistant --off"),
)
def schedule(
    *,
    name: Name,
    every: Annotated[
        str | None, typer.Option("--every", metavar="PERIOD", help="How often a batch is due: 30m, 12h, 7d.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Plan no batches by themselves.")] = False,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Let 'expunge beat' plan and run this model's batches by itself, or stop it."""
    if (every is None) == (not off):
        raise InvalidInputError("give either --every PERIOD or --off", code="every-or-off")
    period = None if every is None else seconds(every)
    with open_desk(workdir) as desk:
        with desk.transaction() as ledger:
            ledger.schedule(model_id=ledger.model_named(name).id, every_seconds=period, now=desk.clock())
        value = _named(desk, name)
    answer(value, as_json=as_json, people=_sheet)


def _given(file: Path | None) -> Policy | None:
    return None if file is None else policies.parse(read_text(file))


def _default(desk: Services, dataset: DataSetView) -> Policy:
    """The policy for the models that a data set is for."""
    return default_policy(desk.store.task(dataset.id) or TASKS[0])


def _data(desk: Services, dataset: str, holdout: str | None) -> tuple[DataSetView, DataSetView | None]:
    with desk.read() as ledger:
        return ledger.dataset_named(dataset), None if holdout is None else ledger.dataset_named(holdout)


def _named(desk: Services, name: str) -> dict[str, Any]:
    with desk.read() as ledger:
        return _value(desk, ledger, ledger.model_named(name))


def _value(desk: Services, ledger: Ledger, model: ModelView) -> dict[str, Any]:
    current = next((view for view in ledger.versions(model.id) if view.state == "current"), None)
    base = ledger.base(model.id)
    chosen = policies.parse(model.policy)
    found = forecast_of(ledger, desk.store, model, now=desk.clock())
    return {
        "name": model.name,
        "id": model.id,
        "dataset": ledger.dataset(model.dataset_id).name,
        "holdout": None if model.holdout_id is None else ledger.dataset(model.holdout_id).name,
        "version": None if current is None else current.number,
        "guarantee": None if current is None else current.guarantee,
        "digest": None if current is None else current.digest,
        "path": None if current is None else current.path,
        "base": None if base is None else base.state,
        "task": chosen.task,
        "policy": chosen.name,
        "every_seconds": model.every_seconds,
        "budget": None if found is None else found.to_json(),
    }


def _version(view: VersionView) -> dict[str, Any]:
    return {
        "number": view.number,
        "id": view.id,
        "state": view.state,
        "guarantee": view.guarantee,
        "digest": view.digest,
        "path": view.path or None,
        "report_digest": view.report_digest,
        "published_at": view.published_at,
    }
