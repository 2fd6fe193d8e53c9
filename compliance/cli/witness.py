"""`expunge witness`: cosign other people's logs. It needs no desk, no database and no settings, only its own folder."""

import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from compliance.cli.journal import logging_to, recording
from compliance.cli.listening import listen
from compliance.cli.options import Json, example, group
from compliance.cli.output import answer, answered, listing
from compliance.errors import InvalidInputError
from compliance.witnessing.folder import WitnessFolder, open_folder

app = group()
Folder = Annotated[
    Path, typer.Option("--folder", metavar="DIR", help="The witness's own folder: its key, and what it cosigned.")
]
Name = Annotated[
    str | None,
    typer.Option("--name", metavar="NAME", help="What the witness is called, as witness.example/w1; first start only."),
]
MOST_CONNECTIONS = 256


@app.callback()
def witness() -> None:
    """A second party runs one, so that nobody can show two people two logs."""


@app.command("serve", epilog=example("expunge witness serve --folder witness --log example.org/log+9ae2e1f0+AZ5W..."))
def serve(
    *,
    folder: Folder,
    log: Annotated[
        list[str] | None,
        typer.Option("--log", metavar="VKEY", help="A log's verifier key; may be repeated, and is remembered."),
    ] = None,
    name: Name = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen on; loopback unless told otherwise.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8090,
    as_json: Json = False,
) -> None:
    """Cosign the checkpoints of logs, until interrupted.

    The first start makes the key (mode 0600) and prints its public half: the log's operator and every auditor need it.
    Never restore the folder from an older copy, for the witness would cosign what contradicts what it forgot.
    """
    opened = open_folder(folder, name=name, logs=log or ())
    if not opened.logs:
        message = "this witness knows no log; name one with --log VKEY, as a trust policy has it in its log line"
        raise InvalidInputError(message, code="no-log")
    with recording(folder), logging_to(sys.stderr), listen(host, port) as listener:
        url = f"http://{host}:{listener.getsockname()[1]}"
        answer(_value(opened) | {"url": url}, as_json=as_json, people=_people)
        import uvicorn  # noqa: PLC0415 - the web, needed for this command alone

        from compliance.witnessing.app import create_app  # noqa: PLC0415 - as above

        config = uvicorn.Config(
            create_app(opened, clock=time.time),
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            log_level=logging.WARNING,
        )
        with answered():
            uvicorn.Server(config).run(sockets=[listener])


@app.command("trust", epilog=example("expunge witness trust --folder witness --log example.org/log+9ae2e1f0+AZ5W..."))
def trust(
    *,
    folder: Folder,
    log: Annotated[list[str], typer.Option("--log", metavar="VKEY", help="A log's verifier key; may be repeated.")],
    as_json: Json = False,
) -> None:
    """Cosign another log, or the new key of one that is known; a witness that is running goes by it at once."""
    opened = open_folder(folder, logs=log)
    known = [{"log": origin, "vkey": key.format()} for origin, keys in opened.logs.items() for key in keys]
    answer(known, as_json=as_json, people=listing({"log": "Log", "vkey": "Verifier key"}, empty="No log is known."))


@app.command("key", epilog=example("expunge witness key --folder witness"))
def key(*, folder: Folder, name: Name = None, as_json: Json = False) -> None:
    """Print the witness's verifier key, made at the first time."""
    answer(_value(open_folder(folder, name=name)), as_json=as_json, people=_people)


def _value(folder: WitnessFolder) -> dict[str, str]:
    return {"name": folder.vkey.name, "vkey": folder.vkey.format()}


def _people(value: dict[str, str]) -> list[str]:
    lines = [f"Witness {value['name']}"]
    if "url" in value:
        lines = [f"Witness {value['name']} on {value['url']}; stop with Ctrl-C."]
    words = ["witness", value["name"], value["vkey"], value.get("url", "")]
    return [*lines, "For trust policies:", " ".join(word for word in words if word)]
