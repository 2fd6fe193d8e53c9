"""Opening the desk of a work folder for one command."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import structlog
import typer

from audits.errors import VerificationError
from compliance.cli.failures import FailedError, record
from compliance.errors import ComplianceError
from compliance.settings import load
from compliance.wiring import Services, open_services
from engine.contract import EngineError

ACTOR = "operator"  # who decided, as the log has it: a role, never a person's name
_EXPECTED = (ComplianceError, EngineError, VerificationError, FailedError, typer.TyperException, typer.Exit)


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


@contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Turn unexpected exceptions into FailedError, with the log in `folder`."""
    try:
        yield
    except _EXPECTED:
        raise
    except Exception as error:
        message = f"internal error ({type(error).__name__})"
        raise FailedError(message, log=record(error, folder=folder)) from error


@contextmanager
def logging_to(file: TextIO) -> Iterator[None]:
    """Program logs as JSON lines in `file`: standard output belongs to the answer, where structlog would print."""
    before = structlog.get_config()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
