"""`expunge dataset`: what models were trained on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from compliance.cli.desk import open_desk
from compliance.cli.options import CURRENT, Json, Workdir, example, group
from compliance.cli.output import answer, listing, sheet
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import DataSetView
from compliance.registry import add_dataset, read_lines
from compliance.store import Store

app = group()
_LABELS = {
    "name": "Name",
    "id": "Id",
    "task": "Task",
    "records": "Records",
    "forgotten": "Forgotten",
    "subject_field": "Subject field",
    "models": "Models",
    "digest": "Digest",
    "added_at": "Added",
}
_SHEET = sheet(_LABELS)
_COLUMNS = {key: _LABELS[key] for key in ("name", "task", "records", "forgotten", "subject_field", "models")}


@app.command(
    "add",
    epilog=example(
        "expunge dataset add customers customers.jsonl --subject-field email",
        "expunge dataset add digits digits.npz --subject-field units",
        "expunge dataset add animals ./animals",
        "expunge dataset add cifar ./cifar-10-batches-bin --split train",
    ),
)
def add(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the data set is called from now on.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, help="JSON lines, .npz, a folder, a release.")],
    subject_field: Annotated[
        str, typer.Option("--subject-field", metavar="F", help="The field that says whose record it is.")
    ] = "",
    split: Annotated[
        str | None, typer.Option("--split", metavar="PART", help="Which part of a release that has several: train, ...")
    ] = None,
    workdir: Workdir = CURRENT,
    as_json: Json = False,
) -> None:
    """Register a data set from JSON lines with 'text', or 'question' and 'answer', and a 'record_id'.

    Pictures: JSON lines with 'file' (below the folder of FILE) or 'image' (base64), 'label', and 'domain' on all lines
    or on none; a folder with one subfolder a class, or one a domain with one a class in it (Office-Home, DomainNet);
    an .npz file with images, labels, and units when somebody is known; and, as they are unpacked, the binary release
    of CIFAR-10 or CIFAR-100, SVHN's cropped digits (.mat), and Tiny-ImageNet. They are copied into the data set.

    The subject field is kept as a keyed hash only. Records that were erased on request are refused.
    """
    with open_desk(workdir) as desk:
        lines = read_lines(file, subject_field=subject_field, split=split)
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
            value = _value(desk.store, ledger, ledger.dataset_named(name))
    answer(value, as_json=as_json, people=_SHEET)


@app.command("list", epilog=example("expunge dataset list --json"))
def list_(*, workdir: Workdir = CURRENT, as_json: Json = False) -> None:
    """List the data sets, with how many of their records are left and how many were forgotten."""
    with open_desk(workdir) as desk, desk.read() as ledger:
        value = [_value(desk.store, ledger, view) for view in ledger.datasets()]
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
        value = _value(desk.store, ledger, ledger.dataset_named(name))
    answer(value, as_json=as_json, people=_SHEET)


def _value(store: Store, ledger: Ledger, view: DataSetView) -> dict[str, Any]:
    return {
        "name": view.name,
        "id": view.id,
        "task": store.task(view.id),
        "records": view.records,
        "forgotten": view.forgotten,
        "subject_field": view.subject_field or None,
        "digest": view.digest,
        "added_at": view.added_at,
        "models": [model.name for model in ledger.models(dataset_id=view.id)],
    }
