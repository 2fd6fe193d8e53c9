"""Squared norms of the gradients of units, out of inputs and gradients at outputs, over all weight matrices.

By inner products of tokens (ghost norm: Li, Tramer, Liang and Hashimoto 2022, arXiv:2110.05679, section 4), or from
the gradient itself, whichever takes fewer multiplications. Matrices that are used once are alike; the uses of one that
is used several times have terms between them. Everything is done a few units at a time, so that about `held` numbers
are in memory at once, however long a unit is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from engine.methods.bookkeeping_layers import Use

_LOST = 4.0  # units in the last place that a sum of products may lose


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Units with equally many rows: their numbers (n), their rows (n x per), and the first if rows are in sequence."""

    units: Tensor
    rows: Tensor
    first: int | None
    held: int

    def parts(self, numbers: int) -> Iterator[tuple[slice, slice | Tensor]]:
        """Units a few at a time, as `numbers` of each are to be held, and the rows of these."""
        count, per = self.rows.shape
        step = max(1, self.held // numbers)
        for start in range(0, count, step):
            chosen = slice(start, min(count, start + step))
            if self.first is None:
                yield chosen, self.rows[chosen].flatten()
            else:
                yield chosen, slice(self.first + start * per, self.first + chosen.stop * per)

    def joined(self, side: Tensor) -> Tensor:
        """Rows x groups x tokens (x width) as units x groups x tokens of all their rows (x width)."""
        joined: Tensor = side.unflatten(0, (-1, self.rows.shape[1])).transpose(1, 2).flatten(2, 3)
        return joined


def groups_of(owners: Tensor, units: int, held: int) -> list[Group]:
    """Units by their number of rows, those without any left out; `owners` has the unit of each row."""
    counts = torch.bincount(owners, minlength=units)
    order = owners.argsort(stable=True)
    found = []
    for per in counts.unique().tolist():
        if per:
            rows = order[(counts == per)[owners[order]]].view(-1, per)
            first = int(rows[0, 0])
            in_sequence = torch.equal(rows.flatten(), torch.arange(first, first + rows.numel(), device=rows.device))
            found.append(Group(units=owners[rows[:, 0]], rows=rows, first=first if in_sequence else None, held=held))
    return found


def squares_of(used: Sequence[Sequence[Use]], group: Group) -> Tensor:
    """Squared norm over all matrices, for each unit of the group."""
    total = torch.zeros(len(group.units), dtype=torch.float64, device=group.units.device)
    families: dict[tuple[Any, ...], list[Use]] = {}
    for uses in used:
        if len(uses) == 1:
            x = uses[0].x
            families.setdefault((type(uses[0]), x.data_ptr(), x.shape, x.stride()), []).append(uses[0])
        for use in uses if len(uses) > 1 else ():
            _add_ghosts(total, [(use, use)], group, times=1)
        for one, other in combinations(uses, 2):
            _add_ghosts(total, [(one, other)], group, times=2)
    for family in families.values():
        ghosts = [use for use in family if use.prefers_ghost(group.rows.shape[1], len(family))]
        if ghosts:
            _add_ghosts(total, [(use, use) for use in ghosts], group, times=1)
        for use in family:
            if use not in ghosts:
                _add_direct(total, use, group)
    return total


def _add_ghosts(total: Tensor, pairs: Sequence[tuple[Use, Use]], group: Group, *, times: int) -> None:
    """Add the inner products of pairs whose first uses share an input, and whose second uses do, rounded up."""
    one, other = pairs[0]
    groups, tokens, _, _ = one.widths()
    per = group.rows.shape[1]
    for chosen, rows in group.parts(groups * tokens * other.widths()[1] * per**2):
        right, right2 = group.joined(one.right(rows)), group.joined(other.right(rows))
        lefts = [(group.joined(a.left(rows)), group.joined(b.left(rows))) for a, b in pairs]
        block = max(1, group.held // (len(right) * groups * right.shape[2]))
        for start in range(0, right2.shape[2], block):
            part = slice(start, start + block)
            shared = right @ right2[:, :, part].transpose(2, 3)
            for left, left2 in lefts:
                product = _lefts(left, left2[:, :, part]) * shared
                lost = product.abs().sum((1, 2, 3)).double() * (_LOST * torch.finfo(product.dtype).eps)
                total[chosen] += times * (product.sum((1, 2, 3)).double() + lost)


def _lefts(left: Tensor, left2: Tensor) -> Tensor:
    """Inner products of left sides (units x groups x tokens x tokens), of which either may be unit vectors."""
    if left.is_floating_point() and left2.is_floating_point():
        return left @ left2.transpose(2, 3)
    if left.is_floating_point():
        return left.gather(3, left2.unsqueeze(2).expand(-1, -1, left.shape[2], -1))
    if left2.is_floating_point():
        return _lefts(left2, left).transpose(2, 3)
    return left.unsqueeze(3) == left2.unsqueeze(2)


def _add_direct(total: Tensor, use: Use, group: Group) -> None:
    """Add squared norms of gradients that are multiplied out, a few units at a time."""
    groups, _, out, into = use.widths()
    for chosen, rows in group.parts(groups * out * into):
        left, right = group.joined(use.left(rows)), group.joined(use.right(rows))
        total[chosen] += (left.transpose(2, 3) @ right).square().sum((1, 2, 3)).double()
