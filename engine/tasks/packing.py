"""What is forwarded when many sequences are scored: each distinct one once, and a beginning that several share once.

Answers to one question, options of one fact and questions after the same examples begin alike. Such sequences stand
in one row, `beginning | rest | rest | ...`: every rest sees the beginning and itself, at the positions it would have
alone, so causal attention gives it what it would give it alone. Sequences that differ in their labels only are one;
what follows a sequence's last label is not forwarded. No model is needed here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tasks.sequences import Tokens

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WORTH = 8  # tokens that a beginning must have to be shared
ROOM = 1024  # tokens of a row that sequences share: attention grows with its square
SAVED = 0.1  # of a row's tokens must be saved, for its mask is not free


@dataclass(frozen=True, kw_only=True, slots=True)
class Distinct:
    """The distinct sequences among some, the labels that anybody wants of each, and which of them each asker has."""

    ids: tuple[tuple[int, ...], ...]
    labels: tuple[Bools, ...]
    asked: tuple[tuple[int, Bools], ...]  # for each sequence asked: which distinct one, and which of its labels

    def wanted(self, flags: Sequence[bool]) -> Bools:
        """For each distinct sequence, whether any of its askers has its flag set."""
        wanted = np.zeros(len(self.ids), dtype=np.bool_)
        for (i, _), flag in zip(self.asked, flags, strict=True):
            wanted[i] |= flag
        return wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Sequences that are forwarded together: how many tokens they share, and which they are."""

    shared: int
    members: tuple[int, ...]
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """A batch of rows. Flat arrays have one entry a label, member after member.

    `ids`, the position of each token (`places`) and the sequence it belongs to (`segments`: 0 shared, -1 padding) are
    rows x tokens; the last two are None where every row is one sequence. `rows` and `columns` predict `targets`.
    """

    ids: Tensor
    places: Tensor | None
    segments: Tensor | None
    rows: Tensor
    columns: Tensor
    targets: Tensor
    members: tuple[int, ...]
    counts: tuple[int, ...]

    def to(self, device: torch.device) -> "Packed":
        """The same on a device."""
        moved = {name: getattr(self, name) for name in ("ids", "places", "segments", "rows", "columns", "targets")}
        return replace(self, **{name: value.to(device) for name, value in moved.items() if value is not None})


def distinct(sequences: Sequence[Tokens], *, by_labels: bool = False) -> Distinct:
    """Trim what follows the last label, merge equal sequences and join their labels. Label j is token j + 1.

    `by_labels` keeps sequences apart whose labels differ: a guarded model takes what precedes them for the prompt.
    """
    places: dict[tuple[tuple[int, ...], bytes], int] = {}
    labels: list[Bools] = []
    asked = []
    for tokens in sequences:
        marked = np.asarray(tokens.weights[1:]) != 0
        end = int(np.flatnonzero(marked)[-1]) + 1 if marked.any() else 0
        i = places.setdefault((tokens.ids[: end + 1], marked.tobytes() if by_labels else b""), len(places))
        if i == len(labels):
            labels.append(np.zeros(end, dtype=np.bool_))
        labels[i] |= marked[:end]
        asked.append((i, marked[:end]))
    return Distinct(
        ids=tuple(ids for ids, _ in places),
        labels=tuple(labels),
        asked=tuple((i, marked[labels[i]]) for i, marked in asked),
    )


def alone(ids: Sequence[Sequence[int]]) -> list[Row]:
    """Every sequence in a row of its own."""
    return [Row(shared=0, members=(i,), length=len(one)) for i, one in enumerate(ids)]


def together(ids: Sequence[Sequence[int]], *, room: int = ROOM) -> list[Row]:
    """Rows of at most `room` tokens whose sequences share a beginning, where that saves enough; the others alone."""
    rows: list[Row] = []
    family: list[int] = []
    shared = length = 0
    for i in sorted(range(len(ids)), key=lambda i: tuple(ids[i])):
        common = _common(ids[family[-1]], ids[i], shared) if family else 0
        total = length + (len(family) - 1) * (shared - common) + len(ids[i]) - common
        if common >= WORTH and common * len(family) >= shared * (len(family) - 1) and total <= room:
            family, shared, length = [*family, i], common, total
        else:
            rows += _settled(ids, family, shared, length)
            family, shared, length = [i], len(ids[i]), len(ids[i])
    return rows + _settled(ids, family, shared, length)


def batches(rows: Sequence[Row], budget: int) -> Iterator[list[Row]]:
    """Rows of similar length within a budget of padded tokens, masked and plain ones apart."""
    group: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.shared > 0, row.length)):
        if group and ((len(group) + 1) * row.length > budget or (row.shared > 0) != (group[0].shared > 0)):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def pack(rows: Sequence[Row], found: Distinct) -> Packed:
    """One batch, padded on the right with id 0, which no label points to and no token sees."""
    width = max(row.length for row in rows)
    ids, places, segments = (np.full((len(rows), width), fill, dtype=np.int64) for fill in (0, 0, -1))
    labels: list[tuple[Ints, Ints, Ints]] = []
    for r, row in enumerate(rows):
        end = 0
        for segment, member in enumerate(row.members, start=1):
            one, start = np.asarray(found.ids[member], dtype=np.int64), row.shared if end else 0
            columns = np.arange(len(one))
            columns[start:] += end - start if end else 0
            new = columns[start:]
            ids[r, new], places[r, new], segments[r, new] = one[start:], np.arange(start, len(one)), segment
            end = max(end, int(columns[-1]) + 1)
            wanted = np.flatnonzero(found.labels[member])
            labels.append((np.full(len(wanted), r), columns[wanted], one[wanted + 1]))
        segments[r, : row.shared] = 0
    lines, predictors, targets = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*labels, strict=True))
    masked = rows[0].shared > 0
    return Packed(
        ids=torch.from_numpy(ids),
        places=torch.from_numpy(places) if masked else None,
        segments=torch.from_numpy(segments) if masked else None,
        rows=lines,
        columns=predictors,
        targets=targets,
        members=tuple(member for row in rows for member in row.members),
        counts=tuple(len(part[0]) for part in labels),
    )


def attention(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to attention scores (rows x 1 x tokens x tokens): a token sees what is before it in its sequence."""
    width = segments.shape[1]
    before = torch.ones(width, width, dtype=torch.bool, device=segments.device).tril()
    seen = before & ((segments[:, None, :] == 0) | (segments[:, None, :] == segments[:, :, None]))
    return torch.zeros(seen.shape, dtype=dtype, device=segments.device).masked_fill(~seen, torch.finfo(dtype).min)[
        :, None
    ]


def _common(left: Sequence[int], right: Sequence[int], most: int) -> int:
    limit = min(most, len(left), len(right))
    return next((i for i in range(limit) if left[i] != right[i]), limit)


def _settled(ids: Sequence[Sequence[int]], family: Sequence[int], shared: int, length: int) -> list[Row]:
    total = sum(len(ids[i]) for i in family)
    if len(family) > 1 and total - length >= SAVED * total:
        return [Row(shared=shared, members=tuple(family), length=length)]
    return [Row(shared=0, members=(i,), length=len(ids[i])) for i in family]
