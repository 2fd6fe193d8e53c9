"""What an operator decides about a request; each decision is a log entry and, where the law asks, a letter."""

from pathlib import Path
from typing import Annotated

import typer

from audits import approval as approvals
from compliance import intake
from compliance.cli.approvers import PassphraseFile, open_key, read_approval
from compliance.cli.desk import ACTOR, open_desk
from compliance.cli.options import CURRENT, Json, Workdir, example, group
from compliance.cli.output import answer, sheet
from compliance.cli.standing import LABELS, standing
from compliance.errors import InvalidInputError
from compliance.intake import EXTENSION_CODES
from compliance.ledger.views import RequestView
from compliance.wiring import Services

app = group()
_ID = "0123456789abcdef0123456789abcdef"

RequestId = Annotated[str, typer.Argument(metavar="ID", help="As in 'expunge request list'.")]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why, in words for the person; kept in the vault, not logged.")
]


@app.command(
    "approve",
    epilog=example(
        f"expunge request approve {_ID}",
        f"expunge request approve {_ID} --key ada.pem",
        f"expunge request approve {_ID} --approval approval.json",
    ),
)
def approve(
    *,
    request_id: RequestId,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", exists=True, dir_okay=False, help="The approver's key file.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    signed_file: Annotated[
        Path | None,
        typer.Option("--approval", metavar="FILE", exists=True, dir_okay=False, help="As 'request sign' wrote it."),
    ] = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Agree to a matched request: its records join the next batch of every model they trained.

    Where an approver's key is registered, an approver has to sign: here with --key, or elsewhere ('request sign').
    """
    if key is not None and signed_file is not None:
        raise InvalidInputError("give either --key or --approval", code="approval-options")
    with open_desk(workdir) as desk:
        approval = None if signed_file is None else read_approval(signed_file)
        if key is not None:
            signer, said = open_key(key, passphrase_file), intake.statement(desk, request_id=request_id)
            approval = approvals.sign(said, signer)
        view = intake.approve(desk, request_id=request_id, actor=ACTOR, approval=approval)
        _answer(desk, view, as_json=as_json)


@app.command("deny", epilog=example(f"expunge request deny {_ID} --code gdpr.17.1.no_ground"))
def deny(
    *,
    request_id: RequestId,
    code: Annotated[str, typer.Option("--code", metavar="C", help="A refusal that the request's law knows.")],
    reason: Reason = "",
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Refuse a request with a coded reason and write to the person."""
    with open_desk(workdir) as desk:
        view = intake.deny(desk, request_id=request_id, actor=ACTOR, code=code, reason=reason)
        _answer(desk, view, as_json=as_json)


@app.command("extend", epilog=example(f'expunge request extend {_ID} --reason "We need to ask our archive."'))
def extend(
    *,
    request_id: RequestId,
    code: Annotated[str, typer.Option("--code", metavar="C", help=f"One of: {', '.join(EXTENSION_CODES)}.")] = next(
        iter(EXTENSION_CODES)
    ),
    reason: Reason = "",
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Use the one extension that the law gives and write to the person."""
    with open_desk(workdir) as desk:
        view = intake.extend(desk, request_id=request_id, actor=ACTOR, code=code, reason=reason)
        _answer(desk, view, as_json=as_json)


@app.command("hold", epilog=example(f"expunge request hold {_ID}"))
def hold(*, request_id: RequestId, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """Set a request aside; its clock goes on."""
    with open_desk(workdir) as desk:
        _answer(desk, intake.hold(desk, request_id=request_id, actor=ACTOR), as_json=as_json)


@app.command("release", epilog=example(f"expunge request release {_ID}"))
def release(*, request_id: RequestId, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """Take up again what was on hold."""
    with open_desk(workdir) as desk:
        _answer(desk, intake.release(desk, request_id=request_id, actor=ACTOR), as_json=as_json)


@app.command("withdraw", epilog=example(f"expunge request withdraw {_ID}"))
def withdraw(*, request_id: RequestId, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """Take a request back for the person, as long as its unlearning has not begun."""
    with open_desk(workdir) as desk:
        _answer(desk, intake.withdraw(desk, request_id=request_id), as_json=as_json)


def _answer(desk: Services, view: RequestView, *, as_json: bool) -> None:
    answer(standing(desk.settings, view, now=desk.clock()), as_json=as_json, people=sheet(LABELS))
