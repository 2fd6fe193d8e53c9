"""An approver's own key: a file on the approver's machine, opened here for one signature and never kept.

No desk is needed for any of this, so that whoever runs the desk need not see the key.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from audits import approval, keys
from compliance.cli.inputs import json_object, read_bytes, read_text, writing
from compliance.cli.options import Json, example, group
from compliance.cli.output import answer, sheet
from compliance.errors import InvalidInputError
from compliance.ledger.entries import rfc3339

app = group()
_DIGEST = "0" * 64
_ID = "0123456789abcdef0123456789abcdef"
_FIELDS = {"requestId", "keyId", "statement", "signature"}

KeyFile = Annotated[Path, typer.Option("--key", metavar="FILE", exists=True, dir_okay=False, help="Your key file.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Whose first line is the key file's passphrase; asked for when not given.",
    ),
]


@app.command(
    "sign",
    epilog=example(f"expunge request sign {_ID} --commitment {_DIGEST} --key ada.pem --out approval.json"),
)
def sign(
    *,
    request_id: Annotated[str, typer.Argument(metavar="ID", help="The request, as the desk shows it.")],
    commitment: Annotated[
        str, typer.Option("--commitment", metavar="HEX", help="What the request is about, as the desk shows it.")
    ],
    key: KeyFile,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A new file for 'request approve --approval'.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Sign the approval of a request on your own machine, without a desk."""
    try:
        said = approval.statement(request_id=request_id, commitment=commitment, approved_at=rfc3339(datetime.now(UTC)))
    except ValueError as fault:
        raise InvalidInputError(f"{fault} Copy both from the desk.", code="bad-approval") from fault
    data = approval.sign(said, open_key(key, passphrase_file))
    with writing(out), out.open("x", encoding="utf-8") as file:
        json.dump(data, file)
    value = {"request_id": request_id, "key_id": data["keyId"], "out": out}
    answer(value, as_json=as_json, people=sheet({"request_id": "Request", "key_id": "Key", "out": "Approval"}))


def open_key(path: Path, passphrase_file: Path | None) -> keys.SigningKey:
    """The approver's key in a file; its passphrase comes from a file or from the terminal."""
    secret = None
    if keys.is_encrypted(read_bytes(path)):
        secret = passphrase(passphrase_file, confirm=False)
    return keys.load(path, "approver", secret)


def passphrase(path: Path | None, *, confirm: bool) -> str:
    """A passphrase of the first line of a file, or typed twice (once for a key that exists)."""
    if path is not None:
        return read_text(path).partition("\n")[0].rstrip("\r")
    if not sys.stdin.isatty():
        raise InvalidInputError("the key file's passphrase is needed; give --passphrase-file FILE", code="passphrase")
    typed: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return typed


def read_approval(path: Path) -> dict[str, Any]:
    """What `sign` wrote; the ledger verifies it."""
    value = json_object(read_bytes(path), name=path.name)
    if set(value) != _FIELDS or not all(isinstance(one, str) for one in value.values()):
        raise InvalidInputError(
            f"{path.name} is no approval; make one with 'expunge request sign'", code="bad-approval"
        )
    return value
