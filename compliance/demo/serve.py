"""`expunge up`: the desk on the embedded default, until it is interrupted."""

import fcntl
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compliance import settings as settings_module
from compliance.demo.stack import Stack, free_port
from compliance.errors import ConflictError
from compliance.settings import Settings
from compliance.wiring import prepare

POLL_SECONDS = 1.0


def up(workdir: Path, port: int) -> int:
    """Start everything in `workdir` and say where it is; 0 after an interrupt. ConflictError when it runs there."""
    settings = settings_module.initialise(workdir)
    with _alone(settings.workdir):
        return _run(settings, workdir, port)


def _run(settings: Settings, workdir: Path, port: int) -> int:
    broker_port = free_port()
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


@contextmanager
def _alone(workdir: Path) -> Iterator[None]:
    """One desk a folder: a second one would change the settings of the first, and write to the same queue's files."""
    with (workdir / ".up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = "a desk runs in this folder already; stop it first, or take another one with --workdir"
            raise ConflictError(message, code="runs-already") from None
        yield


def _welcome(workdir: Path, url: str) -> str:
    return (
        f"The form for the public:  {url}/\n"
        f"The operator's pages:     {url}/desk   (token: EXPUNGE_OPERATOR_TOKEN in {workdir}/settings.env)\n"
        f"Mails:                    {workdir}/outbox/\n"
        "Stop with Ctrl-C.\n"
    )
