"""`expunge receipt`: what a data subject holds."""

from pathlib import Path
from typing import Annotated

import typer

from audits import log as logs
from audits import opening as openings
from audits import receipt
from compliance.cli.inputs import read_bytes, read_text
from compliance.cli.options import InFile, Json, TrustPolicy, example, group
from compliance.cli.output import answer
from compliance.cli.verdicts import verdict
from compliance.errors import InvalidInputError

app = group()


@app.callback()
def receipts() -> None:
    """A group, although it has one command."""


@app.command(
    "verify",
    epilog=example(
        "expunge receipt verify receipt.json --policy trust/tlog-policy",
        "expunge receipt verify receipt.json --policy trust/tlog-policy --log ./mirror --bundle bundles/letters-v2",
        "expunge receipt verify receipt.json --policy trust/tlog-policy --opening opening.json --proof proof.json",
    ),
)
def verify(
    *,
    file: InFile,
    policy: TrustPolicy = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="DIR", exists=True, file_okay=False, help="A copy of the log (C2SP tlog-tiles)."),
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option("--bundle", metavar="PATH", exists=True, help="A report's bundle; may be repeated."),
    ] = None,
    opening: Annotated[
        Path | None,
        typer.Option(
            "--opening", metavar="FILE", exists=True, dir_okay=False, help="The opening, from your status page."
        ),
    ] = None,
    proof: Annotated[
        Path | None,
        typer.Option(
            "--proof", metavar="FILE", exists=True, dir_okay=False, help="The request's log entry with proof."
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="When you had the receipt, like 2026-11-22T10:00:00Z."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Verify a receipt offline in numbered steps; exit 1 unless every step holds.

    With --log it is also checked whether the promise was kept: in the log by the day that the receipt names, not
    left out by a report (--bundle), answered in time. A promise that is not yet due holds, and the step says so.
    """
    if at is not None and not logs.is_time(at):
        raise InvalidInputError("--at is a time in UTC, like 2026-11-22T10:00:00Z", code="bad-time")
    found = receipt.verify(
        read_bytes(file, limit=receipt.MAX_BYTES),
        None if policy is None else read_text(policy),
        log=log,
        bundles=bundle or (),
        opening=None if opening is None else read_bytes(opening, limit=openings.MAX_BYTES),
        proof=None if proof is None else read_bytes(proof, limit=receipt.MAX_BYTES),
        at=at,
    )
    answer(found.to_json(), as_json=as_json, people=verdict)
    return int(not found.ok)
