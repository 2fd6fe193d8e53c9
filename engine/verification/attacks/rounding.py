"""Rounding: do coarser weights bring the forgotten back?

Zhang et al. 2024 (arXiv 2410.16454). Unlearning with a small learning rate may move no weight past the next rounding
step, and a quantised copy of the unlearned model is then a quantised copy of the model before. Round to nearest,
symmetric, a scale for each output channel: with b bits and m = 2^(b-1) - 1 levels to each side

    scale = max|w| / m      w' = scale * round(w / scale)

of the weight of every linear layer. As in the usual 8- and 4-bit loaders the embedding, the output head, norms and
biases keep their precision; weights are rounded and computing goes on in the model's own number format.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from engine.verification.attacks.subject import Scores, Subject


def rounded(weight: Tensor, bits: int, *, channel: int = 0) -> Tensor:
    """The matrix with the entries of each output channel on 2^bits - 1 levels; `channel` is the axis of channels."""
    levels = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(dim=1 - channel, keepdim=True) / levels
    return torch.where(scale > 0, (weight / scale).round() * scale, weight)


@torch.no_grad()
def round_weights(model: PreTrainedModel, bits: int) -> int:
    """Round every linear layer but the output head in place; how many layers those were."""
    head, count = model.get_output_embeddings(), 0
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not head:
            channel = 1 if isinstance(module, Conv1D) else 0
            module.weight.copy_(rounded(module.weight, bits, channel=channel))
            count += 1
    return count


def attack(subject: Subject) -> Scores:
    """`round_{bits}bit.knowmem_f` and `.verbmem_f`."""
    found: Scores = {}
    for bits in sorted(set(subject.options.attack_bits), reverse=True):
        round_weights(subject.model, bits)
        found |= {f"round_{bits}bit.{name}": numbers for name, numbers in subject.scores().items()}
        subject.restore()
    return found
