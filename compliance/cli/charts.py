"""Charts of results: drawn by a child process, because no process of the desk loads matplotlib or numpy."""

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from compliance.cli.failures import FailedError
from compliance.errors import InvalidInputError

DRAWING = "engine.drawing"
LIBRARY = "matplotlib"
LOG = "drawing.log"


def check_drawing() -> None:
    """Refuse at the start what could not be drawn at the end."""
    if find_spec(LIBRARY) is None:
        message = f"drawing needs {LIBRARY}; install it with: pip install 'expunge[render]'"
        raise InvalidInputError(message, code="missing-extra")


def draw(result: Path) -> list[str]:
    """Draw a series from its result file, beside it; the names of the pictures."""
    made = [result.with_suffix(f".{kind}") for kind in ("svg", "png")]
    log = result.parent / LOG
    with tempfile.TemporaryDirectory(prefix="expunge-drawing-") as folder, log.open("wb") as out:
        command = [sys.executable, "-m", DRAWING, str(result.resolve())]
        environment = {"MPLBACKEND": "agg", "MPLCONFIGDIR": folder}
        ran = subprocess.run(command, env=environment, stdout=out, stderr=out, check=False)  # noqa: S603 - our own program
    if ran.returncode != 0:
        raise FailedError("the series is complete, but it could not be drawn", log=log)
    log.unlink()
    return [path.name for path in made]
