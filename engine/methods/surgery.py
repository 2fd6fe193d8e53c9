"""Methods that do more with two gradients than add them. g_f and g_r are those of the forget and the retain term.

    gru       g_f - (<g_f, g_r> / |g_r|^2) g_r where <g_f, g_r> < 0, then + g_r      arXiv 2503.09117
    sam-npo   g_f taken at theta + rho g_f / |g_f|, then + g_r                        arXiv 2502.05374
    pdu       g_f + lambda g_r,  lambda <- max(0, lambda + eta (CE_retain - epsilon))   arXiv 2506.05314
              F: the mean over labels of (max z - mean z)^2

PDU's epsilon is the retain loss at the first step plus `slack`; its multiplier starts at the retain weight and is
updated after `dual_warmup` steps. No copy of the weights is kept: SAM's step away is undone by subtracting it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from engine.methods import Setting
from engine.methods.ascent import ascent, weighted_ascent
from engine.methods.descent import Objective, descend
from engine.methods.preference import npo_term
from engine.methods.terms import Labels, Term
from engine.training import Fitted, Piece, accumulate

Gradients = list[Tensor | None]


def gru(setting: Setting[Any]) -> Fitted:
    """Gradient rectified unlearning: the part of the forget gradient that would harm retain is taken out."""
    beta = setting.options.beta
    terms = {
        "npo": npo_term(beta),
        "ga": Term(loss=ascent),
        "wga": Term(loss=partial(weighted_ascent, beta=1.0)),
    }
    return descend(setting, Objective(forget=terms[setting.options.objective], combine=rectified))


def sam_npo(setting: Setting[Any]) -> Fitted:
    """NPO whose gradient is taken where relearning would lead first."""
    combine = partial(sharpness_aware, rho=setting.options.rho)
    return descend(setting, Objective(forget=npo_term(setting.options.beta), combine=combine))


def pdu(setting: Setting[Any]) -> Fitted:
    """Flatten the logits of the forget set under a bound on the retain loss."""
    options = setting.options
    dual = Dual(weight=options.retain_weight, slack=options.slack, rate=options.dual_rate, warmup=options.dual_warmup)
    return descend(setting, Objective(forget=Term(loss=margins), combine=dual.combine))


def margins(labels: Labels) -> Tensor:
    """(max z - mean z)^2 of each label (labels,)."""
    return (labels.logits.amax(-1) - labels.logits.mean(-1)).square()


def rectified(accelerator: Accelerator, model: nn.Module, forget: Sequence[Piece], retain: Sequence[Piece]) -> float:
    """GRU's gradient."""
    loss, first = _taken(accelerator, model, forget)
    kept, second = _taken(accelerator, model, retain)
    dot, square = _dot(first, second), _dot(second, second)
    scale = 1.0 - dot / square if dot < 0 < square else 1.0  # g_f - (dot / square) g_r + g_r
    for p, a, b in zip(_trained(model), first, second, strict=True):
        p.grad = _plus(a, b, scale)
    return loss + kept


def sharpness_aware(
    accelerator: Accelerator, model: nn.Module, forget: Sequence[Piece], retain: Sequence[Piece], *, rho: float
) -> float:
    """SAM's gradient of the forget term, and the ordinary one of the retain term."""
    loss, ahead = _taken(accelerator, model, forget)
    norm = _dot(ahead, ahead) ** 0.5
    scale = rho / norm if norm > 0 else 0.0
    _move(model, ahead, scale)
    accumulate(accelerator, model, forget)
    _move(model, ahead, -scale)
    return loss + accumulate(accelerator, model, retain)


@dataclass(kw_only=True, slots=True)
class Dual:
    """PDU's multiplier, and the bound it enforces."""

    weight: float
    slack: float
    rate: float
    warmup: int
    bound: float | None = None
    multiplier: float = 0.0
    steps: int = 0

    def combine(
        self, accelerator: Accelerator, model: nn.Module, forget: Sequence[Piece], retain: Sequence[Piece]
    ) -> float:
        """The gradient of the Lagrangian at this multiplier; then the multiplier's own step."""
        loss, first = _taken(accelerator, model, forget)
        kept, second = _taken(accelerator, model, retain)
        cross_entropy = kept / self.weight
        if self.bound is None:
            self.bound, self.multiplier = cross_entropy + self.slack, self.weight
        for p, a, b in zip(_trained(model), first, second, strict=True):
            p.grad = _plus(a, b, self.multiplier / self.weight)
        value = loss + self.multiplier * cross_entropy
        self.steps += 1
        if self.steps > self.warmup:
            self.multiplier = max(0.0, self.multiplier + self.rate * (cross_entropy - self.bound))
        return value


def _taken(accelerator: Accelerator, model: nn.Module, pieces: Sequence[Piece]) -> tuple[float, Gradients]:
    """The loss and gradients of some pieces; the parameters are left without."""
    loss = accumulate(accelerator, model, pieces)
    gradients: Gradients = []
    for p in _trained(model):
        gradients.append(p.grad)
        p.grad = None
    return loss, gradients


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _dot(first: Gradients, second: Gradients) -> float:
    pairs = zip(first, second, strict=True)
    return sum(float((a.double() * b.double()).sum()) for a, b in pairs if a is not None and b is not None)


def _plus(first: Tensor | None, second: Tensor | None, scale: float) -> Tensor | None:
    if first is None or second is None:
        return first if second is None else second * scale
    return first + scale * second


@torch.no_grad()
def _move(model: nn.Module, direction: Gradients, scale: float) -> None:
    for p, d in zip(_trained(model), direction, strict=True):
        if d is not None:
            p.add_(d, alpha=scale)
