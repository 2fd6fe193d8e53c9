"""The suite `attacks`: every attack on every model, and after minus reference, paired over people.

Every metric is a mean over forgotten questions (`knowmem_f`, `rouge_f`, `accuracy`), forgotten passages (`verbmem_f`)
or, for the control of the probe, retain questions (`accuracy_r`). An item that no model could be asked is left out of
a metric; a model that misses an item which another was asked has no value there, and the difference is null.

A guarded model (`engine.guards`) is asked through its guard. What needs the weights is null for it: whoever has them
removes the guard, and then attacks the model that the guard was put on. Attack that model to know.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from engine import guards
from engine.contract import Finding
from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.seeds import derive
from engine.verification.attacks import few_shot, paraphrase, prefill, probe, relearning, rounding
from engine.verification.attacks.items import AttackItems, draw_attacks
from engine.verification.attacks.subject import NOT_ASKED, Scores, Subject
from engine.verification.attacks.wording import read_paraphrases
from engine.verification.evaluation import Ask, Evaluation, Found, Records
from engine.verification.findings import Sample, finding
from engine.verification.statistics import resampling

Attack = Callable[[Subject], Scores]

BY_ASKING: tuple[Attack, ...] = (prefill.attack, paraphrase.attack, few_shot.attack)
WITH_WEIGHTS: tuple[Attack, ...] = (probe.attack, rounding.attack, relearning.attack)
LEAST = {"attack_steps": 0, "attack_bits": 2, "attack_prefill": 1, "attack_shots": 0}
FRACTION = (0.0, 1.0)


def evaluate(asked: Evaluation, records: Records) -> Found:
    """Attack every model of the job.

    Raises:
        EngineError: `bad_job` without a model after and a reference, `bad_options`, or `bad_data`.
    """
    if not {"after", "reference"} <= set(asked.folders):
        raise EngineError(
            "bad_job",
            "the suite 'attacks' needs models.after and models.reference: an attack can extract what was never learned",
        )
    check(asked.options)
    items = draw_attacks(
        forget=records("forget"),
        retain=records("retain"),
        holdout=records("holdout"),
        paraphrases=read_paraphrases(asked.data),
        options=asked.options,
        seed=asked.seed,
    )
    digest = items.digest()
    said = {role: asked.numbers(role, digest, _asking(asked, role, items)) for role in asked.folders}
    found = findings(said, units(items), resamples=asked.options.resamples, seed=asked.seed)
    return Found(findings=found, items_digest=digest)


def check(options: EvaluateOptions) -> None:
    """Refuse lists that are empty or hold what cannot be done."""
    for name, least in LEAST.items():
        values: tuple[int, ...] = getattr(options, name)
        if not values or min(values) < least:
            raise EngineError("bad_options", f"{name} must be a list of whole numbers from {least} on, at least one")
    if max(options.attack_steps) < 1:
        raise EngineError("bad_options", "attack_steps must hold a number above 0")


def attacked(subject: Subject, report: Callable[[float], None]) -> Scores:
    """The numbers of one model; its weights are as they were afterwards."""
    found = {f"unattacked.{name}": numbers for name, numbers in subject.plain.items()}
    attacks = BY_ASKING if guards.of(subject.model) else (*BY_ASKING, *WITH_WEIGHTS)
    for i, attack in enumerate(attacks, start=1):
        found |= attack(subject)
        report(i / len(attacks))
    return found


def units(items: AttackItems) -> dict[str, list[str]]:
    """Whom each number of a metric is about, by the part of the metric's name after the dot."""
    questions = [question.unit for question in items.questions]
    return {
        **dict.fromkeys(("knowmem_f", "rouge_f", "accuracy"), questions),
        "verbmem_f": [passage.unit for passage in items.passages],
        "accuracy_r": [question.unit for fold in items.known for question in fold if question.alternatives],
    }


def findings(
    said: Mapping[str, Mapping[str, Sequence[float]]],
    owners: Mapping[str, Sequence[str]],
    *,
    resamples: int,
    seed: int,
) -> tuple[Finding, ...]:
    """One finding a metric; `said` holds the numbers of each role by metric, `owners` see `units`."""
    metrics = dict.fromkeys(metric for numbers in said.values() for metric in numbers)
    result = []
    for metric in metrics:
        people = owners[metric.split(".")[1]]
        missing = (NOT_ASKED,) * len(people)
        values = {role: np.asarray(numbers.get(metric, missing)) for role, numbers in said.items()}
        kept = np.any([one != NOT_ASKED for one in values.values()], axis=0)
        if not kept.any():
            result.append(Finding(metric=metric))
            continue
        room = resampling(
            [unit for unit, keep in zip(people, kept, strict=True) if keep],
            resamples=resamples,
            seed=derive(seed, "resample", "retain" if metric.endswith("_r") else "forget"),
        )
        whole = {role: one[kept] for role, one in values.items() if NOT_ASKED not in one[kept]}
        samples = {role: Sample(value=float(one.mean()), draws=room.means(one)) for role, one in whole.items()}
        result.append(finding(metric, samples, room.n, span=FRACTION))
    return tuple(result)


def _asking(asked: Evaluation, role: str, items: AttackItems) -> Ask:
    folder, options = asked.folders[role], asked.options
    return lambda model, tokenizer, report: attacked(
        Subject(model, tokenizer, folder=folder, items=items, options=options), report
    )
