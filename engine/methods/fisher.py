"""Fisher forgetting: noise where the retain set does not mind it.

    theta_j ~ N(theta_j, alpha * min(1 / (F_j + 1e-8), 1000))          arXiv 1911.04933, as arXiv 2304.04934 has it

F is the diagonal of the Fisher matrix on the retain set, mean over pictures and over classes as likely as the model
says. Of tensors with several dimensions the variance is the mean over the second; the classifier's is at most 100
before alpha, and it and tensors of one dimension have ten times as much. The row of a class that nobody who stays
belongs to is drawn around zero with variance 1e-4. `variant=published` squares the gradient of batches of 32, which is
not the Fisher matrix: gradients of different pictures cancel in it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.methods.image_descent import Asked, pruned, read, whole_classes
from engine.methods.sparsity import head, remaining
from engine.seeds import derive
from engine.tasks.image import logits, losses
from engine.tasks.pixels import Pictures
from engine.training import Fitted, device

BATCH = 32  # of the published variant
SMALLEST, LARGEST, LARGEST_OF_HEAD, MORE = 1e-8, 1e3, 1e2, 10.0
EMPTY_ROW = 1e-4  # variance of the row of a class that is gone


def fisher(setting: Asked) -> Fitted:
    """Noise on every weight, drawn with the setting's seed; pruned weights have none."""
    mask, model = pruned(setting), setting.model
    kept, gone = read(setting, setting.retain, "retain"), read(setting, setting.forget, "forget")
    used = sample(kept, setting.options.samples, setting.seed)
    module: nn.Module = model
    module.to(device()).eval()
    before = mean_loss(setting, used)
    found = diagonal(setting, used, size=BATCH if setting.options.variant == "published" else 1)
    disturb(model, found, setting.options.alpha, whole_classes(gone, kept), setting.seed)
    mask.apply(model)
    after = mean_loss(setting, used)
    module.to("cpu")
    return Fitted(steps=1, first_loss=before, last_loss=after, details={"remaining": remaining(model)})


def diagonal(setting: Asked, batch: Pictures, *, size: int) -> dict[str, Tensor]:
    """The Fisher diagonal per parameter; exact for `size` 1, for more the published square of a mean gradient."""
    model, progress = setting.model, setting.progress
    named = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    starts = range(0, len(batch), size)
    for done, i in enumerate(starts):
        rows = range(i, min(i + size, len(batch)))
        log_probs = logits(model, setting.pixels, batch.at(rows).images).log_softmax(-1)
        shares = log_probs.detach().exp().mean(0)
        for own, share in zip(log_probs.mean(0), shares, strict=True):
            found = torch.autograd.grad(own, list(named.values()), retain_graph=True)
            for name, gradient in zip(named, found, strict=True):
                total[name] += share * gradient.square()
        progress("fisher", (done + 1) / len(starts), None)
    return {name: one / len(starts) for name, one in total.items()}


@torch.no_grad()
def disturb(model: nn.Module, found: Mapping[str, Tensor], alpha: float, gone: list[int], seed: int) -> None:
    """Draw every parameter anew around itself, or around zero where it tells of a class that is gone."""
    last = head(model)[0]
    rng = np.random.default_rng(derive(seed, "fisher"))
    for name, parameter in model.named_parameters():
        of_head = name.rpartition(".")[0] == last
        spread = variance(found[name], alpha, of_head=of_head)
        if of_head:
            parameter[gone], spread[gone] = 0.0, EMPTY_ROW
        noise = torch.from_numpy(rng.standard_normal(tuple(parameter.shape), dtype=np.float32)).to(parameter)
        parameter.add_(spread.sqrt() * noise)


def variance(found: Tensor, alpha: float, *, of_head: bool) -> Tensor:
    """The variance of each weight of a tensor, from its Fisher diagonal (same shape)."""
    spread = alpha * (1 / (found + SMALLEST)).clamp(max=LARGEST_OF_HEAD if of_head else LARGEST)
    if spread.ndim > 1:
        spread = spread.mean(1, keepdim=True).expand_as(found).clone()
    return spread * (MORE if of_head or spread.ndim == 1 else 1.0)


def sample(batch: Pictures, count: int, seed: int) -> Pictures:
    """`count` pictures drawn with the seed, all of them where there are no more."""
    if count >= len(batch):
        return batch
    return batch.at(np.random.default_rng(derive(seed, "sample")).choice(len(batch), count, replace=False))


@torch.no_grad()
def mean_loss(setting: Asked, batch: Pictures) -> float:
    """Nats a picture."""
    size = setting.options.rows_per_pass
    parts: list[Any] = [batch.at(range(i, min(i + size, len(batch)))) for i in range(0, len(batch), size)]
    return float(torch.cat([losses(setting.model, setting.pixels, part) for part in parts]).mean())
