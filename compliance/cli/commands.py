"""The table of commands. A command's module is imported when the command is called, so that help is quick."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

ABOUT = "An erasure desk for machine-learning models: requests in, unlearning done, signed evidence out."


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a command comes from: the `app` of a module, as a group or as one command of it."""

    module: str
    help: str
    alone: bool = False


COMMANDS: dict[str, Source] = {
    "demo": Source(module="embedded", help="Go the whole path once, with fictitious people.", alone=True),
    "up": Source(module="embedded", help="Start the whole desk in one work folder, until interrupted.", alone=True),
    "serve": Source(module="servers", help="Serve the web pages and the API, until interrupted.", alone=True),
    "work": Source(module="servers", help="Execute batches as they fall due, until interrupted.", alone=True),
    "beat": Source(module="servers", help="Plan batches by schedule and keep house, until interrupted.", alone=True),
    "db": Source(module="database", help="The database: migrate it, check it."),
    "dataset": Source(module="datasets", help="Data sets: what models were trained on."),
    "model": Source(module="models", help="Models: register, train, list, schedule."),
    "request": Source(module="requests", help="Removal requests: file, follow, decide."),
    "batch": Source(module="batches", help="Batches: plan, run, look into."),
    "method": Source(module="methods", help="Unlearning methods and what they may claim."),
    "unlearn": Source(
        module="unlearning", help="Unlearn a forget set from a model folder; no desk is needed.", alone=True
    ),
    "evaluate": Source(
        module="unlearning", help="Measure a model folder with one suite; no desk is needed.", alone=True
    ),
    "series": Source(module="series", help="Unlearn in four steps, measure and draw; no desk is needed.", alone=True),
    "audit": Source(module="shadows", help="Attack models example by example with shadow models; no desk is needed."),
    "forget-set": Source(module="forget_sets", help="Forget sets to test methods with; no desk is needed."),
    "report": Source(module="reports", help="Signed reports: read, export, verify."),
    "receipt": Source(module="receipts", help="Receipts of requests: verify."),
    "log": Source(module="log", help="The tamper-evident log: checkpoint, prove, verify, export."),
    "witness": Source(module="witness", help="Cosign the checkpoints of logs independently; no desk is needed."),
    "keys": Source(module="keys", help="Keys and the trust policy: list, register, rotate, revoke."),
}


class Commands(TyperGroup):
    """A group that lists its commands from the table and imports the one that is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - the types are private to typer
        """The name, the imported command and its arguments."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(name or ""), rest


def root() -> TyperGroup:
    """`expunge` itself."""
    listed = {name: TyperCommand(name, help=source.help) for name, source in COMMANDS.items()}
    return Commands(name="expunge", help=ABOUT, commands=dict(listed), rich_markup_mode=None)


def load(name: str) -> TyperCommand | TyperGroup:
    """The command `name` with everything below it."""
    source = COMMANDS[name]
    app: typer.Typer = import_module(f"compliance.cli.{source.module}").app
    group = get_group(app)
    if source.alone:
        command = group.commands[name]
        assert isinstance(command, TyperCommand)  # noqa: S101 - what typer makes of a function
        return command
    group.name, group.help = name, source.help
    return group
