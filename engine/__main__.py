"""`python -m engine`: a JSON job a line on standard input, JSON events a line on standard output.

The process ends when its standard input closes, also in the middle of a job: a worker that dies leaves no orphan
that goes on training. Standard output belongs to the protocol alone; whatever a library prints goes to standard
error. Messages hold no personal data.
"""

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from engine.contract import Job
from engine.errors import EngineError

PROTOCOL = 1
INTERVAL_S = 0.5  # between two progress events of one stage

Emit = Callable[[dict[str, Any]], None]


def main() -> None:
    """Serve jobs until standard input closes."""
    emit = _protocol_output()
    jobs: queue.Queue[str] = queue.Queue()
    lines = open(0, encoding="utf-8", errors="replace")  # noqa: SIM115 - open until the process ends
    threading.Thread(target=_read, args=(lines, jobs), daemon=True).start()
    emit({"event": "ready", "protocol": PROTOCOL})
    number = 0
    while True:
        emit(_serve(jobs.get(), number, emit))
        number += 1


def _protocol_output() -> Emit:
    """Keep the real standard output for events and point descriptor 1 at standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event: dict[str, Any]) -> None:
        out.write(json.dumps(event, allow_nan=False) + "\n")
        out.flush()

    return emit


def _read(lines: TextIO, jobs: queue.Queue[str]) -> None:
    for line in lines:
        if line.strip():
            jobs.put(line)
    os._exit(0)


def _serve(line: str, number: int, emit: Emit) -> dict[str, Any]:
    try:
        job = Job.from_json(line)
        from engine.run import run  # noqa: PLC0415 - a job that is wrong is refused before torch is loaded

        evidence = run(job, Path.cwd(), _reporter(number, emit))
        return {"event": "evidence", "job": number, "evidence": evidence.to_mapping()}
    except EngineError as error:
        return {"event": "error", "job": number, "code": error.code, "message": error.message}
    except Exception as error:  # noqa: BLE001 - one job's fault must not end the process
        _log(error)
        return {
            "event": "error",
            "job": number,
            "code": "internal",
            "message": f"the engine failed with {type(error).__name__}",
        }


def _log(error: Exception) -> None:
    """Where it failed, without the message: that may quote data."""
    frames = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    print(f"internal error {type(error).__name__} at {' < '.join(reversed(frames))}", file=sys.stderr, flush=True)  # noqa: T201 - the log


def _reporter(number: int, emit: Emit) -> Callable[[str, float, float | None], None]:
    last: dict[str, float] = {}

    def report(stage: str, fraction: float, eta_s: float | None) -> None:
        now = time.monotonic()
        if fraction < 1 and now - last.get(stage, -INTERVAL_S) < INTERVAL_S:
            return
        last[stage] = now
        emit({"event": "progress", "job": number, "stage": stage, "fraction": round(fraction, 4), "eta_s": eta_s})

    return report


if __name__ == "__main__":
    main()
