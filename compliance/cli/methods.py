"""`expunge method`: what the catalogue holds."""

from typing import Annotated

import typer

from compliance.cli.options import Json, example, group
from compliance.cli.output import answer, listing
from compliance.errors import InvalidInputError
from engine.catalogue import METHODS

app = group()
_COLUMNS = {"name": "Method", "guarantee": "Guarantee", "tasks": "Tasks", "scopes": "Scopes", "needs": "Needs"}
_KEYS = ("name", "tasks", "scopes", "guarantee", "needs", "source")


@app.callback()
def methods() -> None:
    """A group, although it has one command."""


@app.command("list", epilog=example("expunge method list --scope records --json"))
def list_(
    *,
    task: Annotated[str | None, typer.Option("--task", metavar="T", help="Only methods for this family.")] = None,
    scope: Annotated[str | None, typer.Option("--scope", metavar="S", help="Only methods for this scope.")] = None,
    as_json: Json = False,
) -> None:
    """List the unlearning methods: what each is for, the guarantee class it may claim, what it needs."""
    _known("task", task, [name for spec in METHODS for name in spec.tasks])
    _known("scope", scope, [name for spec in METHODS for name in spec.scopes])
    value = [
        {key: getattr(spec, key) for key in _KEYS}
        for spec in METHODS
        if (task is None or task in spec.tasks) and (scope is None or scope in spec.scopes)
    ]
    answer(value, as_json=as_json, people=listing(_COLUMNS, empty="No method serves this."))


def _known(what: str, chosen: str | None, names: list[str]) -> None:
    if chosen is not None and chosen not in names:
        known = ", ".join(dict.fromkeys(names))
        raise InvalidInputError(f"there is no {what} '{chosen}'; use one of: {known}", code=f"unknown-{what}")
