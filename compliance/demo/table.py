"""The demo's table: each batch before, after and against the reference, with intervals, gates and guarantee."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

WORDS = {
    "verbmem_f": "VerbMem",
    "knowmem_f": "KnowMem left",
    "knowmem_r": "KnowMem stay",
    "privleak_auc": "member AUC",
    "privleak": "PrivLeak %",
    "recovery": "recovery",
    "ua": "wrong, left",
    "ra": "right, stay",
    "ta": "right, others",
    "mia_auc": "member AUC",
    "forget_loss": "loss, left",
    "mem": "right, stay",
    "for": "wrong, left",
    "h": "mean of both",
    "domain_probe": "style told",
}
OUTCOMES = {"held": "held", "underpowered": "weak", "contradicted": "against", "missing": "missing"}
CLASSES = {
    "exact": "exact: never trained on the forgotten data",
    "certified": "certified: an (ε, δ) bound",
    "conditional": "conditional: an (ε, δ) bound that rests on an estimate",
    "empirical": "empirical: measurements only",
    "suppression": "suppression: the weights still hold the data; the requests stay open",
}


def show(console: Console, batches: Sequence[Mapping[str, Any]]) -> None:
    """Print one table a batch."""
    for batch in batches:
        predicate = batch["predicate"]
        console.print(_heading(batch), highlight=False)
        console.print(_table(predicate))
        for attempt in predicate["attempts"]:
            why = f": {attempt['why']}" if attempt["why"] else ""
            console.print(f"  {attempt['rung']:<8} {attempt['outcome']}{why}", highlight=False, soft_wrap=True)
        console.print()


def show_budget(console: Console, budget: Mapping[str, Any]) -> None:
    """Print what the certificate leaves for those who ask next."""
    title = f"Deletion budget after version {budget['version']}"
    table = Table(pad_edge=False, box=SIMPLE_HEAD, show_edge=False, title=title, title_justify="left")
    for name in ("so far (unit)", "ε of the group", "limit", "left", "ε of the group with them"):
        table.add_column(name, no_wrap=True)
    cells = (f"{budget['deleted']} ({budget['unit']})", f"{budget['epsilon']:.2f}", f"{budget['limit']:g}")
    table.add_row(*cells, f"{budget['left']} more", f"{budget['epsilonOfAll']:.2f}")
    console.print(table)
    console.print()


def _heading(batch: Mapping[str, Any]) -> str:
    predicate = batch["predicate"]
    guarantee = predicate["guarantee"]
    asked = predicate["requestBatch"]
    text = CLASSES[guarantee["class"]]
    certificate = guarantee["certificate"]
    if certificate is not None:
        text += (
            f", ε = {certificate['epsilon']:.2f} at δ = {certificate['delta']:g} for "
            f"{certificate['unitsDeletedSinceBase']} people"
        )
    whose = "" if asked["subjects"] == asked["records"] else f"{asked['subjects']} people, "  # else nobody's: as many
    return (
        f"[bold]Version {predicate['model']['after']['version']}[/bold]: {whose}{asked['records']} records, "
        f"published by [bold]{predicate['method']['rung']}[/bold]\n{text}"
    )


def _table(predicate: Mapping[str, Any]) -> Table:
    table = Table(pad_edge=False, box=SIMPLE_HEAD, show_edge=False)
    for name in ("measure", "before", "after", "reference", "gate"):
        table.add_column(name, no_wrap=True)
    gates = {gate["metric"]: OUTCOMES[gate["outcome"]] for gate in predicate["gates"]}
    for finding in predicate["evidence"]["findings"]:
        if finding["metric"] in WORDS:
            show = _per_cent if finding["metric"] == "privleak" else _fraction
            cells = [_cell(finding[role], show) for role in ("before", "after", "reference")]
            table.add_row(WORDS[finding["metric"]], *cells, gates.get(finding["metric"], ""))
    return table


def _cell(score: Mapping[str, Any] | None, show: Callable[[float], str]) -> str:
    if score is None:
        return ""
    low, high = score["ci95"]
    return f"{show(score['value'])} [{show(low)} {show(high)}]"


def _per_cent(value: float) -> str:
    return f"{value:.0f}"


def _fraction(value: float) -> str:
    """Two digits without the zero in front, so that three intervals fit beside each other in 80 columns."""
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
