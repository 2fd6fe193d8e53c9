"""One job in several processes: the engine is the first and starts the others, which do the same work beside it.

Every process reads the same files and draws the same numbers, so all know every step. `training.accumulate` gives each
its share of a step's passes and adds up their gradients (gloo between CPUs, nccl between GPUs, through accelerate);
then all take the same step. What comes out differs from one process's result by the order of sums in float32 and by
nothing else. Only the first process writes and reports.

The others are `python -m engine.ranks`, told the job on standard input; they end when that closes, so they die with
the engine however it dies. They meet in a folder that only this user can read, where they also keep what they must
not leave behind.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, PartialState
from torch import distributed

from engine.contract import Job, Kind
from engine.errors import EngineError

READY = b"ready\n"
PATIENCE = timedelta(minutes=30)  # of one process for another; reading a large model can take minutes
END_S = 10.0  # that a process is given to end by itself
DYING_S = 3.0  # from a broken connection to a process that can be waited for
LOOPBACK = {"linux": "lo", "darwin": "lo0"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Which of how many processes, and where they meet."""

    rank: int
    processes: int
    threads: int
    meeting: str

    def environment(self) -> dict[str, str]:
        """What accelerate and torch read about it."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.rank),
            "WORLD_SIZE": str(self.processes),
            "LOCAL_WORLD_SIZE": str(self.processes),
            "MASTER_ADDR": "127.0.0.1",
            "OMP_NUM_THREADS": str(self.threads),
            "GLOO_SOCKET_IFNAME": LOOPBACK.get(sys.platform, ""),
        }


def processes() -> int:
    """How many processes work on the job of this one."""
    return int(PartialState().num_processes)


@contextlib.contextmanager
def together(job: Job, workdir: Path) -> Iterator[None]:
    """Start the other processes of a job, if it asks for any; within, a step is the work of all of them.

    Raises:
        EngineError: `bad_job` where several processes cannot serve the job, `internal` when one of them died.
    """
    if job.processes == 1:
        yield
        return
    _check(job)
    with (
        tempfile.TemporaryDirectory(prefix="expunge-") as meeting,
        _others(job, workdir, meeting) as others,
        _joined(Place(rank=0, processes=job.processes, threads=job.threads, meeting=meeting)),
    ):
        try:
            yield
        except RuntimeError as error:
            if any(_ended_badly(other) for other in others):
                raise _died() from error
            raise


def _check(job: Job) -> None:
    if job.kind not in (Kind.INITIALISE, Kind.TRAIN, Kind.UNLEARN):
        raise EngineError("bad_job", f"a job of kind {job.kind} runs in one process; set processes to 1")
    gpus = torch.cuda.device_count()
    if gpus and job.processes > gpus:
        raise EngineError("bad_job", f"processes is {job.processes}, and there are GPUs for {gpus}")


@contextlib.contextmanager
def _others(job: Job, workdir: Path, meeting: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    ranks = range(1, job.processes)
    places = [Place(rank=rank, processes=job.processes, threads=job.threads, meeting=meeting) for rank in ranks]
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(_other(place)) for place in places]
        for place, other in zip(places, others, strict=True):
            where = {"workdir": str(workdir.resolve()), "rank": place.rank, "meeting": meeting}
            _tell(other, {"job": job.to_json(), **where})
        yield others


@contextlib.contextmanager
def _other(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, **place.environment()}
    command = [sys.executable, "-m", "engine.ranks"]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)  # noqa: S603 - this very file
    try:
        yield other
    finally:
        _end(other)


def _tell(other: subprocess.Popen[bytes], what: dict[str, object]) -> None:
    """Hand over the job once the process is ready for it; until it is, its death would go unnoticed."""
    stdin, stdout = other.stdin, other.stdout
    if stdin is None or stdout is None or stdout.readline() != READY:
        raise _died()
    stdin.write(json.dumps(what).encode() + b"\n")
    stdin.flush()


def _end(other: subprocess.Popen[bytes]) -> None:
    for pipe in (other.stdin, other.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    try:
        other.wait(END_S)
    except subprocess.TimeoutExpired:
        other.kill()
        other.wait()


def _ended_badly(other: subprocess.Popen[bytes]) -> bool:
    """A killed process closes its connection, which is what we hear, a moment before it can be waited for."""
    try:
        return other.wait(DYING_S) != 0
    except subprocess.TimeoutExpired:
        return False


def _died() -> EngineError:
    return EngineError("internal", "a process of this job ended early; its log says why, or it ran out of memory")


@contextlib.contextmanager
def _joined(place: Place) -> Iterator[None]:
    """The process group, as accelerate sees it from here on; afterwards this process is alone again."""
    with _environment(place.environment()):
        _forget_state()
        on_gpu = torch.cuda.is_available()
        try:
            distributed.init_process_group(
                "nccl" if on_gpu else "gloo",
                init_method=f"file://{place.meeting}/group",
                rank=place.rank,
                world_size=place.processes,
                timeout=PATIENCE,
            )
            PartialState(cpu=not on_gpu)
            yield
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()
            _forget_state()


def _forget_state() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 - accelerate keeps a process's first state


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _main() -> None:
    out = os.dup(1)
    os.dup2(2, 1)  # standard output is the engine's protocol
    os.write(out, READY)
    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_die_with_the_engine, daemon=True).start()
    job = Job.from_json(told["job"])
    place = Place(rank=told["rank"], processes=job.processes, threads=job.threads, meeting=told["meeting"])
    try:
        with _joined(place):
            _follow(job, Path(told["workdir"]), Path(place.meeting) / str(place.rank))
    except EngineError:
        sys.exit(1)  # the first process says the same, and to somebody


def _die_with_the_engine() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _follow(job: Job, workdir: Path, scratch: Path) -> None:
    """Do what `run` does, up to the saving."""
    from engine import determinism  # noqa: PLC0415 - `run` imports the methods, and those ask this module
    from engine.catalogue import check_options  # noqa: PLC0415 - as above
    from engine.run import MAKERS, Work  # noqa: PLC0415 - as above

    scratch.mkdir()
    determinism.begin(seed=job.seed, threads=job.threads)
    options = check_options(job.kind, job.method, job.options, job.task)
    MAKERS[job.kind](Work(job=job, workdir=workdir, scratch=scratch, options=options, progress=_silent))


def _silent(_stage: str, _fraction: float, _eta_s: float | None) -> None:
    """Progress is told by the first process."""


if __name__ == "__main__":
    _main()
