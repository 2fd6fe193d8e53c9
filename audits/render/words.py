"""What the codes of a report mean, in words for people who know neither the field nor the program.

Plain words are part of the evidence: a sentence here may say less than the report, never more. None says that the
data is gone.
"""

import math
from collections.abc import Mapping

from audits.gates import GuaranteeClass, Outcome
from audits.predicate import (
    Certificate,
    Constant,
    Finding,
    GateJson,
    GateResultJson,
    Learned,
    Predicate,
    PrivacyAudit,
    RunTime,
    Time,
)
from audits.render.metrics import METRICS, Metric

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
_HUNDRED, _TEN, _THOUSANDTH, _MILLIONTH = 100, 10, 0.001, 1e-6


CLASSES: Mapping[GuaranteeClass, tuple[str, str]] = {
    "exact": (
        "Exact",
        (
            "The published model was never trained on the removed records: it, or every part of it that had seen them, "
            "was trained again without them."
        ),
    ),
    "certified": (
        "Certified",
        (
            "A proved mathematical bound limits how much the published model can still depend on the removed data. "
            "The conditions of the theorem were enforced by the program that ran."
        ),
    ),
    "conditional": (
        "Conditional",
        (
            "A mathematical bound limits how much the published model can still depend on the removed data, provided "
            "that something holds which was estimated or assumed, and neither proved nor enforced."
        ),
    ),
    "empirical": (
        "Empirical",
        "Evidence only. No theorem covers this method; what can be said is what was measured, with its uncertainty.",
    ),
    "suppression": (
        "Suppression",
        (
            "The model's weights still hold the data. Answers that would show it are held back; nothing was removed "
            "from the weights."
        ),
    ),
}

OUTCOMES: Mapping[Outcome, tuple[str, str, str]] = {
    "held": ("✓", "held", "the evidence meets the requirement"),
    "contradicted": ("✕", "contradicted", "the evidence speaks against it"),
    "underpowered": ("~", "too weak to tell", "the evidence does not settle it either way"),
    "missing": ("?", "missing", "there is no usable evidence"),
}

ATTEMPTS: Mapping[str, str] = {
    "published": "published",
    "interim": "held its gates, and was published as a guard until the data are removed",
    "gates_failed": "failed its gates",
    "refused": "refused",
    "error": "ended in an error",
}

REFERENCES: Mapping[str, str] = {
    "retrained": "a reference model was trained for this report without the removed records",
    "every_n": "a reference model is trained for every few batches, without the removed records",
    "none": "no reference model was trained",
}


def metric(name: str) -> Metric:
    """The metric called `name`; one that is not known here is shown by its code."""
    return METRICS.get(name, Metric(label=name, reading="A metric of the evaluation suite."))


def number(value: float, *, sign: bool = False) -> str:
    """A number for people: three places where it is small, with a real minus sign."""
    size = abs(value)
    places = 1 if size >= _HUNDRED else 2 if size >= _TEN else 3
    if 0 < size < _THOUSANDTH:
        # Two digits that say something, before a row of zeros says nothing.
        places = 1 - math.floor(math.log10(size))
    text = f"{size:.{places}f}" if size == 0 or size >= _MILLIONTH else f"{size:.1e}"
    return (MINUS if value < 0 else "+" if sign and value > 0 else "") + text


def exact_number(value: float) -> str:
    """A number of a configuration, as it was stated."""
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else f"{value:.10g}"


def small(value: float) -> str:
    """A small probability, written out while its zeros can still be counted."""
    return f"{value:.8f}".rstrip("0") if value >= _MILLIONTH else f"{value:.2g}"


def interval(low: float, high: float, *, sign: bool = False) -> str:
    """An interval for people."""
    return f"{number(low, sign=sign)} to {number(high, sign=sign)}"


def count(n: int, singular: str, plural: str | None = None) -> str:
    """A number of things."""
    return f"{exact_number(n)} {singular if n == 1 else plural or singular + 's'}"


def requirement(gate: GateJson) -> str:
    """What a gate asks of the difference, after minus reference."""
    margin = number(gate["margin"])
    match gate["direction"]:
        case "at_most":
            return f"at most {margin} above the reference"
        case "at_least":
            return f"at most {margin} below the reference"
        case "within":
            return f"within {margin} of the reference"


def duration(seconds: float) -> str:
    """A duration in the two units that matter."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def moment(text: str) -> str:
    """A time as people read it; always UTC."""
    day, _, time = text.rstrip("Z").partition("T")
    return f"{day} {time[:5]} UTC"


def asked(predicate: Predicate) -> str:
    """What was asked. A request may concern records of many, as one for a whole class or domain does."""
    batch = predicate["requestBatch"]
    people, requests = count(batch["subjects"], "person", "people"), count(batch["requests"], "request")
    records = count(batch["records"], "training record")
    if batch["subjects"] > batch["requests"]:
        return (
            f"{requests} asked that data be removed from the model “{predicate['model']['name']}”: {records} in the "
            f"data set “{predicate['dataset']['name']}”, counted as {people}. A record that is said to be nobody's "
            "counts as one."
        )
    return (
        f"{people} asked, in {requests}, that their data be removed from the model "
        f"“{predicate['model']['name']}”. The requests concern {records} in the data set "
        f"“{predicate['dataset']['name']}”."
    )


def done(predicate: Predicate) -> str:
    """What was done."""
    model, method = predicate["model"], predicate["method"]
    before, after = model["before"]["version"], model["after"]["version"]
    ended = _ended_before(predicate)
    if guards(predicate):
        return (
            f"Nothing has been removed yet. Until it is, version {before} of the model is replaced by version {after}, "
            f"the same weights with a guard beside them that was made with the method “{method['name']}” and changes "
            f"what the model answers. No record left the data set, and the requests stay open. Without the guard's "
            f"folder the model is version {before} again, bit for bit.{ended}"
        )
    return (
        f"{count(predicate['dataset']['removed'], 'record')} left the data set, and version {before} of the model was "
        f"replaced by version {after}, made with the method “{method['name']}”.{ended}"
    )


def _ended_before(predicate: Predicate) -> str:
    """What came before the attempt that the report is about."""
    failed = sum(one["outcome"] != "interim" for one in predicate["attempts"][:-1])
    told = f" {count(failed, 'earlier attempt')} did not pass and {'is' if failed == 1 else 'are'} listed below."
    guarded = any(one["outcome"] == "interim" for one in predicate["attempts"][:-1])
    between = predicate["model"]["before"]["version"] + 1
    interim = f" Version {between}, in use while this was worked on, was a guard that removed nothing."
    return f"{interim if guarded else ''}{told if failed else ''}"


def guards(predicate: Predicate) -> bool:
    """Whether the report is about a guard beside weights that still hold the data."""
    return predicate["guarantee"]["class"] == "suppression"


def kind(predicate: Predicate) -> str:
    """What sort of report it is."""
    return "Interim report: a guard, nothing removed" if guards(predicate) else "Unlearning report"


def heading(predicate: Predicate) -> tuple[str, str]:
    """The report's question, as it stands before and behind the model's name."""
    if guards(predicate):
        return "What", "is kept from showing for now, and how well that works"
    return "What was removed from", "and how well that worked"


def replaced(predicate: Predicate) -> str:
    """The versions before and after."""
    model = predicate["model"]
    guarded = " (the same weights, guarded)" if guards(predicate) else ""
    return f"{model['before']['version']} replaced by {model['after']['version']}{guarded}"


def bound(certificate: Certificate) -> str:
    """What an (epsilon, delta) means."""
    epsilon, delta = certificate["epsilon"], certificate["delta"]
    units = count(certificate["unitsDeletedSinceBase"], certificate["unit"])
    since = " since the underlying model was trained" if certificate["learned"] is not None else " with this batch"
    # e^epsilon stops meaning anything to anyone long before it stops being a number.
    factor = f"{math.exp(epsilon):.3g}" if epsilon < _TEN else "more than 20 000"
    return (
        f"The bound is ε = {number(epsilon)} at δ = {small(delta)}, for all {units} deleted{since}, "
        "taken together. Whatever anyone concludes from the published model is at most "
        f"{factor} times more or less likely than from one made in the same way without their data, except with a "
        f"probability of about {small(delta)}."
    )


def left(certificate: Certificate) -> str:
    """What the deletion budget leaves for those who ask later."""
    more, limit = certificate["unitsLeft"], number(certificate["epsilonLimit"])
    if more is None and not certificate["internalStateCovered"]:
        return "As many as ask: what the kept state does not suffice for is met by training anew."
    if more is None:
        return "As many as ask: the bound is the same for any number of them, and nothing is used up."
    if not more:
        return f"None: one more would take ε for all of them above {limit}. The next retraining makes a new base."
    return f"{exact_number(more)}, before ε for all of them together passes {limit}."


MECHANISMS = {
    "poisson_subsampled_gaussian": "Gaussian noise on clipped sums over Poisson-sampled units",
    "noisy_clipped_steps": "Gaussian noise on every step of a clipped model along clipped gradients",
    "measured_gradient": "Gaussian noise, once, on convex heads whose gradient was measured on what stays",
    "contracted_gradient_steps": "Gaussian noise, once, on convex heads after gradient steps from a ball",
    "noisy_gradient_steps": "Gaussian noise on every gradient step of convex heads from a ball",
    "perturbed_newton": "A Gaussian linear term in the training of convex heads, and Newton steps within a budget",
    "kept_gradient_steps": "Gaussian noise on convex heads that go on in gradient steps from a kept state without it",
    "rewound_gradient_steps": "Gaussian noise after gradient steps from a kept checkpoint of the training",
}
CONSTANTS = {
    "sampleRate": "Sampling rate",
    "noiseMultiplier": "Noise multiplier",
    "steps": "Steps",
    "clip": "Clipping norm",
    "startRadius": "Radius the model is clipped to",
    "learningRate": "Learning rate",
    "weightDecay": "Weight decay",
    "noise": "Noise, as a standard deviation",
    "curvature": "Strong convexity",
    "smoothness": "Smoothness",
    "residual": "Largest gradient norm",
    "gradientError": "Rounding error allowed in a gradient",
    "problems": "Heads, one a class",
    "slope": "Largest gradient norm of a record",
    "points": "Records the noise was computed for, of which half stay at least",
    "rewound": "Steps that are rewound",
    "share": "Largest share of the records that may be gone",
}
STATE = {
    True: "Covered: nothing is kept that the bound does not hold for.",
    False: "Not covered: the bound holds for what was published, and not for what the operator keeps.",
}
NO_AUDIT = "None was run. An audit can refute a bound and never prove it."


def constant(name: str) -> str:
    """A constant of a theorem in words."""
    return CONSTANTS.get(name, name)


def held(one: Constant) -> str:
    """The value of a constant, and how it is held."""
    return f"{exact_number(one['value'])} ({one['held']})"


def audit(found: PrivacyAudit) -> str:
    """What a one-run audit saw, with the most that it could have seen."""
    level = f"{100 * (1 - found['significance']):g}"
    return (
        f"{count(found['correct'], 'guess was', 'guesses were')} right of {found['guesses']} about "
        f"{count(found['canaries'], 'planted example')}: ε is at least {number(found['lowerBound'])} with {level} % "
        f"confidence. The most that so many guesses can show is {number(found['ceiling'])}. An audit can refute a "
        "bound and never prove it."
    )


def left_out(classes: int) -> str:
    """What accuracy on strangers' pictures leaves out."""
    some = "1 class" if classes == 1 else f"{classes} classes"
    return f"Pictures of {some} of which no picture stays are left out of the accuracy on unseen pictures."


def run_time(told: RunTime) -> str:
    """What the run took beside training anew."""
    text, reference = f"Without measuring, the published method took {_taken(told['method'])}", told["reference"]
    if reference is None:
        return f"{text}; how long the reference's training took was not noted."
    return f"{text}, and training the reference {_taken(reference)}."


def _taken(told: Time) -> str:
    return f"{duration(60 * told['minutes'])} ({duration(60 * told['cpuMinutes'])} of processor time)"


def learned(found: Learned) -> str:
    """Whether the base of a certified run learned anything, and how that was judged."""
    verdict = "Yes" if found["learned"] else "No"
    losses = f"from {number(found['startLoss'])} to {number(found['baseLoss'])} on people it had not seen"
    return (
        f"{verdict}: its loss went {losses}. Required was at least {number(found['margin'])} less than that start, and "
        f"than the {number(found['unigramLoss'])} that knowing frequencies alone would give."
    )


def measured(finding: Finding, result: GateResultJson | None) -> str:
    """What one metric says, in one or two sentences."""
    parts = []
    if (before := finding["before"]) is not None:
        parts.append(f"{number(before['value'])} before")
    parts.append(f"{number(finding['after']['value'])} after")
    if (reference := finding["reference"]) is not None:
        parts.append(f"{number(reference['value'])} in a model that never saw the records")
    return f"{'; '.join(parts)}.{'' if result is None else ' ' + judged(result)}"


def judged(result: GateResultJson) -> str:
    """What came of one gate."""
    asks = f"Required: {requirement(result)}."
    if result["interval"] is None:
        return f"{asks} There is no usable evidence."
    low, high = result["interval"]
    found = f"The difference lies, with 95 % confidence, from {interval(low, high, sign=True)}"
    if result["n"] is not None and result["n"] < result["minimumN"]:
        people = f"only {count(result['n'], 'person was', 'people were')} measured"
        return f"{asks} {found}, but {people} and {result['minimumN']} are needed: the evidence settles nothing."
    return f"{asks} {found}: {OUTCOMES[result['outcome']][2]}."
