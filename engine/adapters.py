"""Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) beside every linear layer of the blocks.

    y = W x + (alpha / rank) B A x        A drawn, B zero, W frozen

They are put into the model's own layers, so the model keeps its class and every method works on it as on any other;
afterwards they are added to the weights, and the folder that is saved is a plain one. Weights are never merged in
less than float32. With bfloat16 the frozen matrices are kept rounded, which is what autocast would make of them at
each use and so gives the same numbers in half the memory; their float32 originals are read back before merging.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.checkpoints import load_model
from engine.errors import EngineError
from engine.options import ComputeOptions
from engine.seeds import derive

NAME = "expunge"


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapters:
    """The adapters of a model, by the name of the layer they belong to; `folder` has the originals if W is rounded."""

    tuner: LoraModel
    layers: dict[str, Linear]
    scale: float
    folder: Path | None = None
    hooks: tuple[RemovableHandle, ...] = ()


def attach(
    model: PreTrainedModel, options: ComputeOptions, *, seed: int, folder: Path | None = None
) -> Adapters | None:
    """Freeze the model and give it adapters to be trained in its place; none, and nothing is done, at rank 0.

    `seed` decides A. With `precision` bfloat16 and a `folder`, the one the model was read from, the frozen matrices
    are rounded.

    Raises:
        EngineError: `bad_model` when the model has no linear layer that an adapter can stand beside.
    """
    if not options.lora_rank:
        return None
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "adapters"))
        tuner = _tuner(model, options)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear)}
    scale = options.lora_alpha / options.lora_rank
    if options.precision != "bfloat16" or folder is None:
        return Adapters(tuner=tuner, layers=layers, scale=scale)
    hooks = tuple(hook for layer in layers.values() for hook in _round(layer.get_base_layer()))
    return Adapters(tuner=tuner, layers=layers, scale=scale, folder=folder, hooks=hooks)


def merge(model: PreTrainedModel, adapters: Adapters | None) -> None:
    """Add the adapters to the weights, in float32; the model is a plain one again, all of it trainable."""
    if adapters is not None:
        add(model, detach(model, adapters), adapters.scale)


def detach(model: PreTrainedModel, adapters: Adapters) -> dict[str, Tensor]:
    """Take the adapters off, which leaves the model as it was: `LAYER.a` (rank x in) and `LAYER.b` (out x rank)."""
    learned = {}
    for name, layer in adapters.layers.items():
        for letter, matrices in (("a", layer.lora_A), ("b", layer.lora_B)):
            learned[f"{name}.{letter}"] = matrices.get_parameter(f"{NAME}.weight").detach().cpu()
    adapters.tuner.unload()
    for hook in adapters.hooks:
        hook.remove()
    if adapters.folder is not None:
        _restore(model, adapters.layers, adapters.folder)
    model.requires_grad_(requires_grad=True)
    return learned


@torch.no_grad()
def add(model: PreTrainedModel, learned: Mapping[str, Tensor], scale: float) -> None:
    """Add `scale` B A to the matrix of each layer that `learned`, which `detach` returned, has matrices for."""
    for name in sorted({key.rpartition(".")[0] for key in learned}):
        layer = model.get_submodule(name)
        delta = scale * learned[f"{name}.b"] @ learned[f"{name}.a"]
        weight = layer.get_parameter("weight")
        weight.add_((delta.T if isinstance(layer, Conv1D) else delta).to(weight.device))


def _tuner(model: PreTrainedModel, options: ComputeOptions) -> LoraModel:
    transposed = any(isinstance(module, Conv1D) for module in model.modules())
    config = LoraConfig(
        r=options.lora_rank,
        lora_alpha=cast("int", options.lora_alpha),  # only ever divided by the rank
        target_modules="all-linear",
        fan_in_fan_out=transposed,
        bias="none",
    )
    try:
        return LoraModel(model, config, NAME)
    except ValueError as error:
        raise EngineError("bad_model", "this model has no linear layers that adapters can stand beside") from error


def _round(layer: nn.Module) -> list[RemovableHandle]:
    """Keep a frozen layer in bfloat16. Where autocast is off it takes and gives what it did before, rounded within."""
    layer.to(torch.bfloat16)

    def narrow(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x.to(torch.bfloat16) for x in inputs)

    def widen(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output if torch.is_autocast_enabled(output.device.type) else output.float()

    return [layer.register_forward_pre_hook(narrow), layer.register_forward_hook(widen)]


def _restore(model: PreTrainedModel, layers: Iterable[str], folder: Path) -> None:
    original = load_model(folder)
    for name in layers:
        pairs = zip(model.get_submodule(name).parameters(), original.get_submodule(name).parameters(), strict=True)
        for rounded, source in pairs:
            rounded.data = source.data.to(rounded.device)
