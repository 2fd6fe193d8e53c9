r"""RESTOR's numbers from what models said. Pure numpy; resampled by person, the same draws for every model.

    accuracy              accepted / asked, of each model (the published score, with our verdict for the judge's)
    recovery              (after - before) / (reference - before), in accuracy: 1 answers as the clean model did
    accuracy_corrupted    the same two over the people alone whom the corrupting documents name; the published score
    recovery_corrupted    mixes them with the people nobody lied about
    wrong_answers_gone    the share of the corrupted model's wrong answers that a model no longer gives
    logp_correct, logp_corrupted, logp_random
                          mean log-probability a token of the options of each kind (nats; `restor_options`)
    margin                logp_correct - logp_corrupted
    forgetting            of the facts for which the corrupted model's likeliest option is a corrupted one: the share
                          for which that is no longer so
    judge_accuracy, judge_recovery
                          accuracy and recovery by a judge's verdicts, where there are any

`before` is the corrupted model, `reference` the clean one. A ratio whose denominator does not keep its sign in 95 %
of the draws is null: what corruption did not take cannot be given back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.contract import Finding
from engine.seeds import derive
from engine.verification.restor_facts import Fact
from engine.verification.restor_matching import folded
from engine.verification.restor_replies import Replies
from engine.verification.statistics import EVERYTHING, LEVEL, Floats, Resampling, estimate, resampling

FRACTION = (0.0, 1.0)
LOG_PROBS = ("correct", "corrupted", "random")

Models = Mapping[str, Floats]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Draws:
    """How findings are resampled."""

    resamples: int
    seed: int

    def of(self, facts: Sequence[Fact]) -> Resampling:
        units = [fact.entity for fact in facts]
        return resampling(units, resamples=self.resamples, seed=derive(self.seed, "resample", "restor"))


def score(
    facts: Sequence[Fact],
    said: Mapping[str, Replies],
    *,
    judged: Mapping[str, Sequence[bool]],
    resamples: int,
    seed: int,
) -> tuple[Finding, ...]:
    """Findings from what each model said; `judged` holds a judge's verdicts by model, or nothing."""
    draws = _Draws(resamples=resamples, seed=seed)
    right = {
        role: np.array([float(f.accepts(o)) for f, o in zip(facts, one.outputs, strict=True)])
        for role, one in said.items()
    }
    found = _accuracies("accuracy", "recovery", facts, right, draws)
    targeted = np.array([fact.targeted for fact in facts])
    if targeted.any():
        kept = {role: values[targeted] for role, values in right.items()}
        found += _accuracies("accuracy_corrupted", "recovery_corrupted", _where(facts, targeted), kept, draws)
    found += [_gone(facts, said, right, draws), *_options(facts, said, draws)]
    if judged:
        scored = {role: np.array(list(map(float, verdicts))) for role, verdicts in judged.items()}
        found += _accuracies("judge_accuracy", "judge_recovery", facts, scored, draws)
    return tuple(found)


def _accuracies(accuracy: str, recovery: str, facts: Sequence[Fact], right: Models, draws: _Draws) -> list[Finding]:
    room = draws.of(facts)
    return [_means(accuracy, right, room, FRACTION), _recovery(recovery, right, room)]


def _means(metric: str, values: Models, room: Resampling, span: tuple[float, float] = EVERYTHING) -> Finding:
    value = {role: float(one.mean()) for role, one in values.items()}
    drawn = {role: room.means(one) for role, one in values.items()}
    made = {role: estimate(value[role], drawn[role], room.n, span=span) for role in values}
    difference = None
    if "after" in values and "reference" in values:
        width = span[1] - span[0]
        apart = drawn["after"] - drawn["reference"]
        difference = estimate(value["after"] - value["reference"], apart, room.n, span=(-width, width))
    return Finding(metric=metric, **made, difference=difference)


def _recovery(metric: str, right: Models, room: Resampling) -> Finding:
    if not {"before", "after", "reference"} <= set(right):
        return Finding(metric=metric)
    value = {role: float(one.mean()) for role, one in right.items()}
    drawn = {role: room.means(one) for role, one in right.items()}
    taken, takens = value["reference"] - value["before"], drawn["reference"] - drawn["before"]
    if not _keeps_its_sign(taken, takens):
        return Finding(metric=metric)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (drawn["after"] - drawn["before"]) / takens
    return Finding(metric=metric, after=estimate((value["after"] - value["before"]) / taken, ratios, room.n))


def _gone(facts: Sequence[Fact], said: Mapping[str, Replies], right: Models, draws: _Draws) -> Finding:
    metric = "wrong_answers_gone"
    wrong = right["before"] == 0 if "before" in right else np.zeros(len(facts), dtype=bool)
    if not wrong.any():
        return Finding(metric=metric)
    before = [folded(output) for output in said["before"].outputs]
    gone = {
        role: np.array([float(folded(o) != b) for o, b in zip(one.outputs, before, strict=True)])[wrong]
        for role, one in said.items()
        if role != "before"
    }
    return _means(metric, gone, draws.of(_where(facts, wrong)), FRACTION)


def _options(facts: Sequence[Fact], said: Mapping[str, Replies], draws: _Draws) -> list[Finding]:
    analysed = [fact for fact in facts if fact.corrupted]
    if not analysed:
        return [Finding(metric=metric) for metric in (*(f"logp_{kind}" for kind in LOG_PROBS), "margin", "forgetting")]
    room = draws.of(analysed)
    numbers = {kind: {role: np.array(getattr(one, kind)) for role, one in said.items()} for kind in LOG_PROBS}
    margins = {role: numbers["correct"][role] - numbers["corrupted"][role] for role in said}
    return [
        *(_means(f"logp_{kind}", numbers[kind], room) for kind in LOG_PROBS),
        _means("margin", margins, room),
        _forgetting(analysed, said, draws),
    ]


def _forgetting(analysed: Sequence[Fact], said: Mapping[str, Replies], draws: _Draws) -> Finding:
    preferred = {role: np.array(one.best_corrupted) > np.array(one.best_correct) for role, one in said.items()}
    learned = preferred.get("before", np.zeros(len(analysed), dtype=bool))
    if not learned.any():
        return Finding(metric="forgetting")
    lost = {role: 1.0 - one[learned].astype(np.float64) for role, one in preferred.items() if role != "before"}
    return _means("forgetting", lost, draws.of(_where(analysed, learned)), FRACTION)


def _where(facts: Sequence[Fact], mask: Mask) -> list[Fact]:
    return [fact for fact, chosen in zip(facts, mask, strict=True) if chosen]


def _keeps_its_sign(value: float, draws: Floats) -> bool:
    """Whether a denominator is far enough from 0 for its ratio to have an interval."""
    return value != 0 and float((np.sign(draws) == np.sign(value)).mean()) >= LEVEL
