"""The steps of an unlearner of image classifiers: pruned first where that is asked for, the mask kept through each.

A method makes a plan, a list of steps; a step is a tuple of pieces whose gradients add up. Everything is drawn with
the setting's seed before the first step. Fine-tuning, relabelling, teachers and ascent differ in their pieces alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.corpus import Record
from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.images import Share, shares
from engine.methods.sparsity import Mask, magnitude, remaining, synflow, zeros
from engine.options.images import ImageUnlearnOptions
from engine.seeds import derive
from engine.tasks.image import classes_of
from engine.tasks.pixels import Pictures, Pixels, pictures
from engine.training import Fitted, Piece, Schedule, accumulate, fit

MOMENTUM = 0.9  # of SGD, as published
Asked = Setting[Any]  # with `ImageUnlearnOptions` or what extends them
Plan = list[tuple[Piece, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Halt:
    """Ends the steps before one whose loss is below `floor`: ascent would go on until nothing is left."""

    floor: float


def read(setting: Asked, records: Sequence[Record], role: str) -> Pictures:
    """The pictures of one of the setting's sets; `EngineError("bad_data")` where it has none."""
    if not records:
        raise EngineError("bad_data", f"there are no records in the {role} set")
    return pictures(records, setting.pixels, classes_of(setting.model))


def whole_classes(gone: Pictures, kept: Pictures) -> list[int]:
    """The classes that only pictures of the forget set belong to."""
    return sorted(set(gone.classes.tolist()) - set(kept.classes.tolist()))


def epochs_of(size: int, options: ImageUnlearnOptions, seed: int, name: str) -> list[tuple[int, NDArray[np.int64]]]:
    """The epoch and the rows of every step, each epoch in an order of its own; as many as `steps` says if it does."""
    steps: list[tuple[int, NDArray[np.int64]]] = []
    epoch = 0
    while epoch < options.epochs if options.steps is None else len(steps) < options.steps:
        order = np.random.default_rng(derive(seed, name, str(epoch))).permutation(size)
        steps += [(epoch, order[i : i + options.batch]) for i in range(0, size, options.batch)]
        epoch += 1
    return steps[: options.steps]


def fitting(setting: Asked, batch: Pictures, *, weight: float = 1.0) -> tuple[Piece, ...]:
    """`weight` times the mean cross-entropy of a batch."""
    parts = shares(batch, setting.options.rows_per_pass)
    return tuple(partial(_weighted, part, setting.model, setting.pixels, weight) for part in parts)


def fitted_to(setting: Asked, batch: Pictures, name: str) -> Plan:
    """Every epoch over these pictures with these classes."""
    return [fitting(setting, batch.at(rows)) for _, rows in epochs_of(len(batch), setting.options, setting.seed, name)]


def pruned(setting: Asked) -> Mask:
    """Prune the model as the options say, winning back on the retain set what that cost; a sparse model stays so."""
    options, model = setting.options, setting.model
    mask = zeros(model)
    rounds = options.pruning_rounds if options.pruning == "iterative" else 1
    for done in range(1, rounds + 1) if options.sparsity else ():
        mask = chosen(model, setting.pixels, options.pruning, 1 - (1 - options.sparsity) ** (done / rounds), options)
        mask.apply(model)
        if options.recovery_epochs:
            _recover(setting, mask, done)
    return mask


def chosen(
    model: nn.Module,
    pixels: Pixels,
    pruning: str,
    sparsity: float,
    options: Any,  # noqa: ANN401 - sparse options
) -> Mask:
    """The mask that one round of pruning gives the model as it is; what was pruned before stays pruned."""
    if pruning == "synflow":
        shape = (pixels.channels, pixels.height, pixels.width)
        return synflow(model, sparsity, options.pruned_layers, shape)
    return magnitude(model, sparsity, options.pruned_layers)


def masked(model: nn.Module, masks: Iterable[Mask]) -> Callable[[Accelerator, Sequence[Piece]], float]:
    """The gradient of a step without what masks hold still."""
    held = tuple(masks)

    def gradient(accelerator: Accelerator, step: Sequence[Piece]) -> float:
        loss = accumulate(accelerator, model, step)
        for mask in held:
            mask.still(model)
        return loss

    return gradient


def descend(setting: Asked, steps: Plan, *masks: Mask, halt: Halt | None = None) -> Fitted:
    """Take the steps; evidence tells what share of the weights remains and after which step ascent was stopped."""
    options = setting.options
    taken: list[float] = []
    gradient = masked(setting.model, masks)

    def watched(accelerator: Accelerator, step: Sequence[Piece]) -> float:
        if halt is None:
            return gradient(accelerator, step)
        if len(taken) and taken[-1] < halt.floor:
            return taken[-1]  # without a gradient no optimiser moves anything
        loss = gradient(accelerator, step)
        taken.append(loss)
        if loss < halt.floor:
            setting.model.zero_grad(set_to_none=True)
        return loss

    fitted = fit(
        model=setting.model,
        batches=steps,
        gradient=watched,
        schedule=_schedule(options, cosine=False),
        stage="unlearn",
        progress=setting.progress,
    )
    details: dict[str, Any] = {"remaining": remaining(setting.model)}
    if halt is not None:
        stopped = taken[-1] < halt.floor
        fitted = replace(fitted, steps=len(taken) - stopped)
        details["stopped_early"] = stopped
    return replace(fitted, details=details)


def _schedule(options: ImageUnlearnOptions, *, cosine: bool) -> Schedule:
    return Schedule(
        learning_rate=options.learning_rate,
        momentum=MOMENTUM if options.optimiser == "sgd" else None,
        cosine=cosine,
        precision=options.precision,
    )


def _recover(setting: Asked, mask: Mask, done: int) -> None:
    options = replace(
        setting.options,
        epochs=setting.options.recovery_epochs,
        steps=None,
        learning_rate=setting.options.recovery_rate,
        optimiser="adamw",
    )
    given = replace(setting, options=options)
    fit(
        model=setting.model,
        batches=fitted_to(given, read(setting, setting.retain, "retain"), f"recover-{done}"),
        gradient=masked(setting.model, [mask]),
        schedule=_schedule(options, cosine=True),
        stage="prune",
        progress=setting.progress,
    )


def _weighted(share: Share, model: PreTrainedModel, pixels: Pixels, weight: float) -> Tensor:
    return weight * share.loss(model, pixels)
