"""The one training loop of the engine, built on accelerate.

The loop knows batches, optimisers and a `Gradient`: a function that leaves gradients on the parameters and returns
the loss. What differs between pre-training, fine-tuning, unlearning and DP training is that function, and nothing
else. A loss or gradient that is not finite stops the run *before* the optimiser takes the step, so no model is ever
written whose weights went through a NaN.

A step's loss is a sum of *pieces*, each normalised by the whole step's count: `accumulate` adds up their gradients one
by one, which bounds memory and changes nothing, and over the processes of a job (`engine.ranks`), each of which does
its share. Where models are wrapped for that by a library, hooks fire on the library's own forward pass only; methods
here call parts of the model, so gradients are summed openly. In bfloat16 the matrix products of a piece are rounded,
and weights, gradients, the optimiser and every loss stay float32.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from engine.errors import EngineError
from engine.muon import Muon

Batch = TypeVar("Batch")

WARMUP = 0.05  # of all steps
MAX_NORM = 1.0
MATRIX = 2  # dimensions
PRECISIONS = {"float32": "no", "bfloat16": "bf16"}  # ours, and what accelerate calls it
BUCKET = 1 << 22  # numbers that go to the other processes together


# Told a stage, the fraction of it that is done, and the seconds that are left if known. Never told of the data.
Progress = Callable[[str, float, float | None], None]
# Computes the loss of a batch, leaves its gradient on the parameters, and returns the loss.
Gradient = Callable[[Accelerator, Batch], float]
# One addend of a step's loss.
Piece = Callable[[], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How to step. Without `matrix_learning_rate` AdamW steps everything; without `cosine` the rate stays constant.

    With `momentum` SGD steps everything in the place of both.
    """

    learning_rate: float
    matrix_learning_rate: float | None = None
    momentum: float | None = None
    cosine: bool = True
    max_norm: float | None = MAX_NORM
    precision: str = "float32"


class Guarding(Protocol):
    """What a method puts beside untouched weights (`engine.guards`)."""

    def save(self, folder: Path) -> None:
        """Write it into the folder of the model it guards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """What a fit did. `guard` is written into the model's folder, `details` stand in the evidence's `training`.

    `accountant` is the record of a mechanism with secret noise, `seed_commitment` the hash of its secret.
    """

    steps: int
    first_loss: float
    last_loss: float
    guard: Guarding | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    accountant: Mapping[str, Any] | None = None
    seed_commitment: str | None = None


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
    accelerator = accelerator_for(schedule.precision)
    model.train().to(accelerator.device)
    rates = _rates(len(batches), cosine=schedule.cosine)
    optimisers = optimisers_for(model, schedule)
    schedulers = [LambdaLR(optimiser, rates) for optimiser in optimisers]
    started = time.monotonic()
    losses = []
    for step, batch in enumerate(batches):
        losses.append(gradient(accelerator, batch))
        _refuse_non_finite(losses[-1], model, schedule.max_norm, step)
        for optimiser, scheduler in zip(optimisers, schedulers, strict=True):
            optimiser.step()
            scheduler.step()
            optimiser.zero_grad(set_to_none=True)
        report(progress, stage, step + 1, len(batches), started)
    model.eval().to("cpu")
    if accelerator.device.type != "cpu":
        accelerator.free_memory()  # on a CPU it only collects garbage, for most of a second
    return Fitted(steps=len(losses), first_loss=losses[0], last_loss=losses[-1])


def device() -> torch.device:
    """Where this process computes: its GPU if it has one, else the CPU."""
    chosen: torch.device = PartialState().device
    return chosen


def accelerator_for(precision: str) -> Accelerator:
    """What `fit` computes with; under its `autocast()` anything else is rounded as training rounds it."""
    AcceleratorState._reset_state()  # noqa: SLF001 - else accelerate keeps the precision of a process's first job
    return Accelerator(mixed_precision=PRECISIONS[precision])


def minimise(model: nn.Module, loss: Callable[[Batch], Tensor]) -> Gradient[Sequence[Batch]]:
    """The ordinary gradient, of a loss that is a sum over the parts of a step."""

    def gradient(accelerator: Accelerator, parts: Sequence[Batch]) -> float:
        return accumulate(accelerator, model, [partial(loss, part) for part in parts])

    return gradient


def accumulate(accelerator: Accelerator, model: nn.Module, pieces: Sequence[Piece]) -> float:
    """Add the gradient of the sum of `pieces` to what the parameters have; returns that sum, over all processes.

    Each process goes through every `num_processes`-th piece. All return the same number, and NaN as soon as one piece
    is not finite; then no gradient is to be used.
    """
    rank, processes = accelerator.process_index, accelerator.num_processes
    if processes == 1:
        return _backward(accelerator, pieces)
    trained = [p for p in model.parameters() if p.requires_grad]
    before = [p.grad for p in trained]
    for p in trained:
        p.grad = None
    loss = _sum_up(accelerator, trained, _backward(accelerator, pieces[rank::processes]))
    for p, gradient in zip(trained, before, strict=True):
        if gradient is not None:
            p.grad = gradient if p.grad is None else p.grad.add_(gradient)
    return loss


def _backward(accelerator: Accelerator, pieces: Sequence[Piece]) -> float:
    loss = 0.0
    for piece in pieces:
        with accelerator.autocast():
            value = piece()
        if not torch.isfinite(value):
            return math.nan
        accelerator.backward(value)
        loss += float(value.detach())
    return loss


def _sum_up(accelerator: Accelerator, parameters: Sequence[nn.Parameter], loss: float) -> float:
    """Sum loss and gradients over processes; a parameter that has a gradient nowhere is left without."""
    has = [float(p.grad is not None) for p in parameters]
    total = accelerator.reduce(torch.tensor([loss, *has], dtype=torch.float64, device=accelerator.device), "sum")
    if torch.isfinite(total[0]):
        for bucket in _buckets([p for p, some in zip(parameters, total[1:].tolist(), strict=True) if some]):
            flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in bucket])
            summed = accelerator.reduce(flat, "sum").split([p.numel() for p in bucket])
            for p, gradient in zip(bucket, summed, strict=True):
                p.grad = gradient.view_as(p)
    return float(total[0])


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    for p in parameters:
        if bucket and (sum(q.numel() for q in bucket) + p.numel() > BUCKET or bucket[0].dtype != p.dtype):
            yield bucket
            bucket = []
        bucket.append(p)
    if bucket:
        yield bucket


def optimisers_for(model: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for embeddings, head, norms and biases; AdamW alone without a matrix rate."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if schedule.momentum is not None:
        return [torch.optim.SGD([p for _, p in trained], lr=schedule.learning_rate, momentum=schedule.momentum)]
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


def report(progress: Progress, stage: str, done: int, total: int, started: float) -> None:
    """Tell how far a stage is, and how long the rest will take at the pace so far (`started`: time.monotonic)."""
    elapsed = time.monotonic() - started
    progress(stage, done / total, elapsed / done * (total - done))
