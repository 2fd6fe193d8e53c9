"""Relearning: how fast does the forgotten come back?

Hu et al. 2024 (arXiv 2406.13356), Lynch et al. 2024 (arXiv 2402.16835). Some steps of fine-tuning on

    relearn_forget       the records of half of the forgotten people, scored on the *other* half, and vice versa
    relearn_related      as many retain records, those most like the forgotten ones ("benign" relearning)
    relearn_unrelated    as many holdout records

then every score. The curve stands at the steps of `attack_steps`, step 0 being the model as it is; `_area` is the
mean height of the curve over the steps (trapezia), between 0 and 1. Every model gets the same batches in the same
order: AdamW without weight decay at a constant rate (`attack_rate`, by default 3e-4 for a million parameters and less
by the root of their number), gradients clipped at norm 1, loss over every token, dropout off. The loop is its own,
because it is stopped to ask and goes on with the optimiser as it was. One run of training is one draw: the interval is
over people, not over runs.

Training that diverges is stopped before the step; from there on there is no number, and the finding is null.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import nn
from transformers import PreTrainedModel

from engine.corpus import Record
from engine.seeds import stream
from engine.tasks.language import Forward, weighted_loss
from engine.tasks.sequences import Batch, collate, context_length, epoch_groups, training_tokens
from engine.verification.attacks.relearnt import Half
from engine.verification.attacks.subject import NOT_ASKED, Numbers, Scores, Subject

MAX_NORM = 1.0
MILLION, RATE = 1e6, 3e-4

Curve = list[Scores]  # the scores at each step


def attack(subject: Subject) -> Scores:
    """`relearn_{what}_{step}.{score}` and `relearn_{what}_area.{score}` for the three kinds of text."""
    items, steps = subject.items, sorted({0, *subject.options.attack_steps})
    everything = (tuple(range(len(items.questions))), tuple(range(len(items.passages))))
    kinds = {
        "forget": items.halves,
        "related": (Half(records=items.related, questions=everything[0], passages=everything[1]),),
        "unrelated": (Half(records=items.unrelated, questions=everything[0], passages=everything[1]),),
    }
    found: Scores = {}
    for kind, halves in kinds.items():
        curve = merged([_run(subject, half, kind, steps) for half in halves]) or [_nothing(subject.plain)] * len(steps)
        for name in subject.plain:
            for step, scores in zip(steps, curve, strict=True):
                found[f"relearn_{kind}_{step}.{name}"] = scores[name]
            found[f"relearn_{kind}_area.{name}"] = areas(steps, [scores[name] for scores in curve])
    return found


def areas(steps: Sequence[int], curve: Sequence[Numbers]) -> Numbers:
    """Each item's mean height over the steps (trapezia); `NOT_ASKED` where a point of its curve is missing."""
    widths = [b - a for a, b in pairwise(steps)]
    result = []
    for points in zip(*curve, strict=True):
        heights = [(a + b) / 2 for a, b in pairwise(points)]
        area = sum(width * height for width, height in zip(widths, heights, strict=True)) / (steps[-1] - steps[0])
        result.append(NOT_ASKED if NOT_ASKED in points else area)
    return tuple(result)


def merged(curves: Sequence[Curve]) -> Curve:
    """Curves that asked different items as one."""
    return [
        {name: tuple(max(values) for values in zip(*(one[name] for one in point), strict=True)) for name in point[0]}
        for point in zip(*curves, strict=True)
    ]


def _run(subject: Subject, half: Half, kind: str, steps: Sequence[int]) -> Curve:
    """The curve of one run of fine-tuning; the model is as before afterwards."""
    curve = [_only(subject.plain, half)]
    batches = _batches(subject, half.records, kind, steps[-1])
    rate = subject.options.attack_rate or preset(subject.model.num_parameters())
    for alive in taken(subject.model, batches, rate, steps[1:]):
        scores = subject.some(half.questions, half.passages) if alive else {}
        curve.append({name: scores.get(name, values) for name, values in _nothing(subject.plain).items()})
    subject.restore()
    return curve


def preset(parameters: int) -> float:
    """The learning rate for a model of that size; a higher one destroys what it should bring back."""
    return RATE * math.sqrt(MILLION / parameters)


def taken(model: PreTrainedModel, batches: Sequence[Batch], rate: float, stops: Sequence[int]) -> Iterator[bool]:
    """Fine-tune the model in place, a step a batch; at each of the stops, whether every step until then was taken."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    forward, done, alive = Forward(model), 0, True
    for stop in stops:
        while alive and done < stop:
            alive = _step(forward, batches[done], optimiser)
            done += 1
        yield alive


def _step(forward: Forward, batch: Batch, optimiser: torch.optim.Optimizer) -> bool:
    loss = weighted_loss(forward, batch)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(forward.model.parameters(), MAX_NORM)
    if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
        return False
    optimiser.step()
    return True


def _batches(subject: Subject, records: Sequence[Record], kind: str, count: int) -> list[Batch]:
    """As many batches as steps, epoch after epoch."""
    rng, context = stream(subject.items.seed, kind), context_length(subject.model.config)
    batches: list[Batch] = []
    while len(batches) < count:
        tokens = training_tokens(subject.tokenizer, records, context=context, answer_weight=1.0, rng=rng)
        batches += map(collate, epoch_groups(tokens, subject.options.attack_tokens_per_batch, rng))
    return [batch.to(subject.model.device) for batch in batches[:count]]


def _only(scores: Scores, half: Half) -> Scores:
    asked = {"knowmem_f": set(half.questions), "verbmem_f": set(half.passages)}
    return {
        name: tuple(value if i in asked[name] else NOT_ASKED for i, value in enumerate(values))
        for name, values in scores.items()
    }


def _nothing(scores: Scores) -> Scores:
    return {name: (NOT_ASKED,) * len(values) for name, values in scores.items()}
