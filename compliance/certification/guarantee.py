"""What may be claimed for a published attempt, in words and, where a theorem stands behind it, in numbers.

The class is the catalogue's; it can be lowered here (a DP base that did not learn, or none) and never
raised. The ε of a certificate is the one the verifier's own accountant computes, for the group of every
unit deleted since the base was trained.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from audits import budget, canaries, mechanisms
from compliance.ledger.lifecycle import AttemptOutcome
from compliance.ledger.views import AttemptView, BaseView, BatchView
from compliance.policy import Policy
from engine.contract import TASKS

HEADS = ("newton-noise", "descent-noise", "langevin")  # convex heads on fixed features
SISA = "sisa"
STATEMENTS = {
    "exact": "The published model was never trained on the forget set: it was trained anew without it.",
    SISA: (
        "No part of the published model was trained on the forget set: the parts that had seen it were trained anew "
        "without it. This holds for requests that nobody filed after looking at a published model."
    ),
    "certified": (
        "The published model was made from a differentially private base and the remaining data only. What it can "
        "reveal about the forgotten data subjects is bounded by the (epsilon, delta) below."
    ),
    "noisy-ft": (
        "The model was clipped, and then trained on the remaining data with clipped gradients and noise. What is left "
        "of the forgotten data subjects is bounded by the (epsilon, delta) below, however the model had been trained."
    ),
    **dict.fromkeys(
        HEADS,
        "The last layer of the model was trained on the remaining data by a procedure whose end hardly depends on its "
        "start, with noise for what is left of that. What can be told of the forgotten data subjects is bounded by the "
        "(epsilon, delta) below, however the model had been trained. No budget is used up: a later removal starts from "
        "what was published.",
    ),
    "newton-removal": (
        "The last layer of the model was trained under a random linear term that nobody knows, and moved by Newton "
        "steps until its gradient on the remaining data was within a budget. The (epsilon, delta) below is that of a "
        "published theorem, of which one condition is not proved: it holds if that condition does."
    ),
    "descent-to-delete": (
        "The last layer of the model was moved by gradient steps on the remaining data from weights that were never "
        "published, and published with noise. What can be told of the forgotten data subjects from what was published "
        "is bounded by the (epsilon, delta) below, and from the weights without noise, which are kept, it is not."
    ),
    "rewind": (
        "The last steps of the training of the model's last layer were taken again on the remaining data, from a "
        "checkpoint that is kept, and the result was published with noise. The (epsilon, delta) below rests on "
        "constants that were estimated: it holds if they are large enough."
    ),
    "empirical": (
        "The published model was changed to behave as if it had not been trained on the forget set. "
        "Only the measurements in this report support that; no theorem does."
    ),
    "suppression": (
        "The weights are those of the version before, byte for byte, and still hold the data that are to be forgotten. "
        "A guard beside them changes what the model answers while the removal is worked on. Whoever takes the folder "
        "guard/ away has the version before, bit for bit. The requests are not fulfilled by this and stay open; a "
        "report of its own follows when something was removed."
    ),
}
NOISE_IS_HIDDEN = "the noise seed stays unknown: whoever learns it can subtract the noise"
NOT_ADAPTIVE = (
    "requests were not adaptive: one that was filed after looking at a published model can void the guarantee"
)
CONDITIONS_OF_HEADS = [
    NOISE_IS_HIDDEN,
    "the classes, the scaling of pictures and what computes features were made without the forgotten data",
    "penalty, gradient bound, radius and number of steps were fixed before the forget set was known",
    "the noise is drawn in double precision: attacks on floating-point arithmetic are outside the theorem",
    "the comparison is with the same procedure, on the same data, from a model that never saw the forget set",
    "how long the run took is outside the theorem",
    "the model that was in use before this version is superseded and sealed",
]
CONDITIONS_OF_KEPT = [
    "the noise seed, and the state that is kept for later requests, stay unknown: with them the noise can be undone",
    "the classes, the scaling of pictures and what computes features were made without the forgotten data",
    "all settings were fixed before the forget set was known",
    "the noise is drawn in double precision: attacks on floating-point arithmetic are outside the theorem",
    "the comparison is with training anew on the same remaining data by the same procedure",
    NOT_ADAPTIVE,
    "the bound is for one published version: several that came from one state, seen together, are outside the theorem",
    "the model that was in use before this version is superseded and sealed",
]
TOKENIZER = "the tokenizer was fitted on public text only, not on the forget set"
NAMES = "the names of classes and domains, which stand in the model's files, count as known to everybody"
CONDITIONS = {
    "exact": [
        TOKENIZER,
        NOT_ADAPTIVE,
    ],
    SISA: [
        TOKENIZER,
        f"{NOT_ADAPTIVE}; here it does, because the parts that were not trained anew stay as they were published",
    ],
    "certified": [
        NOISE_IS_HIDDEN,
        "{unit}",
        "the tokenizer, the list of classes and the public starting model were made without the private data",
        "hyper-parameters were fixed before the private data were used",
        "the noise is drawn in double precision: attacks on floating-point arithmetic are outside the theorem",
        "only the base is private: the model that was in use before this version is superseded and sealed",
    ],
    "noisy-ft": [
        NOISE_IS_HIDDEN,
        "the tokenizer, the scaling of pictures and the shape of the network were made without the forgotten data",
        "the settings of the noisy steps were fixed before the forget set was known",
        "the noise is drawn in double precision: attacks on floating-point arithmetic are outside the theorem",
        "the comparison is with the same procedure, on the same data, from a model that never saw the forget set",
        "the model that was in use before this version is superseded and sealed",
    ],
    **dict.fromkeys(HEADS, CONDITIONS_OF_HEADS),
    "newton-removal": [
        *CONDITIONS_OF_KEPT,
        "the residual is as good as independent of the random linear term: nothing proves it, hence the class",
        "whether the budget sufficed depends on the data, and the report says it",
    ],
    "descent-to-delete": CONDITIONS_OF_KEPT,
    "rewind": [
        *CONDITIONS_OF_KEPT,
        "smoothness and gradient bound hold wherever training went: samples showed no larger ones, hence the class",
    ],
    "empirical": ["the tests in this report cover what they name and nothing else"],
    "suppression": [
        "the model is asked through a program that reads its guard: any other one gets the model without it",
        "the tests in this report cover what they name and nothing else",
    ],
}
PUBLIC_FEATURES = "the operator says that the features were fitted on public data alone; nothing here can check it"
CHOSEN_BY_GATES = (
    "the version was released because its measurements held, and {why}; that choice is outside the theorem"
)
FIRST_RUNG = "no other rung had been measured on the forget set before"
LATER_RUNG = "{rungs} had been measured on the forget set before and not released"
GUARDED = "{rungs} had been measured on the forget set before and released as a guard"
THEOREM = (
    "Rényi differential privacy of the Poisson-subsampled Gaussian mechanism (Mironov, Talwar and Zhang 2019), "
    "composed over the steps and taken for the group of deleted units; post-processing for the fine-tuning"
)
_CONTRACTION = "Gradient steps on a strongly convex and smooth objective bring any two starts in a ball together"
THEOREMS = {
    mechanisms.NOISY: (
        "Noisy clipped fine-tuning (Koloskova et al. 2025), accounted for by shifted interpolation (Bok, Su and "
        "Altschuler 2024): Gaussian differential privacy of T noisy steps; post-processing for the training after them"
    ),
    mechanisms.MEASURED: (
        "Strong convexity: a point with a measured gradient of norm g lies within g/m of the minimum; the Gaussian "
        "mechanism (Balle and Wang 2018) for the distance 2g/m of any two such points"
    ),
    mechanisms.CONTRACTED: (
        f"{_CONTRACTION} (after Neel, Roth and Sharifi-Malvajerdi 2021); the Gaussian mechanism (Balle and Wang 2018) "
        "for what is left of it"
    ),
    mechanisms.REMOVED: (
        "Certified removal (Guo et al. 2020, theorem 3): a residual within a budget under objective perturbation; "
        "epsilon and delta of the heads add up"
    ),
    mechanisms.KEPT: (
        "Descent-to-Delete (Neel, Roth and Sharifi-Malvajerdi 2021): full gradient steps on a strongly convex and "
        "smooth objective, I for each record that left; the Gaussian mechanism (Balle and Wang 2018) for what is left"
    ),
    mechanisms.REWOUND: (
        "Rewind-to-Delete (Mu and Klabjan 2025): the largest distance to training anew on a smooth objective; the "
        "Gaussian mechanism (Balle and Wang 2018) for it"
    ),
    mechanisms.LANGEVIN: (
        f"{_CONTRACTION} (Langevin unlearning, after Chien et al. 2024), accounted for by shifted interpolation (Bok, "
        "Su and Altschuler 2024)"
    ),
}
NEIGHBOURS = "any two models to start from, the same remaining data"
NEVER_THERE = "trained with and without what was removed, the same remaining data"
ANEW = "It was trained anew on the remaining data: {because}."
NOT_LEARNED = (
    "No certificate is given: the base did not learn. Its loss on people it had not seen was {base:.3f} nats, "
    "against {start:.3f} for the model it started from and {unigram:.3f} for knowing frequencies alone; the gate asks "
    "for {margin:.3f} less than both. A bound on a base that learned nothing would be true and empty."
)
LIMITS = [
    "Unlearning cannot be proved from weights alone: this report attests which procedure ran on which inputs.",
    "It does not say that the data are gone from copies of earlier versions that left the controller's hands.",
    "Whoever holds the model before and the model after can compare them and learn something about what left.",
    "The measurements are estimates with intervals; a test that found nothing does not show that nothing can be found.",
]
LIMITS_OF_GUARDS = [
    "Nothing was removed from the weights: whoever has the files of the model has the data as before.",
    "A guard can recognise what it hides, and so can whoever has it: it is no less personal than the model.",
    "It is no answer to the requests, and no deadline moves because of it.",
    "Whoever compares the model with its guard and without it can learn something about what is held back.",
    LIMITS[-1],
]
FEW = "The batch covers {n} data subjects: with so few, a comparison of the two versions points at them."
NOT_MEASURED = "Not measured, because the numbers at hand did not allow it: {metrics}."
BOUNDED = ("certified", "conditional")
SMALL = 5
SIGNIFICANCE = 0.05  # of a one-run audit


def guarantee_of(
    attempts: Sequence[AttemptView], *, policy: Policy, base: BaseView | None, batch: BatchView
) -> dict[str, Any]:
    """The report's `guarantee` for the last of the attempts, which passed."""
    attempt = attempts[-1]
    name = attempt.record["class"]
    refused, certificate = None, None
    known = NAMES if policy.task != TASKS[0] else TOKENIZER
    listed = [known if one == TOKENIZER else one for one in (CONDITIONS.get(attempt.rung) or CONDITIONS[name])]
    conditions = [one.format(unit=_unit(base)) for one in listed]
    if attempt.rung == "dp2" and base is not None:
        if name == "certified":
            certificate = _of_base(policy, base, units=batch.plan["units"])
        else:
            refused, conditions = not_learned(base.learned), list(CONDITIONS[name])
    elif name in BOUNDED:
        certificate = _of_steps(policy, attempt.record["mechanism"], batch)
        conditions += [PUBLIC_FEATURES] if certificate["accountant"].get("features") == "public" else []
    return {
        "class": name,
        "statement": _statement(attempt, named=certificate is not None or attempt.rung == SISA),
        "conditions": conditions + ([_choice(attempts)] if name in BOUNDED else []),
        "certificate": certificate,
        "refused": refused,
    }


def _statement(attempt: AttemptView, *, named: bool) -> str:
    """What was done, by rung where the rung was `named`; and that it was done anew, where a state could not go on."""
    name = attempt.record["class"]
    told = STATEMENTS.get(attempt.rung if named else name, STATEMENTS.get(name, ""))
    state = attempt.record.get("state") or {}
    return told if state.get("state") != "anew" else f"{told} {ANEW.format(because=state['because'])}"


def _unit(base: BaseView | None) -> str:
    """What has to be true of the data for the unit to be what the certificate says."""
    if base is not None and base.accountant.get("unit") == "record":
        return "the unit of the guarantee is the record: what is in several records is protected less than each of them"
    return "the data set's subject field names every data subject rightly: the unit of the guarantee is the subject"


def _choice(attempts: Sequence[AttemptView]) -> str:
    """What was chosen on forget-set scores, which no theorem covers (DESIGN section 2)."""
    told = {AttemptOutcome.GATES_FAILED: LATER_RUNG, AttemptOutcome.INTERIM: GUARDED}
    measured = {outcome: [one.rung for one in attempts[:-1] if one.outcome is outcome] for outcome in told}
    parts = [told[outcome].format(rungs=", ".join(rungs)) for outcome, rungs in measured.items() if rungs]
    return CHOSEN_BY_GATES.format(why=", and ".join(parts) or FIRST_RUNG)


def not_learned(learned: Mapping[str, Any]) -> str:
    """Why a base that did not learn carries no certificate, with its losses."""
    return NOT_LEARNED.format(
        base=learned["baseLoss"],
        start=learned["startLoss"],
        unigram=learned["unigramLoss"],
        margin=learned["margin"],
    )


def limits_of(batch: BatchView, missing: Sequence[str] = (), *, interim: bool = False) -> list[str]:
    """What the report does not claim; `missing` are metrics that could not be measured, `interim` is a guard's."""
    subjects = batch.plan["subjects"]
    told = LIMITS_OF_GUARDS if interim else LIMITS
    few = [FEW.format(n=subjects)] if subjects < SMALL else []
    return told + few + ([NOT_MEASURED.format(metrics=", ".join(missing))] if missing else [])


def _of_base(policy: Policy, base: BaseView, *, units: int) -> dict[str, Any]:
    names = ("mechanism", *mechanisms.CONSTANTS[mechanisms.POISSON])
    told = {
        "theorem": THEOREM,
        "unit": base.accountant.get("unit", "data subject"),
        "neighbours": "add or remove one unit",
        "points": base.units,
        "seedCommitment": base.seed_commitment,
        "learned": dict(base.learned),
        "audit": audited(base.accountant.get("audit"), delta=policy.delta),
    }
    record = {name: base.accountant[name] for name in names}
    group, limits = base.units_deleted + units, {"delta": policy.delta, "limit": policy.epsilon_limit}
    more = budget.left(record, **limits, points=base.units, deleted=group)
    return certificate_of(policy, record, group=group) | told | {"unitsLeft": more}


def _of_steps(policy: Policy, mechanism: Mapping[str, Any], batch: BatchView) -> dict[str, Any]:
    told = {
        "theorem": THEOREMS[mechanism["accountant"]["mechanism"]],
        "unit": "data subject",
        "neighbours": NEIGHBOURS if mechanisms.COVERS_STATE[mechanism["accountant"]["mechanism"]] else NEVER_THERE,
        "points": batch.plan["population"],
        "seedCommitment": mechanism["seedCommitment"],
        "learned": None,
    }
    return certificate_of(policy, mechanism["accountant"], group=batch.plan["subjects"]) | told


def audited(counts: Mapping[str, Any] | None, *, delta: float) -> dict[str, Any] | None:
    """What the counts of a one-run audit show, and the most that so many guesses could have shown."""
    if counts is None:
        return None
    told = {"canaries": counts["canaries"], "guesses": counts["guesses"]}
    return {
        **told,
        "correct": counts["correct"],
        "significance": SIGNIFICANCE,
        "lowerBound": canaries.lower_bound(**told, correct=counts["correct"], delta=delta, significance=SIGNIFICANCE),
        "ceiling": canaries.ceiling(**told, delta=delta, significance=SIGNIFICANCE),
    }


def certificate_of(policy: Policy, record: Mapping[str, Any], *, group: int) -> dict[str, Any]:
    """What follows from a mechanism's record alone: bounds, constants, and what they cover."""
    return {
        "epsilon": mechanisms.epsilon(record, delta=policy.delta, group=group),
        "delta": policy.delta,
        "singleEpsilon": mechanisms.epsilon(record, delta=policy.delta, group=1),
        "accountant": dict(record),
        "constants": mechanisms.constants(record),
        "internalStateCovered": mechanisms.COVERS_STATE[record["mechanism"]],
        "audit": None,
        "unitsDeletedSinceBase": group,
        "unitsLeft": None,
        "epsilonLimit": policy.epsilon_limit,
    }
