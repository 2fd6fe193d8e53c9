"""How far the demo is: one bar with an estimate, on standard error, and none when that is not a terminal."""

import threading
import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

# Seconds on two idle cores; only their proportions matter, the estimate follows the pace of this machine.
PHASES = {
    "start": 4.0,
    "public model": 16.0,
    "DP base": 32.0,
    "model": 36.0,
    "requests": 6.0,
    "batch 1": 70.0,
    "batch 2": 36.0,
    "verify": 5.0,
}


class Journey:
    """Phases in order, each with a fraction; the estimate is elapsed time by what is left."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=1.0, left="")
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._fractions = dict.fromkeys(PHASES, 0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False)

    def reach(self, phase: str, fraction: float, text: str | None = None) -> None:
        """The phase is so far; phases before it are done."""
        with self._lock:
            for name in PHASES:
                if name == phase:
                    self._fractions[name] = max(self._fractions[name], fraction)
                    break
                self._fractions[name] = 1.0
            self._show(text or phase)

    def engine(self, name: str, event: Mapping[str, Any]) -> None:
        """Progress of a training; references go on beside and are not the bar's."""
        if name in PHASES:
            self.reach(name, float(event.get("fraction") or 0.0), f"{name}: {event.get('stage', '')}")

    def _show(self, text: str) -> None:
        done = sum(PHASES[name] * part for name, part in self._fractions.items()) / sum(PHASES.values())
        elapsed = time.monotonic() - self._begun
        left = "" if done <= 0 else f"about {elapsed * (1 - done) / done:.0f} s left"
        self._bar.update(self._task, completed=done, description=text[:34], left=left)
