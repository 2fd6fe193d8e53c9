"""Who's Harry Potter as MUSE has it (arXiv 2407.06460): the reinforced model is made here and used at inference.

The model is trained further on the forget texts, and what that changed becomes a guard (`engine.guards.contrast`):
whole tensors, or the factors of low-rank adapters, which make a far smaller guard. The model that is served is the
one that was there before, bit for bit. No retain set is used.
"""

from dataclasses import replace
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor

from engine.adapters import NAME
from engine.errors import EngineError
from engine.guards import Beside
from engine.guards.contrast import DOWN, UP, ContrastGuard, Parameters
from engine.methods import Setting
from engine.methods.refit import refit
from engine.options import WhpMuseOptions
from engine.training import Fitted
from engine.weights import originals


def whp_muse(setting: Setting[WhpMuseOptions]) -> Fitted:
    """Train the reinforced model; the guard that comes with the result holds what differs."""
    if not setting.forget:
        raise EngineError("bad_data", "there are no records to forget")
    fitted = refit(replace(setting, retain=setting.forget))  # type: ignore[arg-type]
    parameters, tensors = _factors(setting) if setting.options.lora_rank else _changed(setting)
    guard = ContrastGuard(parameters=parameters, tensors=tensors)
    return replace(fitted, guard=Beside(source=setting.folder, guard=guard))


def _changed(setting: Setting[WhpMuseOptions]) -> tuple[Parameters, dict[str, Tensor]]:
    """The tensors that training changed, compared with the folder's one by one."""
    names = (name for name, _ in setting.model.named_parameters())
    pairs = zip(names, originals(setting.model, setting.folder), strict=True)
    tensors = {name: now.detach() for name, (now, before) in pairs if not torch.equal(now, before)}
    return Parameters(alpha=setting.options.alpha), tensors


def _factors(setting: Setting[WhpMuseOptions]) -> tuple[Parameters, dict[str, Tensor]]:
    layers = {name: layer for name, layer in setting.model.named_modules() if isinstance(layer, LoraLayer)}
    tensors = {f"{name}{DOWN}": _factor(layer.lora_A) for name, layer in layers.items()}
    tensors |= {f"{name}{UP}": _factor(layer.lora_B) for name, layer in layers.items()}
    scale = setting.options.lora_alpha / setting.options.lora_rank
    return Parameters(alpha=setting.options.alpha, scale=scale), tensors


def _factor(factors: Any) -> Tensor:  # noqa: ANN401 - a dictionary of modules, of a library without types
    factor: Tensor = factors[NAME].weight
    return factor.detach()
