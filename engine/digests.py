r"""Digests that stand for models, code and settings in evidence and in its cache. Standard library only.

A model's digest is SHA-256 over the lines `sha256 size name\n`, sorted by name, of every file below the folder:
weights, configuration, tokenizer, guard. A symbolic link is refused, because what it points to can change after the
digest was taken.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

from engine.contract import FileDigest, canonical
from engine.errors import EngineError


def model_files(folder: Path) -> dict[str, FileDigest]:
    """Digest and size of every file below `folder`, by POSIX path relative to it, sorted."""
    files = {}
    for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise EngineError("bad_model", f"the model folder holds a symbolic link, {name}; copy the file instead")
        if path.is_file():
            files[name] = FileDigest(sha256=file_digest(path), size=path.stat().st_size)
    return files


def model_digest(files: dict[str, FileDigest]) -> str:
    """One digest (hex) for all files of a model."""
    lines = (f"{file.sha256} {file.size} {name}\n" for name, file in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def code_digest() -> str:
    """SHA-256 (hex) over every Python file of the engine, so that evidence says which code produced it."""
    root = Path(__file__).parent
    hasher = hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        hasher.update(f"{file_digest(path)} {path.relative_to(root).as_posix()}\n".encode())
    return hasher.hexdigest()


def config_digest(settings: Any) -> str:  # noqa: ANN401 - any JSON value
    """SHA-256 (hex) of settings in canonical form."""
    return hashlib.sha256(canonical(settings).encode()).hexdigest()
