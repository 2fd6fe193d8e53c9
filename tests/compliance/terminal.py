"""A terminal for tests: command lines in this process, with what they print and their exit code."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from compliance.cli import main
from compliance.wiring import Services


@dataclass(frozen=True, kw_only=True, slots=True)
class Ran:
    """What came of a command line."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:  # noqa: ANN401 - any JSON value
        """The one JSON value on standard output; anything beside it fails."""
        return json.loads(self.out)


def run(*arguments: object) -> Ran:
    """Run `expunge` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Ran(code=code, out=out.getvalue(), err=err.getvalue())


def at(desk: Services, *arguments: object) -> Ran:
    """Run `expunge` on the work folder of `desk`."""
    return run(*arguments, "--workdir", desk.settings.workdir)


def answer(desk: Services, *arguments: object) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value of a command that ended with 0."""
    ran = at(desk, *arguments, "--json")
    assert ran.code == 0, ran.err
    return ran.value


def refusal(ran: Ran) -> str:
    """The one line of a command that refused its input and printed nothing else."""
    assert (ran.code, ran.out) == (2, ""), ran
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.startswith("expunge: ")
    return ran.err
