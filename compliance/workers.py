"""The worker's door: the one Celery task, which executes a run by its id."""

import structlog
from celery import Celery, Task

from compliance.broker import RUN, make_app
from compliance.errors import ComplianceError
from compliance.execution.run import run
from compliance.settings import Settings
from compliance.wiring import Services, open_services

_log = structlog.get_logger("expunge.worker")


def make_worker_app(settings: Settings) -> Celery:
    """The Celery application with the task that executes runs."""
    app = make_app(settings)
    services = open_services(settings)

    @app.task(name=RUN, bind=True)  # type: ignore[untyped-decorator]
    def execute(_task: Task, run_id: str) -> None:
        _execute(services, run_id)

    return app


def _execute(services: Services, run_id: str) -> None:
    """Log failures by code: the sentence or traceback of an unexpected exception could carry anything."""
    try:
        run(services, run_id)
    except ComplianceError as error:
        _log.error("run failed", run=run_id, code=error.code, why=str(error))
    except Exception as error:  # noqa: BLE001 - the run is back in the queue already
        _log.error("run failed", run=run_id, code="internal", kind=type(error).__name__)
