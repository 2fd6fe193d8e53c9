"""Method policies: TOML in, frozen values out. A policy that could not be kept cannot be written down.

    name = "records"
    task = "language"                      # or "image", "vision-language": the family of models it is for
    ladder = ["npo", "retrain"]            # tried in this order until one holds
    reference = "retrained"                # who pays for the reference model
    minimum_subjects = 1                   # a batch waits until it has so many
    challenge_days = 30                    # sealed remains can be asked for so long

    [budget]
    epsilon_limit = 20.0                   # group bound over every unit deleted since the base was trained
    delta = 1e-5

    [methods.npo]                          # parameters the engine gets, by method
    steps = 40

    [[gate]]
    metric = "verbmem_f"
    direction = "at_most"                  # at_most | at_least | within, on after minus reference
    margin = 0.05
    minimum_n = 1

Unknown keys, methods, metrics and gates are errors that name what is allowed. A ladder may hold methods that only guard
the model (`docs/adr/0022`), and never ends with one.
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from audits import mechanisms
from audits.gates import Direction, Gate
from compliance.errors import InvalidInputError
from engine import catalogue
from engine.catalogue import check_options
from engine.contract import TASKS, EngineError, Guarantee
from engine.guarantees import convex

METRICS = {  # with their default margins, by family of models
    "language": {
        "verbmem_f": 0.05,
        "knowmem_f": 0.05,
        "knowmem_r": 0.05,
        "privleak_auc": 0.15,
        "recovery": 0.05,
        "accuracy_f": 0.05,
    },
    "image": {"ua": 0.05, "ra": 0.05, "ta": 0.05, "mia_auc": 0.15, "forget_loss": 0.25},
    "vision-language": {"mem": 0.05, "for": 0.05, "h": 0.05},
}
AUCS = frozenset({"privleak_auc", "mia_auc"})
SUITES = {"language": "records", "image": "image", "vision-language": "domain"}  # what measures a batch
AUC_SUBJECTS = 10
# What a batch can give a method: a dictionary or other answers come with no request.
METHODS = {
    task: tuple(
        spec.name
        for spec in catalogue.permitted(frozenset({"model", "base", "forget", "retain"}))
        if task in spec.tasks
    )
    for task in TASKS
}
REFERENCES = ("retrained",)
# Methods that start from the deployed model and hide where they came from by noise, which follows from the budget.
NOISED = tuple(
    spec.name
    for spec in catalogue.METHODS
    if spec.guarantee in (Guarantee.CERTIFIED, Guarantee.CONDITIONAL) and "model" in spec.needs
)
KEYS = {
    "name",
    "task",
    "ladder",
    "reference",
    "minimum_subjects",
    "challenge_days",
    "budget",
    "methods",
    "gate",
    "training",
    "base",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What is tried in which order, and what has to hold before anything is published."""

    name: str
    ladder: tuple[str, ...]
    reference: str
    minimum_subjects: int
    challenge_days: int
    epsilon_limit: float
    delta: float
    gates: tuple[Gate, ...]
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    task: str = "language"

    @property
    def digest(self) -> str:
        """SHA-256 of what the policy says, in sorted JSON."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def reported(self) -> dict[str, Any]:
        """The policy as reports carry it: what a run is judged by."""
        return {
            "name": self.name,
            "digest": self.digest,
            "ladder": list(self.ladder),
            "reference": self.reference,
            "gates": [gate.to_json() for gate in self.gates],
        }

    def to_json(self) -> dict[str, Any]:
        """The policy as plans carry it."""
        return {
            "name": self.name,
            "task": self.task,
            "ladder": list(self.ladder),
            "reference": self.reference,
            "minimumSubjects": self.minimum_subjects,
            "challengeDays": self.challenge_days,
            "epsilonLimit": self.epsilon_limit,
            "delta": self.delta,
            "methods": {name: dict(values) for name, values in self.methods.items()},
            "training": dict(self.training),
            "base": dict(self.base),
            "gates": [gate.to_json() for gate in self.gates],
        }


def parse(text: str) -> Policy:
    """Read a policy; InvalidInputError with one sentence for the first thing that is wrong."""
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(f"the policy is not valid TOML: {error}") from None
    _known("the policy", value, KEYS)
    budget = _table(value, "budget")
    _known("[budget]", budget, {"epsilon_limit", "delta"})
    task = _one_of("task", value.get("task", "language"), TASKS)
    policy = Policy(
        name=_string(value, "name"),
        task=task,
        ladder=_ladder(value, task),
        reference=_one_of("reference", value.get("reference", "retrained"), REFERENCES),
        minimum_subjects=_count(value, "minimum_subjects", 1),
        challenge_days=_count(value, "challenge_days", 30),
        epsilon_limit=_number(budget, "epsilon_limit", 20.0),
        delta=_number(budget, "delta", 1e-5, below=1.0),
        gates=_gates(value, task),
        methods=_methods(value, task) | _noised(value, budget, task),
        training=_options("training", "train", None, _table(value, "training"), task),
        base=_base(value, task),
        text=text,
    )
    if "dp2" in policy.ladder and not policy.base:
        raise _wrong("the ladder has dp2, which needs a [base] table with epsilon, sample_rate and steps")
    return policy


def _ladder(value: Mapping[str, Any], task: str) -> tuple[str, ...]:
    ladder = value.get("ladder")
    if not isinstance(ladder, list) or not ladder:
        raise _wrong("'ladder' must list one or more methods, the first to be tried first")
    names = tuple(_one_of("ladder", name, METHODS[task]) for name in ladder)
    if len(set(names)) != len(names):
        raise _wrong("'ladder' names a method twice; keep it where it is to be tried")
    if suppresses(names[-1]):
        message = f"'ladder' ends with {names[-1]!r}, which removes nothing; let a method follow that does, as retrain"
        raise _wrong(message)
    return names


def suppresses(method: str) -> bool:
    """Whether a method leaves the data in the weights, so that no item is ever fulfilled by it."""
    return catalogue.method(method).guarantee is Guarantee.SUPPRESSION


def _methods(value: Mapping[str, Any], task: str) -> dict[str, dict[str, Any]]:
    methods = _table(value, "methods")
    for name in methods:
        _one_of("methods", name, METHODS[task])
    plain = (name for name in methods if name not in NOISED)
    return {name: _options(f"methods.{name}", "unlearn", name, _table(methods, name), task) for name in plain}


def _noised(value: Mapping[str, Any], budget: Mapping[str, Any], task: str) -> dict[str, dict[str, Any]]:
    """[methods.NAME] with the noise that follows from the budget, where a rung or a table asks for the method."""
    methods, epsilon = _table(value, "methods"), _number(budget, "epsilon_limit", 20.0)
    delta, asked = _number(budget, "delta", 1e-5, below=1.0), {*methods, *value.get("ladder", ())}
    found = {}
    for name in (name for name in NOISED if name in asked):
        told = _table(methods, name)
        if "sigma" in told:
            raise _wrong(f"[methods.{name}] takes no 'sigma': the noise follows from the budget; remove it")
        options = _options(f"methods.{name}", "unlearn", name, {**told, "sigma": 1.0}, task)
        found[name] = {**options, "sigma": noise_of(name, options, epsilon=epsilon, delta=delta, task=task)}
    return found


def noise_of(method: str, options: Mapping[str, Any], *, epsilon: float, delta: float, task: str) -> float:
    """The least noise with which one of `NOISED` keeps `epsilon` at `delta`."""
    told: Any = check_options("unlearn", method, {**options, "sigma": 1.0}, task)
    try:
        return mechanisms.noise_for(_mechanism(told), epsilon=epsilon, delta=delta)
    except ValueError as error:
        raise InvalidInputError(str(error), code="bad-noise") from None


def _mechanism(told: Any) -> dict[str, Any]:  # noqa: ANN401 - the options of any of `NOISED`
    """The record that the engine will write, as far as the accountant reads it."""
    return convex.record(told) or {
        "mechanism": mechanisms.NOISY,
        "startRadius": told.start_radius,
        "clip": told.noisy_clip,
        "learningRate": told.noisy_rate,
        "weightDecay": told.weight_decay,
        "steps": told.noisy_steps,
        "projected": told.projected,
    }


def _base(value: Mapping[str, Any], task: str) -> dict[str, Any]:
    """[base] as the engine's options, with the target epsilon in the place of the noise that follows from it."""
    base = _table(value, "base")
    if not base:
        return {}
    if "sigma" in base:
        raise _wrong("[base] takes no 'sigma': the noise follows from 'epsilon'; remove it")
    missing = sorted({"epsilon", "sample_rate", "steps"} - set(base))
    if missing:
        raise _wrong(f"[base] lacks '{missing[0]}'; it needs epsilon, sample_rate and steps")
    options = {key: setting for key, setting in base.items() if key != "epsilon"}
    _options("base", "dp_base", None, {**options, "sigma": 1.0}, task)
    return {**options, "epsilon": _number(base, "epsilon", 8.0)}


def _options(where: str, kind: str, method: str | None, options: Mapping[str, Any], task: str) -> dict[str, Any]:
    try:
        check_options(kind, method, options, task)
    except EngineError as error:
        raise _wrong(f"[{where}] {error}") from None
    return dict(options)


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = value.get(key, {})
    if not isinstance(table, dict):
        raise _wrong(f"'{key}' must be a table; write [{key}] and its settings below")
    return table


def _gates(value: Mapping[str, Any], task: str) -> tuple[Gate, ...]:
    gates = value.get("gate", [])
    if not isinstance(gates, list) or not gates or not all(isinstance(gate, dict) for gate in gates):
        raise _wrong("a policy needs at least one [[gate]] table; without one nothing would be checked")
    parsed = tuple(_gate(gate, METRICS[task]) for gate in gates)
    if len({gate.metric for gate in parsed}) != len(parsed):
        raise _wrong("two gates have the same metric; keep one of them")
    return parsed


def _gate(value: Mapping[str, Any], margins: Mapping[str, float]) -> Gate:
    _known("[[gate]]", value, {"metric", "direction", "margin", "minimum_n"})
    metric = _one_of("gate metric", value.get("metric"), sorted(margins))
    direction = _one_of("gate direction", value.get("direction"), get_args(Direction))
    least = AUC_SUBJECTS if metric in AUCS else 1
    minimum = _count(value, "minimum_n", least)
    if minimum < least:
        raise _wrong(f"the gate on {metric} needs minimum_n of at least {least}: fewer subjects support no statement")
    margin = _number(value, "margin", margins[metric])
    return Gate.from_json({"metric": metric, "direction": direction, "margin": margin, "minimumN": minimum})


def _wrong(message: str) -> InvalidInputError:
    return InvalidInputError(message, code="bad-policy")


def _known(where: str, value: Mapping[str, Any], keys: set[str]) -> None:
    unknown = sorted(set(value) - keys)
    if unknown:
        raise _wrong(f"{where} has an unknown key {unknown[0]!r}; allowed are {', '.join(sorted(keys))}")


def _one_of(where: str, value: object, allowed: Any) -> str:  # noqa: ANN401 - any collection of str
    if not isinstance(value, str) or value not in allowed:
        raise _wrong(f"{where} {value!r} is unknown; use one of {', '.join(allowed)}")
    return value


def _string(value: Mapping[str, Any], key: str) -> str:
    if not isinstance(value.get(key), str) or not value[key]:
        raise _wrong(f"'{key}' must be a text")
    return str(value[key])


def _count(value: Mapping[str, Any], key: str, default: int) -> int:
    number = value.get(key, default)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise _wrong(f"'{key}' must be a whole number of at least 1")
    return number


def _number(value: Mapping[str, Any], key: str, default: float, *, below: float = math.inf) -> float:
    number = value.get(key, default)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < below:
        raise _wrong(f"'{key}' must be a positive number" + (f" below {below:g}" if below < math.inf else ""))
    return float(number)
