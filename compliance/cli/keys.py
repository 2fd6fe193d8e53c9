"""`expunge keys`: public keys only; a private key is never shown."""

from pathlib import Path
from typing import Annotated, Any

import typer

from audits.keys import fingerprint
from audits.strict import encode_base64
from compliance.cli.desk import open_desk
from compliance.cli.inputs import writing
from compliance.cli.options import CURRENT, Json, Workdir, example, group
from compliance.cli.output import answer, listing
from compliance.ledger.views import ServiceKeyView

app = group()
_COLUMNS = {"role": "Role", "fingerprint": "Fingerprint (SHA-256 of the public key)", "log_index": "Log entry"}


@app.callback()
def keys() -> None:
    """A group, although it has one command."""


@app.command("list", epilog=example("expunge keys list", "expunge keys list --policy trust/tlog-policy"))
def list_(
    *,
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Also write the trust policy for auditors here.")
    ] = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """List the desk's signing keys with their fingerprints and the log entries that register them."""
    with open_desk(workdir) as desk:
        with desk.read() as ledger:
            value = [_value(ledger.service_key(signer.key_id)) for signer in desk.signers.values()]
        if policy is not None:
            with writing(policy):
                policy.parent.mkdir(parents=True, exist_ok=True)
                policy.write_text(desk.policy_text(), encoding="utf-8")
    answer(value, as_json=as_json, people=listing(_COLUMNS, empty="No key is registered."))


def _value(view: ServiceKeyView) -> dict[str, Any]:
    return {
        "role": view.role,
        "key_id": view.key_id,
        "fingerprint": fingerprint(view.public_key),
        "public_key": encode_base64(view.public_key),
        "log_index": view.log_index,
    }
