"""Answers: one JSON value for programs, or tables made from the same value for people.

What people see is drawn from the value that programs get, so that the two cannot disagree.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

People = Callable[[Any], Iterable[RenderableType]]


def answer(value: object, *, as_json: bool, people: People) -> None:
    """Print `value` as JSON, or what `people` makes of it."""
    value = plain(value)
    if as_json:
        sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
        sys.stdout.flush()
        return
    console = Console(markup=False, highlight=False, emoji=False)
    for part in people(value):
        if isinstance(part, str):  # signed text, links and commands must not be wrapped
            sys.stdout.write(part + "\n")
        else:
            console.print(part)
    sys.stdout.flush()


@contextmanager
def answered() -> Iterator[None]:
    """After the answer of a program that runs on: whatever a library prints goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def plain(value: object) -> Any:  # noqa: ANN401 - any JSON value
    """`value` with JSON's own types only: times in RFC 3339, enums by value, data classes as objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _scalar(value)


def _scalar(value: object) -> object:
    match value:
        case Enum():
            return value.value
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case date():
            return value.isoformat()
        case Path():
            return str(value)
        case _:
            return value


def listing(columns: Mapping[str, str], *, empty: str) -> People:
    """Show a list of objects as a table of some of their keys; `empty` says that there are none."""

    def people(rows: Sequence[Mapping[str, Any]]) -> Iterable[RenderableType]:
        yield table(columns, rows) if rows else empty

    return people


def table(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> Table:
    """A table with a title for each key; ids are never broken, because people copy them."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for key, title in columns.items():
        drawn.add_column(title, no_wrap=key == "id" or key.endswith("_id"), overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell(row.get(key))) for key in columns))
    return drawn


def sheet(labels: Mapping[str, str]) -> People:
    """Show one object as lines of label and value."""

    def people(value: Mapping[str, Any]) -> Iterable[RenderableType]:
        drawn = Table.grid(padding=(0, 2))
        for key, label in labels.items():
            drawn.add_row(Text(label, style="bold"), Text(cell(value.get(key)), overflow="fold"))
        yield drawn

    return people


def cell(value: object) -> str:
    """A value as one cell shows it."""
    match value:
        case None | "" | [] | {}:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case list():
            return ", ".join(cell(item) for item in value)
        case _:
            return str(value)


def sentence(text: str) -> People:
    """Show one sentence, whatever the value."""
    return lambda _value: [text]
