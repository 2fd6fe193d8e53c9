"""Variational autoencoders of representations: what is usual among all, and what among the forget set.

    encoder   width - 128 - 32 - (mean, log variance) of `latent` numbers, ReLU between
    decoder   latent - 32 - 128 - width
    loss      |y - x|^2 + kl * KL(N(mean, variance) | N(0, 1)),  the mean over a batch

as in arXiv 2404.00506 and its released code, whose decoder ends in a sigmoid and so cannot give back a representation
that is above 1 or below 0. `fixed` has no sigmoid and sees each coordinate standardised over the pictures it was
fitted on; one that never differs there is only centred. Noise of training comes from the seed, one draw a step.
Reconstructions afterwards are those of the mean.
"""

from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from engine.seeds import derive
from engine.training import Fitted, Progress, Schedule, accumulate, fit

HIDDEN = (128, 32)
FLAT = 1e-6  # a deviation below which a coordinate says nothing


class Autoencoder(nn.Module):
    """Rows of `width` numbers through `latent` ones and back."""

    mean: Tensor
    scale: Tensor

    def __init__(self, seen: Tensor, *, latent: int, faithful: bool) -> None:
        """For representations like `seen` (rows x width); weights from torch's global generator."""
        super().__init__()
        width, (wide, narrow) = seen.shape[1], HIDDEN
        self.encoder = nn.Sequential(nn.Linear(width, wide), nn.ReLU(), nn.Linear(wide, narrow), nn.ReLU())
        self.centre, self.spread = nn.Linear(narrow, latent), nn.Linear(narrow, latent)
        back = [nn.Linear(latent, narrow), nn.ReLU(), nn.Linear(narrow, wide), nn.ReLU(), nn.Linear(wide, width)]
        self.decoder = nn.Sequential(*back, *([nn.Sigmoid()] if faithful else []))
        deviation = seen.std(0, correction=0)
        plain = torch.ones(width) if faithful else deviation.where(deviation > FLAT, torch.ones(width))
        self.register_buffer("mean", torch.zeros(width) if faithful else seen.mean(0))
        self.register_buffer("scale", plain)

    def standard(self, rows: Tensor) -> Tensor:
        """Representations (rows x width) as they are reconstructed."""
        return (rows - self.mean) / self.scale

    def forward(self, standard: Tensor) -> Tensor:
        """The reconstruction (rows x width) from the mean of the latent numbers."""
        return cast("Tensor", self.decoder(self.centre(self.encoder(standard))))

    def loss(self, rows: Tensor, noise: Tensor, kl: float) -> Tensor:
        """What training minimises, with `noise` (rows x latent) from N(0, 1)."""
        given = self.standard(rows)
        hidden = self.encoder(given)
        centre, spread = self.centre(hidden), self.spread(hidden)
        error = (self.decoder(centre + (0.5 * spread).exp() * noise) - given).square().sum(1)
        divergence = 0.5 * (centre.square() + spread.exp() - 1.0 - spread).sum(1)
        return cast("Tensor", (error + kl * divergence).mean())


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How autoencoders are made."""

    latent: int
    faithful: bool
    epochs: int
    batch: int
    rate: float
    kl: float
    seed: int


def trained(seen: Tensor, plan: Plan, *, name: str, progress: Progress) -> tuple[Autoencoder, Fitted]:
    """An autoencoder of representations (rows x width), no longer to be changed, and what its training did."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(plan.seed, "vae", name))
        made = Autoencoder(seen, latent=plan.latent, faithful=plan.faithful)
    generator = torch.Generator().manual_seed(derive(plan.seed, "vae noise", name))
    batches = []
    for epoch in range(plan.epochs):
        order = np.random.default_rng(derive(plan.seed, "vae", name, str(epoch))).permutation(len(seen))
        for i in range(0, len(order), plan.batch):
            rows = torch.from_numpy(order[i : i + plan.batch])
            batches.append((rows, torch.randn(len(rows), plan.latent, generator=generator)))

    def piece(rows: Tensor, noise: Tensor) -> Tensor:
        there = made.mean.device
        return made.loss(seen[rows].to(there), noise.to(there), plan.kl)

    fitted = fit(
        model=made,
        batches=batches,
        gradient=lambda accelerator, batch: accumulate(accelerator, made, [partial(piece, *batch)]),
        schedule=Schedule(learning_rate=plan.rate, cosine=False, max_norm=None),
        stage=f"autoencoder of {name}",
        progress=progress,
    )
    return made.requires_grad_(requires_grad=False), fitted
