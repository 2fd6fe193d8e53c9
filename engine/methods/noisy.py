"""Noisy clipped fine-tuning (Koloskova et al. 2025, "Certified unlearning for neural networks"): for any network.

    theta_0 = clip(theta, C0)        theta <- (1 - eta lambda) theta - eta clip(g, C1) + N(0, sigma^2 I)

over T steps on retain data; then ordinary training on them, which is free (post-processing). Clipping and noise do all
of the work: nothing is asked of the loss, the network or how it was trained. The forget set is never read. With
`projected` the state is put back into the ball of radius C0 after each step's noise, and another bound holds as well.
Proofs and accountant: `docs/guarantees.md`, `audits/contraction.py`. Here nothing is computed from epsilon: the caller,
who has the accountant, gives sigma.

All that the model carries over must be inside the clipped vector, so a model whose folder holds more than parameters
(the running statistics of a batch normalisation) is refused. Noise is drawn as in DP training
(`engine.methods.secret`).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.errors import EngineError
from engine.methods import Setting, images, refit, secret
from engine.options import ImageFitOptions, ImageNoisyOptions, NoisyOptions
from engine.seeds import derive
from engine.tasks.language import Forward
from engine.tasks.pixels import Pixels
from engine.training import Fitted, Piece, accelerator_for, accumulate, report

NAME = "noisy_clipped_steps"


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """What the accountant has to know; all of it fixed before the first step."""

    start_radius: float
    clip: float
    learning_rate: float
    weight_decay: float
    noise: float
    steps: int
    projected: bool

    def to_mapping(self) -> dict[str, Any]:
        """The JSON object that stands under `accountant` in evidence."""
        return {
            "mechanism": NAME,
            "startRadius": self.start_radius,
            "clip": self.clip,
            "learningRate": self.learning_rate,
            "weightDecay": self.weight_decay,
            "noise": self.noise,
            "steps": self.steps,
            "projected": self.projected,
        }


def noisy_ft(setting: Setting[Any]) -> Fitted:
    """Clip, step with noise on the retain set, then train on it as usual; the forget set is never read."""
    if not setting.retain:
        raise EngineError("bad_data", "there are no records to train on")
    refuse_state(setting.model)
    settings = _settings(setting.options)
    take_steps(setting.model, _pieces(setting, settings.steps), settings, setting)
    fit = images.refit if isinstance(setting.reader, Pixels) else refit.refit
    fitted = fit(setting)
    return replace(fitted, accountant=settings.to_mapping(), seed_commitment=secret.commitment(setting.secret))


def refuse_state(model: nn.Module) -> None:
    """What training left in a model outside its parameters would escape clipping and noise."""
    owned = {p.data_ptr() for p in model.parameters()}
    others = [name for name, tensor in model.state_dict().items() if tensor.data_ptr() not in owned]
    if others:
        message = (
            f"the model carries {others[0]!r} beside its parameters: the theorem needs everything that training left "
            "in it to be clipped and noised; replace batch normalisation by GroupNorm"
        )
        raise EngineError("bad_model", message)


def take_steps(model: PreTrainedModel, steps: Sequence[Sequence[Piece]], told: Steps, setting: Setting[Any]) -> None:
    """All noisy steps, in place. A gradient that is not finite ends the run before its step."""
    accelerator = accelerator_for(setting.options.precision)
    model.train().to(accelerator.device)
    parameters = list(model.parameters())
    _shrink(parameters, told.start_radius)
    started = time.monotonic()
    for number, pieces in enumerate(steps):
        model.zero_grad(set_to_none=True)
        loss = accumulate(accelerator, model, pieces)
        _step(parameters, told, _noise(setting.secret, number, parameters), loss)
        report(setting.progress, "noise", number + 1, len(steps), started)
    model.zero_grad(set_to_none=True)
    model.eval().to("cpu")


@torch.no_grad()
def _step(parameters: Sequence[nn.Parameter], told: Steps, noise: Sequence[Tensor], loss: float) -> None:
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    norm = float(torch.stack([g.double().norm() for g in gradients]).norm())
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise EngineError("not_finite", "the loss or its gradient was not finite; that step was not taken")
    direction = told.learning_rate * min(1.0, told.clip / norm) if norm else 0.0
    for p, g, z in zip(parameters, gradients, noise, strict=True):
        p.mul_(1.0 - told.learning_rate * told.weight_decay).sub_(g, alpha=direction).add_(z, alpha=told.noise)
    if told.projected:
        _shrink(parameters, told.start_radius)


@torch.no_grad()
def _shrink(parameters: Sequence[nn.Parameter], radius: float) -> None:
    """Scale all parameters together into the ball; rounding stays inside."""
    norm = float(torch.stack([p.double().norm() for p in parameters]).norm())
    if norm > radius:
        for p in parameters:
            p.mul_(radius / norm * (1.0 - 1e-6))


def _noise(hidden: bytes, number: int, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    flat = torch.from_numpy(secret.gaussians(hidden, round_=number, count=sum(p.numel() for p in parameters)))
    parts = flat.split([p.numel() for p in parameters])
    return [part.view(p.shape).to(p) for part, p in zip(parts, parameters, strict=True)]


def _settings(options: NoisyOptions | ImageNoisyOptions) -> Steps:
    if options.noisy_rate * options.weight_decay >= 1:
        raise EngineError("bad_options", "options.noisy_rate times options.weight_decay must stay below 1")
    return Steps(
        start_radius=options.start_radius,
        clip=options.noisy_clip,
        learning_rate=options.noisy_rate,
        weight_decay=options.weight_decay,
        noise=options.sigma,
        steps=options.noisy_steps,
        projected=options.projected,
    )


def _pieces(setting: Setting[Any], count: int) -> list[list[Piece]]:
    """`count` steps' pieces: epochs of the retain set, each in an order of its own."""
    plan, loss = _planner(setting)
    steps: list[list[Piece]] = []
    while len(steps) < count:
        own = replace(setting, seed=derive(setting.seed, "noisy", str(len(steps))))
        steps += [[partial(loss, share) for share in shares] for shares in plan(own)]
    return steps[:count]


def _planner(setting: Setting[Any]) -> tuple[Callable[[Setting[Any]], list[tuple[Any, ...]]], Callable[[Any], Tensor]]:
    """How one epoch is planned, and the loss of a share of a step."""
    model = setting.model
    if isinstance(setting.reader, Pixels):
        pixels = setting.reader
        return lambda own: images.plan(_once(own)), lambda share: share.loss(model, pixels)
    forward = Forward(model)
    return lambda own: refit.plan(_once(own)), lambda share: share.loss(forward)


def _once(setting: Setting[Any]) -> Setting[Any]:
    options = replace(setting.options, epochs=1)
    return replace(setting, options=replace(options, steps=None) if isinstance(options, ImageFitOptions) else options)
