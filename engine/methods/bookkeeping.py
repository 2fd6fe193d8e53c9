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
dimension is not the batch's rows, an input that was overwritten later, a second way back through one pass, batch
normalisation in training. That nothing else mixes rows (a loss, a module without parameters) cannot be seen from here
and is up to the caller.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from engine.errors import EngineError
from engine.methods.bookkeeping_layers import Fixed, Use, exact, only_input, refuse_unknown, small, use_of
from engine.methods.bookkeeping_norms import groups_of, squares_of

HELD = 1 << 22  # numbers of products and unit gradients in memory at once


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
        """One tensor a trained parameter, in the model's order: the sum of the units' gradients, clipped to `clip`.

        `owners` has the unit (0 to `units` - 1) of each row. A sum is float32 also where its parameter is narrower:
        it is to be rounded after the noise and not before. What was recorded is given up, layer by layer.

        Raises:
            EngineError: `bad_options` for a clip that is no positive number or owners that are no units; `bad_model`
                when a layer did not see rows or its input was overwritten; `not_finite` when a norm is not a number;
                `internal` when nothing was recorded.
        """
        _check(clip, owners, units)
        self._check_recorded(len(owners))
        owners = owners.to(self._trained()[0].device)
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
            keep = self._keeper(layer, Fixed.of(x))
            tapped: Tensor = _Tap.apply(output, anchor, keep)  # type: ignore[no-untyped-call]
            return tapped

        before = layer.register_forward_pre_hook(leave)
        return [before, layer.register_forward_hook(come_back, prepend=True, with_kwargs=True)]

    def _keeper(self, layer: nn.Module, x: Fixed) -> Callable[[Tensor], None]:
        def keep(gradient: Tensor) -> None:
            use = use_of(layer, x, Fixed.of(gradient))
            if use is not None:
                self._uses[layer.get_parameter("weight")].append(use)
            for name, rows in small(layer, x.tensor, gradient).items():
                self._small[layer.get_parameter(name)].append(rows)

        return keep

    def _check_recorded(self, rows: int) -> None:
        seen = {len(use.x) for uses in self._uses.values() for use in uses}
        seen |= {len(one) for found in self._small.values() for one in found}
        if not seen:
            raise EngineError("internal", "no forward and backward pass was recorded that could be clipped")
        if seen != {rows}:
            raise EngineError("bad_model", "a layer of this model does not see one row a text, which DP cannot follow")

    def _norms(self, owners: Tensor, units: int) -> Tensor:
        squares = torch.zeros(units, dtype=torch.float64, device=owners.device)
        for group in groups_of(owners, units, self._held):
            squares[group.units] += squares_of(list(self._uses.values()), group)
        for found in self._small.values():
            if found:
                rows = _total(found).flatten(1)
                per_unit = rows.new_zeros(units, rows.shape[1]).index_add_(0, owners, rows)
                squares += per_unit.double().square().sum(1)
        return squares.clamp(min=0).sqrt()

    def _weighted(self, parameter: nn.Parameter, weights: Tensor) -> Tensor:
        parts = [use.weighted(weights) for use in self._uses.pop(parameter)]
        parts += [torch.tensordot(weights.to(rows.dtype), rows, 1) for rows in self._small.pop(parameter)]
        return _total(parts) if parts else torch.zeros_like(exact(parameter.detach()))


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
        if ctx.keep is None:
            raise EngineError("internal", "one forward pass was gone back through twice, which is not recorded")
        ctx.keep(gradient)
        ctx.keep = None
        return gradient, None, None


def _total(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _refuse_gradients(parameters: Sequence[nn.Parameter]) -> None:
    if any(p.grad is not None for p in parameters):
        raise EngineError("bad_model", "this model uses a parameter outside its layer, which DP cannot follow")


def _check(clip: float, owners: Tensor, units: int) -> None:
    if not (math.isfinite(clip) and clip > 0):
        raise EngineError("bad_options", "the clipping norm is a finite number above zero")
    whole = owners.dtype == torch.long and owners.dim() == 1 and len(owners) > 0
    if not whole or int(owners.min()) < 0 or int(owners.max()) >= units:
        raise EngineError("bad_options", "each row is owned by one unit, numbered from 0")
