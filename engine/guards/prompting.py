"""Prompts in the blocks of a frozen CLIP's vision tower (Kawamura et al. 2025, arXiv 2510.08132; Jia et al. 2022, VPT).

Before each of the first `depth` blocks, `count` learned tokens stand behind the class token and the patches; what a
block made of them is thrown away and the next block gets its own. Before block `instance` they depend on the picture
(InstaPG): a single cross-attention with the learned tokens P as queries and the patches X as keys and values,

    prompts = P + softmax((P Wq) (X Wk)^T / sqrt(width)) (X Wv) Wo

The residual and Wo = 0 at the start are ours: the method begins as plain deep prompts. Without this package a program
gets the model as it was; without the folder so does everybody.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import CLIPModel, PreTrainedModel

from engine import guards
from engine.errors import EngineError
from engine.tasks.vision_language import eyes

NOWHERE = -1  # the block of InstaPG where there is none
DEVIATION = 0.02  # of the prompts as they begin
QUERY, KEY, VALUE, OUT = "query", "key", "value", "out"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """Prompts a block, blocks that have them, and the block where they depend on the picture (`NOWHERE`: none)."""

    count: int
    depth: int
    instance: int
    measured: dict[str, float] = field(default_factory=dict)


class Prompts(nn.Module):
    """What is learned: prompts (depth x count x width), and four matrices (width x width) where there is InstaPG."""

    def __init__(self, parameters: Parameters, width: int) -> None:
        super().__init__()
        self.parameters_of_guard = parameters
        self.tokens = nn.Parameter(torch.zeros(parameters.depth, parameters.count, width))
        names = (QUERY, KEY, VALUE, OUT) if parameters.instance != NOWHERE else ()
        self.attention = nn.ParameterDict({name: nn.Parameter(torch.zeros(width, width)) for name in names})

    def draw(self, seed: int) -> None:
        """Small normal prompts and matrices; Wo stays 0."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.tokens.normal_(0.0, DEVIATION, generator=generator)
            for name, matrix in self.attention.items():
                if name != OUT:
                    matrix.normal_(0.0, 1 / math.sqrt(len(matrix)), generator=generator)

    def at(self, block: int, patches: Tensor) -> Tensor:
        """The prompts (rows x count x width) before a block; patches are rows x patches x width."""
        tokens = self.tokens[block].expand(len(patches), -1, -1)
        if block != self.parameters_of_guard.instance:
            return tokens
        w = self.attention
        found = nn.functional.scaled_dot_product_attention(tokens @ w[QUERY], patches @ w[KEY], patches @ w[VALUE])
        made: Tensor = tokens + found @ w[OUT]
        return made


class Prompting:
    """The guard at work: a hook on each of the first blocks, and none but its own are ever removed."""

    def __init__(self, model: CLIPModel, prompts: Prompts) -> None:
        self.model, self.prompts = model, prompts
        blocks = cast("nn.ModuleList", model.vision_model.encoder.layers)
        refuse(model, prompts.parameters_of_guard)
        self.handles = [
            blocks[i].register_forward_pre_hook(self._hook(i), with_kwargs=True) for i in range(len(prompts.tokens))
        ]
        guards.mark(model, self)

    def remove(self) -> None:
        """Give the model back as it was."""
        for handle in self.handles:
            handle.remove()
        guards.mark(self.model, None)

    def _hook(self, block: int) -> Any:  # noqa: ANN401 - torch's own type of a hook
        count = self.prompts.parameters_of_guard.count

        def put(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            hidden: Tensor = args[0] if args else kwargs["hidden_states"]
            plain = hidden if block == 0 else hidden[:, :-count]
            changed = torch.cat([plain, self.prompts.at(block, plain[:, 1:])], dim=1)
            return ((changed, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": changed})

        return put


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptingGuard:
    """The learned prompts, to be written beside the model."""

    prompts: Prompts
    measured: Mapping[str, float]

    def save(self, folder: Path) -> None:
        """Write `guard/` into a model folder."""
        told = {**asdict(self.prompts.parameters_of_guard), "measured": dict(self.measured)}
        guards.write(folder, "prompting", told, self.prompts.state_dict())


def refuse(model: CLIPModel, told: Parameters) -> None:
    """`EngineError("bad_options")` for prompts that do not fit into the model's vision tower."""
    blocks = eyes(model).num_hidden_layers
    if told.count < 1 or not 1 <= told.depth <= blocks:
        raise EngineError("bad_options", f"prompts need a depth from 1 to {blocks}, the blocks of this vision tower")
    if told.instance != NOWHERE and not 0 <= told.instance < told.depth:
        raise EngineError("bad_options", f"instance must be a block with prompts, 0 to {told.depth - 1}")


def wrap(
    model: PreTrainedModel, parameters: Mapping[str, Any], tensors: Mapping[str, Tensor], _folder: Path
) -> PreTrainedModel:
    """Put the prompts into a CLIP from now on."""
    if not isinstance(model, CLIPModel):
        raise EngineError("bad_model", "this guard is for a CLIP, and the model is none")
    told = guards.parameters_of(Parameters, parameters)
    prompts = Prompts(told, eyes(model).hidden_size)
    try:
        prompts.load_state_dict(dict(tensors))
        Prompting(model, prompts.requires_grad_(requires_grad=False))
    except (RuntimeError, EngineError) as error:
        raise EngineError("bad_model", "the prompts of this guard do not fit its model; write it again") from error
    return model
