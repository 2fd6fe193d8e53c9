"""One job without a desk, and the engine's failures as the command line reports them."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compliance.cli.failures import FailedError
from compliance.cli.progress import progress
from compliance.errors import ComplianceError
from compliance.execution.process import EngineFailedError, EngineProcess
from engine.contract import Evidence, Job

DIED = "engine-died"
INTERNAL = "internal"


def alone(job: Job, *, name: str) -> Evidence:
    """Do one job in an engine of its own, with progress under `name`."""
    with (
        _engine_log() as log,
        naming_log(log),
        progress() as say,
        EngineProcess(log=log, threads=job.threads) as process,
    ):
        return process.run(job, lambda event: say(name, event))


@contextmanager
def _engine_log() -> Iterator[Path]:
    """A file for the engine's log, which stays only when the engine itself failed."""
    with tempfile.NamedTemporaryFile(prefix="expunge-engine-", suffix=".log", delete=False) as file:
        log = Path(file.name)
    try:
        yield log
    except FailedError:
        raise
    except BaseException:
        log.unlink()
        raise
    log.unlink()


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
