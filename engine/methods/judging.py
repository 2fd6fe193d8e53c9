"""Learning which prompts are about the forgotten, with a threshold chosen on prompts that were not learned.

A share of both sets is held out: records of the forget set, people of the retain set. A first classifier learns the
rest, and the threshold is the middle of the widest interval that tells the held-out prompts apart best. The classifier
that is kept has learned *all* forget prompts and the same retain prompts, so that the held-out retain prompts are new
to it as well: its false alarms are measured on them, and with `false_alarms` the threshold is their split-conformal
quantile instead, so that a prompt drawn like them is taken for a forgotten one with at most that probability. The
recall is that of the first classifier on prompts of records it had not seen.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """The classifier that is kept, its threshold, and what it did on prompts it was not trained on."""

    classifier: Classifier
    threshold: float
    measured: dict[str, float]


def learn(forget: Sequence[Record], retain: Sequence[Record], options: EcoOptions, seed: int) -> Judge:
    """Train the classifier and choose its threshold on prompts that were held out."""
    kept, held = _split([[record] for record in forget], options.held_out, seed, "forget")
    others, strangers = _split(list(by_unit(retain).values()), options.held_out, seed, "retain")
    first, classifier = train(prompts(kept), prompts(others)), train(prompts(forget), prompts(others))
    found, new = ([first.score(text) for text in prompts(records)] for records in (held, strangers))
    alarms = [classifier.score(text) for text in prompts(strangers)]
    threshold = conformal(alarms, options.false_alarms) if options.false_alarms else middle(found, new)
    return Judge(
        classifier=classifier,
        threshold=threshold,
        measured={
            "recall": float(np.mean([score > threshold for score in found])),
            "false_alarms": float(np.mean([score > threshold for score in alarms])),
            "held_out_forget": float(len(found)),
            "held_out_retain": float(len(alarms)),
        },
    )


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


def _split(groups: Sequence[Sequence[Record]], share: float, seed: int, name: str) -> tuple[list[Record], list[Record]]:
    """Records to learn from and records held out, whole groups at a time, drawn with the seed."""
    if len(groups) <= 1:
        raise EngineError(
            "bad_data",
            f"ECO needs two {'records' if name == 'forget' else 'people'} in the {name} set: one is held out",
        )
    order = list(groups)
    stream(seed, "held out", name).shuffle(order)
    held = max(1, round(share * len(order)))
    return [r for group in order[held:] for r in group], [r for group in order[:held] for r in group]
