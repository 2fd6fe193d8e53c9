"""`expunge serve`, `work` and `beat`: the desk's three processes, each on its own."""

import sys
from typing import Annotated

import typer

from compliance.cli.desk import open_desk
from compliance.cli.failures import INTERNAL
from compliance.cli.journal import logging_to, recording
from compliance.cli.listening import listen
from compliance.cli.options import CURRENT, Json, Workdir, example, group
from compliance.cli.output import answer, answered, sentence
from compliance.settings import load

app = group()


@app.command("serve", epilog=example("expunge serve --workdir desk --port 8080"))
def serve(
    *,
    host: Annotated[str, typer.Option("--host", help="The address to listen on; loopback unless told otherwise.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8080,
    trusted_proxy: Annotated[
        str, typer.Option("--trusted-proxy", metavar="ADDRESS", help="Whose X-Forwarded-For is believed.")
    ] = "",
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Serve the web pages and the API, until interrupted.

    Addresses are not logged: the path of a status page opens it.
    """
    import uvicorn  # noqa: PLC0415 - the web, needed for this command alone

    from compliance.api import create_app  # noqa: PLC0415 - as above
    from compliance.web import create_pages  # noqa: PLC0415 - as above

    with open_desk(workdir) as desk, listen(host, port) as listener:
        config = uvicorn.Config(
            create_app(desk, pages=create_pages(desk)),
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted_proxy),
            forwarded_allow_ips=trusted_proxy or None,
        )
        url = f"http://{host}:{listener.getsockname()[1]}"
        answer({"url": url}, as_json=as_json, people=sentence(f"Serving on {url}; stop with Ctrl-C."))
        with answered():
            uvicorn.Server(config).run(sockets=[listener])


@app.command("work", epilog=example("expunge work --workdir desk"))
def work(*, workdir: Workdir = CURRENT, as_json: Json = False) -> int:
    """Execute batches as they fall due, until interrupted.

    One at a time. Several workers may run, on several machines: a batch is executed by one of them.
    """
    from compliance.broker import QUEUE  # noqa: PLC0415 - celery, needed for this command alone
    from compliance.workers import make_worker_app  # noqa: PLC0415 - as above

    settings = load(workdir)
    with recording(settings.workdir / "logs"), logging_to(sys.stderr):
        celery = make_worker_app(settings)
        worker = celery.Worker(
            hostname=f"{QUEUE}@%h",
            pool_cls="prefork",
            concurrency=1,
            queues=QUEUE,
            loglevel="WARNING",
            quiet=True,
            without_gossip=True,
            without_mingle=True,
        )
        answer({"queue": QUEUE, "concurrency": 1}, as_json=as_json, people=sentence("Working; stop with Ctrl-C."))
        with answered():
            worker.start()
    return INTERNAL if worker.exitcode else 0


@app.command("beat", epilog=example("expunge beat --workdir desk"))
def beat(*, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """Plan batches by schedule and keep house, until interrupted.

    Run exactly one. It sends mails, signs checkpoints, wakes workers again and destroys what is over its time.
    """
    from compliance.scheduler import LedgerScheduler, make_beat_app  # noqa: PLC0415 - celery, as above

    settings = load(workdir)
    with recording(settings.workdir / "logs"), logging_to(sys.stderr):
        celery = make_beat_app(settings)
        service = celery.Beat(scheduler=LedgerScheduler, loglevel="WARNING", quiet=True, redirect_stdouts=False)
        words = f"Looking for work every {settings.beat_seconds:g} s; stop with Ctrl-C."
        answer({"every_seconds": settings.beat_seconds}, as_json=as_json, people=sentence(words))
        with answered():
            service.run()
