"""Unlearning by gradient: ascent (GA) and negative preference optimisation (NPO), each with a retain term.

    loss = forget_weight * F + retain_weight * R
    F of ga     -CE_forget                                                  arXiv 2210.01504
    F of npo    -(2 / beta) E log sigmoid(-beta (log pi - log pi_ref))      arXiv 2404.05868, eq. 3
    R           none: 0     gd: CE_retain     kl: KL(p_ref || p) on retain labels

In NPO log pi is *summed* over the labels of a sequence. The reference is the model as it was: its log-probabilities on
the fixed forget set, and its features at the retain labels that will be drawn, are computed once, and no second model
is kept. The labels of a forgotten question are its answer alone, asked by itself and after a few retain questions,
because a model can forget an answer in one position and keep it in the other.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional

from engine.corpus import Record, passages
from engine.errors import EngineError
from engine.methods import Setting
from engine.options import AscentOptions, PreferenceOptions
from engine.prompts import pairs
from engine.seeds import stream
from engine.tasks.language import Forward, label_features, label_losses, summed_log_probs
from engine.tasks.sequences import (
    Batch,
    Tokens,
    by_budget,
    collate,
    context_length,
    pack_tokens,
    passage_tokens,
    training_tokens,
)
from engine.training import Fitted, Gradient, Schedule, fit

TOKENS_PER_PASS = 2048  # of one backward pass; bounds memory and padding, and does not change the gradient

AnySetting = Setting[PreferenceOptions] | Setting[AscentOptions]
AnyOptions = PreferenceOptions | AscentOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A batch of similar lengths; what the reference says of it: log-probabilities of rows or features of labels."""

    batch: Batch
    log_probs: Tensor | None = None
    features: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One optimiser step."""

    forget: tuple[Part, ...]
    retain: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """A mean over the rows of a step, or a weighted one over its labels, taken apart to be added up over its parts."""

    total: Callable[[Part], Tensor]
    per_row: bool

    def count(self, parts: Sequence[Part]) -> float:
        """What the total is divided by."""
        return sum(part.batch.ids.shape[0] if self.per_row else float(part.batch.weights.sum()) for part in parts)


def ascent_term(forward: Forward) -> Term:
    """F of GA: minus the mean cross-entropy over labels."""
    return Term(total=lambda part: -(label_losses(forward, part.batch) * part.batch.weights).sum(), per_row=False)


def preference_term(forward: Forward, beta: float) -> Term:
    """F of NPO, a mean over sequences."""

    def total(part: Part) -> Tensor:
        ratio = summed_log_probs(label_losses(forward, part.batch), part.batch) - _present(part.log_probs)
        return preference_losses(ratio, beta).sum()

    return Term(total=total, per_row=True)


def preference_losses(log_ratios: Tensor, beta: float) -> Tensor:
    """NPO of each sequence from log pi(y|x) - log pi_ref(y|x), both summed over labels."""
    return -(2.0 / beta) * functional.logsigmoid(-beta * log_ratios)


def likelihood_term(forward: Forward) -> Term:
    """R of gradient descent: the loss of ordinary training, answers weighted as there."""
    return Term(total=lambda part: (label_losses(forward, part.batch) * part.batch.weights).sum(), per_row=False)


def divergence_term(forward: Forward) -> Term:
    """R of KL: against the reference's distribution, which its cached features and a copy of its head give back."""
    head = forward.frozen_head()

    def total(part: Part) -> Tensor:
        now = forward.logits(label_features(forward, part.batch))
        return (divergences(head.logits(_present(part.features)), now) * part.batch.weights).sum()

    return Term(total=total, per_row=False)


def divergences(reference_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(p_ref || p) in nats of each label, from logits of shape (labels x vocabulary)."""
    reference = functional.log_softmax(reference_logits, dim=-1)
    return (reference.exp() * (reference - functional.log_softmax(logits, dim=-1))).sum(-1)


def npo(setting: Setting[PreferenceOptions]) -> Fitted:
    """Negative preference optimisation of the model on the forget set."""
    forward = Forward(setting.model)
    return _descend(setting, setting.options, forward, preference_term(forward, setting.options.beta))


def ga(setting: Setting[AscentOptions]) -> Fitted:
    """Gradient ascent of the model on the forget set."""
    forward = Forward(setting.model)
    return _descend(setting, setting.options, forward, ascent_term(forward))


def _descend(setting: AnySetting, options: AnyOptions, forward: Forward, forget_term: Term) -> Fitted:
    if not setting.forget:
        raise EngineError("bad_data", "there are no records to forget")
    if not setting.retain and options.retain_term != "none":
        raise EngineError("bad_data", "a retain term needs retain records")
    steps = _plan(setting, options, forward)
    retain_term = divergence_term(forward) if options.retain_term == "kl" else likelihood_term(forward)
    return fit(
        model=setting.model,
        batches=steps,
        gradient=_gradient(options, forget_term, retain_term),
        schedule=Schedule(learning_rate=options.learning_rate, cosine=False),
        stage="unlearn",
        progress=setting.progress,
    )


def _gradient(options: AnyOptions, forget_term: Term, retain_term: Term) -> Gradient[Step]:
    def gradient(accelerator: Accelerator, step: Step) -> float:
        loss = 0.0
        for term, parts, weight in (
            (forget_term, step.forget, options.forget_weight),
            (retain_term, step.retain, options.retain_weight),
        ):
            for part in parts:
                value = weight * term.total(_to(part, accelerator.device)) / term.count(parts)
                if not torch.isfinite(value):
                    return math.nan
                accelerator.backward(value)
                loss += float(value.detach())
        return loss

    return gradient


def _plan(setting: AnySetting, options: AnyOptions, forward: Forward) -> list[Step]:
    """All steps in advance: what they hold, drawn with the seed, and what the reference says of it."""
    forget = forget_tokens(setting, options.context_pairs)
    reference = _reference_log_probs(forward, forget)
    size = min(options.forget_batch, len(forget))
    order = _cycle(len(forget), options.steps * size, setting.seed)
    retain = _retain_tokens(setting, options)
    steps = []
    for i in range(options.steps):
        chosen = order[i * size : (i + 1) * size]
        kept = retain[i * options.retain_batch : (i + 1) * options.retain_batch]
        steps.append(
            Step(
                forget=_forget_parts([forget[j] for j in chosen], reference[chosen]),
                retain=_retain_parts(forward, kept, features=options.retain_term == "kl"),
            )
        )
        setting.progress("reference", (i + 1) / options.steps, None)
    return steps


def _forget_parts(sequences: Sequence[Tokens], log_probs: Tensor) -> tuple[Part, ...]:
    groups = by_budget(sequences, TOKENS_PER_PASS)
    return tuple(Part(batch=collate([sequences[i] for i in group]), log_probs=log_probs[group]) for group in groups)


@torch.no_grad()
def _retain_parts(forward: Forward, sequences: Sequence[Tokens], *, features: bool) -> tuple[Part, ...]:
    parts = []
    for group in by_budget(sequences, TOKENS_PER_PASS):
        batch = collate([sequences[i] for i in group])
        known = label_features(forward, batch.to(forward.model.device)).cpu() if features else None
        parts.append(Part(batch=batch, features=known))
    return tuple(parts)


def forget_tokens(setting: AnySetting, context_pairs: int) -> list[Tokens]:
    """Passages, every token a label; questions alone and after retain questions, the answer's tokens as labels."""
    context = context_length(setting.model.config)
    windows = passage_tokens(setting.tokenizer, _texts(setting.forget), context=context, end=False)
    asked, others = pairs(setting.forget), pairs(setting.retain)
    packed = [[pair] for pair in asked]
    if context_pairs and len(others) >= context_pairs:
        rng = stream(setting.seed, "context")
        packed += [[*rng.sample(others, context_pairs), pair] for pair in asked]
    questions = pack_tokens(
        setting.tokenizer, packed, context=context, answer_weight=1.0, prompt_weight=0.0, last_only=True
    )
    labelled = [tokens for tokens in questions if any(tokens.weights[1:])]
    return [*(tokens for text in windows for tokens in text), *labelled]


def _retain_tokens(setting: AnySetting, options: AnyOptions) -> list[Tokens]:
    """Retain sequences for all steps, in random order, each as often as the others."""
    if options.retain_term == "none":
        return []
    rng = stream(setting.seed, "retain")
    context = context_length(setting.model.config)
    sequences: list[Tokens] = []
    while len(sequences) < options.steps * options.retain_batch:
        epoch = training_tokens(
            setting.tokenizer, setting.retain, context=context, answer_weight=options.answer_weight, rng=rng
        )
        rng.shuffle(epoch)
        sequences += epoch
    return sequences


@torch.no_grad()
def _reference_log_probs(forward: Forward, sequences: Sequence[Tokens]) -> Tensor:
    result = torch.zeros(len(sequences))
    for group in by_budget(sequences, TOKENS_PER_PASS):
        batch = collate([sequences[i] for i in group]).to(forward.model.device)
        result[group] = summed_log_probs(label_losses(forward, batch), batch).cpu()
    return result


def _cycle(size: int, length: int, seed: int) -> list[int]:
    """`length` indices below `size`, each as often as the others, in random order within each round."""
    rng = stream(seed, "forget")
    order: list[int] = []
    while len(order) < length:
        order += rng.sample(range(size), size)
    return order[:length]


def _texts(records: Sequence[Record]) -> list[str]:
    return [record.text for record in passages(records) if record.text is not None]


def _to(part: Part, device: torch.device) -> Part:
    return Part(
        batch=part.batch.to(device),
        log_probs=None if part.log_probs is None else part.log_probs.to(device),
        features=None if part.features is None else part.features.to(device),
    )


def _present(value: Tensor | None) -> Tensor:
    if value is None:
        message = "this part was planned without what its term needs"
        raise ValueError(message)
    return value
