"""`tune`: a bounded search of learning rate, retain weight and steps, that never looks at who is to be forgotten.

Other people than the forget set's are unlearned for practice: units drawn from the retain set, as many as the forget
set has, at most a fifth. What a model that never saw them would score is read off people it did not see, the holdout
set. A trial is worth the sum of what its scores miss of the gates by, in the order they stand in the default policy:

    VerbMem, KnowMem of the practice set    at most that of the holdout set, + .05
    KnowMem of who stays                    at least what it was, - .05
    membership AUC                          within .15 of chance

The first trial is the preset; the others are drawn around it, log-uniformly within a factor of three. The best wins,
the earlier one among equals. Everything tried stands in the evidence. Nothing is chosen on scores of the forget set,
so nothing reported is flattered by it.
"""

import dataclasses
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from engine.corpus import Record, by_unit, digest
from engine.errors import EngineError
from engine.methods import Setting
from engine.options import DescentOptions, EvaluateOptions
from engine.seeds import derive, stream
from engine.tasks.sequences import context_length
from engine.verification.items import draw
from engine.verification.measure import measure
from engine.verification.statistics import auc
from engine.weights import originals

SPREAD = 3.0  # a trial is at most this factor away from the preset, either way
LARGEST_SHARE = 0.2  # of the retain set's people stand in for the forget set
TEXT_MARGIN, AUC_MARGIN, CHANCE = 0.05, 0.15, 0.5

Unlearn = Callable[[Setting[Any]], object]
Scores = dict[str, float]


def tune(setting: Setting[Any], unlearn: Unlearn, trials: int) -> tuple[Setting[Any], dict[str, Any]]:
    """The setting with the best options of `trials` trials, its model as it was; and the record of the search.

    Raises:
        EngineError: `bad_options` for a method that takes no such options, `bad_data` without holdout or retain people.
    """
    options = setting.options
    if not isinstance(options, DescentOptions) or options.learning_rate is None:
        raise EngineError("bad_options", "tune works for methods that step from the deployed model; leave it out")
    practice, rest = _split(setting)
    goal = _goal(setting, practice, rest)
    tried = []
    for number, changed in enumerate(_around(options, trials, stream(setting.seed, "tune"))):
        given = dataclasses.replace(setting, forget=practice, retain=rest, options=changed)
        unlearn(given)
        found = _scores(given, practice, rest)
        tried.append((missed(found, goal), number, changed, found))
        restore(setting.model, setting)
        setting.progress("tune", (number + 1) / trials, None)
    best = min(tried, key=lambda trial: trial[:2])
    record = {
        "practice": digest(practice),
        "people": len(by_unit(practice)),
        "goal": goal,
        "trials": [{"missed": m, **_searched(o), "scores": s} for m, _, o, s in tried],
        "chosen": best[1],
    }
    return dataclasses.replace(setting, options=best[2]), record


def restore(model: PreTrainedModel, setting: Setting[Any]) -> None:
    """The weights as they stand in the setting's folder, tensor by tensor."""
    for parameter, before in originals(model, setting.folder):
        parameter.data.copy_(before)


def missed(scores: Mapping[str, float], goal: Mapping[str, float]) -> float:
    """By how much scores miss the gates, summed; 0 where all hold. Not finite scores miss by everything."""
    gaps = [
        scores["verbmem_f"] - goal["verbmem_f"] - TEXT_MARGIN,
        scores["knowmem_f"] - goal["knowmem_f"] - TEXT_MARGIN,
        goal["knowmem_r"] - scores["knowmem_r"] - TEXT_MARGIN,
        abs(scores["auc"] - CHANCE) - AUC_MARGIN,
    ]
    return sum(max(0.0, gap) if math.isfinite(gap) else 1.0 for gap in gaps)


def _split(setting: Setting[Any]) -> tuple[Sequence[Record], Sequence[Record]]:
    """Practice and rest of the retain set, by unit."""
    if not setting.holdout:
        raise EngineError("bad_data", "tune needs holdout records: people no model saw, whose scores are the goal")
    units = sorted(by_unit(setting.retain))
    count = min(len(by_unit(setting.forget)), int(LARGEST_SHARE * len(units)))
    if count < 1:
        raise EngineError("bad_data", "tune needs at least five people in the retain set")
    chosen = set(stream(setting.seed, "practice").sample(units, count))
    practice = [record for record in setting.retain if record.unit in chosen]
    return practice, [record for record in setting.retain if record.unit not in chosen]


def _goal(setting: Setting[Any], practice: Sequence[Record], rest: Sequence[Record]) -> Scores:
    """What as many strangers score on the model as it is, and what those score who stay."""
    units = sorted(by_unit(setting.holdout))
    chosen = set(stream(setting.seed, "strangers").sample(units, min(len(units), len(by_unit(practice)))))
    found = _scores(setting, [record for record in setting.holdout if record.unit in chosen], rest)
    return {name: found[name] for name in ("verbmem_f", "knowmem_f", "knowmem_r")}


def _scores(setting: Setting[Any], asked: Sequence[Record], rest: Sequence[Record]) -> Scores:
    context = context_length(setting.model.config)
    options = EvaluateOptions(
        alternatives=1,
        continuation_tokens=min(EvaluateOptions().continuation_tokens, context // 2),
        answer_tokens=min(EvaluateOptions().answer_tokens, context // 4),
    )
    seed = derive(setting.seed, "tune")
    items = draw(forget=asked, retain=rest, holdout=setting.holdout, options=options, seed=seed)
    found = measure(setting.model, setting.tokenizer, items, options, lambda _: None)
    low, high = (np.asarray(found[f"{group}_min_k"]) for group in ("forget", "holdout"))
    return {
        "verbmem_f": _mean(found["verbmem"]),
        "knowmem_f": _mean(found["knowmem_f"]),
        "knowmem_r": _mean(found["knowmem_r"]),
        "auc": auc(low, high),
    }


def _mean(values: Sequence[float]) -> float:
    """The mean; 0 where a data set has no such items, on both sides of the comparison."""
    return float(np.mean(values)) if values else 0.0


def _around(options: DescentOptions, trials: int, rng: random.Random) -> list[DescentOptions]:
    return [options, *(_drawn(options, rng) for _ in range(trials - 1))]


def _drawn(options: DescentOptions, rng: random.Random) -> DescentOptions:
    def factor() -> float:
        return float(SPREAD ** rng.uniform(-1, 1))

    rate = (options.learning_rate or 0.0) * factor()
    return dataclasses.replace(
        options,
        learning_rate=float(f"{rate:.3g}"),
        retain_weight=float(f"{options.retain_weight * factor():.3g}"),
        steps=max(1, round(options.steps * factor())),
    )


def _searched(options: DescentOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("learning_rate", "retain_weight", "steps")}
