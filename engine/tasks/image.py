"""Image classifiers: losses, log-probabilities, and whether DP training can work with a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel

from engine.errors import EngineError
from engine.tasks.pixels import Pictures, Pixels

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What a classifier says about pictures, one number a picture.

    `log_probs` of the picture's class in nats; `hits` 1 where that class is the likeliest; `logits` ln p - ln (1 - p),
    stably, which is what likelihood-ratio attacks read.
    """

    log_probs: Floats
    hits: Floats
    logits: Floats


def classes_of(model: PreTrainedModel) -> dict[str, int]:
    """The model's labels by name."""
    return {str(name): int(number) for number, name in cast("Mapping[int, str]", model.config.id2label).items()}


def logits(model: PreTrainedModel, pixels: Pixels, images: Tensor) -> Tensor:
    """Logits (rows x classes) of uint8 images."""
    return cast("Tensor", model(pixel_values=pixels.normalised(images.to(model.device))).logits)


def losses(model: PreTrainedModel, pixels: Pixels, batch: Pictures) -> Tensor:
    """Cross-entropy of each picture (rows,), in nats."""
    return functional.cross_entropy(
        logits(model, pixels, batch.images), batch.classes.to(model.device), reduction="none"
    )


@torch.no_grad()
def scores(model: PreTrainedModel, pixels: Pixels, batch: Pictures, *, rows_per_pass: int) -> Scores:
    """One pass over all pictures, in evaluation mode."""
    made = [
        _scored(logits(model, pixels, batch.images[i : i + rows_per_pass]), batch.classes[i : i + rows_per_pass])
        for i in range(0, len(batch), rows_per_pass)
    ]
    columns = np.concatenate(made, axis=1) if made else np.zeros((3, 0))
    return Scores(log_probs=columns[0], hits=columns[1], logits=columns[2])


def _scored(values: Tensor, classes: Tensor) -> Floats:
    wide, own = values.double().cpu(), functional.one_hot(classes, values.shape[1]).bool()
    mine = wide[own]
    others = wide.masked_fill(own, -torch.inf).logsumexp(1)
    told = (mine - wide.logsumexp(1), (mine > wide.masked_fill(own, -torch.inf).amax(1)).double(), mine - others)
    return np.asarray(torch.stack(told).numpy(), dtype=np.float64)


def refuse_batch_norm(model: nn.Module) -> None:
    """A layer whose output for one person depends on the others has no gradient of one person."""
    mixing = [name for name, layer in model.named_modules() if isinstance(layer, _BatchNorm)]
    if mixing:
        message = (
            f"the layer {mixing[0]!r} is a batch normalisation, which mixes people: the theorem needs each unit's "
            "gradient to depend on that unit alone; use GroupNorm in its place"
        )
        raise EngineError("bad_model", message)
