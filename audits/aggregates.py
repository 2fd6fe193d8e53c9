"""Counts and shapes of whole groups of pictures in a report's evidence, and the rules beyond their shape.

A report may hold them; one without them is whole. Nothing in them is about a single person:

* classes and domains are numbers in the model's own order, never names, and every table has one row for each class
  that is shown and one more for all others;
* a cell about removed pictures is null or counts at least `FEWEST`, and no row hides exactly one cell;
* a table of strangers' pictures has the same row sums for every model: all were shown the same pictures;
* no more pictures are read rightly than there are;
* a group is drawn once a model and set, counts at least `FEWEST` pictures, and its spread is that of some pictures.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, TypedDict

FEWEST = 5
ROUNDING = 1e-3  # of a spread's products, whose factors have four places
Role = Literal["before", "after", "reference"]


class Classes(TypedDict):
    """Which classes have a row, by number from 1, and how many share the last one."""

    shown: list[int]
    others: int


class Confusion(TypedDict):
    """Pictures by true class (rows) and by the class that a model gave them (columns); null is withheld."""

    set: Literal["forget", "holdout"]
    model: Role
    counts: list[list[int | None]]


class Domain(TypedDict):
    """One domain by number from 1, and whether it was to be forgotten."""

    number: int
    forgotten: bool


class Right(TypedDict):
    """How many pictures one model read rightly, by class (rows) and domain (columns)."""

    model: Role
    counts: list[list[int]]


class Domains(TypedDict):
    """Strangers' pictures by class and domain; `others` is how many domains are not shown."""

    shown: list[Domain]
    others: int
    pictures: list[list[int]]
    right: list[Right]


class Explained(TypedDict):
    """The share of a model's own variance over the retain set that lies in the two directions shown."""

    model: Role
    share: float


class Ellipse(TypedDict):
    """Centre (x, y) and covariance (xx, xy, yy) of one group's features."""

    model: Role
    set: Literal["forget", "retain"]
    group: int
    pictures: int
    centre: list[float]
    spread: list[float]


class Representation(TypedDict):
    """Where groups lie along the two main directions of the model before, in spreads along the first."""

    of: Literal["classes", "domains"]
    explained: list[Explained]
    groups: list[Ellipse]


class Aggregates(TypedDict):
    """All of them. `excluded` classes were left out of accuracy on strangers' pictures: none of theirs stays."""

    excluded: int
    classes: Classes
    confusions: list[Confusion]
    domains: Domains | None
    representation: Representation | None


def contradictions(told: Aggregates, records: int) -> Iterator[str]:
    """One sentence for each rule that is broken; `records` is how many the batch concerns."""
    shown, others = told["classes"]["shown"], told["classes"]["others"]
    rows = len(shown) + bool(others)
    if shown != sorted(set(shown)) or told["excluded"] >= len(shown) + others:
        yield "The classes of the aggregates are not counted in their order, or none of them stays."
    yield from _confusions(told["confusions"], rows, records)
    if told["domains"] is not None:
        yield from _domains(told["domains"], rows)
    if told["representation"] is not None:
        yield from _representation(told["representation"], told)


def _confusions(confusions: Sequence[Confusion], rows: int, records: int) -> Iterator[str]:
    made = [(one["set"], one["model"]) for one in confusions]
    if len(set(made)) != len(made) or (made and not {("forget", "after"), ("holdout", "after")} <= set(made)):
        yield "A table of classes is there twice, or one of the model after is missing."
    if not all(_is_table(one["counts"], rows, rows) for one in confusions):
        yield "A table of classes has other rows or columns than the classes."
        return
    removed = [one["counts"] for one in confusions if one["set"] == "forget"]
    if any(row.count(None) == 1 for counts in removed for row in counts):
        yield "A table of removed pictures hides one cell of a row alone, which the others give away."
    if any(cell is not None and cell < FEWEST for counts in removed for row in counts for cell in row):
        yield f"A table of removed pictures shows a cell of fewer than {FEWEST}."
    if any(sum(cell or 0 for row in counts for cell in row) > records for counts in removed):
        yield "A table of removed pictures counts more than the batch concerns."
    strangers = [one["counts"] for one in confusions if one["set"] == "holdout"]
    if any(cell is None for counts in strangers for row in counts for cell in row):
        yield "A table of strangers' pictures hides a cell."
    elif len({tuple(sum(cell or 0 for cell in row) for row in counts) for counts in strangers}) > 1:
        yield "The tables of strangers' pictures are not of the same pictures."


def _domains(told: Domains, rows: int) -> Iterator[str]:
    numbers, pictures = [one["number"] for one in told["shown"]], told["pictures"]
    models = [one["model"] for one in told["right"]]
    if numbers != sorted(set(numbers)) or len(set(models)) != len(models) or "after" not in models:
        yield "The domains are not counted in their order, or a model's table is missing or there twice."
    if not all(_is_table(one, rows, len(numbers)) for one in (pictures, *(one["counts"] for one in told["right"]))):
        yield "A table of domains has other rows or columns than the classes and domains."
        return
    for one in told["right"]:
        if any(
            a > b for right, all_ in zip(one["counts"], pictures, strict=True) for a, b in zip(right, all_, strict=True)
        ):
            yield f"The model {one['model']} reads more pictures rightly than there are."


def _representation(told: Representation, whole: Aggregates) -> Iterator[str]:
    domains, models = whole["domains"], [one["model"] for one in told["explained"]]
    if (told["of"] == "domains") != (domains is not None):
        yield "The representation is of other groups than the tables."
        return
    numbers = whole["classes"]["shown"] if domains is None else [one["number"] for one in domains["shown"]]
    named = [(one["model"], one["set"], one["group"]) for one in told["groups"]]
    if len(set(named)) != len(named) or len(set(models)) != len(models):
        yield "A group or a model of the representation is there twice."
    if not (
        {one["model"] for one in told["groups"]} <= set(models)
        and {one["group"] for one in told["groups"]} <= set(numbers)
    ):
        yield "The representation has a group that is not shown, or a model whose share is not said."
    for one in told["groups"]:
        xx, xy, yy = one["spread"]
        if min(xx, yy) < 0 or xy * xy > xx * yy + ROUNDING * (xx + yy + ROUNDING):
            yield "A spread of the representation is not that of any pictures."
            return


def _is_table(counts: Sequence[Sequence[object]], rows: int, columns: int) -> bool:
    return len(counts) == rows and all(len(row) == columns for row in counts)
