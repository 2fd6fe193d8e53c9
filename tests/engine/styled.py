"""Pictures of bars in three domains, and a CLIP small enough to learn them in a test; nobody is on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import CLIPModel

from engine import checkpoints
from engine.corpus import Record
from engine.methods.domains_fit import build
from engine.options.domains import ClipInitialiseOptions
from engine.tasks.vision_language import Reader, clip_of, reader_of
from tests.engine import painted

DOMAINS = ("photo", "negative", "tinted")
SHAPE: dict[str, Any] = {
    "labels": list(painted.LABELS),
    "names": list(DOMAINS),
    "size": 12,
    "patch": 4,
    "width": 16,
    "layers": 2,
}


def drawn(label: str, domain: str, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One bar in colour (SIDE x SIDE x 3)."""
    image = np.repeat(painted.bar(label, seed)[..., None], 3, axis=2)
    if domain == "negative":
        return (255 - image).astype(np.uint8)
    return (image * (1, 0.4, 0.1)).astype(np.uint8) if domain == "tinted" else image


def records(numbers: Sequence[int] = range(12), domains: Sequence[str] = DOMAINS) -> tuple[Record, ...]:
    """Each bar in each domain, the classes in turn."""
    return tuple(
        Record(
            record_id=f"{domain}-{i}",
            unit=f"{domain}-{i}",
            image=painted.png(drawn(painted.LABELS[i % len(painted.LABELS)], domain, i)),
            label=painted.LABELS[i % len(painted.LABELS)],
            domain=domain,
        )
        for domain in domains
        for i in numbers
    )


def network(seed: int = 0) -> tuple[CLIPModel, Reader]:
    """A CLIP with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    options = {**SHAPE, "labels": tuple(painted.LABELS), "names": DOMAINS}
    model, reader = build(ClipInitialiseOptions(**options))
    model.train(mode=False)
    return model, reader


def loaded(folder: Path) -> tuple[CLIPModel, Reader]:
    """The CLIP of a folder with what reads for it."""
    model, reader = checkpoints.load(folder)
    return clip_of(model), reader_of(reader)
