"""Keeping a claim alive while the engine works, and noticing when it was lost."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self

from compliance.errors import ConflictError
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import Claim


class Beat(Protocol):
    """One heartbeat in a transaction of its own; False when the claim is not ours any more."""

    def __call__(self, claim: Claim, progress: Mapping[str, Any]) -> bool:
        """Prolong the lease and note the progress."""


class Lease:
    """Beats every `seconds` in a thread; `on_lost` is called once when another worker took over."""

    def __init__(self, claim: Claim, beat: Beat, *, seconds: float, on_lost: Callable[[], None]) -> None:
        self.claim = claim
        self._beat = beat
        self._seconds = seconds
        self._on_lost = on_lost
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._progress: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._work, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def note(self, progress: Mapping[str, Any]) -> None:
        """Remember how far the engine is; the next beat writes it."""
        self._progress = {key: progress.get(key) for key in ("rung", "stage", "fraction", "eta_s")}

    def check(self) -> None:
        """ConflictError when the claim was lost."""
        if self._lost.is_set():
            message = "this run was taken over by another worker; nothing was written"
            raise ConflictError(message, code="claim-superseded")

    def _work(self) -> None:
        while not self._stop.wait(self._seconds):
            # A database that is away for a moment must not end the beats. If it stays away the lease runs out, and
            # the ledger refuses what this claim writes later.
            mine = True
            with contextlib.suppress(Exception):
                mine = self._beat(self.claim, self._progress)
            if not mine:
                self._lost.set()
                self._on_lost()
                return


def beat_in(transaction: Callable[[], Any], clock: Callable[[], datetime], lease_seconds: float) -> Beat:
    """A beat that writes through the ledger."""

    def beat(claim: Claim, progress: Mapping[str, Any]) -> bool:
        with transaction() as ledger:
            ledger_: Ledger = ledger
            return ledger_.heartbeat(
                claim, lease=timedelta(seconds=lease_seconds), progress=dict(progress), now=clock()
            )

    return beat
