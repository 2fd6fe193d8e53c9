"""A fault before and after every persistent step of append and publish; then the ordinary path, then everything.

A child process does the work and dies at the step; nothing of it is simulated but the disk's bad luck.
`docs/crashes.md` is the table of steps, and is compared with what happens here.
"""

import errno
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from audits import checkpoint, log, tiles
from audits.disk import Files
from compliance import settings as settings_module
from compliance.errors import UnavailableError
from compliance.ledger.ledger import Ledger
from compliance.ledger.publication import Publisher
from compliance.wiring import Services, open_services, prepare
from tests.compliance.conftest import file_request
from tests.compliance.test_ledger_publication import fill

TABLE = Path(__file__).parents[2] / "docs" / "crashes.md"
FIRST, ROUNDS = 254, 2  # the second request fills the first tile


class DiskFullError(OSError):
    """No space is left."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


@dataclass
class Fault:
    """What goes wrong at which step: crash, torn, lost (two ways a power cut leaves files) or full."""

    kind: str
    at: int
    folder: Path
    round: int = 0
    steps: list[str] = field(default_factory=list)
    loose: dict[Path, bytes | None] = field(default_factory=dict)
    """Files in place that are not durable yet, and what was there before."""

    def before(self, name: str) -> None:
        """Die before the step when it is this one's turn."""
        if len(self.steps) == self.at and self.kind != "full":
            self.die()
        self.steps.append(f"{self.round + 1}: {name}")

    def is_full(self) -> bool:
        """Whether the disk has no room for what this step writes."""
        return self.kind == "full" and len(self.steps) - 1 == self.at

    def die(self) -> None:
        """The machine's part of the misfortune, and the end of the process."""
        for path, content in self.loose.items() if self.kind in {"torn", "lost"} else ():
            if self.kind == "torn":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            elif content is None:
                path.unlink()
            else:
                path.write_bytes(content)
        os._exit(9)


class BadDisk(Files):
    """A disk on which the fault happens."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def write(self, path: Path, content: bytes) -> None:
        """Write; half of it, when the disk is full or the process dies in the middle."""
        name = f"write {path.relative_to(self.fault.folder).as_posix()}"
        self.fault.before(name)
        self.fault.loose.setdefault(path, None)
        if self.fault.is_full():
            super().write(path, content[: len(content) // 2])
            raise DiskFullError
        super().write(path, content[: len(content) // 2])
        self.fault.before(f"{name}, the second half")
        super().write(path, content)

    def rename(self, source: Path, target: Path) -> None:
        """Rename, not durably."""
        self.fault.before(f"rename to {target.relative_to(self.fault.folder).as_posix()}")
        self.fault.loose.pop(source)
        self.fault.loose.setdefault(target, target.read_bytes())
        super().rename(source, target)

    def flush(self, path: Path) -> Callable[[], None]:
        """Make durable, at once."""
        self.fault.before(f"flush {path.relative_to(self.fault.folder).as_posix()}")
        self.fault.loose.pop(path)
        return lambda: None


@dataclass
class Faulty:
    """The desk's ledger, whose commits are steps too."""

    desk: Services
    fault: Fault

    def clock(self) -> datetime:
        """The desk's own time."""
        return self.desk.clock()

    @contextmanager
    def transaction(self) -> Iterator[Ledger]:
        """Dying before the commit rolls back; after it, the change stays."""
        with self.desk.transaction() as ledger:
            size = ledger.head().size
            yield ledger
            self.fault.before("commit the entry" if ledger.head().size > size else "commit the checkpoint")

    @contextmanager
    def read(self) -> Iterator[Ledger]:
        """Nothing is written here."""
        with self.desk.read() as ledger:
            yield ledger


@dataclass
class Told:
    """What the outside world was told before the process died: through a pipe, which outlives it."""

    pipe: int

    def say(self, what: str) -> None:
        """One line, at once."""
        os.write(self.pipe, what.encode() + b"\0")

    def cosign(self, signed: str, consistency: Callable[[int], list[bytes]]) -> str:
        """A witness has seen this checkpoint and will never forget it."""
        assert isinstance(consistency(FIRST), list)
        self.say(signed)
        return signed


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Memory, where there is a disk of it: these faults are our own, and a real disk only makes them slow."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own below it
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.fixture(scope="module")
def prepared(place: Path) -> Path:
    """A desk just short of its first full tile, published."""
    folder = place / "prepared"
    settings = settings_module.initialise(folder)
    prepare(settings)
    desk = open_services(settings)
    with desk.read() as ledger:
        missing = FIRST - ledger.head().size
    fill(desk, missing)
    desk.publish()
    desk.database.dispose()
    return folder


def reopened(folder: Path, *, boot: str = "first") -> Services:
    """The desk of a folder, in a given boot of its machine."""
    settings = settings_module.load(folder).model_copy(update={"database_url": f"sqlite:///{folder / 'ledger.db'}"})
    desk = open_services(settings)
    return replace(desk, publisher=replace(desk.publisher, boot=lambda: boot))


def work(folder: Path, fault: Fault, pipe: int) -> None:
    """Append and publish twice, so that a tile fills and a second level begins; tell what is acknowledged."""
    desk, told = reopened(folder), Told(pipe)
    publisher: Publisher = replace(desk.publisher, disk=BadDisk(fault), cosigner=told)
    faulty = Faulty(desk, fault)
    for number in range(ROUNDS):
        fault.round = number
        file_request(cast("Services", faulty), request_id=f"request-{number}")
        told.say(f"request-{number}")
        told.say(publisher.publish(faulty).checkpoint)
    fault.before("the end")


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code, what the world was told, and its steps when it took them all."""

    code: int
    told: list[str]
    steps: list[str]


def run(folder: Path, kind: str, at: int) -> Ended:
    """Let a child work, and die."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        fault = Fault(kind, at, folder / "log")
        try:
            work(folder, fault, writing)
            os.write(writing, b"\0".join([b"steps", *map(str.encode, fault.steps)]))
            os._exit(0)
        except UnavailableError:
            os._exit(4)
        finally:
            os._exit(5)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    told, _, steps = said.partition("steps\0")
    return Ended(os.waitstatus_to_exitcode(status), [one for one in told.split("\0") if one], steps.split("\0"))


def standing(folder: Path) -> str:
    """What a process finds that comes after: entries committed, entries signed, entries under the public checkpoint."""
    with closing(sqlite3.connect(folder / "ledger.db")) as database:
        size, signed = database.execute("SELECT size, checkpoint_size FROM log_head").fetchone()
    public = checkpoint.peek(tiles.read_checkpoint(folder / "log")).size
    return f"{size} / {signed} / {public}"


def recovered(folder: Path, told: list[str], boot: str) -> None:
    """The ordinary path once; then whatever was ever said is true, and the log verifies as a whole."""
    desk = reopened(folder, boot=boot)
    published = desk.publish()
    key = log.vkey(desk.settings.origin, desk.signers["log"].public_key)
    assert tiles.read_checkpoint(desk.publisher.folder) == published.checkpoint
    with desk.read() as ledger:
        entries = list(ledger.entries(0, ledger.head().size))
        assert ledger.head().checkpoint == published.checkpoint
        for one in told:
            if one.startswith("request-"):
                assert ledger.request(one).id == one  # acknowledged, so it is there
    assert tiles.check_folder(desk.publisher.folder, key).size == len(entries) == published.size
    whole = log.Log(origin=desk.settings.origin, entries=entries)
    for one in told:
        if not one.startswith("request-"):
            seen = checkpoint.open_checkpoint(one, key)
            assert whole.root(seen.size) == seen.root  # published, so it is a beginning of what is published now
    desk.database.dispose()


@pytest.fixture(scope="module")
def steps(prepared: Path, place: Path) -> list[str]:
    """Every step of two appends and publications without a fault."""
    folder = place / "whole"
    shutil.copytree(prepared, folder)
    ended = run(folder, "none", -1)
    assert ended.code == 0
    recovered(folder, ended.told, "first")
    return ended.steps


@pytest.mark.parametrize("kind", ["crash", "torn", "lost", "full"])
def test_nothing_said_is_lost_whatever_dies_when(prepared: Path, steps: list[str], kind: str, place: Path) -> None:
    """Killed, without power or with a full disk at a step: one ordinary publication, and everything holds."""
    ends, found = set(), []
    for at, name in enumerate(steps):
        second = name.endswith("the second half")
        if kind != "crash" and (second or (kind == "full" and "write" not in name)):
            continue
        if kind == "lost" and name.startswith("1: "):  # the second publication has every kind of step
            continue
        folder = place / f"{kind}-{at}"
        shutil.copytree(prepared, folder)
        ended = run(folder, kind, at)
        ends.add(ended.code)
        if kind == "crash":
            found.append(f"| `{name}` | {standing(folder)} |")
        recovered(folder, ended.told, "second" if kind in {"torn", "lost"} else "first")
        shutil.rmtree(folder)

    assert ends == ({4} if kind == "full" else {9})
    if kind == "crash":
        assert found == [line for line in TABLE.read_text().splitlines() if line.startswith("| `")]


def test_a_database_that_is_full_acknowledges_nothing(prepared: Path, tmp_path: Path) -> None:
    """The append raises, nothing of it stays, and once there is room the same request is taken."""
    shutil.copytree(prepared, tmp_path / "desk")
    desk = reopened(tmp_path / "desk")

    def fill_disk(connection: Any, _record: object) -> None:  # noqa: ANN401 - the DBAPI's own type
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(desk.database, "connect", fill_disk)
    with pytest.raises(OperationalError, match="full"):
        for number in range(200):
            file_request(desk, request_id=f"more-{number:03d}")
    with desk.read() as ledger:
        size = ledger.head().size
        taken = len(list(ledger.entries(0, size)))
        assert (taken, len(ledger.requests(limit=500))) == (size, size - FIRST)
    event.remove(desk.database, "connect", fill_disk)
    file_request(desk, request_id="afterwards")
    desk.database.dispose()
    recovered(tmp_path / "desk", [], "first")
