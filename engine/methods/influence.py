"""Influence unlearning: one step to where the model would be had the forget set had no weight.

    theta + alpha H^-1 v,   v = |D_f| / N * (mean gradient on D_f - mean gradient on D_r)    arXiv 2304.04934, section 2

H is the empirical Fisher matrix of m retain pictures, damped: damping * I + (1/m) sum g_i g_i'. Its inverse is applied
by WoodFisher's recursion (arXiv 2004.14340, equation 11), in which each o_i = H_{i-1}^-1 g_i is made of all before it:

    o_i = g_i / damping - sum_{j<i} o_j (o_j . g_i) / (m + t_j),   t_i = o_i . g_i,   k <- k - o_i (k . g_i) / (m + t_i)

That is the inverse itself, at the price of m vectors as long as the model. `variant=published` keeps the one vector of
the released code, which never takes a gradient in again, and starts from the identity: little but a gradient step.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from engine.errors import EngineError
from engine.methods.fisher import mean_loss, sample
from engine.methods.image_descent import Asked, pruned, read
from engine.methods.sparsity import Mask, remaining
from engine.tasks.image import losses
from engine.tasks.pixels import Pictures
from engine.training import Fitted, device

MOST = 1 << 29  # numbers of all o_i together, 2 GiB


def influence(setting: Asked) -> Fitted:
    """One step along the damped inverse; pruned weights neither have a gradient nor move."""
    mask, model, options = pruned(setting), setting.model, setting.options
    kept, gone = read(setting, setting.retain, "retain"), read(setting, setting.forget, "forget")
    used = sample(kept, options.samples, setting.seed)
    exact = options.variant == "correct"
    if exact and len(used) * model.num_parameters() > MOST:
        most = MOST // model.num_parameters()
        raise EngineError("bad_options", f"options.samples must be at most {most} for a model of this size")
    module: nn.Module = model
    module.to(device()).eval()
    before = mean_loss(setting, gone)
    along = len(gone) / (len(gone) + len(kept)) * (_gradient(setting, gone, mask) - _gradient(setting, kept, mask))
    each = (_gradient(setting, used.at([i]), mask) for i in range(len(used)))
    step = inverse_times(each, along, len(used), options.damping) if exact else rank_one(each, along, len(used))
    if not torch.isfinite(step).all():
        raise EngineError("not_finite", "the influence step was not finite and was not taken; raise options.damping")
    _move(model, options.alpha * step)
    after = mean_loss(setting, gone)
    module.to("cpu")
    details = {"remaining": remaining(model), "step_norm": float(options.alpha * step.norm())}
    return Fitted(steps=1, first_loss=before, last_loss=after, details=details)


def inverse_times(gradients: Iterator[Tensor], vector: Tensor, count: int, damping: float) -> Tensor:
    """Times the inverse of damping * I + (1/count) sum g g', exactly; `gradients` are `count` vectors (d,)."""
    made, scales = torch.zeros((count, len(vector))).to(vector), torch.zeros(count).to(vector)
    result = vector / damping
    for i, g in enumerate(gradients):
        o = g / damping - (made[:i] @ g / (count + scales[:i])) @ made[:i]
        made[i], scales[i] = o, o @ g
        result = result - (result @ g) / (count + scales[i]) * o
    return result


def rank_one(gradients: Iterator[Tensor], vector: Tensor, count: int) -> Tensor:
    """What the released code computes, in which no later gradient enters the direction of the first."""
    o, result = next(gradients), vector
    for g in gradients:
        t = o @ g
        result = result - (result @ g) / (count + t) * o
        o = o - t / (count + t) * o
    return result


def _gradient(setting: Asked, batch: Pictures, mask: Mask) -> Tensor:
    """The flat gradient of the mean loss (parameters,), nothing of what was pruned."""
    model, size = setting.model, setting.options.rows_per_pass
    model.zero_grad(set_to_none=True)
    for i in range(0, len(batch), size):
        rows = range(i, min(i + size, len(batch)))
        (losses(model, setting.pixels, batch.at(rows)).sum() / len(batch)).backward()
    mask.still(model)
    parts: Sequence[Tensor] = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    flat = torch.cat([part.flatten() for part in parts])
    model.zero_grad(set_to_none=True)
    return flat


@torch.no_grad()
def _move(model: nn.Module, step: Tensor) -> None:
    parameters = list(model.parameters())
    for parameter, part in zip(parameters, step.split([p.numel() for p in parameters]), strict=True):
        parameter.add_(part.view_as(parameter))
