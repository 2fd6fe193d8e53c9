"""RMIA: does the target raise an example's probability more than it raises that of strangers?

Zarifzadeh et al. 2024 (arXiv 2312.03262), offline version, with models that were trained anyway and as few as two:

    p(x)     = ( (1 + a) mean over models without x of p(x | model) + (1 - a) ) / 2
    ratio(x) = p(x | target) / p(x)
    score(x) = share of strangers z with ratio(x) / ratio(z) > gamma

Strangers are in no model at all. The slope a says how much a model that held x would have raised it; it is chosen
once, by attacking a shadow model whose members are known, and never on the model that is audited. The two models of
a pair take opposite coins (and of three, one is without each example), so a model is attacked with the other groups as
references: its own group would be missing from the members' references and present in the others'.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from engine.errors import EngineError
from engine.verification.privacy.shadows import PAIR, Bools
from engine.verification.statistics import Floats, auc

SLOPES = tuple(i / 10 for i in range(11))


@dataclass(frozen=True, kw_only=True, slots=True)
class References:
    """Log-probabilities of examples and of strangers under reference models, one row a model."""

    log_probs: Floats
    inside: Bools
    strangers: Floats

    def __post_init__(self) -> None:
        """Refuse tables that do not belong together."""
        if self.log_probs.ndim != PAIR or self.inside.shape != self.log_probs.shape:
            raise EngineError("bad_data", "log-probabilities and roles are tables of models by examples, of one shape")
        if self.strangers.ndim != PAIR or len(self.strangers) != len(self.log_probs) or not self.strangers.shape[1]:
            raise EngineError("bad_data", "every reference model is asked about the same strangers, and at least one")
        if (self.log_probs > 0).any() or (self.strangers > 0).any():
            raise EngineError("bad_data", "a log-probability lies above 0")

    def beyond(self, size: int) -> "References":
        """All models but the first `size`, whose coins are not independent of each other's."""
        kept = np.arange(len(self.log_probs)) >= size
        return References(log_probs=self.log_probs[kept], inside=self.inside[kept], strangers=self.strangers[kept])


def offline(
    target: Floats, target_strangers: Floats, references: References, *, slope: float, gamma: float = 1.0
) -> Floats:
    """Score of each example (examples,), in [0, 1]; NaN where no reference model is without it.

    `target` (examples,) and `target_strangers` (strangers,) are the audited model's log-probabilities.
    """
    if not 0 <= slope <= 1 or not 0 < gamma < np.inf:
        raise EngineError("bad_options", "RMIA needs a slope from 0 to 1 and a finite gamma above 0")
    if target.shape != references.log_probs.shape[1:] or target_strangers.shape != references.strangers.shape[1:]:
        raise EngineError("bad_data", "the target model is asked about the examples and strangers of the references")
    everywhere = np.ones(references.strangers.shape, dtype=np.bool_)
    ratios = target - _log_p(references.log_probs, ~references.inside, slope)
    strangers = np.sort(target_strangers - _log_p(references.strangers, everywhere, slope))
    if not np.isfinite(strangers).all():
        return np.full(target.shape, np.nan)
    share = np.searchsorted(strangers, ratios - np.log(gamma), side="left") / len(strangers)
    return np.where(np.isfinite(ratios), share, np.nan)


def choose_slope(references: References, *, gamma: float = 1.0, size: int = PAIR) -> float:
    """The slope of 0, 0.1, ... 1 with the largest AUC against the first model, by the groups after the first.

    A group is `size` models that tossed together: a pair, or three where a third of the examples is unlearned.

    Raises:
        EngineError: `bad_data` below two groups, or when no slope gives every example a score.
    """
    if len(references.log_probs) < 2 * size:
        name = "pair" if size == PAIR else f"{size}"
        message = f"RMIA's slope is chosen on one {name} of shadow models by at least another {name}"
        raise EngineError("bad_data", message)
    rest, members = references.beyond(size), references.inside[0]
    found = []
    for slope in SLOPES:
        score = offline(references.log_probs[0], references.strangers[0], rest, slope=slope, gamma=gamma)
        found.append(auc(score[~members], score[members]) if np.isfinite(score).all() else np.nan)
    if not np.isfinite(found).all():
        raise EngineError(
            "bad_data", "RMIA's slope cannot be chosen: an example has no reference, or no member is known"
        )
    return SLOPES[int(np.argmax(found))]


def _log_p(log_probs: Floats, outside: Bools, slope: float) -> Floats:
    """Log of p(x) (examples,), in logarithms, because a text's probability is no number a double can hold."""
    count = outside.sum(0)
    held = np.where(outside, log_probs, -np.inf)
    total = np.full(count.shape, np.nan)
    known = count > 0
    total[known] = logsumexp(held[:, known], axis=0) - np.log(count[known])
    with np.errstate(divide="ignore", invalid="ignore"):
        value: Floats = np.logaddexp(np.log((1 + slope) / 2) + total, np.log((1 - slope) / 2))
    return value
