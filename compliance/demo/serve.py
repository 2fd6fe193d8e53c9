"""`expunge up`: the desk on the embedded default, until it is interrupted."""

import signal
import sys
import threading
from pathlib import Path

from compliance import settings as settings_module
from compliance.demo.stack import Stack, free_port
from compliance.wiring import prepare

POLL_SECONDS = 1.0


def up(workdir: Path, port: int) -> int:
    """Start everything in `workdir` and say where it is; 0 after an interrupt."""
    broker_port = free_port()
    settings = settings_module.initialise(workdir)
    settings = settings.model_copy(
        update={"broker_url": f"redis://127.0.0.1:{broker_port}/0", "public_url": f"http://127.0.0.1:{port}"}
    )
    settings_module.remember(settings, broker_url=settings.broker_url, public_url=settings.public_url)
    prepare(settings)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: ended.set())
    with Stack(settings, web_port=port, broker_port=broker_port) as stack:
        stack.start_workers()
        sys.stderr.write(_welcome(workdir, settings.public_url))
        while not ended.wait(POLL_SECONDS):
            stack.check()
    return 0


def _welcome(workdir: Path, url: str) -> str:
    return (
        f"The form for the public:  {url}/\n"
        f"The operator's pages:     {url}/desk   (token: EXPUNGE_OPERATOR_TOKEN in {workdir}/settings.env)\n"
        f"Mails:                    {workdir}/outbox/\n"
        "Stop with Ctrl-C.\n"
    )
