"""The Celery door: a message carries a run id and nothing else, in JSON, and its result is not kept.

The ledger is the queue; the broker only wakes a worker. A message that is lost is sent again by the
sweep, one that is delivered twice finds the run claimed. So acknowledgement is late, and the Redis
transport's redelivery (an hour by default) is pushed beyond any run only to save needless wake-ups.
"""

import structlog
from celery import Celery, Task

from compliance.errors import ComplianceError
from compliance.execution.run import run
from compliance.settings import Settings
from compliance.wiring import Services, open_services

RUN = "expunge.run"
VISIBILITY_SECONDS = 7 * 24 * 3600
_log = structlog.get_logger("expunge.worker")


def make_app(settings: Settings) -> Celery:
    """The Celery application over `settings.broker_url`, without tasks: enough to send."""
    app = Celery("expunge", broker=settings.broker_url)
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": VISIBILITY_SECONDS},
        task_default_queue="expunge",
    )
    return app


def make_worker_app(settings: Settings) -> Celery:
    """The same application with the task that executes runs."""
    app = make_app(settings)
    services = open_services(settings)

    @app.task(name=RUN, bind=True)  # type: ignore[untyped-decorator]
    def execute(_task: Task, run_id: str) -> None:
        _execute(services, run_id)

    return app


def enqueue(app: Celery, run_id: str) -> None:
    """Wake a worker for a run. Failing to is not fatal: the sweep sends what is due."""
    app.send_task(RUN, args=[run_id])


def _execute(services: Services, run_id: str) -> None:
    """Log failures by code: the sentence of an unexpected exception could carry anything."""
    try:
        run(services, run_id)
    except ComplianceError as error:
        _log.error("run failed", run=run_id, code=error.code, why=str(error))
    except Exception as error:  # noqa: BLE001 - the run is back in the queue; a traceback could show data
        _log.error("run failed", run=run_id, code="internal", kind=type(error).__name__)
