"""Reading a bundle, a folder or a zip file, within limits and without believing anything in it.

Only files with known names are read, each up to its own limit; those of `LIMITS` must be there, those of `OPTIONAL`,
made for other tools, may be. Links, paths and everything else are never followed. What else lies in the bundle is
counted, so that nobody takes it for verified. A trust policy in a bundle is such a file: whoever made the report may
not also say whom to trust.
"""

import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from audits import excerpt
from audits.errors import VerificationError, require

REPORT = "report.dsse.json"
REPORT_ENTRY = "report.entry.json"
REPORT_PROOF = "report.tlog-proof"
KEY_ENTRY = "key.entry.json"
KEY_PROOF = "key.tlog-proof"
EVIDENCE = "evidence.json"
PAGE = "report.html"
LEDGER = "ledger.json"
LIMITS: Mapping[str, int] = {
    REPORT: 32 * 1024 * 1024,
    REPORT_ENTRY: 65_535,
    REPORT_PROOF: 1024 * 1024,
    KEY_ENTRY: 65_535,
    KEY_PROOF: 1024 * 1024,
    EVIDENCE: 16 * 1024 * 1024,
    PAGE: 32 * 1024 * 1024,
    LEDGER: excerpt.MAX_BYTES,
}
OPTIONAL: Mapping[str, int] = {
    "model.oms.sigstore.json": 16 * 1024 * 1024,
    "report.vsa.dsse.json": 1024 * 1024,
    "timestamp.tsr": 64 * 1024,
    "report.pdf": 64 * 1024 * 1024,
}
_KNOWN: Mapping[str, int] = {**LIMITS, **OPTIONAL}
_MOST_FILES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """The bytes of the known files (`OPTIONAL` ones where they are there), and the number of others."""

    files: Mapping[str, bytes]
    others: int
    has_policy: bool


def read(path: Path) -> Bundle:
    """The bundle at `path`; every file of `LIMITS` must be there."""
    try:
        found, names = _read_folder(path) if path.is_dir() else _read_zip(path)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as fault:
        raise VerificationError(
            "The bundle is missing or can't be read: give a bundle's folder or zip file."
        ) from fault
    missing = [name for name in LIMITS if name not in found]
    require(not missing, f"The bundle lacks {', '.join(missing)}.")
    others = [name for name in names if name not in _KNOWN]
    has_policy = any("policy" in name.lower() for name in others)
    return Bundle(files=found, others=len(others), has_policy=has_policy)


def _read_folder(path: Path) -> tuple[dict[str, bytes], list[str]]:
    names: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            names.append(entry.name)
            require(len(names) <= _MOST_FILES, f"The bundle holds more than {_MOST_FILES} files.")
    return {name: _read_file(path / name, limit) for name, limit in _KNOWN.items() if name in names}, names


def _read_file(path: Path, limit: int) -> bytes:
    require(not path.is_symlink(), f"{path.name} is a symbolic link.")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(descriptor, "rb") as file:
        require(stat.S_ISREG(os.fstat(descriptor).st_mode), f"{path.name} is not an ordinary file.")
        raw = file.read(limit + 1)
    require(len(raw) <= limit, f"{path.name} is larger than {limit} bytes.")
    return raw


def _read_zip(path: Path) -> tuple[dict[str, bytes], list[str]]:
    with zipfile.ZipFile(path) as archive:
        members = [one for one in archive.infolist() if not one.is_dir()]
        require(len(members) <= _MOST_FILES, f"The bundle holds more than {_MOST_FILES} files.")
        # A bundle may be zipped with its folder or without; two folders would be two bundles.
        folders = {one.filename.rpartition("/")[0] for one in members if one.filename.endswith(REPORT)}
        require(len(folders) == 1, "The zip file does not hold exactly one bundle.")
        prefix = f"{folder}/" if (folder := folders.pop()) else ""
        inside = [(one.filename.removeprefix(prefix), one) for one in members if one.filename.startswith(prefix)]
        names = [name for name, _ in inside]
        require(len(set(names)) == len(names), "The zip file names one file twice.")
        known = {name: one for name, one in inside if name in _KNOWN}
        return {name: _read_member(archive, one, _KNOWN[name]) for name, one in known.items()}, names


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limit: int) -> bytes:
    """The size in the directory of a zip file is a claim: read no further than the limit, whatever it says."""
    with archive.open(member) as file:
        raw = file.read(limit + 1)
    require(len(raw) <= limit, f"A file of the zip file is larger than {limit} bytes.")
    return raw
