"""An image classifier as two parts, a head that is linear and everything below it, whose output it reads.

Found by shape, so that any classifier of the library will do: the head is the last linear layer with an output for
each class, and a representation is what arrives there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.errors import EngineError
from engine.tasks.image import classes_of, logits
from engine.tasks.pixels import Pixels

ROWS = 2  # dimensions of representations: rows x width


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A classifier as head, a linear layer with an output a class, and everything below it."""

    model: PreTrainedModel
    pixels: Pixels
    head: nn.Linear
    below: list[nn.Parameter]

    @classmethod
    def of(cls, model: PreTrainedModel, pixels: Pixels) -> "Network":
        """Find the head: the last linear layer with as many outputs as there are classes."""
        count = len(classes_of(model))
        heads = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == count]
        if not heads:
            raise EngineError("bad_model", "the model does not end in a linear layer with an output for each class")
        own = {id(p) for p in heads[-1].parameters()}
        below = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
        if not below:
            raise EngineError("bad_model", "nothing below the model's last layer can learn, nor forget")
        return cls(model=model, pixels=pixels, head=heads[-1], below=below)

    def represented(self, images: Tensor) -> Tensor:
        """What the head reads (rows x width) of uint8 images."""
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _layer, given: seen.append(given[0]))
        try:
            logits(self.model, self.pixels, images)
        finally:
            hook.remove()
        if len(seen) != 1 or seen[0].ndim != ROWS:
            raise EngineError("bad_model", "the model's last layer does not read one representation a picture")
        return seen[0]

    @contextmanager
    def only_head(self) -> Iterator[None]:
        """Nothing below the head learns in here."""
        for parameter in self.below:
            parameter.requires_grad_(False)  # noqa: FBT003 - the library's
        try:
            yield
        finally:
            for parameter in self.below:
                parameter.requires_grad_(True)  # noqa: FBT003 - the library's

    @torch.no_grad()
    def ask(self, images: Tensor, rows_per_pass: int) -> Tensor:
        """Representations of all images (rows x width), as they are now, on the CPU."""
        parts = images.split(rows_per_pass)
        return torch.cat([self.represented(part).float().cpu() for part in parts])


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """The pictures of one set, uint8 (rows x channels x height x width), and what they were (rows x width)."""

    images: Tensor
    before: Tensor
