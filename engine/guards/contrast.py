"""The contrast of two models at every step: MUSE's variant of Who's Harry Potter (arXiv 2407.06460, appendix B).

    z = z_model - alpha * relu(z_reinforced - z_model)          raw logits, as published

The reinforced model is the same model after more training on the forget set; what that raised is lowered. Only the
tensors that training changed are kept, or the two factors of each low-rank adapter; all others are shared, in memory
too. One cache serves both models: the layers of the second follow those of the first, so whoever copies, repeats or
selects rows of the cache does so for both, and no token is ever read twice.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel

from engine import guards
from engine.errors import EngineError

DOWN, UP = ".lora_A", ".lora_B"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """How hard to push away from the reinforced model, and by what its adapters, if any, are scaled."""

    alpha: float
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ContrastGuard:
    """The reinforced model, as far as it differs: tensors by name, or `NAME.lora_A` and `NAME.lora_B` of layers."""

    parameters: Parameters
    tensors: Mapping[str, Tensor]

    def save(self, folder: Path) -> None:
        """Write `guard/` into a model folder."""
        guards.write(folder, "contrast", asdict(self.parameters), self.tensors)


def contrasted(logits: Tensor, reinforced: Tensor, alpha: float) -> Tensor:
    """Logits (..., vocabulary) pushed away from what the reinforced model raised."""
    return logits - alpha * functional.relu(reinforced - logits)


def wrap(
    model: PreTrainedModel, parameters: Mapping[str, Any], tensors: Mapping[str, Tensor], _folder: Path
) -> PreTrainedModel:
    """Let a model answer with the contrast from now on."""
    settings = guards.parameters_of(Parameters, parameters)
    reinforced, own = beside(model, tensors, settings.scale)
    hook = _Contrast(reinforced, own, settings.alpha)
    model.register_forward_hook(hook, with_kwargs=True)
    # Nobody may take its logits apart into features and a head: its logits are those of two heads.
    object.__setattr__(model, "get_output_embeddings", lambda: None)
    guards.mark(model, hook)
    return model


class _Contrast:
    """A forward hook that asks the second model the same. `own` are the tensors that the two do not share."""

    def __init__(self, reinforced: PreTrainedModel, own: Sequence[Tensor], alpha: float) -> None:
        self.reinforced, self.own, self.alpha = reinforced, own, alpha
        self.layers = len(DynamicCache(config=reinforced.config).layers)

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:  # noqa: ANN401 - a model's output
        if isinstance(output, tuple):
            raise EngineError("bad_job", "a guarded model answers with return_dict=True only")
        asked = {name: value for name, value in kwargs.items() if name not in {"labels", "past_key_values"}}
        cache: Any = kwargs.get("past_key_values") or getattr(output, "past_key_values", None)
        second = None if cache is None else self._second_half(cache, _width(args, kwargs))
        self._follow(model)
        told = self.reinforced(*args, **asked, past_key_values=second)
        if cache is not None and second is not None:
            cache.layers[self.layers :] = second.layers
        output.logits = contrasted(output.logits, told.logits, self.alpha)
        if kwargs.get("labels") is not None:
            size = output.logits.shape[-1]
            output.loss = cast("Any", model).loss_function(output.logits, kwargs["labels"], vocab_size=size)
        return output

    def _second_half(self, cache: object, read: int) -> DynamicCache:
        """The second model's layers of a cache as a cache of their own; the layers themselves are the same objects."""
        if not isinstance(cache, DynamicCache):
            raise EngineError("bad_job", "a guarded model generates with a dynamic cache only")
        if len(cache.layers) > self.layers:
            half = DynamicCache()
            half.layers = cache.layers[self.layers :]
            return half
        if cache.get_seq_length() != read:
            raise EngineError("bad_job", "this cache was begun without the guard; begin it again")
        return DynamicCache(config=self.reinforced.config)

    def _follow(self, model: nn.Module) -> None:
        """Be where the first model is, and in its numbers: it may have been moved since."""
        there = next(model.parameters())
        if any(tensor.device != there.device or tensor.dtype != there.dtype for tensor in self.own[:1]):
            cast("nn.Module", self.reinforced).to(device=there.device, dtype=there.dtype)


class _Adapted(nn.Module):
    """A shared linear layer with a low-rank adapter beside it."""

    def __init__(self, layer: nn.Module, down: Tensor, up: Tensor, scale: float) -> None:
        super().__init__()
        self.layer, self.scale = layer, scale
        self.down, self.up = (nn.Parameter(factor, requires_grad=False) for factor in (down, up))

    def forward(self, x: Tensor) -> Tensor:
        """What the layer says, and what was learned on top of it."""
        return cast("Tensor", self.layer(x) + self.scale * functional.linear(functional.linear(x, self.down), self.up))


def beside(model: PreTrainedModel, tensors: Mapping[str, Tensor], scale: float) -> tuple[PreTrainedModel, list[Tensor]]:
    """A second model that shares every tensor with the first but those that are given, and these.

    Raises:
        EngineError: `bad_model` when a tensor has no place in the model.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    second = copy.deepcopy(model, cast("dict[int, Any]", dict(shared)))
    own: list[Tensor] = []
    try:
        for name, tensor in tensors.items():
            if name.endswith(DOWN):
                own += _adapt(second, name.removesuffix(DOWN), tensor, tensors[name.removesuffix(DOWN) + UP], scale)
            elif not name.endswith(UP):
                own.append(_replace(second, name, tensor))
    except (AttributeError, KeyError) as error:
        raise EngineError("bad_model", "the guard belongs to a model of another shape") from error
    return second, own


def _adapt(model: nn.Module, name: str, down: Tensor, up: Tensor, scale: float) -> list[Tensor]:
    parent, _, last = name.rpartition(".")
    adapted = _Adapted(model.get_submodule(name), down, up, scale)
    setattr(model.get_submodule(parent), last, adapted)
    return [adapted.down, adapted.up]


def _replace(model: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """Give the model a tensor of its own wherever it has the one of that name: tied weights stay tied."""
    old = model.get_parameter(name)
    if old.shape != tensor.shape:
        raise KeyError(name)
    new = nn.Parameter(tensor.to(device=old.device, dtype=old.dtype), requires_grad=False)
    for module in model.modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            if parameter is old:
                setattr(module, key, new)
    return new


def _width(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    given = args[0] if args else kwargs.get("input_ids")
    return int((kwargs["inputs_embeds"] if given is None else given).shape[1])
