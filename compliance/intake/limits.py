"""How often one caller may do something: sliding windows in the memory of this process.

Per process on purpose: it needs no store that could fail, and several processes only multiply the limits by
their number. What guards a secret (tries at a code, codes of a request) is counted in the database instead.
Keys are kept as keyed hashes under a key of this process, and only as long as the window.
"""

import hashlib
import secrets
import threading
from collections import deque
from datetime import datetime, timedelta

from compliance.errors import UnavailableError

_SWEEP_AT = 10_000
HOUR = timedelta(hours=1)


class BusyError(UnavailableError):
    """Too many of these from one caller; `retry_after` says when it is worth trying again."""

    def __init__(self, message: str, *, code: str, retry_after: timedelta) -> None:
        """Keep the time to wait beside the sentence."""
        super().__init__(message, code=code)
        self.retry_after = retry_after


class Limiter:
    """At most `most` events for a key in `window`; zero or less switches it off."""

    def __init__(self, *, most: int, window: timedelta) -> None:
        """Count nothing yet."""
        self._most = most
        self._window = window
        self._pepper = secrets.token_bytes(32)
        self._seen: dict[bytes, deque[datetime]] = {}
        self._lock = threading.Lock()

    def wait(self, key: str, now: datetime) -> timedelta | None:
        """None when allowed, and then counted; else how long to wait. A refusal is not counted."""
        if self._most <= 0:
            return None
        name = hashlib.blake2b(key.encode(), key=self._pepper, digest_size=16).digest()
        with self._lock:
            self._sweep(now)
            times = self._seen.setdefault(name, deque())
            self._forget(times, now)
            if len(times) >= self._most:
                return times[0] + self._window - now
            times.append(now)
            return None

    def _forget(self, times: deque[datetime], now: datetime) -> None:
        while times and times[0] <= now - self._window:
            times.popleft()

    def _sweep(self, now: datetime) -> None:
        # Without this, an attacker with many addresses fills the memory of the process.
        if len(self._seen) < _SWEEP_AT:
            return
        for name, times in list(self._seen.items()):
            self._forget(times, now)
            if not times:
                del self._seen[name]


class Gatekeeper:
    """The limits of one door.

    The caller's address is the socket's, or what a proxy says that the server was told to trust (uvicorn's
    `--forwarded-allow-ips`); a header is never believed here.
    """

    def __init__(self, *, submissions_per_hour: int) -> None:
        """`submissions_per_hour` of one address; zero switches every limit of the door off."""
        on = int(submissions_per_hour > 0)
        self._filing = Limiter(most=submissions_per_hour, window=HOUR)
        self._mailbox = Limiter(most=6 * on, window=HOUR)
        self._tries = Limiter(most=60 * on, window=HOUR)
        self._login = Limiter(most=10 * on, window=timedelta(minutes=10))

    def filing(self, address: str, now: datetime) -> None:
        """A new request from this address."""
        self._ask(self._filing, address, now)

    def mailbox(self, email: str, now: datetime) -> None:
        """A new mail to this address: nobody can be buried in our codes."""
        self._ask(self._mailbox, email.lower(), now)

    def code(self, address: str, now: datetime) -> None:
        """A try at a code, or asking for a new one."""
        self._ask(self._tries, address, now)

    def login(self, address: str, now: datetime) -> None:
        """A try at the operator's token."""
        self._ask(self._login, address, now)

    @staticmethod
    def _ask(limiter: Limiter, key: str, now: datetime) -> None:
        wait = limiter.wait(key, now)
        if wait is not None:
            minutes = max(1, -(-int(wait.total_seconds()) // 60))
            message = f"too many of these at once; please try again in {minutes} minutes"
            raise BusyError(message, code="too-many-requests", retry_after=wait)
