"""`expunge forget-set choose`: classes, domains or a random share of a data set of pictures, as three files.

Published data sets come in parts for training and for testing; a forget set is none of these. This cuts one out of what
was trained on and writes it beside what stays and, where there are any, pictures that no model saw. No engine is
needed. The folder holds the pictures themselves; what is printed holds numbers and digests.
"""

import random
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from compliance.cli.inputs import writing
from compliance.cli.options import Json, Seed
from compliance.cli.output import answer, sheet
from compliance.errors import InvalidInputError
from engine.corpus import Record, by_unit, digest, read_set, splits, write_records

EXAMPLES = (
    "expunge forget-set choose --data cifar-10-batches-bin --class airplane --out sets",
    "expunge forget-set choose --data OfficeHome --domain Clipart --strangers 0.2 --out sets",
    "expunge forget-set choose --data train_32x32.mat --share 0.1 --strangers 0.1 --out sets",
)
SHOWN = {"out": "Folder", "forget": "To forget", "retain": "To keep", "holdout": "Strangers"}
KINDS = (("forget", True), ("retain", False))
Sets = dict[str, list[Record]]

Data = Annotated[Path, typer.Option(metavar="PATH", exists=True, help="What a model was trained on, in any layout.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the sets go; must not exist.")]
Classes = Annotated[list[str] | None, typer.Option("--class", metavar="NAME", help="A class; may be repeated.")]
Domains = Annotated[list[str] | None, typer.Option("--domain", metavar="NAME", help="A domain; may be repeated.")]
Share = Annotated[float | None, typer.Option(min=0, max=1, metavar="S", help="A random share of the data subjects.")]
Strangers = Annotated[
    float, typer.Option(min=0, max=1, metavar="S", help="The share to set aside as pictures that no model sees.")
]


def choose(
    *,
    data: Data,
    out: Out,
    labels: Classes = None,
    domains: Domains = None,
    share: Share = None,
    strangers: Strangers = 0.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Cut a forget set out of a data set of pictures: classes, domains, or a random share; no desk is needed.

    Writes forget.jsonl, retain.jsonl and holdout.jsonl, as 'expunge unlearn' and 'expunge evaluate' take them.
    Strangers are the part 'test' of a release that has one (Tiny-ImageNet: 'val'), or what --strangers sets aside of
    every class and domain; a model has to be trained without them.
    """
    given = {"label": labels or [], "domain": domains or []}
    if sum(map(bool, (*given.values(), share))) != 1:
        raise InvalidInputError("give one of --class, --domain and --share", code="nothing-chosen")
    if out.exists():
        raise InvalidInputError(f"{out} exists already; choose another place", code="exists")
    records, held = _read(data, strangers=strangers, seed=seed)
    drawn = _drawn(list(by_unit(records)), share, f"forget {seed}") if share else set[str]()
    gone = [one.unit in drawn for one in records] if share else _named(data, records, given)
    sets = {name: [one for one, goes in zip(records, gone, strict=True) if goes == forget] for name, forget in KINDS}
    for name, chosen in sets.items():
        if not chosen:
            raise InvalidInputError(f"the {name} set would be empty; choose another share", code=f"empty-{name}")
    sets |= {"holdout": held} if held else {}
    _write(out, sets)
    counts = {name: len(chosen) for name, chosen in sets.items()}
    digests = {f"{name}_digest": digest(chosen) for name, chosen in sets.items()}
    answer({"out": str(out), "holdout": 0, **counts, **digests}, as_json=as_json, people=_people)


def _read(data: Path, *, strangers: float, seed: int) -> tuple[list[Record], list[Record]]:
    """What was trained on, and what is held out: a part of the release, or a share of each class and domain."""
    records = list(read_set(data, training=True))
    if any(record.image is None for record in records):
        message = f"{data.name} is no data set of pictures; classes and domains are theirs"
        raise InvalidInputError(message, code="no-pictures")
    if len(splits(data) if data.is_dir() else ()) > 1 and not strangers:
        return records, list(read_set(data, training=False))
    groups = by_unit(records)
    kinds: dict[tuple[str | None, str | None], list[str]] = {}
    for unit, own in groups.items():
        kinds.setdefault((own[0].label, own[0].domain), []).append(unit)
    aside = {
        unit for i, units in enumerate(kinds.values()) for unit in _drawn(units, strangers, f"strangers {i} {seed}")
    }
    return [one for one in records if one.unit not in aside], [one for one in records if one.unit in aside]


def _drawn(units: Sequence[str], share: float, seed: str) -> set[str]:
    """A share of data subjects, rounded down."""
    return set(random.Random(seed).sample(list(units), int(share * len(units))))  # noqa: S311 - repeatable by design


def _named(data: Path, records: Sequence[Record], given: Mapping[str, Sequence[str]]) -> list[bool]:
    """Which records are of some classes or domains; InvalidInputError for a name that no picture has."""
    for field, names in given.items():
        known = {value for record in records if (value := getattr(record, field)) is not None}
        strange = next((name for name in names if name not in known), None)
        if strange is not None:
            kind = "class" if field == "label" else "domain"
            message = f"no picture of {data.name} has the {kind} '{strange}'; it has {len(known)} of them"
            raise InvalidInputError(message, code=f"unknown-{kind}")
    return [one.label in given["label"] or one.domain in given["domain"] for one in records]


def _write(out: Path, sets: Sets) -> None:
    """All files or none."""
    partial = out.with_name(f".{out.name}.partial")
    with writing(out):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, records in sets.items():
            write_records(partial / f"{name}.jsonl", records)
        partial.rename(out)


def _people(value: Mapping[str, Any]) -> Iterable[RenderableType]:
    yield from sheet(SHOWN)(value)
