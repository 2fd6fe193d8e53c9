"""Ordinary training on pictures that ends in a sparse classifier: prune first, then train what is left.

    one-shot    train, prune once by magnitude, go back to the weights of epoch `rewind_epochs`, train the rest
    iterative   the same in `pruning_rounds`, of which each takes the same share of what is left
    synflow     prune before any training

as in arXiv 2304.04934, section 3; going back is arXiv 1903.01611. The schedule begins anew over the steps that remain,
and the optimiser with it. Without sparsity this is `engine.methods.images.refit`.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from engine.errors import EngineError
from engine.methods import images
from engine.methods.image_descent import Asked, chosen, masked
from engine.methods.images import Share
from engine.methods.sparsity import Mask, Snapshot, remaining
from engine.training import Fitted, Piece, Schedule, accumulate, fit

Steps = Sequence[tuple[Piece, ...]]
Gradient = Callable[[Accelerator, Sequence[Piece]], float]


def refit(setting: Asked) -> Fitted:
    """Train on the retain records; evidence of a sparse model tells what share of its weights remains."""
    options = setting.options
    if not options.sparsity:
        return images.refit(setting)
    if not setting.retain:
        raise EngineError("bad_data", "there are no records to train on")
    steps = [_pieces(setting, step) for step in images.plan(setting)]
    fitted = _from_the_start(setting, steps) if options.pruning == "synflow" else _rewound(setting, steps)
    return replace(fitted, details={"remaining": remaining(setting.model)})


def retrain(setting: Asked) -> Fitted:
    """Train the start (`base`), which never saw the forget set, on the retain set; the mask saw no more than that."""
    return refit(setting)


def _from_the_start(setting: Asked, steps: Steps) -> Fitted:
    options = setting.options
    mask = chosen(setting.model, setting.pixels, options.pruning, options.sparsity, options)
    mask.apply(setting.model)
    return _fit(setting, steps, masked(setting.model, [mask]))


def _rewound(setting: Asked, steps: Steps) -> Fitted:
    options, model = setting.options, setting.model
    early = options.rewind_epochs * -(-len(setting.retain) // options.batch)
    if early >= len(steps):
        raise EngineError("bad_options", "options.rewind_epochs must leave epochs to train; make it smaller")
    rounds = options.pruning_rounds if options.pruning == "iterative" else 1
    with tempfile.TemporaryDirectory(prefix="expunge-") as name:
        snapshot = Snapshot(path=Path(name) / "weights.safetensors", model=model)
        told = [_fit(setting, steps, _snapped(model, snapshot, early))]
        for done in range(1, rounds + 1):
            mask: Mask = chosen(
                model, setting.pixels, options.pruning, 1 - (1 - options.sparsity) ** (done / rounds), options
            )
            snapshot()
            mask.apply(model)
            told.append(_fit(setting, steps[early:], masked(model, [mask])))
    return replace(told[-1], steps=sum(one.steps for one in told), first_loss=told[0].first_loss)


def _snapped(model: nn.Module, snapshot: Snapshot, early: int) -> Gradient:
    """The ordinary gradient, which before step `early` (from 0) writes the weights to where they will be read from."""
    step = 0

    def gradient(accelerator: Accelerator, pieces: Sequence[Piece]) -> float:
        nonlocal step
        if step == early:
            snapshot.take()
        step += 1
        return accumulate(accelerator, model, pieces)

    return gradient


def _fit(setting: Asked, steps: Steps, gradient: Gradient) -> Fitted:
    return fit(
        model=setting.model,
        batches=steps,
        gradient=gradient,
        schedule=Schedule(learning_rate=setting.options.learning_rate, precision=setting.options.precision),
        stage="train",
        progress=setting.progress,
    )


def _pieces(setting: Asked, step: Sequence[Share]) -> tuple[Piece, ...]:
    return tuple(partial(part.loss, setting.model, setting.pixels) for part in step)
