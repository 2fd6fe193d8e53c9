"""Unlearning of classifiers by disagreeing with what the model said before, where it is to forget, and nowhere else.

    scrub         in turn: max KL(before | after) on D_f; min alpha KL(before | after) + CE on D_r    arXiv 2302.09880
    bad-teacher   min KL(a network that knows nothing | after) on D_f, KL(before | after) on D_r      arXiv 2205.08096

In the first `max_epochs` epochs of SCRUB all steps up come before all steps down, and the rest are down: the released
code of a later benchmark had the first epochs only climb, and diverged. What the model said is computed once, and the
network that knows nothing is the model itself for a moment, its layers drawn anew; nobody keeps a second model.
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from engine.methods.image_descent import Asked, Plan, descend, epochs_of, fitting, pruned, read
from engine.methods.images import Share, shares
from engine.methods.sparsity import remembered
from engine.seeds import derive
from engine.tasks.image import logits
from engine.tasks.pixels import Pictures, Pixels
from engine.training import Fitted, Piece, device


def scrub(setting: Asked) -> Fitted:
    """Climb away from what the model said of the forget set, then come back on the retain set, epoch by epoch."""
    mask, options = pruned(setting), setting.options
    gone, kept = read(setting, setting.forget, "forget"), read(setting, setting.retain, "retain")
    of_gone, of_kept = said(setting, gone), said(setting, kept)
    up = {epoch: Plan() for epoch in range(options.max_epochs)}
    small = replace(options, batch=options.forget_batch)
    for epoch, rows in epochs_of(len(gone), small, setting.seed, "forget"):
        if epoch in up:
            up[epoch].append(_agreeing(setting, gone.at(rows), of_gone[rows], -1.0))
    steps: Plan = []
    for epoch, rows in epochs_of(len(kept), options, setting.seed, "retain"):
        steps += up.pop(epoch, [])  # before the first step down of its epoch
        pieces = _agreeing(setting, kept.at(rows), of_kept[rows], options.alpha) if options.alpha else ()
        steps.append((*pieces, *fitting(setting, kept.at(rows))))
    return descend(setting, steps[: options.steps], mask)


def bad_teacher(setting: Asked) -> Fitted:
    """Agree with a network that knows nothing on the forget set, and with what the model said on the retain set."""
    mask = pruned(setting)
    gone, kept = read(setting, setting.forget, "forget"), read(setting, setting.retain, "retain")
    teachers = torch.cat([_ignorant(setting, gone), said(setting, kept)])
    both = Pictures(images=torch.cat([gone.images, kept.images]), classes=torch.cat([gone.classes, kept.classes]))
    planned = epochs_of(len(both), setting.options, setting.seed, "both")
    return descend(setting, [_agreeing(setting, both.at(rows), teachers[rows], 1.0) for _, rows in planned], mask)


@torch.no_grad()
def said(setting: Asked, batch: Pictures) -> Tensor:
    """Logits of the model as it is now (rows x classes), on the CPU."""
    module: nn.Module = setting.model
    module.to(device()).eval()
    size = setting.options.rows_per_pass
    parts = [batch.images[i : i + size] for i in range(0, len(batch), size)]
    return torch.cat([logits(setting.model, setting.pixels, part).float().cpu() for part in parts])


def divergence(after: Tensor, before: Tensor, temperature: float) -> Tensor:
    """KL(before | after) of each row, both softened, times the temperature squared (rows,)."""
    log_before, log_after = (values.div(temperature).log_softmax(-1) for values in (before, after))
    return functional.kl_div(log_after, log_before, reduction="none", log_target=True).sum(-1) * temperature**2


def _ignorant(setting: Asked, batch: Pictures) -> Tensor:
    """Logits of the network with every layer drawn anew; then its weights are read back."""
    model: nn.Module = setting.model
    with remembered(model) as restore, torch.random.fork_rng():
        torch.manual_seed(derive(setting.seed, "teacher"))
        for layer in model.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
        told = said(setting, batch)
        restore()
    return told


def _agreeing(setting: Asked, batch: Pictures, before: Tensor, weight: float) -> tuple[Piece, ...]:
    """`weight` times the mean divergence over a batch, in passes."""
    places = Pictures(images=batch.images, classes=torch.arange(len(batch)))
    parts = shares(places, setting.options.rows_per_pass)
    temperature = setting.options.temperature
    return tuple(
        partial(_piece, part, setting.model, setting.pixels, before[part.batch.classes], weight, temperature)
        for part in parts
    )


def _piece(
    share: Share, model: PreTrainedModel, pixels: Pixels, before: Tensor, weight: float, temperature: float
) -> Tensor:
    after = logits(model, pixels, share.batch.images).float()
    return weight * divergence(after, before.to(after.device), temperature).sum() / share.rows
