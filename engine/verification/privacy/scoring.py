"""What audited models and shadows said about targets and strangers, turned into findings attack by attack.

    lira             likelihood ratio over the shadows before unlearning, online
    rmia             how far a model raises a target over models without it, against strangers; offline
    population       the statistic alone, one threshold for everybody, no shadows
    u_lira, ruli     the unlearned model against shadows that unlearned the target, or never had it
    ruli_reference   RULI's plain membership score, of the model before

The first three are of every audited model. The others need a method; they are of the model after and of the
reference, and RULI's plain score of the model before. What cannot be had is missing and never given a default.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.contract import Finding
from engine.verification.evaluation import Numbers
from engine.verification.privacy import lira, rmia, unlearnt
from engine.verification.privacy.asking import LOG_PROBS, MARGINS
from engine.verification.privacy.assignment import Casting, group
from engine.verification.privacy.performance import findings
from engine.verification.privacy.shadows import OUT, Shadows
from engine.verification.privacy.trials import UNLEARNED
from engine.verification.statistics import Floats

Attack = Callable[[str], Floats]  # the scores of the targets for the audited model of a role

BEFORE, UNSEEN = ("before",), ("after", "reference")
ROLES = BEFORE + UNSEEN


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What the audited models said, by role, and the shadows, in order."""

    casting: Casting
    audited: Mapping[str, Numbers]
    shadows: Sequence[Numbers]

    @property
    def unlearning(self) -> bool:
        """Whether the shadows unlearned too."""
        return UNLEARNED + MARGINS in self.shadows[0]

    def of(self, role: str, name: str) -> tuple[Floats, Floats]:
        """One number of an audited model, for targets and for strangers."""
        values = np.asarray(self.audited[role][name])
        return values[: self._targets], values[self._targets :]

    def table(self, name: str) -> tuple[Floats, Floats]:
        """One number of every shadow: (shadows, targets) and (shadows, strangers)."""
        values = np.asarray([numbers[name] for numbers in self.shadows])
        return values[:, : self._targets], values[:, self._targets :]

    def references(self) -> rmia.References:
        """The shadows before unlearning as RMIA takes them."""
        targets, strangers = self.table(LOG_PROBS)
        return rmia.References(log_probs=targets, inside=self.casting.roles != OUT, strangers=strangers)

    @property
    def _targets(self) -> int:
        return len(self.casting.targets)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """The findings, and the slope that RMIA chose on a shadow."""

    findings: tuple[Finding, ...]
    slope: float


def score(answers: Answers, *, resamples: int, seed: int) -> Scored:
    """Every attack on every model that it is for."""
    casting, references = answers.casting, answers.references()
    slope = rmia.choose_slope(references, size=group(unlearning=answers.unlearning))
    units = [record.unit for record in casting.targets]
    found: list[Finding] = []
    for name, (attack, roles) in _attacks(answers, references, slope).items():
        scores = {role: attack(role) for role in roles if role in answers.audited}
        found += findings(name, scores, inside=casting.inside, units=units, resamples=resamples, seed=seed)
    return Scored(findings=tuple(found), slope=slope)


def _attacks(answers: Answers, references: rmia.References, slope: float) -> dict[str, tuple[Attack, tuple[str, ...]]]:
    roles = answers.casting.roles
    margins = answers.table(MARGINS)[0]
    shadows = Shadows(statistic=margins, inside=roles != OUT, outside=roles == OUT)

    def margin(role: str) -> Floats:
        return answers.of(role, MARGINS)[0]

    attacks: dict[str, tuple[Attack, tuple[str, ...]]] = {
        "lira": (lambda role: lira.online(margin(role), shadows), ROLES),
        "rmia": (lambda role: rmia.offline(*answers.of(role, LOG_PROBS), references, slope=slope), ROLES),
        "population": (margin, ROLES),
    }
    if answers.unlearning:
        after = answers.table(UNLEARNED + MARGINS)[0]
        attacks["u_lira"] = (lambda role: unlearnt.u_lira(margin(role), after, roles), UNSEEN)
        attacks["ruli"] = (lambda role: unlearnt.ruli(margin(role), after, roles), UNSEEN)
        attacks["ruli_reference"] = (lambda role: unlearnt.ruli_reference(margin(role), margins, roles), BEFORE)
    return attacks
