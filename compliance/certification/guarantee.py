"""What may be claimed for a published attempt, in words and, where a theorem stands behind it, in numbers.

The class is the catalogue's; it can be lowered here (a DP base that did not learn, or none) and never
raised. The ε of a certificate is the one the verifier's own accountant computes, for the group of every
unit deleted since the base was trained.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from audits import accountant
from compliance.ledger.lifecycle import AttemptOutcome
from compliance.ledger.views import AttemptView, BaseView, BatchView
from compliance.policy import Policy

STATEMENTS = {
    "exact": "The published model was never trained on the forget set: it was trained anew without it.",
    "certified": (
        "The published model was made from a differentially private base and the remaining data only. What it can "
        "reveal about the forgotten data subjects is bounded by the (epsilon, delta) below."
    ),
    "empirical": (
        "The published model was changed to behave as if it had not been trained on the forget set. "
        "Only the measurements in this report support that; no theorem does."
    ),
}
NOISE_IS_HIDDEN = "the noise seed stays unknown: whoever learns it can subtract the noise"
CONDITIONS = {
    "exact": [
        "the tokenizer was fitted on public text only, not on the forget set",
        "requests were not chosen by someone who watched earlier models (no adaptive requests)",
    ],
    "certified": [
        NOISE_IS_HIDDEN,
        "the data set's subject field names every data subject rightly: the unit of the guarantee is the subject",
        "the tokenizer and the public starting model were made without the private data",
        "hyper-parameters were fixed before the private data were used",
        "the noise is drawn in double precision: attacks on floating-point arithmetic are outside the theorem",
        "only the base is private: the model that was in use before this version is superseded and sealed",
    ],
    "empirical": ["the tests in this report cover what they name and nothing else"],
}
CHOSEN_BY_GATES = (
    "the version was released because its measurements held, and {why}; that choice is outside the theorem"
)
FIRST_RUNG = "no other rung had been measured on the forget set before"
LATER_RUNG = "{rungs} had been measured on the forget set before and not released"
THEOREM = (
    "Rényi differential privacy of the Poisson-subsampled Gaussian mechanism (Mironov, Talwar and Zhang 2019), "
    "composed over the steps and taken for the group of deleted units; post-processing for the fine-tuning"
)
NOT_LEARNED = (
    "No certificate is given: the base did not learn. Its loss on people it had not seen was {base:.3f} nats a token, "
    "against {start:.3f} for the model it started from and {unigram:.3f} for a unigram model; the gate asks for "
    "{margin:.3f} less than both. A bound on a base that learned nothing would be true and empty."
)
LIMITS = [
    "Unlearning cannot be proved from weights alone: this report attests which procedure ran on which inputs.",
    "It does not say that the data are gone from copies of earlier versions that left the controller's hands.",
    "Whoever holds the model before and the model after can compare them and learn something about what left.",
    "The measurements are estimates with intervals; a test that found nothing does not show that nothing can be found.",
]
FEW = "The batch covers {n} data subjects: with so few, a comparison of the two versions points at them."
SMALL = 5


def guarantee_of(
    attempts: Sequence[AttemptView], *, policy: Policy, base: BaseView | None, batch: BatchView
) -> dict[str, Any]:
    """The report's `guarantee` for the last of the attempts, which passed."""
    attempt = attempts[-1]
    name = attempt.record["class"]
    refused, certificate = None, None
    if attempt.rung == "dp2" and base is not None:
        if name == "certified":
            certificate = _certificate(policy, base, units=batch.plan["units"])
        else:
            refused = not_learned(base.learned)
    return {
        "class": name,
        "statement": STATEMENTS[name],
        "conditions": CONDITIONS[name] + ([_choice(attempts)] if name == "certified" else []),
        "certificate": certificate,
        "refused": refused,
    }


def _choice(attempts: Sequence[AttemptView]) -> str:
    """What was chosen on forget-set scores, which no theorem covers (DESIGN section 2)."""
    measured = [one.rung for one in attempts[:-1] if one.outcome is AttemptOutcome.GATES_FAILED]
    why = LATER_RUNG.format(rungs=", ".join(measured)) if measured else FIRST_RUNG
    return CHOSEN_BY_GATES.format(why=why)


def not_learned(learned: Mapping[str, Any]) -> str:
    """Why a base that did not learn carries no certificate, with its losses."""
    return NOT_LEARNED.format(
        base=learned["baseLoss"],
        start=learned["startLoss"],
        unigram=learned["unigramLoss"],
        margin=learned["margin"],
    )


def limits_of(batch: BatchView) -> list[str]:
    """What the report does not claim."""
    subjects = batch.plan["subjects"]
    return LIMITS + ([FEW.format(n=subjects)] if subjects < SMALL else [])


def _certificate(policy: Policy, base: BaseView, *, units: int) -> dict[str, Any]:
    record = {name: base.accountant[name] for name in ("mechanism", "sampleRate", "noiseMultiplier", "steps", "clip")}
    group = base.units_deleted + units
    return {
        "theorem": THEOREM,
        "unit": "data subject",
        "neighbours": "add or remove one unit",
        "points": base.units,
        "epsilon": epsilon(record, delta=policy.delta, group=group),
        "delta": policy.delta,
        "singleEpsilon": epsilon(record, delta=policy.delta, group=1),
        "accountant": record,
        "unitsDeletedSinceBase": group,
        "epsilonLimit": policy.epsilon_limit,
        "seedCommitment": base.seed_commitment,
        "learned": dict(base.learned),
    }


def epsilon(record: Mapping[str, Any], *, delta: float, group: int) -> float:
    """The verifier's own bound for `group` units at `delta`."""
    return accountant.epsilon(
        sample_rate=record["sampleRate"],
        noise_multiplier=record["noiseMultiplier"],
        steps=record["steps"],
        delta=delta,
        group=group,
    ).epsilon
