"""Unlearning by gradient: steps on forget_weight * F + retain_weight * R, whatever F and R are.

A method is an `Objective`: a term on the forget set, a term on the retain set (by default the one its options name),
and, if it does more than add two gradients, how they become one. Everything is planned before the first step: what
each step holds is drawn with the seed, and what the terms need of the model as it was is computed once
(`engine.methods.known`). Means are taken over a whole step, so splitting it in passes does not change it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.examples import AnySetting, Example, forgotten
from engine.methods.known import FEATURES, Known, Reader, recall
from engine.methods.terms import Labels, Part, Term, frozen_head, labels_of, retain_term
from engine.options import DescentOptions
from engine.ranks import processes
from engine.seeds import stream
from engine.tasks.language import Forward, Head
from engine.tasks.sequences import Tokens, collate, context_length, in_passes, training_tokens
from engine.training import Fitted, Piece, Schedule, accumulate, device, fit

Combine = Callable[[Accelerator, nn.Module, Sequence[Piece], Sequence[Piece]], float]


def added(accelerator: Accelerator, model: nn.Module, forget: Sequence[Piece], retain: Sequence[Piece]) -> float:
    """The gradient of the sum."""
    return accumulate(accelerator, model, [*forget, *retain])


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """What a method minimises: F, R if the options do not name it, on which examples, read how, combined how."""

    forget: Term
    retain: Term | None = None
    examples: Callable[[AnySetting], list[Example]] = forgotten
    combine: Combine = added
    reader: Reader | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The micro-batches of one optimiser step."""

    forget: tuple[Part, ...]
    retain: tuple[Part, ...]


def descend(setting: Setting[Any], objective: Objective) -> Fitted:
    """Step the setting's model on an objective; options are `DescentOptions` or extend them."""
    options: DescentOptions = setting.options
    retain = objective.retain or retain_term(options.retain_term)
    if not setting.forget:
        raise EngineError("bad_data", "there are no records to forget")
    if retain is not None and not setting.retain:
        raise EngineError("bad_data", "a retain term needs retain records")
    module: nn.Module = setting.model
    module.to(device())
    reader = objective.reader or Forward(setting.model)
    steps = _plan(setting, objective, retain, reader)
    return fit(
        model=setting.model,
        batches=steps,
        gradient=_gradient(setting, objective, retain, reader),
        schedule=Schedule(learning_rate=_rate(options), cosine=False, precision=options.precision),
        stage="unlearn",
        progress=setting.progress,
    )


def _gradient(
    setting: AnySetting, objective: Objective, retain: Term | None, reader: Reader
) -> Callable[[Accelerator, Step], float]:
    options = setting.options
    asked = any(term is not None and FEATURES in term.knows for term in (objective.forget, retain))
    head = frozen_head(reader) if asked else Head(weight=None, bias=None)

    def gradient(accelerator: Accelerator, step: Step) -> float:
        forget = pieces(objective.forget, step.forget, reader, head, options.forget_weight)
        kept = pieces(retain, step.retain, reader, head, options.retain_weight) if retain else []
        return objective.combine(accelerator, setting.model, forget, kept)

    return gradient


def pieces(term: Term, parts: Sequence[Part], reader: Reader, head: Head, weight: float) -> list[Piece]:
    """What each micro-batch adds to `weight` times the mean of a term over a step."""
    count = sum(_count(term, part) for part in parts)
    return [partial(_piece, term, part, reader, head, weight / count) for part in parts]


def _piece(term: Term, part: Part, reader: Reader, head: Head, scale: float) -> Tensor:
    labels = labels_of(reader, part, head)
    values = term.loss(labels)
    return scale * (values.sum() if term.per_example else (values * labels.batch.weights.abs()).sum())


def _count(term: Term, part: Part) -> float:
    """What a sum over a part is divided by, up to the other parts of the step."""
    if term.per_example:
        return len(part.chosen) / part.width
    return float(part.batch.weights.abs().sum())


def _plan(setting: AnySetting, objective: Objective, retain: Term | None, reader: Reader) -> list[Step]:
    """All steps in advance: what they hold, drawn with the seed, and what is known of it."""
    options, examples = setting.options, objective.examples(setting)
    size = min(options.forget_batch, len(examples))
    order = cycle(len(examples), options.steps * size, setting.seed, "forget")
    forget = _Pool(setting, reader, objective.forget, examples, order)
    kept, order_kept = None, []
    if retain is not None:
        beside = [(tokens,) for tokens in retain_tokens(setting)]
        order_kept = cycle(len(beside), options.steps * options.retain_batch, setting.seed, "retain")
        kept = _Pool(setting, reader, retain, beside, order_kept)
    steps = []
    for i in range(options.steps):
        drawn = order[i * size : (i + 1) * size]
        drawn_kept = order_kept[i * options.retain_batch : (i + 1) * options.retain_batch]
        steps.append(Step(forget=forget.parts(drawn), retain=kept.parts(drawn_kept) if kept else ()))
    return steps


class _Pool:
    """The examples that will be drawn, with what is known of them; the model is not asked about any other."""

    def __init__(
        self, setting: AnySetting, reader: Reader, term: Term, examples: Sequence[Example], drawn: Sequence[int]
    ) -> None:
        self._term, self._budget = term, setting.options.tokens_per_pass
        self._width = len(examples[0])
        self._places = {example: place for place, example in enumerate(sorted(set(drawn)))}
        self._tokens = [_everywhere(t) if term.everywhere else t for i in self._places for t in examples[i]]
        self._known = self._recall(setting, reader)

    def _recall(self, setting: AnySetting, reader: Reader) -> Known | None:
        if not self._term.knows:
            return None
        setting.progress("reference", 0.0, None)
        return recall(
            reader,
            self._tokens,
            wanted=self._term.knows,
            model_digest=setting.digest,
            cache=setting.cache,
            tokens_per_pass=self._budget,
            precision=setting.options.precision,
        )

    def parts(self, chosen: Sequence[int]) -> tuple[Part, ...]:
        """Some examples in micro-batches of similar length; the sequences of one example stay together."""
        chosen = [self._places[i] for i in chosen]
        longest = [max(self._tokens[i * self._width : (i + 1) * self._width], key=len) for i in chosen]
        together = [list(range(len(chosen)))]
        if not self._term.whole:
            together = in_passes(longest, max(1, self._budget // self._width), processes=processes())
        return tuple(self._part([chosen[j] for j in group]) for group in together)

    def _part(self, examples: Sequence[int]) -> Part:
        rows = tuple(i * self._width + j for i in examples for j in range(self._width))
        batch = collate([self._tokens[row] for row in rows])
        return Part(batch=batch, chosen=rows, known=self._known, knows=self._term.knows, width=self._width)


def _everywhere(tokens: Tokens) -> Tokens:
    """The same with positions that are no labels marked by a weight of -1, so that they are read as well."""
    return replace(tokens, weights=(0.0, *(weight or -1.0 for weight in tokens.weights[1:])))


def retain_tokens(setting: AnySetting) -> list[Tokens]:
    """Every retain passage, and every question once, in packs that are drawn with the seed."""
    rng = stream(setting.seed, "retain")
    options, context = setting.options, context_length(setting.model.config)
    return training_tokens(
        setting.tokenizer, setting.retain, context=context, answer_weight=options.answer_weight, rng=rng
    )


def cycle(size: int, length: int, seed: int, name: str) -> list[int]:
    """`length` indices below `size`, each as often as the others, in random order within each round."""
    rng = stream(seed, name)
    order: list[int] = []
    while len(order) < length:
        order += rng.sample(range(size), size)
    return order[:length]


def _rate(options: DescentOptions) -> float:
    if options.learning_rate is None:
        raise EngineError("internal", "the learning rate of this job was not resolved")
    return options.learning_rate


__all__ = ["Labels", "Objective", "Step", "Term", "added", "descend"]
