"""How far the demo is: one bar with an estimate, on standard error, and none when that is not a terminal."""

import threading
import time
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn


class Journey:
    """Phases in order with how long they take, each with a fraction; the estimate is elapsed time by what is left."""

    def __init__(self, phases: Mapping[str, float]) -> None:
        self._phases = phases
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
        self._fractions = dict.fromkeys(phases, 0.0)

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
            for name in self._phases:
                if name == phase:
                    self._fractions[name] = max(self._fractions[name], fraction)
                    break
                self._fractions[name] = 1.0
            self._show(text or phase)

    def engine(self, name: str, event: Mapping[str, Any]) -> None:
        """Progress of a training; references go on beside and are not the bar's."""
        if name in self._phases:
            self.reach(name, float(event.get("fraction") or 0.0), f"{name}: {event.get('stage', '')}")

    def _show(self, text: str) -> None:
        done = sum(self._phases[name] * part for name, part in self._fractions.items()) / sum(self._phases.values())
        elapsed = time.monotonic() - self._begun
        left = "" if done <= 0 else f"about {elapsed * (1 - done) / done:.0f} s left"
        self._bar.update(self._task, completed=done, description=text[:34], left=left)
