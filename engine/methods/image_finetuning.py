"""Unlearning of classifiers by training on: what stays, with a penalty, in part of the layers; and ascent.

    finetune     min CE(D_r)
    l1-sparse    min CE(D_r) + gamma_t |theta|_1, gamma_t = gamma (1 - t / (E - E_0)) before epoch E - E_0, then 0;
                 over all parameters and without a threshold (arXiv 2304.04934, equation 3 and its code's schedule)
    ga           min -CE(D_f), until the model is as unsure of whole classes as one that knows nothing
    cf-k         min CE(D_r) over the last k layers          arXiv 2201.06640
    eu-k         the same after they were drawn anew, once   arXiv 2201.06640

Each starts from the deployed model, pruned first where its options say so (`engine.methods.image_descent`).
"""

import contextlib
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from engine.errors import EngineError
from engine.methods.image_descent import (
    Asked,
    Halt,
    Plan,
    descend,
    epochs_of,
    fitted_to,
    fitting,
    pruned,
    read,
    whole_classes,
)
from engine.methods.sparsity import Mask
from engine.seeds import derive
from engine.tasks.image import classes_of
from engine.training import Fitted, Piece


def finetune(setting: Asked) -> Fitted:
    """Train on the retain set and hope."""
    mask = pruned(setting)
    return descend(setting, fitted_to(setting, read(setting, setting.retain, "retain"), "retain"), mask)


def l1_sparse(setting: Asked) -> Fitted:
    """Fine-tuning with a penalty that first empties and then lets the rest recover."""
    mask, options, kept = pruned(setting), setting.options, read(setting, setting.retain, "retain")
    planned = epochs_of(len(kept), options, setting.seed, "retain")
    epochs = planned[-1][0] + 1
    if options.epochs_without > epochs:
        raise EngineError("bad_options", f"options.epochs_without must be at most {epochs}, the epochs there are")
    steps: Plan = []
    for epoch, rows in planned:
        gamma = penalty(options.gamma, epoch=epoch, epochs=epochs, without=options.epochs_without)
        first, *others = fitting(setting, kept.at(rows))
        steps.append((partial(_penalised, first, setting.model, gamma) if gamma else first, *others))
    return descend(setting, steps, mask)


def penalty(gamma: float, *, epoch: int, epochs: int, without: int) -> float:
    """The weight of the norm in an epoch (from 0): falls linearly until the last `without` epochs, which have none.

    Without any epoch for it to fall in (`without` is all of them) it is constant, as in the published code.
    """
    span = epochs - without
    if span == 0:
        return gamma
    return gamma * (1 - epoch / span) if epoch < span else 0.0


def ga(setting: Asked) -> Fitted:
    """Ascent on the forget set; it ends before a step whose loss has reached `stop` times ln(classes), 0: never.

    Where others of the same classes stay it is `stop_records` times that: they must still be recognised.
    """
    mask, options = pruned(setting), setting.options
    gone = read(setting, setting.forget, "forget")
    planned = epochs_of(len(gone), options, setting.seed, "forget")
    steps = [fitting(setting, gone.at(rows), weight=-1.0) for _, rows in planned]
    whole = set(whole_classes(gone, read(setting, setting.retain, "retain"))) == set(gone.classes.tolist())
    stop = options.stop if whole else options.stop_records
    floor = -stop * math.log(len(classes_of(setting.model)))
    return descend(setting, steps, mask, halt=Halt(floor=floor) if stop else None)


def cf_k(setting: Asked) -> Fitted:
    """Catastrophic forgetting: the last `layers` layers are trained on the retain set."""
    mask = pruned(setting)
    return _in_part(setting, mask)


def eu_k(setting: Asked) -> Fitted:
    """Exact unlearning of the last `layers` layers: drawn anew once and trained on the retain set."""
    mask = pruned(setting)
    with torch.random.fork_rng():
        torch.manual_seed(derive(setting.seed, "layers"))
        for layer in last_layers(setting.model, setting.options.layers):
            layer.reset_parameters()  # type: ignore[operator] # every layer of the library that holds weights has it
    mask.apply(setting.model)
    return _in_part(setting, mask)


def last_layers(model: nn.Module, count: int) -> list[nn.Module]:
    """The last `count` layers that hold matrices or filters, and the normalisations from the first of them on.

    Raises:
        EngineError: `bad_options` where the model has fewer.
    """
    layers = [m for m in model.modules() if callable(getattr(m, "reset_parameters", None)) and _own(m)]
    wide = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear | nn.Conv2d)]
    if count > len(wide):
        raise EngineError("bad_options", f"options.layers is {count}, and the model has {len(wide)} layers")
    return layers[wide[-count] :]


def _in_part(setting: Asked, mask: Mask) -> Fitted:
    kept = read(setting, setting.retain, "retain")
    with _only(setting.model, last_layers(setting.model, setting.options.layers)):
        return descend(setting, fitted_to(setting, kept, "retain"), mask)


@contextlib.contextmanager
def _only(model: nn.Module, layers: list[nn.Module]) -> Iterator[None]:
    """Nothing else is trained, and no statistics of a batch normalisation before them move."""
    trained = {id(p) for layer in layers for p in layer.parameters()}
    asked = [(p, p.requires_grad) for p in model.parameters()]
    others = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m not in layers]  # noqa: SLF001 - torch's only name for all of them
    hooks = [m.register_forward_pre_hook(_in_evaluation) for m in others]
    for p, _ in asked:
        p.requires_grad_(id(p) in trained)
    try:
        yield
    finally:
        for p, before in asked:
            p.requires_grad_(before)
        for hook in hooks:
            hook.remove()


def _own(layer: nn.Module) -> bool:
    """Whether the layer itself has parameters."""
    return any(True for _ in layer.parameters(recurse=False))


def _in_evaluation(layer: nn.Module, _taken: tuple[Tensor, ...]) -> None:
    layer.eval()


def _penalised(piece: Piece, model: nn.Module, gamma: float) -> Tensor:
    """A piece with the norm of all parameters, in one pass backwards."""
    return piece() + gamma * torch.cat([p.flatten() for p in model.parameters()]).abs().sum()
