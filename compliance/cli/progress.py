"""Progress with an estimate, on standard error, and only when that is a terminal."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

Say = Callable[[str, Mapping[str, Any]], None]
POLL_SECONDS = 1.0


class _Left(ProgressColumn):
    """The engine's own estimate of the time that is left."""

    def render(self, task: Task) -> Text:
        eta = task.fields.get("eta_s")
        return Text("" if eta is None else f"{timedelta(seconds=round(eta))} left")


@contextmanager
def progress() -> Iterator[Say]:
    """A function that shows how far a named piece of work is; it does nothing when nobody watches."""
    if not sys.stderr.isatty():
        yield _silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), _Left())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=1.0)

        def say(name: str, event: Mapping[str, Any]) -> None:
            words = " · ".join(str(part) for part in (name, event.get("rung"), event.get("stage")) if part)
            bars.update(task, description=words, completed=event.get("fraction") or 0.0, eta_s=event.get("eta_s"))

        yield say


@contextmanager
def following(read: Callable[[], Mapping[str, Any]], name: str) -> Iterator[None]:
    """Show, beside the caller's work, the progress that `read` finds; it stops with the block."""
    if not sys.stderr.isatty():
        yield
        return
    stop = threading.Event()
    with progress() as say:

        def watch() -> None:
            while not stop.wait(POLL_SECONDS):
                with suppress(Exception):  # a busy database costs one look, and must not print over the bar
                    say(name, read())

        watcher = threading.Thread(target=watch, name="progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()


def _silent(_name: str, _event: Mapping[str, Any]) -> None:
    """Nobody watches."""
