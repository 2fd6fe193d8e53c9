"""From the shell to a command, and from whatever comes back to an exit code and at most one line."""

import sys
from collections.abc import Sequence

import typer

from audits.errors import VerificationError
from compliance.cli.commands import root
from compliance.cli.failures import INTERNAL, FailedError, record
from compliance.errors import ComplianceError
from engine.contract import EngineError

NAME = "expunge"
BAD_INPUT, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; the process's own arguments when none are given."""
    try:
        code = root().main(arguments, prog_name=NAME, standalone_mode=False)
    except typer.TyperException as error:
        return _end(BAD_INPUT, f"{error.format_message()} {_hint(error)}")
    except (ComplianceError, EngineError, VerificationError) as error:
        return _end(BAD_INPUT, str(error))
    except FailedError as error:
        return _end(INTERNAL, f"{error}; its log is {error.log}")
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - nothing but one line may reach the terminal
        return _end(INTERNAL, f"internal error ({type(error).__name__}); its log is {record(error, folder=None)}")
    return code if isinstance(code, int) else 0


def _hint(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"See '{NAME if context is None else context.command_path} --help'."


def _end(code: int, message: str) -> int:
    """One line, whatever a library put into the message."""
    sys.stderr.write(f"{NAME}: {' '.join(message.split())}\n")
    return code
