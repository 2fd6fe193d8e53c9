"""The sum of clipped gradients, one a unit, out of one forward and one backward pass.

While `recording`, no layer's weight takes part in autograd; each layer's input and the gradient at its output are
kept instead (book-keeping: Bu, Wang, Zha and Karypis 2023, arXiv:2210.00038). Afterwards the norm of every unit's
gradient follows from these without the gradient itself: with a_t and b_t the two sides of the gradient
G = sum_t a_t x b_t (`bookkeeping_layers`),

    |G|^2 = sum over s, t of (a_s . a_t) (b_s . b_t)

(ghost norm: Li, Tramer, Liang and Hashimoto 2022, arXiv:2110.05679, section 4), or from G, unit by unit, where that
takes fewer multiplications. Then one product a layer gives the sum of all units, each times min(1, clip / norm).

The sum over tokens goes over everything of a unit: all rows that it owns, and all places at which the same matrix is
used, a table that is also the head included, so the cross terms of rows and of uses are in the norm. Each norm is
rounded up by what its additions may have lost, since a norm that is too small would be a gradient that is too large.
Norms and sums are of the same kept numbers and computed in float32 at least, also where a model ran in bfloat16.

Borders, all of them refused: a layer that is not known, a parameter used outside its own layer, a layer whose first
dimension is not the batch's rows, an input that was overwritten later, batch normalisation in training. That nothing
else mixes rows (a loss, a module without parameters) cannot be seen from here and is up to the caller.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from engine.errors import EngineError
from engine.methods.bookkeeping_layers import Use, only_input, refuse_unknown, small, use_of

HELD = 1 << 22  # numbers of products and unit gradients in memory at once
_LOST = 4.0  # units in the last place that a sum of products may lose


class BookKeeping:
    """Clipped gradients of the trained parameters of a model, unit by unit.

        book = BookKeeping(model)
        with book.recording():
            losses_of_units(model, batch).sum().backward()
        sums = book.sums(clip, owners, units)

    One batch of rows a recording; several losses of it add up. Neither `requires_grad` nor `grad` of a parameter nor
    a hook is left behind.
    """

    def __init__(self, model: nn.Module, *, held: int = HELD) -> None:
        """Look at every layer; `held` is about how many numbers the computation of norms may hold at once.

        Raises:
            EngineError: `bad_model` when a layer with trained parameters is of no type that is known.
        """
        self.model = model
        self._held = held
        self.norms = torch.zeros(0)  # of the units' gradients before clipping; filled by `sums`
        self._uses: dict[nn.Parameter, list[Use]] = {}
        self._small: dict[nn.Parameter, list[Tensor]] = {}
        for layer in model.modules():
            refuse_unknown(layer)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what layers see in a forward and a backward pass that both happen inside.

        Raises:
            EngineError: `bad_model` when the model normalises over rows, or uses a parameter outside its layer.
        """
        if any(isinstance(layer, _BatchNorm) and layer.training for layer in self.model.modules()):
            raise EngineError("bad_model", "batch normalisation mixes people, so it cannot be trained under DP")
        trained = self._trained()
        before = [p.grad for p in trained]
        self._uses, self._small = {p: [] for p in trained}, {p: [] for p in trained}
        handles = [handle for layer in self.model.modules() for handle in self._watch(layer)]
        try:
            for p in trained:
                p.grad = None
            yield
            _refuse_gradients(trained)
        except BaseException:
            self._uses, self._small = {}, {}
            raise
        finally:
            for handle in handles:
                handle.remove()
            for p, gradient in zip(trained, before, strict=True):
                p.requires_grad_()
                p.grad = gradient

    def sums(self, clip: float, owners: Tensor, units: int) -> list[Tensor]:
        """One tensor a trained parameter, in the model's order: the sum of the units' gradients of norm <= `clip`.

        `owners` has the unit (0 to `units` - 1) of each row. What was recorded is given up, layer by layer.

        Raises:
            EngineError: `bad_options` for a clip that is no positive number or owners that are no units; `bad_model`
                when a layer did not see rows or its input was overwritten; `not_finite` when a norm is not a number;
                `internal` when nothing was recorded.
        """
        _check(clip, owners, units)
        self._check_recorded(len(owners))
        self.norms = self._norms(owners, units)
        if not bool(self.norms.isfinite().all()):
            raise EngineError("not_finite", "the gradient of a unit is not finite; the step was not taken")
        weights = (clip / self.norms.clamp(min=clip))[owners]
        return [self._weighted(p, weights) for p in self._trained()]

    def _trained(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def _watch(self, layer: nn.Module) -> list[RemovableHandle]:
        own = [p for p in layer.parameters(recurse=False) if p.requires_grad]
        if not own:
            return []
        anchor = torch.zeros((), requires_grad=True, device=own[0].device)

        def leave(_layer: nn.Module, _inputs: tuple[Any, ...]) -> None:
            for p in own:
                p.requires_grad_(False)  # noqa: FBT003 - its argument has no name in its types

        def come_back(_layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> Tensor:
            for p in own:
                p.requires_grad_()
            if not torch.is_grad_enabled():
                return output
            x = only_input(layer, (*inputs, *named.values()))
            keep = self._keeper(layer, x.detach(), x._version)  # noqa: SLF001 - the only way to know
            tapped: Tensor = _Tap.apply(output, anchor, keep)  # type: ignore[no-untyped-call]
            return tapped

        before = layer.register_forward_pre_hook(leave)
        return [before, layer.register_forward_hook(come_back, prepend=True, with_kwargs=True)]

    def _keeper(self, layer: nn.Module, x: Tensor, version: int) -> Callable[[Tensor], None]:
        def keep(gradient: Tensor) -> None:
            _refuse_overwritten(x, version)
            use = use_of(layer, x, gradient, version)
            if use is not None:
                self._uses[layer.get_parameter("weight")].append(use)
            for name, rows in small(layer, x, gradient).items():
                self._small[layer.get_parameter(name)].append(rows)

        return keep

    def _check_recorded(self, rows: int) -> None:
        seen = {len(use.x) for uses in self._uses.values() for use in uses}
        seen |= {len(one) for found in self._small.values() for one in found}
        if not seen:
            raise EngineError("internal", "no forward and backward pass was recorded that could be clipped")
        if seen != {rows}:
            raise EngineError("bad_model", "a layer of this model does not see one row a text, which DP cannot follow")
        for uses in self._uses.values():
            for use in uses:
                _refuse_overwritten(use.x, use.version)

    def _norms(self, owners: Tensor, units: int) -> Tensor:
        squares = torch.zeros(units, dtype=torch.float64, device=owners.device)
        for group in _groups(owners, units, self._held):
            squares[group.units] += _squares(list(self._uses.values()), group)
        for found in self._small.values():
            if found:
                rows = _total(found).flatten(1)
                per_unit = rows.new_zeros(units, rows.shape[1]).index_add_(0, owners, rows)
                squares += per_unit.double().square().sum(1)
        return squares.clamp(min=0).sqrt()

    def _weighted(self, parameter: nn.Parameter, weights: Tensor) -> Tensor:
        parts = [use.weighted(weights) for use in self._uses.pop(parameter)]
        parts += [torch.tensordot(weights.to(rows.dtype), rows, 1) for rows in self._small.pop(parameter)]
        return _total(parts).to(parameter.dtype) if parts else torch.zeros_like(parameter)


class _Tap(torch.autograd.Function):
    """Nothing, but the gradient that comes by is told to `keep`; the anchor makes sure that one comes."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, _anchor: Tensor, keep: Callable[[Tensor], None]) -> Tensor:  # noqa: ANN401
        """The output itself, not a view of it, so that an activation may still overwrite it."""
        ctx.keep = keep
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        """Told once: what `keep` holds on to is let go, also where the loss is still in somebody's hands."""
        ctx.keep(gradient)
        ctx.keep = None
        return gradient, None, None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
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


def _groups(owners: Tensor, units: int, held: int) -> list[_Group]:
    counts = torch.bincount(owners, minlength=units)
    order = owners.argsort(stable=True)
    found = []
    for per in counts.unique().tolist():
        if per:
            rows = order[(counts == per)[owners[order]]].view(-1, per)
            first = int(rows[0, 0])
            in_sequence = torch.equal(rows.flatten(), torch.arange(first, first + rows.numel(), device=rows.device))
            found.append(_Group(units=owners[rows[:, 0]], rows=rows, first=first if in_sequence else None, held=held))
    return found


def _squares(used: Sequence[Sequence[Use]], group: _Group) -> Tensor:
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


def _add_ghosts(total: Tensor, pairs: Sequence[tuple[Use, Use]], group: _Group, *, times: int) -> None:
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


def _add_direct(total: Tensor, use: Use, group: _Group) -> None:
    """Add squared norms of gradients that are multiplied out, a few units at a time."""
    groups, _, out, into = use.widths()
    for chosen, rows in group.parts(groups * out * into):
        left, right = group.joined(use.left(rows)), group.joined(use.right(rows))
        total[chosen] += (left.transpose(2, 3) @ right).square().sum((1, 2, 3)).double()


def _total(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _refuse_gradients(parameters: Sequence[nn.Parameter]) -> None:
    if any(p.grad is not None for p in parameters):
        raise EngineError("bad_model", "this model uses a parameter outside its layer, which DP cannot follow")


def _refuse_overwritten(x: Tensor, version: int) -> None:
    if x._version != version:  # noqa: SLF001 - the only way to know
        raise EngineError("bad_model", "the input of a layer was overwritten in place, so its gradient is not known")


def _check(clip: float, owners: Tensor, units: int) -> None:
    if not (math.isfinite(clip) and clip > 0):
        raise EngineError("bad_options", "the clipping norm is a finite number above zero")
    whole = owners.dtype == torch.long and owners.dim() == 1 and len(owners) > 0
    if not whole or int(owners.min()) < 0 or int(owners.max()) >= units:
        raise EngineError("bad_options", "each row is owned by one unit, numbered from 0")
