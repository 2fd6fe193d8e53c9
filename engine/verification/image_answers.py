"""What a classifier says about sets of pictures: numbers a picture, which a cache can keep, and no picture.

    log_probs     nats of the picture's own class
    predicted     the likeliest class; of equally likely ones the first
    hits          1 where the own class is likelier than every other
    entropy       -sum p ln p, in nats
    m_entropy     -(1 - p_y) ln p_y - sum over i != y of p_i ln(1 - p_i), in nats: the modified entropy of Song and
                  Mittal 2021 (arXiv 2003.10595, equation 8), which knows the label; 0 where the own class is certain
    probs         p of every class, picture after picture, where that is not more than `VECTORS` numbers in all

All are computed from logits in double precision: a classifier that is nearly certain has a p of 1 in floating point,
and ln(1 - p) is finite all the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor
from transformers import PreTrainedModel

from engine.errors import EngineError
from engine.methods.label_agnostic_network import Network
from engine.tasks.image import logits
from engine.tasks.pixels import Pictures, Pixels
from engine.verification.statistics import Floats, Ints

VECTORS = 2_000_000  # probabilities of one model that are kept; a table of all classes of a large set is larger
PLACES = 6  # of a kept probability


@dataclass(frozen=True, kw_only=True, slots=True)
class Read:
    """One set: logits (rows x classes), classes (rows,), what the last layer reads (rows x width) if it can be had."""

    logits: Floats
    classes: Ints
    features: Floats | None


def read(
    model: PreTrainedModel,
    pixels: Pixels,
    sets: Mapping[str, Callable[[], Pictures]],
    rows: int,
    report: Callable[[float], None],
) -> dict[str, Read]:
    """One pass over every set, in evaluation mode; a set is decoded when its turn comes."""
    made = {}
    for i, (name, decoded) in enumerate(sets.items()):
        made[name] = _one(model, pixels, decoded(), rows)
        report((i + 1) / len(sets))
    return made


@torch.no_grad()
def _one(model: PreTrainedModel, pixels: Pixels, batch: Pictures, rows: int) -> Read:
    seen: list[Tensor] = []
    head = _head(model, pixels)
    hook = None if head is None else head.register_forward_pre_hook(lambda _layer, given: seen.append(given[0].cpu()))
    try:
        told = [logits(model, pixels, images).double().cpu() for images in batch.images.split(rows)]
    finally:
        if hook is not None:
            hook.remove()
    matrices = len(seen) == len(told) and all(part.ndim == told[0].ndim for part in seen)
    features = torch.cat(seen).double().numpy() if matrices else None
    return Read(logits=torch.cat(told).numpy(), classes=batch.classes.numpy(), features=features)


def _head(model: PreTrainedModel, pixels: Pixels) -> torch.nn.Linear | None:
    """The last layer where features can change below it; a network of another shape has no picture of them."""
    try:
        return Network.of(model, pixels).head
    except EngineError:
        return None


def answers(made: Mapping[str, Read]) -> dict[str, list[float]]:
    """Every number of the sets by its name, `forget_entropy` among them."""
    told: dict[str, list[float]] = {}
    keep = sum(one.logits.size for one in made.values()) <= VECTORS
    for name, one in made.items():
        every = log_probabilities(one.logits)
        own = every[np.arange(len(every)), one.classes]
        others = np.where(np.eye(every.shape[1], dtype=bool)[one.classes], -np.inf, every)
        found: dict[str, Floats | Ints] = {
            "log_probs": own,
            "predicted": every.argmax(1),
            "hits": (own > others.max(1)).astype(np.float64),
            "entropy": entropy(every),
            "m_entropy": modified_entropy(every, one.classes),
            "probs": _rounded(every) if keep else np.zeros(0),
        }
        told |= {f"{name}_{kind}": values.astype(np.float64).tolist() for kind, values in found.items()}
    return told


def log_probabilities(values: Floats) -> Floats:
    """Logarithms of probabilities (rows x classes), of logits."""
    told: Floats = values - logsumexp(values, axis=1, keepdims=True)
    return told


def entropy(log_probs: Floats) -> Floats:
    """Of each row, in nats; a class without any probability adds nothing."""
    told: Floats = -_weighted(log_probs, log_probs).sum(1)
    return told


def modified_entropy(log_probs: Floats, classes: Ints) -> Floats:
    """Of each row under its class, in nats (rows,)."""
    rows = np.arange(len(log_probs))
    terms = _weighted(log_probs, _log_others(log_probs))
    terms[rows, classes] = np.exp(_log_others(log_probs)[rows, classes]) * log_probs[rows, classes]
    told: Floats = -terms.sum(1)
    return told


def _rounded(log_probs: Floats) -> Floats:
    """Probabilities as they are kept, row after row."""
    told: Floats = np.exp(log_probs).round(PLACES).ravel()
    return told


def _weighted(log_probs: Floats, values: Floats) -> Floats:
    """Values times their probability; 0 where that is 0, whatever the value."""
    weights = np.exp(log_probs)
    return np.where(weights > 0, weights * np.where(weights > 0, values, 0.0), 0.0)


def _log_others(log_probs: Floats) -> Floats:
    """ln(1 - p); of the likeliest class as the logarithm of all others' sum, since 1 - p has no digits left there."""
    rows, best = np.arange(len(log_probs)), log_probs.argmax(1)
    told: NDArray[np.float64] = np.log1p(-np.minimum(np.exp(log_probs), 0.5))
    without = log_probs.copy()
    without[rows, best] = -np.inf
    told[rows, best] = logsumexp(without, axis=1)
    return told
