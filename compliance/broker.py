"""The Celery application over the broker, without tasks: enough to send. Workers and the beat share it.

A message carries a run id and nothing else, in JSON, and its result is not kept. The ledger is the queue;
the broker only wakes a worker. Acknowledgement is late, and the Redis transport's redelivery (an hour by
default) is pushed beyond any run, only to save needless wake-ups: a message delivered twice finds the run
claimed, and one that is lost is sent again by the sweep.
"""

from celery import Celery

from compliance.settings import Settings

RUN = "expunge.run"
QUEUE = "expunge"
VISIBILITY_SECONDS = 7 * 24 * 3600


def make_app(settings: Settings) -> Celery:
    """The Celery application over `settings.broker_url`."""
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
        task_default_queue=QUEUE,
    )
    return app


def enqueue(app: Celery, run_id: str) -> None:
    """Wake a worker for a run. Failing to is not fatal: the sweep sends what is due."""
    app.send_task(RUN, args=[run_id])
