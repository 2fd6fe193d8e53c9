"""The engine as a child process: jobs in on its standard input, events out.

The child gets no `EXPUNGE_*` variable: it needs no key and no database. It ends when its standard input
closes, so it cannot outlive a worker that was killed.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self

from compliance.errors import ComplianceError, UnavailableError
from engine.contract import Evidence, Job

Progress = Callable[[Mapping[str, Any]], None]
QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONUNBUFFERED": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # a thread that spins takes the other engine's processor
}


class EngineFailedError(ComplianceError):
    """The engine refused or failed a job; its sentence is free of personal data by contract."""


class Engine(Protocol):
    """What a run needs of an engine: a process, or in tests something that only keeps the contract."""

    def run(self, job: Job, progress: Progress) -> Evidence:
        """Do one job; EngineFailedError or UnavailableError."""

    def kill(self) -> None:
        """End at once."""

    def close(self) -> None:
        """End when there is nothing left to do."""


class Engines(Protocol):
    """How a run gets its engines."""

    def __call__(self, *, log: Path, threads: int) -> Engine:
        """A new engine that writes its own log to a file."""


class EngineProcess:
    """One `python -m engine`, used for one job after the other."""

    surroundings: ClassVar[Mapping[str, str]] = QUIET

    def __init__(self, *, log: Path, threads: int) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EXPUNGE_")}
        threading_limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self._threads = threads
        self._log = log.open("ab")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment | threading_limits | dict(self.surroundings),
            text=True,
        )
        self._closing = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    def run(self, job: Job, progress: Progress) -> Evidence:
        """Send one job and wait for its evidence.

        Raises EngineFailedError with the engine's sentence, UnavailableError when the child died.
        """
        assert self._child.stdin is not None  # noqa: S101 - opened above
        assert self._child.stdout is not None  # noqa: S101 - opened above
        try:
            self._child.stdin.write(job.to_json() + "\n")
            self._child.stdin.flush()
        except OSError:
            raise self._died() from None
        for line in self._child.stdout:
            event = json.loads(line)
            if event["event"] == "progress":
                progress(event)
            elif event["event"] == "evidence":
                return Evidence.from_mapping(event["evidence"])
            elif event["event"] == "error":
                raise EngineFailedError(event["message"], code=event["code"])
        raise self._died()

    def kill(self) -> None:
        """End the child at once; a job that is under way raises UnavailableError."""
        self._child.kill()

    def close(self) -> None:
        """Close the child's standard input, which ends it, and wait."""
        with self._closing:
            if self._child.stdin is not None:
                self._child.stdin.close()
            try:
                self._child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            if self._child.stdout is not None:
                self._child.stdout.close()
            self._log.close()

    def _died(self) -> UnavailableError:
        code = self._child.wait()
        message = f"the engine process ended with code {code} in the middle of a job; the run is taken up again"
        return UnavailableError(message, code="engine-died")


class CpuEngineProcess(EngineProcess):
    """The same where no accelerator is seen, so that equal jobs make equal weights."""

    surroundings: ClassVar[Mapping[str, str]] = QUIET | {"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
