"""Unlearning of classifiers by telling them that forgotten pictures are something else.

    random-labels     min CE(D_f with wrong classes) + CE(D_r); each class drawn among the others     arXiv 1911.04933
    salun             the same for the weights to which the forget loss is most sensitive, alone      arXiv 2310.12508
    boundary-shrink   min CE(D_f with the nearest wrong class), by one step of FGSM from the picture  arXiv 2303.11570
    boundary-expand   min CE(D_f as a class of its own), whose output is cut off afterwards           arXiv 2303.11570

A picture is never told its own class: a released implementation may draw it, which teaches what is to be forgotten.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import EngineError
from engine.methods.image_descent import Asked, descend, fitted_to, pruned, read
from engine.methods.sparsity import Mask, head
from engine.seeds import derive
from engine.tasks.image import classes_of, losses
from engine.tasks.pixels import Pictures
from engine.training import Fitted, device


def random_labels(setting: Asked) -> Fitted:
    """Train on the retain set, and on the forget set with wrong classes."""
    return _relabelled(setting, pruned(setting))


def salun(setting: Asked) -> Fitted:
    """The same where the forget loss has its steepest `saliency` of all weights; the others do not move."""
    mask = pruned(setting)
    return _relabelled(setting, mask, salient(setting, setting.options.saliency))


def boundary_shrink(setting: Asked) -> Fitted:
    """Train on the forget set with the classes across the nearest boundary, as the model has it before."""
    mask, gone = pruned(setting), read(setting, setting.forget, "forget")
    told = Pictures(images=gone.images, classes=nearest(setting, gone, setting.options.reach))
    return descend(setting, fitted_to(setting, told, "forget"), mask)


def boundary_expand(setting: Asked) -> Fitted:
    """Train on the forget set as a class of its own, and forget that class's output."""
    mask, gone = pruned(setting), read(setting, setting.forget, "forget")
    name, layer = head(setting.model)
    number = len(classes_of(setting.model))
    if layer.out_features != number:
        raise EngineError("bad_model", f"the last layer of the model gives {layer.out_features} outputs, not {number}")
    _replace(setting.model, name, widened(layer, derive(setting.seed, "class")))
    told = Pictures(images=gone.images, classes=torch.full_like(gone.classes, number))
    fitted = descend(setting, fitted_to(setting, told, "forget"), mask)
    _replace(setting.model, name, narrowed(head(setting.model)[1]))
    return fitted


def wrong(classes: Tensor, number: int, seed: int) -> Tensor:
    """For each picture one of the other `number` - 1 classes, all as likely."""
    shift = np.random.default_rng(derive(seed, "labels")).integers(1, number, size=len(classes))
    return (classes + torch.from_numpy(shift)) % number


def salient(setting: Asked, share: float) -> Mask:
    """The `share` of all weights with the largest gradient of the forget loss; at least one."""
    model, gone = setting.model, read(setting, setting.forget, "forget")
    module: nn.Module = model
    module.to(device()).eval()
    size = setting.options.rows_per_pass
    model.zero_grad(set_to_none=True)
    for i in range(0, len(gone), size):
        (losses(model, setting.pixels, gone.at(range(i, min(i + size, len(gone))))).sum() / len(gone)).backward()
    named = dict(model.named_parameters())
    steep = [torch.zeros(p.numel()) if p.grad is None else p.grad.abs().flatten().cpu() for p in named.values()]
    model.zero_grad(set_to_none=True)
    flat = torch.cat(steep)
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[flat.argsort(descending=True, stable=True)[: max(1, round(share * len(flat)))]] = True
    parts = chosen.split([p.numel() for p in named.values()])
    return Mask(kept={name: part.view_as(p) for (name, p), part in zip(named.items(), parts, strict=True)})


def nearest(setting: Asked, batch: Pictures, reach: float) -> Tensor:
    """The likeliest wrong class of each picture after a step of `reach` (of the range of a value) up its loss."""
    model, pixels = setting.model, setting.pixels
    module: nn.Module = model
    module.to(device()).eval()
    found = []
    for i in range(0, len(batch), setting.options.rows_per_pass):
        part = batch.at(range(i, min(i + setting.options.rows_per_pass, len(batch))))
        own = part.classes.to(model.device)
        low, high = (pixels.normalised(torch.full_like(part.images, value)).to(model.device) for value in (0, 255))
        x = pixels.normalised(part.images.to(model.device)).requires_grad_()
        loss = functional.cross_entropy(model(pixel_values=x).logits, own, reduction="sum")
        up = torch.autograd.grad(loss, x)[0].sign()
        with torch.no_grad():
            there = torch.minimum(torch.maximum(x + reach * (high - low) * up, low), high)
            said = model(pixel_values=there).logits
            found.append(said.scatter(1, own[:, None], -torch.inf).argmax(1).cpu())
    return torch.cat(found)


def widened(layer: nn.Linear, seed: int) -> nn.Linear:
    """The layer with one output more, drawn with the seed as torch draws a new layer."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wide = nn.Linear(layer.in_features, layer.out_features + 1, bias=layer.bias is not None)
    _copy(layer, wide, layer.out_features)
    return wide


def narrowed(layer: nn.Linear) -> nn.Linear:
    """The layer without its last output."""
    narrow = nn.Linear(layer.in_features, layer.out_features - 1, bias=layer.bias is not None)
    _copy(layer, narrow, narrow.out_features)
    return narrow


def _relabelled(setting: Asked, *masks: Mask) -> Fitted:
    gone, kept = read(setting, setting.forget, "forget"), read(setting, setting.retain, "retain")
    told = wrong(gone.classes, len(classes_of(setting.model)), setting.seed)
    both = Pictures(images=torch.cat([gone.images, kept.images]), classes=torch.cat([told, kept.classes]))
    return descend(setting, fitted_to(setting, both, "both"), *masks)


def _replace(model: nn.Module, name: str, layer: nn.Linear) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)


@torch.no_grad()
def _copy(source: nn.Linear, target: nn.Linear, rows: int) -> None:
    for (_, old), (_, new) in zip(source.named_parameters(), target.named_parameters(), strict=True):
        new[:rows] = old[:rows]
