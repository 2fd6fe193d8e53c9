r"""The digest of a model: every file of its folder by name, size and content.

    digest = SHA-256 over the lines "<sha256> <size> <name>\\n", sorted by name

Names are relative POSIX paths. They are hashed too, because a digest over contents alone lets two files be swapped.
Weights, configuration, tokenizer and guard all count: each of them can bring a forgotten text back.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from audits.errors import VerificationError, require

_CHUNK = 1024 * 1024


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
