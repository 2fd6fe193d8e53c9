"""`expunge receipt`: what a data subject holds."""

from audits import receipt
from compliance.cli.inputs import read_bytes, read_text
from compliance.cli.options import InFile, Json, TrustPolicy, example, group
from compliance.cli.output import answer
from compliance.cli.verdicts import verdict

app = group()


@app.callback()
def receipts() -> None:
    """A group, although it has one command."""


@app.command("verify", epilog=example("expunge receipt verify receipt.json --policy trust/tlog-policy"))
def verify(*, file: InFile, policy: TrustPolicy = None, as_json: Json = False) -> int:
    """Verify a receipt offline in numbered steps; exit 1 unless every step holds."""
    raw = read_bytes(file, limit=receipt.MAX_BYTES)
    found = receipt.verify(raw, None if policy is None else read_text(policy))
    answer(found.to_json(), as_json=as_json, people=verdict)
    return int(not found.ok)
