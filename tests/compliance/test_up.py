"""`expunge up`: what it refuses before it starts anything."""

import fcntl
import socket
from pathlib import Path

import pytest

from compliance import settings as settings_module
from compliance.demo.serve import up
from compliance.errors import ConflictError
from tests.compliance.terminal import refusal, run


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


def test_a_port_that_somebody_has_is_refused(tmp_path: Path) -> None:
    """Nothing is started, and no other program's page is taken for the desk's."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "choose another with --port" in refusal(run("up", "--workdir", tmp_path / "desk", "--port", port))
    assert not (tmp_path / "desk").exists()
