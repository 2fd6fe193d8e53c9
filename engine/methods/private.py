"""DP training with the *data subject* as the unit: the base of `dp2`.

Each round samples units by Poisson sampling, sums their clipped gradients and adds Gaussian noise; a round that
nobody joins is noised like any other (skipping it, as the published DP2Unlearning code does, is outside the
theorem). A unit's gradient is that of everything of that person: if the material fills several rows, their
gradients are added before clipping. The noised sum is divided by its own noise level and not by the number of
units, which is private under add-or-remove. Losses of training are private too and are not returned.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator
from opacus.grad_sample import GradSampleModule, register_grad_sampler
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.corpus import Record, by_unit, passages
from engine.errors import EngineError
from engine.guarantees.learned import Learned, unigram_loss
from engine.guarantees.mechanism import Mechanism
from engine.methods import Setting
from engine.methods.secret import gaussians, joins
from engine.options import PrivateOptions
from engine.prompts import pairs
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import Tokens, collate, context_length, pack_tokens, passage_tokens
from engine.training import Fitted, Gradient, Schedule, fit

Rows = tuple[Tokens, ...]  # everything of one unit


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateOutcome:
    """What may be told about a private training."""

    fitted: Fitted
    mechanism: Mechanism
    learned: Learned


def train_base(setting: Setting[PrivateOptions], *, holdout: Sequence[Record], secret: bytes) -> PrivateOutcome:
    """Train the model in place under DP on `setting.retain`, then ask held-out people whether it learned."""
    options = setting.options
    units = unit_rows(setting.tokenizer, setting.retain, context_length(setting.model.config), options.answer_weight)
    held = [
        row for rows in unit_rows(setting.tokenizer, holdout, context_length(setting.model.config), 1.0) for row in rows
    ]
    if not units or not held:
        raise EngineError("bad_data", "DP training needs records to train on and held-out records to be judged by")
    mechanism = Mechanism(
        sample_rate=options.sample_rate,
        noise_multiplier=options.sigma,
        steps=options.steps,
        clip=options.clip,
        units=len(units),
    )
    before = _held_out_loss(setting.model, held)
    fitted = _fit(setting, units, mechanism, secret)
    learned = Learned(
        start_loss=before,
        unigram_loss=unigram_loss(
            token for row in held for token, weight in zip(row.ids, row.weights, strict=True) if weight
        ),
        base_loss=_held_out_loss(setting.model, held),
        margin=options.margin,
    )
    return PrivateOutcome(fitted=fitted, mechanism=mechanism, learned=learned)


def unit_rows(
    tokenizer: PreTrainedTokenizerFast, records: Sequence[Record], context: int, answer_weight: float
) -> list[Rows]:
    """All records of each data subject, in order of first appearance, in as few rows as fit; nothing is left out."""
    return [_rows(tokenizer, group, context, answer_weight) for group in by_unit(records).values()]


def private_gradient(
    model: PreTrainedModel, units: Sequence[Rows], *, mechanism: Mechanism, secret: bytes, rows_per_pass: int
) -> Gradient[int]:
    """One round's gradient, given its number: (sum of clipped unit gradients + noise) / (noise multiplier * clip)."""
    forward = Forward(model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    scale = mechanism.noise_multiplier * mechanism.clip

    def gradient(accelerator: Accelerator, round_: int) -> float:
        mask = joins(secret, round_=round_, units=len(units), sample_rate=mechanism.sample_rate)
        sums = clipped_sum(
            forward, accelerator, [units[i] for i in np.flatnonzero(mask).tolist()], mechanism.clip, rows_per_pass
        )
        noise = torch.from_numpy(gaussians(secret, round_=round_, count=sum(p.numel() for p in parameters)))
        start = 0
        for p, total in zip(parameters, sums, strict=True):
            z = noise[start : start + p.numel()].view(p.shape).to(p.device)
            p.grad = (total.double() / scale + z).to(p.dtype)
            start += p.numel()
        return 0.0

    return gradient


def clipped_sum(
    forward: Forward, accelerator: Accelerator, units: Sequence[Rows], clip: float, rows_per_pass: int
) -> list[Tensor]:
    """Sum of the units' gradients, each clipped to L2 norm `clip` over all parameters; one tensor a parameter."""
    parameters = [p for p in forward.model.parameters() if p.requires_grad]
    sums = [torch.zeros_like(p) for p in parameters]
    for group in _passes(units, rows_per_pass):
        rows = [row for rows in group for row in rows]
        owners = torch.tensor([i for i, rows in enumerate(group) for _ in rows], device=forward.model.device)
        _backward(forward, accelerator, rows, owners)
        gradients = [_per_unit(p, owners, len(group)) for p in parameters]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        factors = (clip / norms.clamp(min=clip)).to(norms.dtype)
        sums = [total + torch.einsum("u,u...->...", factors, g) for total, g in zip(sums, gradients, strict=True)]
    return sums


def _fit(setting: Setting[PrivateOptions], units: Sequence[Rows], mechanism: Mechanism, secret: bytes) -> Fitted:
    _register_norms(setting.model)
    wrapped = GradSampleModule(setting.model, batch_first=True, loss_reduction="sum", strict=False)
    gradient = private_gradient(
        setting.model, units, mechanism=mechanism, secret=secret, rows_per_pass=setting.options.rows_per_pass
    )
    with warnings.catch_warnings():
        # The input of the embedding is ids, which have no gradient; its hook fires on the output, as opacus wants.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        fitted = fit(
            model=setting.model,
            batches=range(mechanism.steps),
            gradient=gradient,
            schedule=Schedule(learning_rate=setting.options.learning_rate, max_norm=None),
            stage="privatise",
            progress=setting.progress,
        )
    wrapped.to_standard_module()
    return fitted


def _backward(forward: Forward, accelerator: Accelerator, rows: Sequence[Tokens], owners: Tensor) -> None:
    """Leave per-row gradients of each unit's weighted mean loss on the parameters (`grad_sample`)."""
    batch = collate(rows).to(forward.model.device)
    positions = torch.arange(batch.ids.shape[1], device=batch.ids.device).expand(batch.ids.shape)
    logits = forward.logits(forward.features(batch.ids, positions))[batch.rows, batch.positions]
    losses = functional.cross_entropy(logits, batch.targets, reduction="none") * batch.weights
    label_owners = owners[batch.rows]
    totals = torch.zeros(int(owners.max()) + 1, device=losses.device).index_add(0, label_owners, batch.weights)
    accelerator.backward((losses / totals[label_owners]).sum())


def _per_unit(parameter: nn.Parameter, owners: Tensor, units: int) -> Tensor:
    rows = getattr(parameter, "grad_sample", None)
    if not isinstance(rows, Tensor):
        raise EngineError(
            "bad_model", "a layer of this model gives no per-person gradients, so it cannot be trained under DP"
        )
    parameter.grad_sample = None  # type: ignore[attr-defined]
    parameter.grad = None
    return torch.zeros(units, *parameter.shape, dtype=rows.dtype, device=rows.device).index_add(0, owners, rows)


def _passes(units: Sequence[Rows], rows_per_pass: int) -> list[list[Rows]]:
    """Whole units in groups of about `rows_per_pass` rows, which bounds memory and does not change the result."""
    groups: list[list[Rows]] = []
    size = rows_per_pass
    for rows in units:
        if size + len(rows) > rows_per_pass:
            groups.append([])
            size = 0
        groups[-1].append(rows)
        size += len(rows)
    return groups


def _rows(tokenizer: PreTrainedTokenizerFast, records: Sequence[Record], context: int, answer_weight: float) -> Rows:
    windows = passage_tokens(
        tokenizer, [r.text for r in passages(records) if r.text is not None], context=context, end=True
    )
    pieces = [tokens for text in windows for tokens in text]
    for pack in _packs(pairs(records)):
        pieces += pack_tokens(tokenizer, [pack], context=context, answer_weight=answer_weight, prompt_weight=1.0)
    rows: list[Tokens] = []
    for piece in pieces:
        if rows and len(rows[-1]) + len(piece) <= context:
            rows[-1] = Tokens(ids=rows[-1].ids + piece.ids, weights=rows[-1].weights + piece.weights)
        else:
            rows.append(piece)
    return tuple(rows)


def _packs(items: Sequence[tuple[str, str]], size: int = 4) -> list[Sequence[tuple[str, str]]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _held_out_loss(model: PreTrainedModel, rows: Sequence[Tokens]) -> float:
    scores = token_scores(Forward(model), rows, tokens_per_batch=4096)
    return float(-np.concatenate([score.log_probs for score in scores]).mean())


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
