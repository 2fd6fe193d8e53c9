"""One run of the demo on a very small model, shared by the tests that look at what it leaves behind."""

import contextlib
import io
import json
import socket
import threading
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from compliance import settings as settings_module
from compliance.demo import run as demo_module
from compliance.demo.corpus import Person, write_corpus
from compliance.demo.run import demo
from compliance.demo.stories import TEXT, Scale

CUSTOMERS = 24
TINY_POLICY = """
name = "tiny"
ladder = ["npo", "retrain"]
challenge_days = 30
[training]
epochs = 1
[methods.npo]
steps = 2
[[gate]]
metric = "verbmem_f"
direction = "at_most"
margin = 0.3
[[gate]]
metric = "privleak_auc"
direction = "within"
margin = 0.5
"""
TINY_MODEL = {"epochs": 1, "hidden": 32, "layers": 1, "heads": 2, "intermediate": 64}


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedDemo:
    """What the demo printed, where it ran, who left, and what went over the broker."""

    result: dict[str, Any]
    workdir: Path
    leaving: tuple[Person, ...]
    traffic: str


class Tap(threading.Thread):
    """Everything the broker is told, from its own MONITOR, from the moment its port is known."""

    def __init__(self, workdir: Path) -> None:
        super().__init__(daemon=True)
        self.heard = bytearray()
        self._workdir = workdir

    def run(self) -> None:
        """Wait for the work folder's settings, then for the broker, then listen until it ends."""
        while not (self._workdir / settings_module.FILE_NAME).exists():
            time.sleep(0.05)
        port = urlsplit(settings_module.load(self._workdir).broker_url).port
        with contextlib.suppress(ConnectionResetError), self._connected(port) as broker:
            broker.sendall(b"MONITOR\r\n")
            while chunk := broker.recv(1 << 16):
                self.heard += chunk

    @staticmethod
    def _connected(port: int | None) -> socket.socket:
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port or 0))
            except ConnectionRefusedError:
                time.sleep(0.05)


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> FinishedDemo:
    """The demo, finished: about a minute."""
    folder = tmp_path_factory.mktemp("demo")
    tap = Tap(folder / "work")
    tap.start()
    scale = Scale(customers=CUSTOMERS, policy=TINY_POLICY, initialise=TINY_MODEL)
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = demo(folder / "work", task="text", json_output=True, scale=scale)
    assert code == 0, "the demo said no"
    people = write_corpus(folder / "again", seed=demo_module.SEED, customers=CUSTOMERS).people
    return FinishedDemo(
        result=json.loads(printed.getvalue()),
        workdir=folder / "work",
        leaving=people[: TEXT.by_agent + TEXT.by_form],
        traffic=tap.heard.decode(errors="replace"),
    )
