"""What a layer's gradient is made of, row by row, before anybody multiplies it out.

The gradient of a weight matrix for one row is a sum over the row's tokens of `left` x `right`, the outer product of
two vectors that an ordinary pass has anyway: for a linear layer the gradient at its output and its input, for an
embedding the token as a unit vector and the gradient at its output, for a convolution the gradient at each place and
the patch of the input that is seen from there. Gains and biases are small: their rows are added up at once (`Rows`).

A layer is known by its exact type, because a subclass may compute something else. An RMSNorm is known by its name and
then tried: with its gain at one and at zero it has to differ by the normalised input, which also admits gains that
are stored less one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from engine.errors import EngineError

Rows = Mapping[str, Tensor]  # by the name of a gain or bias: rows x its shape

_PROBE_TOKENS = 3
_PROBE_SAME = 1e-5  # of the largest number; the layers normalise in float32


def exact(x: Tensor) -> Tensor:
    """The same in float32 if it is in less: norms and sums are to be of the same numbers."""
    return x.float() if x.dtype in {torch.bfloat16, torch.float16} else x


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fixed:
    """A tensor as it was when it was kept, without the graph that it came from."""

    kept: Tensor
    version: int

    @classmethod
    def of(cls, x: Tensor) -> "Fixed":
        """Keep it; nothing is copied."""
        return cls(kept=x.detach(), version=x._version)  # noqa: SLF001 - the only way to know

    @property
    def tensor(self) -> Tensor:
        """The tensor.

        Raises:
            EngineError: `bad_model` when it was written to since.
        """
        if self.kept._version != self.version:  # noqa: SLF001 - as above
            raise EngineError("bad_model", "what a layer was given was overwritten in place, which DP cannot follow")
        return self.kept


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Use:
    """One application of a layer with a weight matrix: its input, and the gradient at its output.

    `left` and `right` are asked for some rows, given as a slice or as indices, and have the shape
    rows x groups x tokens x width. Tokens of a vocabulary stand for unit vectors: rows x 1 x tokens, integers.
    """

    layer: Any
    inward: Fixed
    outward: Fixed

    @property
    def x(self) -> Tensor:
        """The input."""
        return self.inward.tensor

    @property
    def gradient(self) -> Tensor:
        """The gradient at the output."""
        return self.outward.tensor

    def left(self, rows: slice | Tensor) -> Tensor:
        """The side of the outputs."""
        return _tokens(exact(self.gradient[rows]))

    def right(self, rows: slice | Tensor) -> Tensor:
        """The side of the inputs."""
        return _tokens(exact(self.x[rows]))

    def widths(self) -> tuple[int, int, int, int]:
        """Groups, tokens a row, width of the left, width of the right."""
        return 1, self.gradient[0].numel() // self.layer.out_features, self.layer.out_features, self.layer.in_features

    def prefers_ghost(self, rows: int, sharing: int) -> bool:
        """Whether products of tokens are cheaper than the gradient of a unit of `rows` rows."""
        _, tokens, out, into = self.widths()
        return rows * tokens * (out + into / sharing) <= out * into

    def weighted(self, weights: Tensor) -> Tensor:
        """The gradient of all rows together, each times its weight: one product, as without privacy."""
        left, right = exact(self.gradient), exact(self.x)
        if left.numel() < right.numel():
            left = _scaled(left, weights)
        else:
            right = _scaled(right, weights)
        return left.flatten(0, -2).T @ right.flatten(0, -2)


class EmbeddingUse(Use):
    """One use of a table."""

    __slots__ = ()

    def left(self, rows: slice | Tensor) -> Tensor:
        """The tokens, as integers."""
        return self.x[rows].reshape(-1, 1, self.widths()[1])

    def right(self, rows: slice | Tensor) -> Tensor:
        """The gradients, without the token that has none."""
        return _tokens(self._wanted(exact(self.gradient[rows]), self.x[rows]))

    def widths(self) -> tuple[int, int, int, int]:
        """The left is as wide as the vocabulary."""
        return 1, self.x[0].numel(), self.layer.num_embeddings, self.layer.embedding_dim

    def prefers_ghost(self, rows: int, sharing: int) -> bool:  # noqa: ARG002 - as any use
        """Always: unit vectors are compared, not multiplied."""
        return True

    def weighted(self, weights: Tensor) -> Tensor:
        """Gradients added up where their tokens stand in the table."""
        scaled = _scaled(self._wanted(exact(self.gradient), self.x), weights)
        table = scaled.new_zeros(self.layer.num_embeddings, self.layer.embedding_dim)
        return table.index_add_(0, self.x.flatten(), scaled.flatten(0, -2))

    def _wanted(self, gradient: Tensor, ids: Tensor) -> Tensor:
        ignored = self.layer.padding_idx
        return gradient if ignored is None else gradient.masked_fill((ids == ignored).unsqueeze(-1), 0.0)


class ConvolutionUse(Use):
    """One use of a two-dimensional convolution; its tokens are the places of the output."""

    __slots__ = ()

    def left(self, rows: slice | Tensor) -> Tensor:
        """The gradient at each place."""
        gradient = exact(self.gradient[rows])
        return gradient.reshape(len(gradient), self.layer.groups, -1, gradient[0, 0].numel()).transpose(2, 3)

    def right(self, rows: slice | Tensor) -> Tensor:
        """The patch that each place sees."""
        layer = self.layer
        patches = functional.unfold(
            self._padded(exact(self.x[rows])), layer.kernel_size, dilation=layer.dilation, stride=layer.stride
        )
        return patches.reshape(len(patches), layer.groups, -1, patches.shape[2]).transpose(2, 3)

    def widths(self) -> tuple[int, int, int, int]:
        """Those of one group."""
        out, *rest = self.layer.weight.shape
        return self.layer.groups, self.gradient[0, 0].numel(), out // self.layer.groups, rest[0] * rest[1] * rest[2]

    def weighted(self, weights: Tensor) -> Tensor:
        """What an ordinary backward pass calls."""
        layer = self.layer
        gradient: Tensor = conv2d_weight(
            self._padded(exact(self.x)),
            layer.weight.shape,
            _scaled(exact(self.gradient), weights),
            stride=layer.stride,
            dilation=layer.dilation,
            groups=layer.groups,
        )
        return gradient

    def _padded(self, x: Tensor) -> Tensor:
        mode = "constant" if self.layer.padding_mode == "zeros" else self.layer.padding_mode
        return functional.pad(x, self.layer._reversed_padding_repeated_twice, mode=mode)  # noqa: SLF001 - as it pads


def use_of(layer: nn.Module, inward: Fixed, outward: Fixed) -> Use | None:
    """The use of a layer whose weight is a trained matrix; None for any other."""
    made = _USES.get(type(layer))
    weight = cast("Tensor", layer.weight)
    if made is None or not weight.requires_grad:
        return None
    return made(layer=layer, inward=inward, outward=outward)


def small(layer: Any, x: Tensor, gradient: Tensor) -> Rows:  # noqa: ANN401 - any layer
    """Each row's gradient of the gain and the bias that are trained, if the layer has any."""
    gradient = exact(gradient)
    found: dict[str, Tensor] = {}
    if _trained(layer, "bias"):
        found["bias"] = _added(layer, gradient)
    if type(layer) not in _USES and _trained(layer, "weight"):
        found["weight"] = _added(layer, gradient * _normalised(layer, exact(x)))
    return found


def refuse_unknown(layer: nn.Module) -> None:
    """Refuse a layer with trained parameters of its own whose gradient would not be known row by row.

    Raises:
        EngineError: `bad_model`, with the type of the layer.
    """
    own = {name for name, p in layer.named_parameters(recurse=False) if p.requires_grad}
    known = own <= {"weight", "bias"} and "forward" not in vars(layer)
    if type(layer) is nn.Embedding:
        known = known and layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    elif type(layer) not in (*_USES, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm):
        known = known and "bias" not in own and _is_rms_norm(layer)
    if own and not known:
        raise EngineError(
            "bad_model",
            f"a layer of the type {type(layer).__name__} gives no per-person gradients, so it cannot be trained here",
        )


def only_input(layer: nn.Module, inputs: Sequence[object]) -> Tensor:
    """The one tensor that a layer was called with, whose first dimension is the batch's rows.

    Raises:
        EngineError: `bad_model` when there are more inputs, or no dimension for rows.
    """
    x = inputs[0] if len(inputs) == 1 else None
    if not isinstance(x, Tensor) or x.dim() < _least_dimensions(layer):
        raise EngineError("bad_model", "a layer of this model takes no input of one row a text, which DP cannot follow")
    return x


def _least_dimensions(layer: nn.Module) -> int:
    if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)):
        return 1 + len(layer.normalized_shape)
    return {nn.Embedding: 1, nn.Conv2d: 4}.get(type(layer), 2)


def _tokens(x: Tensor) -> Tensor:
    """Rows x ... x width to rows x 1 x tokens x width."""
    return x.reshape(len(x), 1, -1, x.shape[-1])


def _scaled(x: Tensor, weights: Tensor) -> Tensor:
    return x * weights.to(x.dtype).view(-1, *[1] * (x.dim() - 1))


def _trained(layer: nn.Module, name: str) -> bool:
    parameter = getattr(layer, name, None)
    return parameter is not None and bool(parameter.requires_grad)


def _added(layer: nn.Module, x: Tensor) -> Tensor:
    """Sum over everything but rows and what the gain or bias has a number for."""
    if isinstance(layer, (nn.GroupNorm, nn.Conv2d)):
        return x.reshape(len(x), x.shape[1], -1).sum(2)
    shape = layer.normalized_shape if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)) else x.shape[-1:]
    return x.reshape(len(x), -1, *shape).sum(1)


def _normalised(layer: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - any norm
    """The input as the layer has it before its gain."""
    if isinstance(layer, nn.GroupNorm):
        return functional.group_norm(x, layer.num_groups, eps=layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    if isinstance(layer, nn.RMSNorm):
        return functional.rms_norm(x, layer.normalized_shape, eps=layer.eps)
    return functional.rms_norm(x, x.shape[-1:], eps=_epsilon(layer))


def _epsilon(layer: nn.Module) -> float | None:
    found = getattr(layer, "variance_epsilon", getattr(layer, "eps", None))
    return found if isinstance(found, float) else None


@torch.no_grad()
def _is_rms_norm(layer: nn.Module) -> bool:
    gain = getattr(layer, "weight", None)
    if not type(layer).__name__.endswith("RMSNorm") or gain is None or gain.dim() != 1 or _epsilon(layer) is None:
        return False
    shape = (1, _PROBE_TOKENS, len(gain))
    x = torch.linspace(-1.0, 2.0, _PROBE_TOKENS * len(gain), dtype=gain.dtype, device=gain.device).sin().view(shape)
    one, zero = (functional_call(layer, {"weight": value}, (x,)) for value in (gain * 0 + 1, gain * 0))
    return torch.allclose(one - zero, _normalised(layer, x), rtol=_PROBE_SAME, atol=_PROBE_SAME)


_USES: dict[type[nn.Module], type[Use]] = {nn.Linear: Use, nn.Embedding: EmbeddingUse, nn.Conv2d: ConvolutionUse}
