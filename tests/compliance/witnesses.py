"""A witness as a second party runs it: a process of its own, with its own key and folder."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audits import witness
from compliance.witnesses import Witness


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """A started witness, and what it printed: url, name and vkey."""

    folder: Path
    printed: dict[str, str]
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """Where it takes checkpoints."""
        return self.printed["url"]

    def as_witness(self) -> Witness:
        """As the client has it."""
        return Witness(name="w1", key=witness.parse_vkey(self.printed["vkey"]), url=self.url)

    def as_setting(self) -> dict[str, Any]:
        """As EXPUNGE_WITNESSES has it."""
        return {"name": "w1", "vkey": self.printed["vkey"], "url": self.url}


@contextmanager
def running(folder: Path, *logs: str) -> Iterator[Running]:
    """`expunge witness serve` for the logs of these vkeys, until the block ends."""
    command = [sys.executable, "-m", "compliance.cli", "witness", "serve", "--folder", str(folder), "--port", "0"]
    command += [word for log in logs for word in ("--log", log)] + ["--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield Running(folder=folder, printed=json.loads(process.stdout.readline()), process=process)
        finally:
            process.terminate()
        assert process.stdout.read() == ""
