"""DP training of image classifiers: a unit is one person's pictures, or one picture (`engine.methods.private`)."""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from engine.corpus import Record
from engine.errors import EngineError
from engine.guarantees.learned import unigram_loss
from engine.methods import Setting
from engine.options import DpOptions
from engine.tasks.image import Scores, classes_of, losses, scores
from engine.tasks.pixels import Pictures, Pixels, pictures
from engine.verification.privacy.canaries import patterns

FITTED = 1e-4  # what is left of a number that was written with four digits
PASS = 512  # pictures that are asked about together


class Images:
    """The pictures of units, by position, and those of people the model does not see."""

    def __init__(
        self, model: PreTrainedModel, pixels: Pixels, known: Pictures, units: Sequence[Sequence[int]], held: Pictures
    ) -> None:
        """`units` are positions in `known`."""
        self.model = model
        self.units = units
        self._pixels = pixels
        self._known = known
        self._held = held

    def backward(self, accelerator: Accelerator, rows: Sequence[int], owners: Tensor) -> None:
        """Per-row gradients of each unit's mean loss over its pictures."""
        values = losses(self.model, self._pixels, self._known.at(rows))
        sizes = torch.bincount(owners).to(values)
        accelerator.backward((values / sizes[owners]).sum())

    def held_out_loss(self) -> float:
        """Nats a picture."""
        return float(-self._scores(self._held).log_probs.mean())

    def blind_loss(self) -> float:
        """The entropy of the held-out classes."""
        return unigram_loss(self._held.classes.tolist())

    def among(self, units: Sequence[Sequence[int]]) -> "Images":
        """The same pictures, other units."""
        return Images(self.model, self._pixels, self._known, units, self._held)

    def canaries(self, count: int, seed: int) -> list[Sequence[int]]:
        """Random black and white pictures with random labels, one a unit."""
        shape = tuple(self._known.images.shape[1:])
        drawn, labels = patterns(count, shape=shape, classes=len(classes_of(self.model)), seed=seed)
        first = len(self._known)
        self._known = Pictures(
            images=torch.cat([self._known.images, torch.from_numpy(drawn * 255).to(torch.uint8)]),
            classes=torch.cat([self._known.classes, torch.from_numpy(labels)]),
        )
        return [(first + i,) for i in range(count)]

    def unit_scores(self, units: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """The mean log-probability of each unit's labels."""
        rows = [row for unit in units for row in unit]
        told = self._scores(self._known.at(rows)).log_probs
        return np.array([part.mean() for part in np.split(told, np.cumsum([len(unit) for unit in units])[:-1])])

    def _scores(self, asked: Pictures) -> Scores:
        """In evaluation mode; training goes on as it was."""
        training = self.model.training
        self.model.eval()
        told = scores(self.model, self._pixels, asked, rows_per_pass=PASS)
        self.model.train(training)
        return told


def material(setting: Setting[DpOptions], holdout: Sequence[Record]) -> Images:
    """The setting's pictures by unit; each record is one where the options say so."""
    classes = classes_of(setting.model)
    units: dict[str, list[int]] = {}
    for i, record in enumerate(setting.retain):
        units.setdefault(record.unit if setting.options.unit == "data subject" else record.record_id, []).append(i)
    known = pictures(setting.retain, setting.pixels, classes)
    refuse_fitted(setting.pixels, known)
    held = pictures(holdout, setting.pixels, classes)
    return Images(setting.model, setting.pixels, known, list(units.values()), held)


def refuse_fitted(pixels: Pixels, known: Pictures) -> None:
    """Refuse a scaling that is the private pictures' own: it moves with each of them, and nobody clipped or noised it.

    Raises:
        EngineError: `bad_model` when means and deviations of all channels are those of the pictures, to `FITTED`.
    """
    values = known.images.double() / 255
    own = torch.stack([values.mean((0, 2, 3)), values.std((0, 2, 3), correction=0)])
    said = torch.tensor([pixels.mean, pixels.deviation], dtype=torch.float64)
    if bool(((own - said).abs() <= FITTED).all()):
        message = (
            "image_mean and image_std are those of the pictures to be trained on: the theorem needs a normalisation "
            "that does not depend on private records; write down fixed or public ones"
        )
        raise EngineError("bad_model", message)
