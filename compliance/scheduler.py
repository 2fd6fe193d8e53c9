"""The beat: one schedule entry a model, read from the ledger, and the desk's housekeeping.

What is due is done here, in the beat's own process (planning needs no GPU); the broker only ever sees
run ids. Housekeeping: send again what was lost, sign a checkpoint over new entries, send notices, match
requests whose matching failed, end challenge periods, erase personal data whose time is over.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from celery import Celery
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule

from compliance import intake
from compliance.broker import enqueue, make_app
from compliance.errors import ComplianceError
from compliance.execution.closing import end_challenge
from compliance.execution.reproduction import sweep_reproductions
from compliance.ledger.lifecycle import RequestState
from compliance.notices.delivery import deliver
from compliance.notices.mailers import mailer
from compliance.planning import plan_batch
from compliance.settings import Settings
from compliance.wiring import Services, open_services

HOUSEKEEPING = "housekeeping"
MODEL = "model/"
SWEEP = 100
_log = structlog.get_logger("expunge.beat")


def make_beat_app(settings: Settings) -> Celery:
    """The Celery application for the beat; its scheduler finds the services on it."""
    app = make_app(settings)
    app.conf.update(beat_max_loop_interval=settings.beat_seconds)
    app.expunge_services = open_services(settings)
    return app


class LedgerScheduler(Scheduler):  # type: ignore[misc]
    """Celery's scheduler with entries from the ledger and local work instead of messages."""

    @property
    def services(self) -> Services:
        """The desk."""
        services: Services = self.app.expunge_services
        return services

    def setup_schedule(self) -> None:
        """Start with what the ledger says now."""
        self.refresh()

    def refresh(self) -> None:
        """One entry for each model that has a schedule, and the housekeeping."""
        with self.services.read() as ledger:
            every: dict[str, float] = {MODEL + m.id: m.every_seconds for m in ledger.models() if m.every_seconds}
        every[HOUSEKEEPING] = self.services.settings.beat_seconds
        for gone in set(self.schedule) - set(every):
            del self.schedule[gone]
        for name, seconds in every.items():
            self._set(name, schedule(timedelta(seconds=seconds)))

    def _set(self, name: str, when: schedule) -> None:
        known = self.schedule.get(name)
        if known is None:
            self.schedule[name] = self.Entry(name=name, task=name, schedule=when, app=self.app)
        elif known.schedule != when:
            known.schedule = when
            self._heap = None

    def tick(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - Celery's own signature
        """Read the models again before every tick, so that a new one needs no restart."""
        known = set(self.schedule)
        self.refresh()
        if set(self.schedule) != known:
            self._heap = None
        delay: float = super().tick(*args, **kwargs)
        return min(delay, float(self.max_interval))

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:  # noqa: ANN401, ARG002
        """Do what is due; what fails is logged by code and is due again at the next tick."""
        started = time.monotonic()
        try:
            if entry.name == HOUSEKEEPING:
                keep_house(self.services, self.app)
            else:
                plan_and_enqueue(self.services, self.app, entry.name.removeprefix(MODEL))
        except ComplianceError as error:
            _log.error("schedule failed", entry=entry.name, code=error.code, why=str(error))
        except Exception as error:  # noqa: BLE001 - the beat must go on; a traceback could show data
            _log.error("schedule failed", entry=entry.name, kind=type(error).__name__)
        _log.debug("schedule", entry=entry.name, seconds=round(time.monotonic() - started, 3))


def plan_and_enqueue(services: Services, app: Celery, model_id: str) -> str | None:
    """Plan the model's next batch unless one is open, and wake a worker; the run's id."""
    with services.transaction() as ledger:
        if ledger.open_batch(model_id) is not None:
            return None
        model = ledger.model(model_id)
        batch = plan_batch(ledger, services.store, model=model, ids=services.ids, now=services.clock())
    if batch is None:
        return None
    services.publish()
    enqueue(app, batch.run_id)
    return batch.run_id


def keep_house(services: Services, app: Celery) -> None:
    """Everything that has to happen by itself. A part that fails keeps none of the others from happening."""
    parts: tuple[Callable[[Services], object], ...] = (
        partial(_send_again, app=app),
        _match_again,
        _send_letters,
        end_challenge,
        sweep_reproductions,
        erase_closed,
        _expire,
        _sign,
    )
    for part in parts:
        name = getattr(part, "__name__", "send_again")
        try:
            part(services)
        except ComplianceError as error:
            _log.error("housekeeping failed", part=name, code=error.code, why=str(error))
        except Exception as error:  # noqa: BLE001 - a disk that fails one part must not keep the log from being signed
            _log.error("housekeeping failed", part=name, kind=type(error).__name__)


def _send_again(services: Services, *, app: Celery) -> None:
    """Wake a worker for runs whose lease ran out or whose message was lost."""
    now = services.clock()
    stale = now - timedelta(seconds=services.settings.lease_seconds)
    with services.read() as ledger:
        lost = ledger.lost_runs(now=now, queued_before=stale)
    for run_id in lost:
        enqueue(app, run_id)
        with services.transaction() as ledger:
            ledger.woken(run_id, now=now)


def _match_again(services: Services) -> None:
    with services.read() as ledger:
        unmatched = [request.id for request in ledger.requests(state=RequestState.VERIFIED, limit=SWEEP)]
    for request_id in unmatched:
        services.verified(request_id)


def _send_letters(services: Services) -> None:
    deliver(services, mailer(services.settings))


def _expire(services: Services) -> None:
    intake.expire(services, older_than=timedelta(days=services.settings.unconfirmed_days))


def _sign(services: Services) -> None:
    """Sign what was appended, and ask again the witnesses that were away."""
    with services.read() as ledger:
        head = ledger.head()
    if head.checkpoint_size < head.size or not services.witnessed(head.checkpoint):
        services.publish()


def erase_closed(services: Services) -> int:
    """Destroy the keys of requests that have been closed for long enough; how many."""
    before = services.clock() - timedelta(days=services.settings.personal_data_days)
    with services.transaction() as ledger:
        due = ledger.closed_with_data(before=before)
        for request_id in due:
            ledger.erase_personal_data(request_id=request_id, now=services.clock())
    return len(due)
