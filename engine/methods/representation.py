"""Representation misdirection (RMU, arXiv 2403.03218): hidden states of one layer, steered on forget, kept on retain.

    F   |h - c u|^2 / width     c fixed, or beta |h_ref| with `adaptive` = beta (arXiv 2408.06223)
    R   |h - h_ref|^2 / width

u is a random unit vector with entries that are not negative, drawn with the seed. The forward pass stops at the
layer: what follows is neither computed nor trained.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.descent import Objective, descend
from engine.methods.known import FEATURES
from engine.methods.terms import Labels, Term
from engine.seeds import derive
from engine.training import Fitted

DEPTH = 7 / 32  # of the layers; the paper's choice for a model of 32


class _Reached(Exception):  # noqa: N818 - it ends a forward pass and is no error
    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class Tap:
    """Reads the hidden states behind one layer, and runs nothing behind it."""

    def __init__(self, model: PreTrainedModel, layer: int) -> None:
        self.model = model
        self._block = blocks(model)[layer]

    def features(self, ids: Tensor, positions: Tensor | None = None) -> Tensor:
        """Hidden states (rows x tokens x width)."""
        handle = self._block.register_forward_hook(_stop)
        try:
            self.model.base_model(input_ids=ids, position_ids=positions, use_cache=False)
        except _Reached as reached:
            return reached.hidden
        finally:
            handle.remove()
        raise EngineError("internal", "the layer to be read was not reached")

    def logits(self, features: Tensor) -> Tensor:
        """The hidden states themselves: they are what the losses are a function of."""
        return features


def rmu(setting: Setting[Any]) -> Fitted:
    """Steer the forget set's hidden states in a random direction."""
    options = setting.options
    tap = Tap(setting.model, chosen_layer(setting.model, options.layer))
    generator = torch.Generator().manual_seed(derive(setting.seed, "direction"))
    direction = torch.rand(setting.model.config.hidden_size, generator=generator)
    steer = partial(steered, direction=direction / direction.norm(), scale=options.steering, adaptive=options.adaptive)
    knows = (FEATURES,) if options.adaptive else ()
    retain = Term(loss=kept, knows=(FEATURES,))
    return descend(setting, Objective(forget=Term(loss=steer, knows=knows), retain=retain, reader=tap))


def steered(labels: Labels, *, direction: Tensor, scale: float, adaptive: float) -> Tensor:
    """The mean square distance of each hidden state to c u (positions,)."""
    target = direction.to(labels.logits.device)
    if adaptive:
        target = adaptive * labels.known_logits.norm(dim=-1, keepdim=True) * target
    else:
        target = scale * target.expand_as(labels.logits)
    return functional.mse_loss(labels.logits, target, reduction="none").mean(-1)


def kept(labels: Labels) -> Tensor:
    """The mean square distance of each hidden state to what it was (positions,)."""
    return functional.mse_loss(labels.logits, labels.known_logits, reduction="none").mean(-1)


def blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The stack of layers: the longest module list of the model."""
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise EngineError("bad_model", "this model has no stack of layers that could be read one by one")
    return max(lists, key=len)


def chosen_layer(model: PreTrainedModel, layer: int) -> int:
    """The layer of the options; -1 takes the paper's depth."""
    count = len(blocks(model))
    if layer >= count:
        raise EngineError("bad_options", f"options.layer must be below the model's number of layers, {count}")
    return layer if layer >= 0 else min(count - 1, round(DEPTH * count))


def _stop(_module: nn.Module, _arguments: object, output: Tensor | tuple[Tensor, ...]) -> None:
    raise _Reached(output if isinstance(output, Tensor) else output[0])
