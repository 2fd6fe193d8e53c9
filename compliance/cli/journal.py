"""What a command leaves in its logs; it knows no desk, so that what needs none starts without one."""

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
from engine.contract import EngineError

_EXPECTED = (ComplianceError, EngineError, VerificationError, FailedError, typer.TyperException, typer.Exit)


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
