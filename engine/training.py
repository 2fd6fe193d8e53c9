"""The one training loop of the engine, built on accelerate.

The loop knows batches, optimisers and a `Gradient`: a function that leaves gradients on the parameters and returns
the loss. What differs between pre-training, fine-tuning, unlearning and DP training is that function, and nothing
else. A loss or gradient that is not finite stops the run *before* the optimiser takes the step, so no model is ever
written whose weights went through a NaN.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from engine.errors import EngineError
from engine.muon import Muon

Batch = TypeVar("Batch")

WARMUP = 0.05  # of all steps
MAX_NORM = 1.0
MATRIX = 2  # dimensions


# Told a stage, the fraction of it that is done, and the seconds that are left if known. Never told of the data.
Progress = Callable[[str, float, float | None], None]
# Computes the loss of a batch, leaves its gradient on the parameters, and returns the loss.
Gradient = Callable[[Accelerator, Batch], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How to step. Without `matrix_learning_rate` AdamW steps everything; without `cosine` the rate stays constant."""

    learning_rate: float
    matrix_learning_rate: float | None = None
    cosine: bool = True
    max_norm: float | None = MAX_NORM


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """What a fit did."""

    steps: int
    first_loss: float
    last_loss: float


def fit(
    *,
    model: nn.Module,
    batches: Sequence[Batch],
    gradient: Gradient[Batch],
    schedule: Schedule,
    stage: str,
    progress: Progress,
) -> Fitted:
    """Train `model` in place, one optimiser step a batch, and leave it in evaluation mode on the CPU.

    Raises:
        EngineError: `not_finite` when a loss or gradient is NaN or infinite; the step is not taken.
    """
    accelerator = Accelerator()
    model.train()
    rates = _rates(len(batches), cosine=schedule.cosine)
    optimisers = optimisers_for(model, schedule)
    schedulers = [LambdaLR(optimiser, rates) for optimiser in optimisers]
    prepared = accelerator.prepare(model, *optimisers)
    started = time.monotonic()
    losses = []
    for step, batch in enumerate(batches):
        losses.append(gradient(accelerator, batch))
        _refuse_non_finite(losses[-1], model, schedule.max_norm, step)
        for optimiser, scheduler in zip(prepared[1:], schedulers, strict=True):
            optimiser.step()
            scheduler.step()
            optimiser.zero_grad(set_to_none=True)
        _report(progress, stage, step + 1, len(batches), started)
    model.eval().to("cpu")
    accelerator.free_memory()
    return Fitted(steps=len(losses), first_loss=losses[0], last_loss=losses[-1])


def minimise(loss: Callable[[Batch], Tensor]) -> Gradient[Batch]:
    """The ordinary gradient: of one loss, by one backward pass."""

    def gradient(accelerator: Accelerator, batch: Batch) -> float:
        value = loss(batch)
        if not torch.isfinite(value):
            return math.nan
        accelerator.backward(value)
        return float(value.detach())

    return gradient


def optimisers_for(model: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embeddings, head, norms and biases; AdamW alone without a matrix rate."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = (
        [p for name, p in trained if p.ndim == MATRIX and not _is_table(model, p)]
        if schedule.matrix_learning_rate
        else []
    )
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in trained if id(p) not in chosen]
    optimisers: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=schedule.learning_rate, weight_decay=0.0)]
    if matrices and schedule.matrix_learning_rate:
        optimisers.append(Muon(matrices, lr=schedule.matrix_learning_rate))
    return optimisers


def _is_table(model: nn.Module, parameter: nn.Parameter) -> bool:
    embeddings = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    tables = embeddings if head is None else [*embeddings, head.weight]
    return any(parameter is table for table in tables)


def _rates(steps: int, *, cosine: bool) -> Callable[[int], float]:
    warm = max(1, round(WARMUP * steps))

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if not cosine:
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return rate


def _refuse_non_finite(loss: float, model: nn.Module, max_norm: float | None, step: int) -> None:
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm if max_norm is not None else math.inf)
    if not (math.isfinite(loss) and math.isfinite(float(norm))):
        raise EngineError(
            "not_finite",
            f"the loss or its gradient was not finite at step {step + 1}, which was not taken; lower the learning rate",
        )


def _report(progress: Progress, stage: str, done: int, total: int, started: float) -> None:
    elapsed = time.monotonic() - started
    progress(stage, done / total, elapsed / done * (total - done))
