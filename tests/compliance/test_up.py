"""`expunge up`: what it refuses before it starts anything."""

import fcntl
from pathlib import Path

import pytest

from compliance import settings as settings_module
from compliance.demo.serve import up
from compliance.errors import ConflictError


def test_one_desk_runs_in_a_folder(tmp_path: Path) -> None:
    """A second start beside the first is refused, before it changes the settings of the first."""
    settings = settings_module.initialise(tmp_path / "desk")
    before = (settings.workdir / settings_module.FILE_NAME).read_bytes()

    with (settings.workdir / ".up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConflictError, match="runs in this folder already"):
            up(settings.workdir, 8080)

    assert (settings.workdir / settings_module.FILE_NAME).read_bytes() == before
    assert not (settings.workdir / "keys").exists()
