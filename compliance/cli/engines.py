"""The engine's failures as the command line reports them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compliance.cli.failures import FailedError
from compliance.errors import ComplianceError
from compliance.execution.process import EngineFailedError

DIED = "engine-died"
INTERNAL = "internal"


@contextmanager
def naming_log(log: Path) -> Iterator[None]:
    """Turn a crash of the engine into FailedError with the engine's own log; its refusals stay refusals."""
    try:
        yield
    except EngineFailedError as error:
        if error.code != INTERNAL:
            raise
        raise FailedError(str(error), log=log) from error
    except ComplianceError as error:
        if error.code != DIED:
            raise
        raise FailedError(str(error), log=log) from error
