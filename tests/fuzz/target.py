"""What a mutated input is held against: one parser or verifier, good inputs for it, and what it may say of others.

A judge returns what it accepted as authentic (None where nothing is: a parser), raises `VerificationError` when it
refuses, and must do nothing else. What it accepts has to be what a good input says.
"""

import random
import signal
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import FrameType

from audits.errors import VerificationError
from tests.fuzz.mutation import Random, mutate

LIMIT_S = 1.0  # CPU seconds that any input may take


class HangError(BaseException):
    """Over the limit; no verifier may catch it, so it is no `Exception`."""


class FaultError(AssertionError):
    """The verifier crashed, hung, or believed something that nobody signed."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing to fuzz; `share` is how many of a thousand mutations it gets, by its cost."""

    name: str
    inputs: tuple[bytes, ...]
    judge: Callable[[bytes], Hashable]
    share: int = 50
    spoil: Callable[[Random, bytes, tuple[bytes, ...]], bytes] = field(default=mutate)

    @cached_property
    def honest(self) -> frozenset[Hashable]:
        """What the good inputs say; all of them are accepted."""
        return frozenset(self.judge(one) for one in self.inputs)

    def mutated(self, seed: int, number: int) -> bytes:
        """Mutation `number` of the run `seed`: always the same one, and none of the good inputs."""
        rng = random.Random(f"{self.name} {seed} {number}")  # noqa: S311 - to be repeated, not to be secret
        found = self.spoil(rng, rng.choice(self.inputs), self.inputs)
        while found in self.inputs:  # what one mutation swapped, the next may have swapped back
            found = self.spoil(rng, rng.choice(self.inputs), self.inputs)
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How many mutations ran, how many of them were accepted, and the CPU seconds of the slowest."""

    ran: int
    accepted: int
    slowest: float


def attack(target: Target, raw: bytes, *, limit: float = LIMIT_S) -> tuple[bool, float]:
    """Whether `raw` was accepted, and in how many CPU seconds; `FaultError` says what went wrong."""
    started = time.thread_time()
    try:
        with _limited(limit):
            said = target.judge(raw)
    except VerificationError:
        accepted = False
    except HangError as fault:
        raise FaultError(_report(target, raw, f"took more than {limit} s")) from fault
    except Exception as fault:
        raise FaultError(_report(target, raw, f"raised {type(fault).__name__}: {fault}")) from fault
    else:
        accepted = True
        if said not in target.honest:
            raise FaultError(_report(target, raw, f"was accepted as {said!r:.300}"))
    return accepted, time.thread_time() - started


def run(target: Target, *, count: int, seed: int = 0, start: int = 0) -> Outcome:
    """Try mutations `start` to `start + count` of the run `seed`."""
    accepted, slowest = 0, 0.0
    for number in range(start, start + count):
        raw = target.mutated(seed, number)
        try:
            good, took = attack(target, raw)
        except FaultError as fault:
            raise FaultError(f"Mutation {number} of run {seed}: {fault}") from fault
        accepted, slowest = accepted + good, max(slowest, took)
    return Outcome(ran=count, accepted=accepted, slowest=slowest)


def _report(target: Target, raw: bytes, what: str) -> str:
    shown = repr(raw) if len(raw) <= 2000 else f"{raw[:1000]!r} ... {raw[-1000:]!r}"
    return f"{target.name} {what}; the input was {len(raw)} bytes: {shown}"


@contextmanager
def _limited(limit: float) -> Iterator[None]:
    """Interrupt what takes more than `limit` seconds of CPU, even if it would never end."""
    before = signal.signal(signal.SIGVTALRM, _hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _hang(_number: int, _frame: FrameType | None) -> None:
    raise HangError
