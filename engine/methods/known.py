"""What a model said before it was changed: computed once, kept by digest, so that nobody keeps a second model.

Of each sequence, at its labels: `log_probs` (labels,) and `features` (labels x width), which one head turns back into
the whole distribution. The file is named by everything it depends on: the model's digest, the sequences, what is
kept, the numbers it was computed in, and the code. It is read lazily, sequence by sequence.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from engine.digests import code_digest, config_digest
from engine.tasks.sequences import Batch, Tokens, by_budget, collate

LOG_PROBS, FEATURES = "log_probs", "features"


class Reader(Protocol):
    """How a model is read: features at positions, and what they say. `language.Forward`, or a tap at a layer."""

    model: PreTrainedModel

    def features(self, ids: Tensor, positions: Tensor | None = None) -> Tensor:
        """Features (rows x tokens x width)."""

    def logits(self, features: Tensor) -> Tensor:
        """What a loss is a function of (labels x outputs)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """The kept tensors of a list of sequences."""

    path: Path

    def of(self, name: str, chosen: Sequence[int]) -> Tensor:
        """One kind of tensor for some sequences, one after the other (labels, ...)."""
        with safe_open(self.path, "pt") as file:
            return torch.cat([file.get_tensor(f"{name}.{i}") for i in chosen])


def recall(
    reader: Reader,
    sequences: Sequence[Tokens],
    *,
    wanted: Sequence[str],
    model_digest: str,
    cache: Path,
    tokens_per_pass: int,
    precision: str = "float32",
) -> Known:
    """Ask the model as it is now, unless it was asked the same before; `wanted` are kinds of tensors to keep."""
    described = [[tokens.ids, tokens.weights] for tokens in sequences]
    settings = [model_digest, type(reader).__name__, sorted(wanted), precision, code_digest(), described]
    path = cache / f"known-{config_digest(settings)}.safetensors"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".partial-{os.getpid()}")  # processes of one job may share a cache
        save_file(_ask(reader, sequences, wanted, tokens_per_pass, precision), partial)
        partial.replace(path)
    return Known(path=path)


@torch.no_grad()
def _ask(
    reader: Reader, sequences: Sequence[Tokens], wanted: Sequence[str], tokens_per_pass: int, precision: str
) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}
    for group in by_budget(sequences, tokens_per_pass):
        batch = collate([sequences[i] for i in group])
        found = _of_batch(reader, batch, wanted, precision)
        for row, i in enumerate(group):
            kept |= {f"{name}.{i}": values[batch.rows == row].contiguous() for name, values in found.items()}
    return kept


def _of_batch(reader: Reader, batch: Batch, wanted: Sequence[str], precision: str) -> dict[str, Tensor]:
    there = batch.to(reader.model.device)
    with torch.autocast(there.ids.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        features = reader.features(there.ids)[there.rows, there.positions]
        found = {}
        if LOG_PROBS in wanted:
            logits = reader.logits(features).float()
            found[LOG_PROBS] = -functional.cross_entropy(logits, there.targets, reduction="none").cpu()
        if FEATURES in wanted:
            found[FEATURES] = features.float().cpu()
    return found
