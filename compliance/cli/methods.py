"""`expunge method`: what the catalogue holds."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from compliance.cli.options import Json, example, group
from compliance.cli.output import answer, listing, sheet, table
from compliance.errors import InvalidInputError
from engine.catalogue import METHODS, defaults, method, permitted

app = group()
_COLUMNS = {"name": "Method", "guarantee": "Guarantee", "tasks": "Tasks", "scopes": "Scopes", "needs": "Needs"}
_KEYS = ("name", "tasks", "scopes", "guarantee", "needs", "source")


@app.command(
    "list",
    epilog=example(
        "expunge method list --scope records --json",
        "expunge method list --given model --given forget --given retain",
    ),
)
def list_(
    *,
    task: Annotated[str | None, typer.Option("--task", metavar="T", help="Only methods for this family.")] = None,
    scope: Annotated[str | None, typer.Option("--scope", metavar="S", help="Only methods for this scope.")] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--given", metavar="NEED", help="Only methods that need nothing else; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the unlearning methods: what each is for, the guarantee class it may claim, what it needs.

    For a model that was trained elsewhere, --given says what there is: model, base, forget, retain, dictionary,
    alternatives.
    """
    _known("task", task, [name for spec in METHODS for name in spec.tasks])
    _known("scope", scope, [name for spec in METHODS for name in spec.scopes])
    for need in given or ():
        _known("need", need, [name for spec in METHODS for name in spec.needs])
    value = [
        {key: getattr(spec, key) for key in _KEYS}
        for spec in (METHODS if given is None else permitted(frozenset(given)))
        if (task is None or task in spec.tasks) and (scope is None or scope in spec.scopes)
    ]
    answer(value, as_json=as_json, people=listing(_COLUMNS, empty="No method serves this."))


@app.command("show", epilog=example("expunge method show npo", "expunge method show noisy-ft --task image"))
def show(
    *,
    name: Annotated[str, typer.Argument(metavar="METHOD", help="One of 'expunge method list'.")],
    task: Annotated[str | None, typer.Option("--task", metavar="T", help="The family of models it is for.")] = None,
    as_json: Json = False,
) -> None:
    """Show one method with every setting that --set can change, and its default.

    A learning rate without a default is chosen by the model's size; the evidence of a run says which it was.
    """
    spec = method(name)
    _known("task", task, list(spec.tasks))
    value = {key: getattr(spec, key) for key in _KEYS} | {"options": defaults("unlearn", name, task or spec.tasks[0])}
    answer(value, as_json=as_json, people=_sheet)


def _sheet(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    yield from sheet(_COLUMNS | {"source": "Source"})(value)
    rows = [{"option": name, "default": default} for name, default in value["options"].items()]
    yield table({"option": "Setting", "default": "Default"}, rows)


def _known(what: str, chosen: str | None, names: list[str]) -> None:
    if chosen is not None and chosen not in names:
        known = ", ".join(dict.fromkeys(names))
        raise InvalidInputError(f"there is no {what} '{chosen}'; use one of: {known}", code=f"unknown-{what}")
