"""Ordinary training on pictures, and what is nothing else: a start of random weights and `dp2`.

The same claims as for text (`engine.methods.refit`): where a model starts decides what it may claim.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from engine.errors import EngineError
from engine.methods import Setting
from engine.options import ImageFitOptions, ImageInitialiseOptions
from engine.ranks import processes
from engine.seeds import derive
from engine.tasks.image import classes_of, losses
from engine.tasks.image_models import ImageConfig, ImageModel
from engine.tasks.pixels import Pictures, Pixels, pictures
from engine.training import Fitted, Schedule, fit, minimise


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """The pictures of a step that go through the model together, and how many the whole step has."""

    batch: Pictures
    rows: int

    def loss(self, model: PreTrainedModel, pixels: Pixels) -> Tensor:
        """What these pictures add to the step's loss, the mean cross-entropy."""
        return losses(model, pixels, self.batch).sum() / self.rows


def build(options: ImageInitialiseOptions) -> tuple[ImageModel, Pixels]:
    """A network with random weights, drawn from torch's global generator (seed it first); scaling is fixed."""
    if len(set(options.labels)) != len(options.labels) or len(options.labels) < 2:  # noqa: PLR2004 - a choice
        raise EngineError("bad_options", "options.labels must name at least two classes, each once")
    if options.size % 4:
        raise EngineError("bad_options", "options.size must be a multiple of 4")
    names = dict(enumerate(options.labels))
    config = ImageConfig(
        architecture=options.architecture,
        channels=options.channels,
        size=options.size,
        width=options.width,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )
    blank = (0.0,) * options.channels, (1.0,) * options.channels
    pixels = Pixels(
        channels=options.channels, height=options.size, width=options.size, mean=blank[0], deviation=blank[1]
    )
    return ImageModel(config), pixels


def fit_options(options: ImageInitialiseOptions) -> ImageFitOptions:
    """The part of the options that is ordinary training."""
    return ImageFitOptions(epochs=options.epochs, batch=options.batch, learning_rate=options.learning_rate)


def refit(setting: Setting[ImageFitOptions]) -> Fitted:
    """Train on the retain records; the order is drawn anew in each epoch."""
    if not setting.retain:
        raise EngineError("bad_data", "there are no records to train on")
    model, pixels, options = setting.model, setting.pixels, setting.options
    return fit(
        model=model,
        batches=plan(setting),
        gradient=minimise(model, lambda share: share.loss(model, pixels)),
        schedule=Schedule(learning_rate=options.learning_rate, precision=options.precision),
        stage="train",
        progress=setting.progress,
    )


def dp2(setting: Setting[ImageFitOptions]) -> Fitted:
    """Train the DP base on the retain set; the deployed model, which was trained on everything, is discarded."""
    return refit(setting)


def plan(setting: Setting[ImageFitOptions]) -> list[tuple[Share, ...]]:
    """Steps of `batch` pictures, each in passes; as many as `steps` says, or as `epochs` hold."""
    options = setting.options
    known = pictures(setting.retain, setting.pixels, classes_of(setting.model))
    steps: list[tuple[Share, ...]] = []
    epoch = 0
    while epoch < options.epochs if options.steps is None else len(steps) < options.steps:
        order = np.random.default_rng(derive(setting.seed, "epoch", str(epoch))).permutation(len(known))
        chunks = [order[i : i + options.batch] for i in range(0, len(order), options.batch)]
        steps += [shares(known.at(chunk), options.rows_per_pass) for chunk in chunks]
        epoch += 1
    return steps[: options.steps]


def shares(batch: Pictures, rows_per_pass: int) -> tuple[Share, ...]:
    """One step in passes; their losses add up to the loss of the step."""
    size = min(rows_per_pass, -(-len(batch) // processes()))
    groups: Sequence[Pictures] = [batch.at(range(i, min(i + size, len(batch)))) for i in range(0, len(batch), size)]
    return tuple(Share(batch=group, rows=len(batch)) for group in groups)
