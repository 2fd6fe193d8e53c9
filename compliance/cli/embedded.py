"""`expunge demo` and `expunge up`: the whole desk in one work folder, on the embedded default."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from compliance.cli.journal import logging_to, recording
from compliance.cli.listening import listen
from compliance.cli.options import CURRENT, Json, Workdir, example, group
from compliance.cli.output import answer, answered, sentence

app = group()


class Task(StrEnum):
    """What kind of model the demo is about."""

    TEXT = "text"
    IMAGE = "image"
    DOMAIN = "domain"


@app.command("demo", epilog=example("expunge demo --workdir demo", "expunge demo --task image"))
def demo(
    *,
    task: Annotated[Task, typer.Option("--task", help="What kind of model it is about.")] = Task.TEXT,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> int:
    """Go the whole path once, with fictitious people.

    Train, file, confirm, unlearn, publish, verify; on made-up texts, or on 5,000 real handwritten digits. Needs a
    few minutes and no network. Leaves DIR/bundles/VERSION/ and DIR/trust/tlog-policy.
    """
    from compliance.demo.run import demo as run_demo  # noqa: PLC0415 - the demo alone needs what it imports

    with recording(workdir / "logs"), logging_to(sys.stderr):
        return run_demo(workdir, task=task.value, json_output=as_json)


@app.command("up", epilog=example("expunge up --workdir demo --port 8080"))
def up(
    *,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Where the pages are, on loopback.")] = 8080,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> int:
    """Start the whole desk in one work folder, until interrupted.

    Web, API, worker, scheduler, a broker and a witness, on loopback. A new folder gets fresh secrets (settings.env,
    mode 0600) and an empty desk.
    """
    from compliance.demo.serve import up as run_up  # noqa: PLC0415 - the embedded servers, as above

    listen("127.0.0.1", port).close()  # another program's answers there would be taken for the desk's
    url = f"http://127.0.0.1:{port}"
    answer({"url": url}, as_json=as_json, people=sentence(f"The desk will be at {url}; stop with Ctrl-C."))
    with recording(workdir / "logs"), logging_to(sys.stderr), answered():
        return run_up(workdir, port)
