"""The few things that writing a log does to a disk, so that a test can stop it before and after each of them.

A file that is there is replaced by a rename, so that whoever reads along finds the old one or the new one, whole. One
that is not there is written in its place: nobody reads a tile before the checkpoint that speaks of it. Only after
`flush` or `flush_all` has returned does a file outlive a power cut; what the writer may say before that is the
writer's to argue.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Disk(Protocol):
    """File operations; each raises `OSError` when it can't be done, a full disk included."""

    def write(self, path: Path, content: bytes) -> None:
        """Create or replace the file with `content`."""

    def rename(self, source: Path, target: Path) -> None:
        """Let `source` take the place of `target` at once."""

    def flush(self, path: Path) -> Callable[[], None]:
        """Begin to make one file durable; the answer waits until it is."""

    def flush_all(self) -> None:
        """Make everything durable that was written or renamed before."""


class Files:
    """The machine's own disk."""

    def write(self, path: Path, content: bytes) -> None:
        """Write without a buffer: all bytes are the system's when this returns."""
        with path.open("wb", buffering=0) as file:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]

    def rename(self, source: Path, target: Path) -> None:
        """One system call, all or nothing."""
        source.replace(target)

    def flush(self, path: Path) -> Callable[[], None]:
        """fsync(2), for which the device begins to write at once: the caller hashes meanwhile."""
        descriptor = os.open(path, os.O_RDONLY)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

        def wait() -> None:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        return wait

    def flush_all(self) -> None:
        """sync(2), which waits on Linux. One call instead of thousands, and it reaches the folders too."""
        os.sync()


def put(disk: Disk, path: Path, content: bytes) -> bool:
    """See that the file holds `content`; whether it had to be written. Not yet durable."""
    if _holds(path, content):
        return False
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        disk.write(path, content)
        return True
    temporary = path.with_name(f".{path.name}.tmp")
    disk.write(temporary, content)
    disk.rename(temporary, path)
    return True


def _holds(path: Path, content: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(content) + 1) == content
    except OSError:
        return False
