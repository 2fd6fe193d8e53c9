"""Internal errors: where they happened goes to a log, and never what they said.

The message of an unexpected exception can quote anything, a database error even the row. So a log entry holds
the kinds of exceptions and the frames, without messages and without local variables.
"""

import os
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

FILE_NAME = "cli.log"
INTERNAL = 3


class FailedError(Exception):
    """An internal error that has been recorded in the file `log`."""

    def __init__(self, message: str, *, log: Path) -> None:
        super().__init__(message)
        self.log = log


def record(error: BaseException, *, folder: Path | None) -> Path:
    """Append where `error` happened to the log in `folder`, or to a new temporary file; the log's path."""
    path = _log_file(folder)
    with path.open("a", encoding="utf-8") as out:
        out.write("\n".join([f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", *_lines(error)]) + "\n")
    return path


def _log_file(folder: Path | None) -> Path:
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FILE_NAME).touch(mode=0o600)
        except OSError:  # a full or read-only work folder must not hide the error that is being recorded
            folder = None
    if folder is not None:
        return folder / FILE_NAME
    descriptor, name = tempfile.mkstemp(prefix="expunge-", suffix=".log")
    os.close(descriptor)
    return Path(name)


def _lines(error: BaseException | None) -> list[str]:
    lines: list[str] = []
    while error is not None:
        lines.append(f"{type(error).__module__}.{type(error).__qualname__}")
        frames = traceback.extract_tb(error.__traceback__)
        lines += [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        error = error.__cause__ or error.__context__
    return lines
