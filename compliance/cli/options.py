"""The options that commands share, and how their help is laid out."""

from pathlib import Path
from typing import Annotated

import typer

CURRENT = Path()

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value, and nothing else.")]
Workdir = Annotated[
    Path,
    typer.Option(
        "--workdir",
        envvar="EXPUNGE_WORKDIR",
        metavar="DIR",
        show_default="the current folder",
        help="The desk's work folder.",
    ),
]
InFile = Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)]
TrustPolicy = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Whom to trust (C2SP tlog-policy), from somewhere else than what is verified.",
    ),
]
ModelDir = Annotated[Path, typer.Option("--model", metavar="DIR", exists=True, file_okay=False, help="A model folder.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option; may be repeated.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The seed of every random choice.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="How many processor threads the engine may use.")]


def group() -> typer.Typer:
    """An empty group of commands: plain help, no completion scripts, no exception boxes."""
    return typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)


def example(*lines: str) -> str:
    """The end of a command's help: commands to copy, never wrapped."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
