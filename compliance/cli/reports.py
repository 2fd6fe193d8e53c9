"""`expunge report`: signed reports, read from the verified envelope, verified offline, and their runs repeated."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from audits import dsse, statement
from audits.verify import verify as verify_bundle
from compliance.certification.publishing import bundle_path
from compliance.cli import reproducing
from compliance.cli.desk import open_desk
from compliance.cli.inputs import read_text, writing
from compliance.cli.options import CURRENT, Json, TrustPolicy, Workdir, example, group
from compliance.cli.output import answer, cell, listing, sheet, table
from compliance.cli.verdicts import verdict
from compliance.errors import InvalidInputError, NotFoundError
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import ReportView
from compliance.wiring import Services

app = group()
_ID = "0123456789abcdef0123456789abcdef"
_COLUMNS = {"id": "Id", "model": "Model", "version": "Version", "rung": "Rung", "guarantee": "Guarantee"}
_LABELS = {"id": "Report", "batch_id": "Batch", **_COLUMNS, "created_at": "Created", "log_index": "Log entry"}
_LABELS |= {"id": "Report", "digest": "Digest", "bundle": "Bundle"}
_GATES = {"metric": "Gate", "direction": "Direction", "margin": "Margin", "interval": "Interval", "n": "Units"}
_GATES |= {"outcome": "Outcome"}
_FINDINGS = {"metric": "Metric", "before": "Before", "after": "After", "reference": "Reference"}

ReportId = Annotated[str, typer.Argument(metavar="ID", help="As in 'expunge report list'.")]


@app.command("list", epilog=example("expunge report list"))
def list_(*, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """List the signed reports, oldest first."""
    with open_desk(workdir) as desk, desk.read() as ledger:
        value = [_value(desk, ledger, view) for view in ledger.reports()]
    answer(value, as_json=as_json, people=listing(_COLUMNS, empty="There is no report yet."))


@app.command("show", epilog=example(f"expunge report show {_ID}"))
def show(*, report_id: ReportId, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """Show what a report says: what was done, what was measured, which gates held, what it does not claim."""
    with open_desk(workdir) as desk, desk.read() as ledger:
        view = ledger.report(report_id)
        value = _value(desk, ledger, view) | {"statement": _predicate(ledger, view)}
    answer(value, as_json=as_json, people=_shown)


@app.command("export", epilog=example(f"expunge report export {_ID} --out ./for-the-auditor"))
def export(
    *,
    report_id: ReportId,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder.")],
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Copy a report's bundle to a folder that an auditor can verify offline.

    Hand over the trust policy by another way: 'expunge keys list --policy FILE' writes it.
    """
    if out.exists():
        raise InvalidInputError("the folder of --out exists already; name a new one", code="out-exists")
    with open_desk(workdir) as desk:
        with desk.read() as ledger:
            bundle = _bundle(desk, ledger.report(report_id))
        if bundle is None:
            message = "the bundle of this report is not in its place; finish it with 'expunge batch run ID'"
            raise NotFoundError(message, code="no-bundle")
        with writing(out):
            shutil.copytree(bundle, out)
    value = {"id": report_id, "out": out, "files": sorted(file.name for file in out.iterdir())}
    answer(value, as_json=as_json, people=sheet({"id": "Report", "out": "Folder", "files": "Files"}))


@app.command("verify", epilog=example("expunge report verify ./bundle --policy trust/tlog-policy"))
def verify(
    *,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", exists=True, help="A bundle's folder or zip file.")],
    policy: TrustPolicy = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="DIR", exists=True, file_okay=False, help="Compare this model folder too."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="DIR", exists=True, file_okay=False, help="Check against this copy of the log."),
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option("--since", metavar="FILE", exists=True, dir_okay=False, help="An older checkpoint to extend."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Verify a bundle offline in numbered steps; exit 1 unless every step holds.

    Without --policy nothing can be trusted: the keys that the bundle claims are printed, and the answer is no. With
    --log the report is held against every entry of the log, and with --since against an older signed checkpoint.
    """
    if since is not None and log is None:
        raise InvalidInputError("--since is compared with a copy of the log: name one with --log", code="no-log")
    trusted, older = (None if path is None else read_text(path) for path in (policy, since))
    found = verify_bundle(bundle, trusted, model=model, log=log, since=older)
    answer(found.to_json(), as_json=as_json, people=verdict)
    return int(not found.ok)


@app.command("schema", epilog=example("expunge report schema > unlearning-report-v1.json"))
def schema(*, as_json: Json = False) -> None:
    """Print the JSON Schema by which every report of this version is judged; its address names the version."""
    value = dict(statement.SCHEMA.document)
    answer(value, as_json=as_json, people=lambda told: [json.dumps(told, indent=1, ensure_ascii=False)])


def _value(desk: Services, ledger: Ledger, view: ReportView) -> dict[str, Any]:
    said = _predicate(ledger, view)
    return {
        "id": view.id,
        "batch_id": view.batch_id,
        "model": said["model"]["name"],
        "version": said["model"]["after"]["version"],
        "rung": said["method"]["rung"],
        "guarantee": said["guarantee"]["class"],
        "created_at": view.created_at,
        "digest": view.digest,
        "log_index": view.log_index,
        "bundle": _bundle(desk, view),
    }


def _bundle(desk: Services, view: ReportView) -> Path | None:
    """Where the report's bundle lies; None until its version is published."""
    path = bundle_path(desk, view)
    return path if path.is_dir() else None


def _predicate(ledger: Ledger, view: ReportView) -> Mapping[str, Any]:
    """What the envelope says, once its signature holds: a changed row must not be shown as a report."""
    key = ledger.report_key(view)
    payload = dsse.verify(view.envelope, payload_type=dsse.INTOTO, public_key=key.public_key)
    return statement.parse(payload)


def _shown(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    said = value["statement"]
    guarantee, certificate = said["guarantee"], said["guarantee"]["certificate"]
    yield from sheet(_LABELS)(value)
    yield Text(f"\n{guarantee['statement']}")
    if guarantee["refused"]:
        yield Text(f"No certificate: {guarantee['refused']}")
    if certificate:
        labels = {"epsilon": "Epsilon (group)", "delta": "Delta", "unitsDeletedSinceBase": "Units deleted since base"}
        yield from sheet(labels | {"epsilonLimit": "Limit"})(certificate)
    yield Text("")
    yield table(_FINDINGS, [_finding(one) for one in said["evidence"]["findings"]])
    yield table(_GATES, said["gates"])
    yield table({"rung": "Attempt", "outcome": "Outcome", "seconds": "s", "why": "Why"}, said["attempts"])
    yield Text("What this report does not claim:")
    yield from (Text(f"- {limit}") for limit in said["limits"])


def _finding(finding: Mapping[str, Any]) -> dict[str, str]:
    return {"metric": finding["metric"]} | {
        role: _interval(finding.get(role)) for role in ("before", "after", "reference")
    }


def _interval(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return cell(None)
    low, high = one["ci95"]
    return f"{one['value']:.3f} [{low:.2f},{high:.2f}]"


app.command("reproduce", epilog=example(*reproducing.EXAMPLES))(reproducing.reproduce)
