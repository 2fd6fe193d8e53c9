"""Label-agnostic forgetting: `laf`, and `laf-r`, which repairs the head afterwards. Shen et al. 2024, arXiv 2404.00506.

`laf` is given pictures and nothing else (`engine.methods.label_agnostic_records`): two autoencoders learn what
representations look like among all pictures and among the forget set; then, batch by batch, the layers below the head
are stepped away from what is usual in the forget set, and the representations of those who stay back to where they
were (`engine.methods.label_agnostic_losses`). The head receives no gradient. The network stays in evaluation mode, so
statistics of a batch normalisation are those it was trained with. As in the paper the first autoencoder sees all
pictures, the forgotten ones too, because they are few.

Where representations were is asked of the model once, before the first step; no second model is kept. `laf-r` is the
only place with labels: those of the retain set, for the head alone.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from engine.corpus import Record
from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.images import Share
from engine.methods.label_agnostic_losses import alignment, strangeness, turned
from engine.methods.label_agnostic_network import Network, Side
from engine.methods.label_agnostic_records import NOTHING, pictures_alone
from engine.methods.label_agnostic_vae import Autoencoder, Plan, trained
from engine.options.label_agnostic import LafOptions, LafRepairOptions
from engine.seeds import derive
from engine.tasks.image import classes_of
from engine.tasks.pixels import Pixels, pictures
from engine.training import Fitted, Piece, accelerator_for, accumulate, device, report


def laf(setting: Setting[LafOptions]) -> Fitted:
    """Forget the pictures of the forget set, reading no label of any.

    Raises:
        EngineError: `bad_data` for an empty set, `bad_model` where nothing below the head can learn, `not_finite`.
    """
    if not setting.forget or not setting.retain:
        raise EngineError("bad_data", "label-agnostic forgetting needs pictures to forget and pictures to keep")
    model, rows = setting.model, setting.options.rows_per_pass
    network = Network.of(model, setting.pixels)
    _place(model, device())
    images = [_images(records, setting.pixels) for records in (setting.forget, setting.retain)]
    forget, retain = (Side(images=one, before=network.ask(one, rows)) for one in images)
    (usual, familiar), told = _autoencoders(setting, forget.before, retain.before)
    losses = Losses(
        network=network,
        forget=forget,
        retain=retain,
        usual=usual,
        familiar=familiar,
        temperature=setting.options.temperature,
    )
    fitted = _alternate(setting, losses)
    _place(model, torch.device("cpu"))
    return replace(fitted, details=told)


def laf_r(setting: Setting[LafRepairOptions]) -> Fitted:
    """The same, then cross-entropy of the retain set's labels on the head alone, as many batches as its epochs have."""
    forgotten = laf(cast("Setting[LafOptions]", setting))
    _place(setting.model, device())
    repaired = _repair(setting, Network.of(setting.model, setting.pixels))
    _place(setting.model, torch.device("cpu"))
    told = {"repair_first_loss": repaired.first_loss, "repair_last_loss": repaired.last_loss}
    return replace(forgotten, steps=forgotten.steps + repaired.steps, details={**forgotten.details, **told})


def _place(model: nn.Module, where: torch.device) -> None:
    """To a device, and in evaluation mode, in which it stays."""
    model.eval().to(where)


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """The two losses of a batch of each set, by rows; `usual` among all pictures and `familiar` in the forget set."""

    network: Network
    forget: Side
    retain: Side
    usual: Autoencoder
    familiar: Autoencoder
    temperature: float

    def unlearning(self, gone: Tensor, kept: Tensor) -> Tensor:
        """L_UE: lower where those who stay look usual and those of the forget set no longer look like it."""
        return self._strange(self.usual, self.retain, kept) - self._strange(self.familiar, self.forget, gone)

    def aligning(self, gone: Tensor, kept: Tensor) -> Tensor:
        """L_RA: lower where those who stay are where they were and those of the forget set are not."""
        return alignment(self._turned(self.retain, kept), self._turned(self.forget, gone), self.temperature)

    def _strange(self, autoencoder: Autoencoder, side: Side, rows: Tensor) -> Tensor:
        given = autoencoder.standard(self.network.represented(side.images[rows]))
        return strangeness(autoencoder(given), given).sum()

    def _turned(self, side: Side, rows: Tensor) -> Tensor:
        now = self.network.represented(side.images[rows])
        return turned(now, side.before[rows].to(now.device))


def _images(records: Sequence[Record], pixels: Pixels) -> Tensor:
    """The pictures (rows x channels x height x width); whatever else a record holds is dropped first."""
    return pictures(pictures_alone(records), pixels, {NOTHING: 0}).images


def _autoencoders(setting: Setting[Any], forget: Tensor, retain: Tensor) -> tuple[list[Autoencoder], dict[str, float]]:
    """One of the representations of all pictures and one of the forget set's, and how well each learned."""
    options: LafOptions = setting.options
    plan = Plan(
        latent=options.latent,
        faithful=options.decoder == "faithful",
        epochs=options.vae_epochs,
        batch=options.batch,
        rate=options.vae_rate,
        kl=options.vae_kl,
        seed=setting.seed,
    )
    made: list[Autoencoder] = []
    told: dict[str, float] = {}
    for name, seen in {"all": torch.cat([forget, retain]), "forget": forget}.items():
        autoencoder, fitted = trained(seen, plan, name=name, progress=setting.progress)
        made.append(autoencoder.to(device()))
        told |= {f"vae_{name}_first_loss": fitted.first_loss, f"vae_{name}_last_loss": fitted.last_loss}
    return made, told


def _alternate(setting: Setting[Any], losses: Losses) -> Fitted:
    """A step along each loss in turn, each with moments of its own (Adam); the reported loss is the sum of both."""
    options: LafOptions = setting.options
    accelerator, below = accelerator_for(options.precision), losses.network.below
    unlearner = torch.optim.Adam(below, lr=options.extractor_rate)
    aligner = torch.optim.Adam(below, lr=options.alignment_rate)
    batches, sums, started = _batches(setting, options.epochs, "laf"), [], time.monotonic()
    for gone, kept in batches:
        away = _step(accelerator, setting.model, unlearner, partial(losses.unlearning, gone, kept))
        sums.append(away + _step(accelerator, setting.model, aligner, partial(losses.aligning, gone, kept)))
        report(setting.progress, "unlearn", len(sums), len(batches), started)
    return Fitted(steps=2 * len(sums), first_loss=sums[0], last_loss=sums[-1])


def _repair(setting: Setting[Any], network: Network) -> Fitted:
    """Cross-entropy of those who stay, on the head alone."""
    options: LafRepairOptions = setting.options
    accelerator = accelerator_for(options.precision)
    kept = pictures(setting.retain, setting.pixels, classes_of(setting.model))
    optimiser = torch.optim.Adam(network.head.parameters(), lr=options.repair_rate)
    batches, sums, started = _batches(setting, options.repair_epochs, "repair"), [], time.monotonic()
    with network.only_head():
        for _, rows in batches:
            batch = kept.at(rows.numpy())
            loss = Share(batch=batch, rows=len(batch)).loss
            sums.append(_step(accelerator, setting.model, optimiser, partial(loss, setting.model, setting.pixels)))
            report(setting.progress, "repair", len(sums), len(batches), started)
    return Fitted(steps=len(sums), first_loss=sums[0], last_loss=sums[-1])


def _step(accelerator: Accelerator, model: nn.Module, optimiser: torch.optim.Optimizer, piece: Piece) -> float:
    loss = accumulate(accelerator, model, [piece])
    if not math.isfinite(loss):
        raise EngineError("not_finite", "a loss was not finite, and its step was not taken; lower the learning rates")
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return loss


def _batches(setting: Setting[Any], epochs: int, name: str) -> list[tuple[Tensor, Tensor]]:
    """Rows of the forget and of the retain set side by side; an epoch ends with the shorter set."""
    found: list[tuple[Tensor, Tensor]] = []
    for epoch in range(epochs):
        sides = []
        for role, records in (("forget", setting.forget), ("retain", setting.retain)):
            rng = np.random.default_rng(derive(setting.seed, name, role, str(epoch)))
            sides.append(torch.from_numpy(rng.permutation(len(records))).split(setting.options.batch))
        found += zip(*sides, strict=False)
    return found
