"""Pictures of bars at one of four places, so that a tiny network learns them in seconds; nobody is on them."""

import base64
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from engine.corpus import Record
from engine.methods.images import build
from engine.options import ImageInitialiseOptions
from engine.pictures import picture
from engine.tasks.image_models import ImageModel
from engine.tasks.pixels import Pixels

SIDE, LABELS = 12, ("top", "bottom", "left", "right")
SHAPE = ImageInitialiseOptions(labels=LABELS, architecture="cnn", size=SIDE, width=4)


def bar(label: str, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One noisy picture (SIDE x SIDE) with a bright bar along an edge."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 90, size=(SIDE, SIDE), dtype=np.uint8)
    places = {"top": np.s_[1:3, :], "bottom": np.s_[-3:-1, :], "left": np.s_[:, 1:3], "right": np.s_[:, -3:-1]}
    image[places[label]] = rng.integers(180, 255)
    return image


def png(image: np.ndarray[Any, np.dtype[np.uint8]]) -> str:
    """A picture as a record holds it."""
    return picture(image.tobytes(), image.shape)


def garbled() -> str:
    """A PNG file that is all there, with the right sums, and whose pixels cannot be unpacked."""
    whole = base64.b64decode(png(bar("top", 0)))
    start = whole.index(b"IDAT")
    end = start + 4 + int.from_bytes(whole[start - 4 : start])
    body = b"IDAT" + bytes(end - start - 4)
    return base64.b64encode(whole[:start] + body + zlib.crc32(body).to_bytes(4) + whole[end + 4 :]).decode()


def records(numbers: Sequence[int] = range(40), *, a_unit: int = 1) -> tuple[Record, ...]:
    """Pictures by number, the classes in turn; `a_unit` neighbours belong to one person."""
    return tuple(
        Record(
            record_id=f"picture-{i}",
            unit=f"person-{i // a_unit}",
            image=png(bar(LABELS[i % len(LABELS)], i)),
            label=LABELS[i % len(LABELS)],
        )
        for i in numbers
    )


def network(seed: int = 0, **changes: Any) -> tuple[ImageModel, Pixels]:  # noqa: ANN401 - any option
    """A network with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    model, pixels = build(ImageInitialiseOptions(**{"labels": LABELS, "size": SIDE, "width": 4, **changes}))
    model.train(mode=False)
    return model, pixels
