"""DP training with a *unit* that joins or stays out as a whole: the base of `dp2`.

The unit is a data subject, or a record where that is what a policy promises. Each round samples units by Poisson
sampling, sums their clipped gradients and adds Gaussian noise; a round that nobody joins is noised like any other
(skipping it, as the published DP2Unlearning code does, is outside the theorem). A unit's gradient is that of everything
of it: if it fills several rows, their gradients are added before clipping. The noised sum is divided by its own noise
level and not by the number of units, which is private under add-or-remove. Losses of training are private too and are
not returned.

Opacus' hooks give each row's gradient and stay the default; `book-keeping` (`engine.methods.bookkeeping`) gives the
same sums in one pass with less time and memory, for models of the layers that it knows. What rows are, and how a loss
is taken of them, is the business of a `Material`: `private_text` and `private_images`.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule, register_grad_sampler
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.corpus import Record
from engine.errors import EngineError
from engine.guarantees.learned import Learned
from engine.guarantees.mechanism import Mechanism
from engine.methods import Setting
from engine.methods.bookkeeping import BookKeeping
from engine.methods.rehearsal import Rehearsed, rehearse
from engine.methods.secret import gaussians, joins
from engine.options import DpOptions
from engine.tasks.image import refuse_batch_norm
from engine.tasks.pixels import Pixels
from engine.training import Fitted, Gradient, Schedule, fit

Row = TypeVar("Row")


class Material(Protocol[Row]):
    """What a family of models brings to DP training."""

    model: PreTrainedModel

    @property
    def units(self) -> Sequence[Sequence[Row]]:
        """The rows of each unit."""

    def backward(self, accelerator: Accelerator, rows: Sequence[Row], owners: Tensor) -> None:
        """Leave per-row gradients of each unit's mean loss on the parameters (`grad_sample`); `owners` are units."""

    def held_out_loss(self) -> float:
        """The mean loss, in nats, on people the model does not see."""

    def blind_loss(self) -> float:
        """The least such loss of a model that looks at frequencies alone."""

    def among(self, units: Sequence[Sequence[Row]]) -> "Material[Row]":
        """The same with other units."""

    def canaries(self, count: int, seed: int) -> Sequence[Sequence[Row]]:
        """Units that nobody's data hold; their rows are known to the material from then on."""

    def unit_scores(self, units: Sequence[Sequence[Row]]) -> NDArray[np.float64]:
        """How likely the model as it is finds each unit (units,), in nats a label, in evaluation mode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateOutcome:
    """What may be told about a private training."""

    fitted: Fitted
    mechanism: Mechanism
    learned: Learned
    rehearsed: Rehearsed | None = None

    def to_mapping(self) -> dict[str, Any]:
        """What stands under `accountant` in evidence: the mechanism, and what tried to refute it."""
        found = {} if self.rehearsed is None else self.rehearsed.to_mapping()
        return self.mechanism.to_mapping() | found


def train_base(setting: Setting[DpOptions], *, holdout: Sequence[Record], secret: bytes) -> PrivateOutcome:
    """Train the model in place under DP on `setting.retain`, then ask held-out people whether it learned."""
    options = setting.options
    material = _material(setting, holdout)
    mechanism = Mechanism(
        sample_rate=options.sample_rate,
        noise_multiplier=options.sigma,
        steps=options.steps,
        clip=options.clip,
        units=len(material.units),
        unit=options.unit,
    )
    before = material.held_out_loss()
    rehearsed = None
    if options.canaries:
        rehearsed = rehearse(setting, material, mechanism, fit=partial(_fit, setting), gradient=private_gradient)
    fitted = _fit(setting, material, mechanism, secret)
    learned = Learned(
        start_loss=before,
        unigram_loss=material.blind_loss(),
        base_loss=material.held_out_loss(),
        margin=options.margin,
    )
    return PrivateOutcome(fitted=fitted, mechanism=mechanism, learned=learned, rehearsed=rehearsed)


def _material(setting: Setting[DpOptions], holdout: Sequence[Record]) -> Material[Any]:
    from engine.methods import private_images, private_text  # noqa: PLC0415 - they are built on this module

    if not setting.retain or not holdout:
        raise EngineError("bad_data", "DP training needs records to train on and held-out records to be judged by")
    refuse_batch_norm(setting.model)
    if isinstance(setting.reader, Pixels):
        return private_images.material(setting, holdout)
    return private_text.material(setting, holdout)


def private_gradient(
    material: Material[Row],
    *,
    mechanism: Mechanism,
    secret: bytes,
    rows_per_pass: int,
    book: BookKeeping | None = None,
) -> Gradient[int]:
    """One round's gradient, given its number: (sum of clipped unit gradients + noise) / (noise multiplier * clip).

    Within `hooked`, or with a `book` of the model.
    """
    parameters = [p for p in material.model.parameters() if p.requires_grad]
    scale = mechanism.noise_multiplier * mechanism.clip
    units = material.units

    def gradient(accelerator: Accelerator, round_: int) -> float:
        mask = joins(secret, round_=round_, units=len(units), sample_rate=mechanism.sample_rate)
        joined = [units[i] for i in np.flatnonzero(mask).tolist()]
        sums = clipped_sum(material, accelerator, joined, mechanism.clip, rows_per_pass, book)
        noise = torch.from_numpy(gaussians(secret, round_=round_, count=sum(p.numel() for p in parameters)))
        start = 0
        for p, total in zip(parameters, sums, strict=True):
            z = noise[start : start + p.numel()].view(p.shape).to(p.device)
            p.grad = (total.double() / scale + z).to(p.dtype)
            start += p.numel()
        return 0.0

    return gradient


def clipped_sum(
    material: Material[Row],
    accelerator: Accelerator,
    units: Sequence[Sequence[Row]],
    clip: float,
    rows_per_pass: int,
    book: BookKeeping | None = None,
) -> list[Tensor]:
    """Sum of the units' gradients, each clipped to L2 norm `clip` over all parameters; one tensor a parameter."""
    parameters = [p for p in material.model.parameters() if p.requires_grad]
    sums = [torch.zeros_like(p) for p in parameters]
    for group in _passes(units, rows_per_pass):
        rows = [row for rows in group for row in rows]
        owners = torch.tensor([i for i, rows in enumerate(group) for _ in rows], device=material.model.device)
        with contextlib.nullcontext() if book is None else book.recording():
            material.backward(accelerator, rows, owners)
        own = book.sums(clip, owners, len(group)) if book else _clipped(parameters, owners, len(group), clip)
        sums = [total + part for total, part in zip(sums, own, strict=True)]
    return sums


def _clipped(parameters: Sequence[nn.Parameter], owners: Tensor, units: int, clip: float) -> list[Tensor]:
    gradients = [_per_unit(p, owners, units) for p in parameters]
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factors = (clip / norms.clamp(min=clip)).to(norms.dtype)
    return [torch.einsum("u,u...->...", factors, g) for g in gradients]


@contextmanager
def hooked(model: PreTrainedModel) -> Iterator[None]:
    """Within, a backward pass leaves a gradient for each row on the parameters (`grad_sample`)."""
    _register_norms(model)
    wrapped = GradSampleModule(model, batch_first=True, loss_reduction="sum", strict=False)
    with warnings.catch_warnings():
        # The input of the first layer is ids or pixels, which have no gradient; its hook fires on the output, as
        # opacus wants.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield
    wrapped.to_standard_module()


def _fit(setting: Setting[DpOptions], material: Material[Row], mechanism: Mechanism, secret: bytes) -> Fitted:
    rows = setting.options.rows_per_pass
    with clipping(setting) as book:
        return fit(
            model=setting.model,
            batches=range(mechanism.steps),
            gradient=private_gradient(material, mechanism=mechanism, secret=secret, rows_per_pass=rows, book=book),
            schedule=Schedule(learning_rate=setting.options.learning_rate, max_norm=None),
            stage="privatise",
            progress=setting.progress,
        )


@contextmanager
def clipping(setting: Setting[DpOptions]) -> Iterator[BookKeeping | None]:
    """Within, `private_gradient` can clip as the options say: with the book that is given, or with hooks."""
    if setting.options.clipper == "book-keeping":
        yield BookKeeping(setting.model)
        return
    with hooked(setting.model):
        yield None


def _per_unit(parameter: nn.Parameter, owners: Tensor, units: int) -> Tensor:
    rows = getattr(parameter, "grad_sample", None)
    if not isinstance(rows, Tensor):
        raise EngineError(
            "bad_model", "a layer of this model gives no per-person gradients, so it cannot be trained under DP"
        )
    parameter.grad_sample = None  # type: ignore[attr-defined]
    parameter.grad = None
    return torch.zeros(units, *parameter.shape, dtype=rows.dtype, device=rows.device).index_add(0, owners, rows)


def _passes(units: Sequence[Sequence[Row]], rows_per_pass: int) -> list[list[Sequence[Row]]]:
    """Whole units in groups of about `rows_per_pass` rows, which bounds memory and does not change the result."""
    groups: list[list[Sequence[Row]]] = []
    size = rows_per_pass
    for rows in units:
        if size + len(rows) > rows_per_pass:
            groups.append([])
            size = 0
        groups[-1].append(rows)
        size += len(rows)
    return groups


def _register_norms(model: PreTrainedModel) -> None:
    """Teach opacus the RMSNorm of the model's family: a gain on normalised activations."""
    classes = {
        type(m) for m in model.modules() if type(m).__name__.endswith("RMSNorm") and not isinstance(m, nn.RMSNorm)
    }
    for cls in classes - set(GradSampleModule.GRAD_SAMPLERS):
        register_grad_sampler(cls)(_norm_gradient)


def _norm_gradient(layer: nn.Module, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    weight = cast("nn.Parameter", layer.weight)
    if not weight.requires_grad:
        return {}
    epsilon = float(cast("float", layer.variance_epsilon))
    x = activations[0]
    normalised = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)
    return {weight: (normalised * backprops).flatten(1, -2).sum(1)}
