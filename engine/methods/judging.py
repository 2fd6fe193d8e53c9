"""Learning which prompts are about the forgotten, with a threshold chosen on prompts that were not learned.

The classifier learns all forget prompts and those of most people who stay; the prompts of the others, held out, are new
to it. What it makes of a forget prompt that is new to it is estimated in folds: each part of the forget records is
scored by a classifier that learned the other parts. The threshold is the middle of the widest interval that tells
these two lists of scores apart best. With `false_alarms` it is the split-conformal quantile of the held-out retain
scores instead: a prompt drawn like them is then taken for a forgotten one with at most that probability.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engine.corpus import Record, by_unit
from engine.errors import EngineError
from engine.guards.classifier import Classifier, train
from engine.options import EcoOptions
from engine.prompts import pairs, question_prompt
from engine.seeds import stream

FOLDS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """The classifier that is kept, its threshold, and what it did on prompts it was not trained on."""

    classifier: Classifier
    threshold: float
    measured: dict[str, float]


def learn(forget: Sequence[Record], retain: Sequence[Record], options: EcoOptions, seed: int) -> Judge:
    """Train the classifier and choose its threshold."""
    others, strangers = _split(retain, options.held_out, seed)
    classifier = train(prompts(forget), prompts(others))
    found, new = _in_folds(forget, prompts(others), seed), [classifier.score(text) for text in prompts(strangers)]
    threshold = conformal(new, options.false_alarms) if options.false_alarms else middle(found, new)
    return Judge(
        classifier=classifier,
        threshold=threshold,
        measured={
            "recall": float(np.mean([score > threshold for score in found])),
            "false_alarms": float(np.mean([score > threshold for score in new])),
            "prompts_forget": float(len(found)),
            "prompts_held_out": float(len(new)),
        },
    )


def _in_folds(forget: Sequence[Record], others: Sequence[str], seed: int) -> list[float]:
    """The scores of all forget prompts, none by a classifier that learned its record."""
    if len(forget) <= 1:
        raise EngineError("bad_data", "ECO needs two records to forget, to see whether one is known by the other")
    order = stream(seed, "folds").sample(range(len(forget)), len(forget))
    scores = []
    for fold in (order[i::FOLDS] for i in range(min(FOLDS, len(order)))):
        rest = [record for i, record in enumerate(forget) if i not in set(fold)]
        classifier = train(prompts(rest), others)
        scores += [classifier.score(text) for text in prompts([forget[i] for i in fold])]
    return scores


def prompts(records: Sequence[Record]) -> list[str]:
    """What may be asked about records: questions, bare and in the published format, and passages."""
    asked = [question for question, _ in pairs(records)]
    return [*asked, *map(question_prompt, asked), *(r.text for r in records if r.text is not None)]


def middle(found: Sequence[float], new: Sequence[float]) -> float:
    """The middle of the widest interval of thresholds that maximise recall minus false alarms."""
    cuts = sorted({*found, *new})
    cuts = [cuts[0] - 2.0, *cuts, cuts[-1] + 2.0]
    found_, new_ = np.asarray(found), np.asarray(new)
    best: tuple[float, float, float] = (-math.inf, 0.0, 0.0)
    for low, high in pairwise(cuts):
        value = float((found_ > low).mean() - (new_ > low).mean())
        best = max(best, (round(value, 12), high - low, (low + high) / 2))
    return best[2]


def conformal(scores: Sequence[float], level: float) -> float:
    """The ceil((1 - level) (n + 1))-th smallest of n scores: a new one exceeds it with probability at most `level`."""
    rank = math.ceil((1.0 - level) * (len(scores) + 1))
    if rank > len(scores):
        raise EngineError("bad_data", "too few retain prompts are held out to keep false alarms as rare as was asked")
    return sorted(scores)[rank - 1]


def _split(retain: Sequence[Record], share: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Records to learn from and records held out, all of a person on one side, drawn with the seed."""
    people = list(by_unit(retain).values())
    if len(people) <= 1:
        raise EngineError("bad_data", "ECO needs two people in the retain set, one of them to be held out")
    stream(seed, "held out").shuffle(people)
    held = max(1, round(share * len(people)))
    return [r for person in people[held:] for r in person], [r for person in people[:held] for r in person]
