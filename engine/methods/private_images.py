"""DP training of image classifiers: a unit is one person's pictures, or one picture (`engine.methods.private`)."""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from engine.corpus import Record
from engine.guarantees.learned import unigram_loss
from engine.methods import Setting
from engine.options import DpOptions
from engine.tasks.image import classes_of, losses, scores
from engine.tasks.pixels import Pictures, Pixels, pictures

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
        """Nats a picture, in evaluation mode; training goes on as it was."""
        training = self.model.training
        self.model.eval()
        told = scores(self.model, self._pixels, self._held, rows_per_pass=PASS)
        self.model.train(training)
        return float(-told.log_probs.mean())

    def blind_loss(self) -> float:
        """The entropy of the held-out classes."""
        return unigram_loss(self._held.classes.tolist())


def material(setting: Setting[DpOptions], holdout: Sequence[Record]) -> Images:
    """The setting's pictures by unit; each record is one where the options say so."""
    classes = classes_of(setting.model)
    units: dict[str, list[int]] = {}
    for i, record in enumerate(setting.retain):
        units.setdefault(record.unit if setting.options.unit == "data subject" else record.record_id, []).append(i)
    known = pictures(setting.retain, setting.pixels, classes)
    held = pictures(holdout, setting.pixels, classes)
    return Images(setting.model, setting.pixels, known, list(units.values()), held)
