"""A convex head that was asked to keep painted pictures, and the same objective by torch's own means."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from engine.catalogue import check_options
from engine.heads.rows import Vector
from engine.methods import Setting
from engine.tasks.image_models import ImageModel
from tests.engine import painted, tiny

SECRET = bytes(range(32))
KEPT = ("newton-removal", "descent-to-delete", "rewind")
METHODS = ("newton-noise", "descent-noise", "langevin")
QUICK: dict[str, dict[str, Any]] = {
    "newton-noise": {"penalty": 1e-3},
    "descent-noise": {"penalty": 1e-2, "head_steps": 60},
    "langevin": {"penalty": 1e-2, "head_steps": 60},
    "newton-removal": {"penalty": 1e-2, "residual": 1e-2, "classes": 4},
    "descent-to-delete": {"penalty": 1e-2, "head_steps": 40, "classes": 4, "points": 40},
    "rewind": {"head_steps": 8, "rewound": 6, "share": 0.2, "classes": 4},
}


def setting(method: str, *, seed: int = 0, **changes: Any) -> Setting[Any]:  # noqa: ANN401 - fields and options
    """A linear model on Gabor features, twenty pictures that stay, noise whose secret everybody knows."""
    own = ("model", "retain", "forget", "secret", "digest", "cache", "durable")
    fields = {name: changes.pop(name) for name in own if name in changes}
    model, pixels = painted.network(seed, architecture=changes.pop("architecture", "gabor"))
    told = {"model": model, "retain": painted.records(range(20)), "forget": (), "secret": SECRET, **fields}
    options = check_options("unlearn", method, {"sigma": 1e-3, **QUICK[method], **changes}, "image")
    told = {"digest": "x", "cache": Path("x"), **told}
    return Setting(reader=pixels, options=options, seed=1, progress=tiny.quiet, folder=Path("x"), **told)


def layer(model: PreTrainedModel) -> Tensor:
    """Weights and bias as one matrix (classes x features + 1), in double precision."""
    last = cast("ImageModel", model).classifier
    parts = [last.weight.detach(), last.bias.detach()[:, None]]
    return torch.cat(parts, dim=1).double()


def autograd(x: Vector, labels: Vector, v: Vector, lam: float) -> Tensor:
    """The gradient of the mean one-vs-rest loss with its penalty, by torch in float64."""
    heads = torch.tensor(v, requires_grad=True)
    targets = functional.one_hot(torch.tensor(labels).long(), len(v)).double()
    margins = torch.tensor(x) @ heads.T
    loss = functional.binary_cross_entropy_with_logits(margins, targets, reduction="none").sum(1).mean()
    (gradient,) = torch.autograd.grad(loss + lam / 2 * heads.square().sum(), heads)
    return gradient
