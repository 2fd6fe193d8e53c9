"""Unlearning by gradient: ascent on the forget set (GA) and negative preference optimisation (NPO), each with a retain term.

loss = forget_weight * F + retain_weight * R, with
  F = -CE_forget                                        GA (arXiv 2210.01504)
  F = -(2/beta) E log sigmoid(-beta (log pi - log pi_ref))  NPO (arXiv 2404.05868, eq. 3), log pi *summed* over the labels of a sequence
  R = 0 | CE_retain | KL(p_ref || p) on retain labels   none | gd | kl
The reference is the model as it was before. Its summed log-probabilities on the fixed forget set, and its features at the retain labels
that will be drawn, are computed once; no second model is kept. The labels of a forgotten question are its answer alone, asked by itself
and after a few retain questions, because a model can forget an answer in one position and keep it in the other.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional

from engine.corpus import Record, passages
from engine.seeds import stream
from engine.errors import EngineError
from engine.methods import Setting
from engine.options import AscentOptions, PreferenceOptions
from engine.prompts import pairs
from engine.tasks.language import Forward, Head, label_features, label_losses, summed_log_probs
from engine.tasks.sequences import Batch, Tokens, collate, context_length, pack_tokens, passage_tokens, training_tokens
from engine.training import Fitted, Gradient, Schedule, fit

ForgetTerm = Callable[[Tensor, Batch, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One optimiser step: a forget batch with the reference's log-probability of each row, and a retain batch with its features."""

    forget: Batch
    reference: Tensor
    retain: Batch | None
    retain_features: Tensor | None


def ascent_term(losses: Tensor, batch: Batch, _reference: Tensor) -> Tensor:
    """F of GA: minus the mean cross-entropy over the labels (flat, nats)."""
    del batch
    return -losses.mean()


def preference_term(beta: float) -> ForgetTerm:
    """F of NPO from the losses of the labels, and the reference's log-probability of each row."""

    def term(losses: Tensor, batch: Batch, reference: Tensor) -> Tensor:
        ratio = summed_log_probs(losses, batch) - reference
        return -(2.0 / beta) * functional.logsigmoid(-beta * ratio).mean()

    return term


def divergence(reference_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(p_ref || p) in nats, mean over labels, from logits of shape (labels x vocabulary)."""
    return functional.kl_div(
        functional.log_softmax(logits, dim=-1), functional.log_softmax(reference_logits, dim=-1), log_target=True, reduction="batchmean"
    )


def npo(setting: Setting[PreferenceOptions]) -> Fitted:
    """Negative preference optimisation of the model on the forget set."""
    return _descend(setting, setting.options, preference_term(setting.options.beta))


def ga(setting: Setting[AscentOptions]) -> Fitted:
    """Gradient ascent of the model on the forget set."""
    return _descend(setting, setting.options, ascent_term)


def _descend(setting: Setting[PreferenceOptions] | Setting[AscentOptions], options: PreferenceOptions | AscentOptions, term: ForgetTerm) -> Fitted:
    if not setting.forget:
        raise EngineError("bad_data", "there are no records to forget")
    if not setting.retain and options.retain_term != "none":
        raise EngineError("bad_data", "a retain term needs retain records")
    forward = Forward(setting.model)
    steps = _plan(setting, options, forward)
    return fit(
        model=setting.model,
        batches=steps,
        gradient=_gradient(forward, forward.frozen_head(), options, term),
        schedule=Schedule(learning_rate=options.learning_rate, cosine=False),
        stage="unlearn",
        progress=setting.progress,
    )


def _gradient(forward: Forward, head: Head, options: PreferenceOptions | AscentOptions, term: ForgetTerm) -> Gradient[Step]:
    def gradient(accelerator: Accelerator, step: Step) -> float:
        forget = step.forget.to(accelerator.device)
        loss = options.forget_weight * term(label_losses(forward, forget), forget, step.reference.to(accelerator.device))
        if step.retain is not None:
            loss = loss + options.retain_weight * _retain_term(forward, head, step, options.retain_term)
        if not torch.isfinite(loss):
            return math.nan
        accelerator.backward(loss)
        return float(loss.detach())

    return gradient


def _retain_term(forward: Forward, head: Head, step: Step, kind: str) -> Tensor:
    if step.retain is None:
        message = "a step without a retain batch has no retain term"
        raise ValueError(message)
    batch = step.retain.to(forward.model.device)
    if kind == "gd":
        return label_losses(forward, batch).mean()
    features = step.retain_features
    if features is None:
        message = "the KL term needs the features of the reference"
        raise ValueError(message)
    return divergence(head.logits(features.to(batch.ids.device)), forward.logits(label_features(forward, batch)))


def _plan(setting: Setting[PreferenceOptions] | Setting[AscentOptions], options: PreferenceOptions | AscentOptions, forward: Forward) -> list[Step]:
    """All steps in advance: what they hold is drawn with the seed, and what the reference says about it is computed here, once."""
    forget = forget_tokens(setting, options.context_pairs)
    reference = _reference_log_probs(forward, forget)
    order = _cycle(len(forget), options.steps * min(options.forget_batch, len(forget)), setting.seed)
    size = min(options.forget_batch, len(forget))
    retained = iter(_retain_batches(setting, options))
    steps = []
    for i in range(options.steps):
        chosen = order[i * size : (i + 1) * size]
        retain = next(retained, None)
        features = _reference_features(forward, retain) if retain is not None and options.retain_term == "kl" else None
        steps.append(
            Step(forget=collate([forget[j] for j in chosen]), reference=reference[chosen], retain=retain, retain_features=features)
        )
        setting.progress("reference", (i + 1) / options.steps, None)
    return steps


def forget_tokens(setting: Setting[PreferenceOptions] | Setting[AscentOptions], context_pairs: int) -> list[Tokens]:
    """Passages with every token a label; questions alone and after retain questions, with the answer's tokens as labels."""
    context = context_length(setting.model.config)
    windows = passage_tokens(setting.tokenizer, _texts(setting.forget), context=context, end=False)
    asked, others = pairs(setting.forget), pairs(setting.retain)
    packed = [[pair] for pair in asked]
    if context_pairs and len(others) >= context_pairs:
        rng = stream(setting.seed, "context")
        packed += [[*rng.sample(others, context_pairs), pair] for pair in asked]
    questions = pack_tokens(setting.tokenizer, packed, context=context, answer_weight=1.0, prompt_weight=0.0, last_only=True)
    labelled = [tokens for tokens in questions if any(tokens.weights[1:])]
    return [*(tokens for text in windows for tokens in text), *labelled]


def _retain_batches(setting: Setting[PreferenceOptions] | Setting[AscentOptions], options: PreferenceOptions | AscentOptions) -> list[Batch]:
    if options.retain_term == "none":
        return []
    rng = stream(setting.seed, "retain")
    context = context_length(setting.model.config)
    sequences: list[Tokens] = []
    while len(sequences) < options.steps * options.retain_batch:
        epoch = training_tokens(setting.tokenizer, setting.retain, context=context, answer_weight=1.0, rng=rng)
        rng.shuffle(epoch)
        sequences += epoch
    size = options.retain_batch
    return [collate([_unweighted(t) for t in sequences[i * size : (i + 1) * size]]) for i in range(options.steps)]


def _unweighted(tokens: Tokens) -> Tokens:
    return replace(tokens, weights=tuple(float(weight > 0) for weight in tokens.weights))


@torch.no_grad()
def _reference_log_probs(forward: Forward, sequences: Sequence[Tokens]) -> Tensor:
    values = []
    for tokens in sequences:
        batch = collate([tokens]).to(forward.model.device)
        values.append(summed_log_probs(label_losses(forward, batch), batch))
    return torch.cat(values).cpu()


@torch.no_grad()
def _reference_features(forward: Forward, batch: Batch) -> Tensor:
    return label_features(forward, batch.to(forward.model.device)).cpu()


def _cycle(size: int, length: int, seed: int) -> list[int]:
    """`length` indices below `size`, each as often as the others, in random order within each round."""
    rng = stream(seed, "forget")
    order: list[int] = []
    while len(order) < length:
        order += rng.sample(range(size), size)
    return order[:length]


def _texts(records: Sequence[Record]) -> list[str]:
    return [record.text for record in passages(records) if record.text is not None]
