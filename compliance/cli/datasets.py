"""`expunge dataset`: what models were trained on."""

from typing import Annotated, Any

import typer

from compliance.cli.desk import open_desk
from compliance.cli.options import CURRENT, InFile, Json, Workdir, example, group
from compliance.cli.output import answer, listing, sheet
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import DataSetView
from compliance.registry import add_dataset, read_lines

app = group()
_LABELS = {
    "name": "Name",
    "id": "Id",
    "records": "Records",
    "forgotten": "Forgotten",
    "subject_field": "Subject field",
    "models": "Models",
    "digest": "Digest",
    "added_at": "Added",
}
_SHEET = sheet(_LABELS)
_COLUMNS = {key: _LABELS[key] for key in ("name", "records", "forgotten", "subject_field", "models")}


@app.command("add", epilog=example("expunge dataset add customers customers.jsonl --subject-field email"))
def add(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the data set is called from now on.")],
    file: InFile,
    subject_field: Annotated[
        str, typer.Option("--subject-field", metavar="F", help="The field that says whose record it is.")
    ] = "",
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Register a data set from JSON lines with 'text', or 'question' and 'answer', and a 'record_id'.

    The subject field is kept as a keyed hash only. Records that were erased on request are refused.
    """
    with open_desk(workdir) as desk:
        lines = read_lines(file, subject_field=subject_field)
        with desk.transaction() as ledger:
            add_dataset(
                ledger,
                desk.store,
                desk.vault,
                dataset_id=desk.ids(),
                name=name,
                lines=lines,
                subject_field=subject_field,
                now=desk.clock(),
            )
            value = _value(ledger, ledger.dataset_named(name))
    answer(value, as_json=as_json, people=_SHEET)


@app.command("list", epilog=example("expunge dataset list --json"))
def list_(*, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """List the data sets, with how many of their records are left and how many were forgotten."""
    with open_desk(workdir) as desk, desk.read() as ledger:
        value = [_value(ledger, view) for view in ledger.datasets()]
    empty = "There is no data set yet; add one with 'expunge dataset add NAME FILE'."
    answer(value, as_json=as_json, people=listing(_COLUMNS, empty=empty))


@app.command("show", epilog=example("expunge dataset show customers"))
def show(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Show one data set and the models trained on it; never a record."""
    with open_desk(workdir) as desk, desk.read() as ledger:
        value = _value(ledger, ledger.dataset_named(name))
    answer(value, as_json=as_json, people=_SHEET)


def _value(ledger: Ledger, view: DataSetView) -> dict[str, Any]:
    return {
        "name": view.name,
        "id": view.id,
        "records": view.records,
        "forgotten": view.forgotten,
        "subject_field": view.subject_field or None,
        "digest": view.digest,
        "added_at": view.added_at,
        "models": [model.name for model in ledger.models(dataset_id=view.id)],
    }
