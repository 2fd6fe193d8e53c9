"""Secrets of noise never leave: whoever knows one can subtract the noise, and no theorem is left (section 2).

A job knows its secrets, so it can look for them in what it is about to tell: evidence, progress, files of the model,
standard output and error, the log. They are looked for as bytes, in hexadecimal, in base64, as a number and as a list
of numbers. What was cut into pieces, encrypted or put into weights one by one is not found.
"""

import base64
import logging
import mmap
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from engine.errors import EngineError


def refuse(secrets: Sequence[bytes], told: bytes, where: str) -> None:
    """Refuse to tell what holds one of the secrets in any of its forms.

    Raises:
        EngineError: `internal`, with where it would have stood and without the secret.
    """
    if any(form in told for secret in secrets for form in forms(secret)):
        raise _leak(where)


def refuse_files(secrets: Sequence[bytes], folder: Path) -> None:
    """The same for every file below a folder, without reading any of them into memory."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or not path.stat().st_size:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as seen:
            if any(seen.find(form) >= 0 for secret in secrets for form in forms(secret)):
                raise _leak("the model's folder")


def _leak(where: str) -> EngineError:
    message = (
        f"the secret of the noise was about to be written to {where}: the theorem needs noise that nobody can "
        "subtract, so nothing was published"
    )
    return EngineError("internal", message)


def forms(secret: bytes) -> tuple[bytes, ...]:
    """The ways in which a secret is usually written down."""
    plain = base64.b64encode(secret).rstrip(b"=")
    numbers = [str(number) for number in secret]
    return (
        secret,
        secret.hex().encode(),
        secret.hex().upper().encode(),
        plain,
        plain.translate(bytes.maketrans(b"+/", b"-_")),
        repr(secret)[2:-1].encode(),
        *(str(int.from_bytes(secret, order)).encode() for order in ("big", "little")),
        ", ".join(numbers).encode(),
        ",".join(numbers).encode(),
    )


@contextmanager
def kept(secrets: Sequence[bytes]) -> Iterator[None]:
    """Within, a secret that is printed or logged ends the job before it is written; more may be added meanwhile."""
    factory = logging.getLogRecordFactory()

    def record(*args: Any, **named: Any) -> logging.LogRecord:  # noqa: ANN401 - as logging calls it
        made = factory(*args, **named)
        refuse(secrets, made.getMessage().encode(), "the log")
        return made

    out, err = (_Discreet(stream, secrets) for stream in (sys.stdout, sys.stderr))
    logging.setLogRecordFactory(record)
    try:
        with redirect_stdout(cast("TextIO", out)), redirect_stderr(cast("TextIO", err)):
            yield
    finally:
        logging.setLogRecordFactory(factory)


def discreet(progress: Callable[..., None], secrets: Sequence[bytes]) -> Callable[..., None]:
    """Progress whose words are looked at first."""

    def report(*told: object) -> None:
        refuse(secrets, repr(told).encode(), "the progress")
        progress(*told)

    return report


class _Discreet:
    """A stream that does not write secrets."""

    def __init__(self, stream: TextIO, secrets: Sequence[bytes]) -> None:
        self._stream = stream
        self._secrets = secrets

    def write(self, text: str) -> int:
        """Unless it holds one."""
        refuse(self._secrets, text.encode(errors="surrogatepass"), "standard output or error")
        return self._stream.write(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
