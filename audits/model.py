r"""The digest of a model: every file of its folder by name, size and content.

    digest = SHA-256 over the lines "<sha256> <size> <name>\\n", sorted by name

Names are relative POSIX paths. They are hashed too, because a digest over contents alone lets two files be swapped.
Weights, configuration, tokenizer and guard all count: each of them can bring a forgotten text back. So does a file that
hides (`.git`, `.cache`): whoever serves the folder may serve from it, and nothing in it is left out.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict

from audits.errors import VerificationError, require

_CHUNK = 1024 * 1024
_SHOWN = 5


class FileDigest(TypedDict):
    """Content (SHA-256, hex) and size (bytes) of one file."""

    sha256: str
    size: int


def files(folder: Path) -> dict[str, FileDigest]:
    """Every file below `folder`, by its relative POSIX name; links and special files are refused."""
    found: dict[str, FileDigest] = {}
    try:
        for path in _walk(folder):
            name = path.relative_to(folder).as_posix()
            require(name.isprintable(), "A file name of the model has a control character.")
            found[name] = _digest_file(path)
    except (OSError, UnicodeError) as fault:
        raise VerificationError("A file of the model is missing or can't be read.") from fault
    require(found, "The model's folder holds no file.")
    return dict(sorted(found.items()))


def digest(found: Mapping[str, FileDigest]) -> str:
    """The model's digest (hex) from its files."""
    lines = (f"{one['sha256']} {one['size']} {name}\n" for name, one in sorted(found.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest_folder(folder: Path) -> str:
    """The model's digest (hex) from its folder."""
    return digest(files(folder))


def verify(folder: Path, statement: Mapping[str, Any]) -> None:
    """Refuse a folder that is not, file by file, the model after of a report: `VerificationError` says what differs.

    `statement` is the in-toto statement of a verified envelope, or its predicate (`audits.statement.parse`). What was
    not verified proves nothing: take it from `audits.verify.verify`.
    """
    reported: Mapping[str, FileDigest] = statement.get("predicate", statement)["model"]["after"]["files"]
    found = differences(files(folder), reported)
    require(not found, f"{len(found)} file(s) differ from the model reported on: {told(found)}.")


def differences(found: Mapping[str, FileDigest], expected: Mapping[str, FileDigest]) -> dict[str, str]:
    """The files that are not as expected, by name: `added`, `missing` or `changed`; none when both are alike."""
    kinds = {(True, False): "added", (False, True): "missing", (True, True): "changed"}
    return {
        name: kinds[name in found, name in expected]
        for name in sorted(found.keys() | expected)
        if found.get(name) != expected.get(name)
    }


def told(differing: Mapping[str, str]) -> str:
    """The first five differing files in words."""
    more = len(differing) - _SHOWN
    shown = ", ".join(f"{name} ({kind})" for name, kind in list(differing.items())[:_SHOWN])
    return shown + (f" and {more} more" if more > 0 else "")


def _walk(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            require(not entry.is_symlink(), "The model's folder holds a symbolic link.")
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            else:
                require(entry.is_file(follow_symlinks=False), "The model's folder holds a special file.")
                yield Path(entry.path)


def _digest_file(path: Path) -> FileDigest:
    """Open once and measure what was opened, so that the file can't change its kind in between."""
    hashed, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as file:
        require(stat.S_ISREG(os.fstat(descriptor).st_mode), "The model's folder holds a special file.")
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
            size += len(chunk)
    return FileDigest(sha256=hashed.hexdigest(), size=size)
