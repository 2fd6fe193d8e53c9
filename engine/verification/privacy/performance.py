"""Scores of an attack in, findings out: AUC, the true positive rate at few false alarms, balanced accuracy.

Members are the examples that were in the model (for unlearning: that it was asked to forget), the others were never
in any model of this target's making. A high AUC of an attack that works on average says little about the few who are
hit; so the rate of members found at 0.1 %, 1 % and 5 % false alarms is reported (Carlini et al. 2022). A rate of
false alarms that so few outsiders cannot show (below one outsider) is missing, and so is every metric of scores that
are not all finite.

Units (data subjects) are resampled with replacement, the same draws for every model, so that differences are paired.
The threshold of the balanced accuracy is chosen on one half of the units and applied to the other, both ways: the
best threshold on the data themselves would find an advantage in noise. Its interval takes these thresholds as given.

    {attack}_auc     {attack}_tpr_at_0_1_percent, _1_percent, _5_percent     {attack}_balanced_accuracy
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.contract import Finding
from engine.errors import EngineError
from engine.seeds import derive
from engine.verification.findings import FRACTION, Sample, finding
from engine.verification.privacy.shadows import Bools
from engine.verification.statistics import Floats, Ints, Resampling, resampling

FALSE_ALARMS = (("tpr_at_0_1_percent", 0.001), ("tpr_at_1_percent", 0.01), ("tpr_at_5_percent", 0.05))
METRICS = ("auc", *(name for name, _ in FALSE_ALARMS), "balanced_accuracy")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Room:
    """Everything that is the same for all models."""

    inside: Bools
    people: Resampling
    n: int  # units of the smaller side
    folds: Ints  # 0 or 1 for each example, by unit


def findings(
    attack: str, scores: Mapping[str, Floats], *, inside: Bools, units: Sequence[str], resamples: int, seed: int
) -> tuple[Finding, ...]:
    """The findings named above, from each model's scores (examples,) under its role (before, after, reference).

    `inside` (examples,) and `units` (the data subject of each example) are the same for all models. No unit and no
    score of an example is in what is returned.
    """
    if any(score.shape != inside.shape for score in scores.values()) or len(units) != len(inside):
        raise EngineError("bad_data", "an attack has one score, one role and one unit for each example")
    if inside.all() or not inside.any():
        raise EngineError("bad_data", "an attack is measured on examples that were in the model and some that were not")
    room = _room(inside, units, resamples, seed)
    samples = {role: _samples(score, room) for role, score in scores.items()}
    return tuple(
        finding(f"{attack}_{name}", {role: made[name] for role, made in samples.items()}, room.n, span=FRACTION)
        for name in METRICS
    )


def _room(inside: Bools, units: Sequence[str], resamples: int, seed: int) -> _Room:
    names = np.asarray(units)
    order = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    halves = np.random.default_rng(derive(seed, "folds")).permutation(len(order)) % 2
    return _Room(
        inside=inside,
        people=resampling(units, resamples=resamples, seed=derive(seed, "resample")),
        n=min(len(set(names[inside])), len(set(names[~inside]))),
        folds=np.array([halves[order[unit]] for unit in units], dtype=np.int64),
    )


def _samples(scores: Floats, room: _Room) -> dict[str, Sample]:
    if not np.isfinite(scores).all():
        return dict.fromkeys(METRICS, Sample(value=math.nan, draws=np.full(len(room.people.counts), np.nan)))
    roc = Roc(scores, room.inside)
    weights = [np.ones(len(scores)), *(counts[room.people.owners] for counts in room.people.counts)]
    made = {"auc": _sample([roc.auc(weight) for weight in weights])}
    for name, level in FALSE_ALARMS:
        enough = (~room.inside).sum() * level >= 1
        made[name] = _sample([roc.tpr(weight, level) if enough else math.nan for weight in weights])
    right = _right(scores, room)
    made["balanced_accuracy"] = _sample([_balanced(right, room.inside, weight) for weight in weights])
    return made


def _sample(values: Sequence[float]) -> Sample:
    """The first is of the data themselves, the others of the draws."""
    return Sample(value=values[0], draws=np.asarray(values[1:]))


class Roc:
    """The trade-off between members found and false alarms, for any weights of the examples."""

    def __init__(self, scores: Floats, inside: Bools) -> None:
        """Sort once: `scores` and `inside` of shape (examples,)."""
        levels, rank = np.unique(-scores, return_inverse=True)  # 0 is the highest score
        self._count = len(levels)
        self._in, self._out = np.flatnonzero(inside), np.flatnonzero(~inside)
        self._rank = rank

    def auc(self, weights: Floats) -> float:
        """P(a member scores above an outsider), ties counting half; NaN when a side has no weight."""
        members, outsiders = self._sums(weights)
        below = outsiders.sum() - np.cumsum(outsiders)
        pairs = members.sum() * outsiders.sum()
        return float((members * (below + 0.5 * outsiders)).sum() / pairs) if pairs > 0 else math.nan

    def tpr(self, weights: Floats, level: float) -> float:
        """Members found at the lowest threshold whose false alarms are at most `level`; NaN without members."""
        members, outsiders = self._sums(weights)
        if not members.sum() or not outsiders.sum():
            return math.nan
        allowed = np.cumsum(outsiders) <= level * outsiders.sum() * (1 + 1e-12)
        return float(members[allowed].sum() / members.sum())

    def _sums(self, weights: Floats) -> tuple[Floats, Floats]:
        sums = (np.bincount(self._rank[side], weights[side], self._count) for side in (self._in, self._out))
        members, outsiders = (np.asarray(one, dtype=np.float64) for one in sums)
        return members, outsiders


def _right(scores: Floats, room: _Room) -> Floats:
    """1 where the threshold that served the other half of the units best calls an example right, 0 where wrong."""
    called = np.zeros(len(scores))
    for fold in (0, 1):
        learn, apply = room.folds != fold, room.folds == fold
        threshold = _threshold(scores[learn], room.inside[learn])
        hits = (scores[apply] > threshold) == room.inside[apply]
        called[apply] = hits if math.isfinite(threshold) else math.nan
    return called


def _threshold(scores: Floats, inside: Bools) -> float:
    """The midpoint between two scores with the largest balanced accuracy; NaN where one side is missing."""
    if inside.all() or not inside.any():
        return math.nan
    levels, rank = np.unique(scores, return_inverse=True)
    members = np.bincount(rank[inside], minlength=len(levels)) / inside.sum()
    outsiders = np.bincount(rank[~inside], minlength=len(levels)) / (~inside).sum()
    best = int(np.argmax(np.cumsum(outsiders - members)))
    return float((levels[best] + levels[min(best + 1, len(levels) - 1)]) / 2)


def _balanced(right: Floats, inside: Bools, weights: Floats) -> float:
    sides = (inside, ~inside)
    if not all(weights[side].sum() for side in sides):
        return math.nan
    return float(np.mean([np.average(right[side], weights=weights[side]) for side in sides]))
