"""Opening the desk of a work folder for one command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compliance.cli.journal import logging_to, recording
from compliance.settings import load
from compliance.wiring import Services, open_services

ACTOR = "operator"  # who decided, as the log has it: a role, never a person's name


@contextmanager
def open_desk(workdir: Path) -> Iterator[Services]:
    """The desk of `workdir`; its `logs` folder gets the program's log, and where what fails unexpectedly happened."""
    services = open_services(load(workdir))
    logs = services.settings.workdir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with recording(logs), (logs / "desk.log").open("a", encoding="utf-8") as file, logging_to(file):
        try:
            yield services
        finally:
            services.database.dispose()
