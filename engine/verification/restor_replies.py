"""What a model says to RESTOR's questions: its greedy answers and its log-probabilities of the options. With torch.

RESTOR's facts are public, about public people, and no record of anybody's is among them. So this suite, and no other,
may keep the words that a model answered: in the folder `restor` of the evaluation's cache,

    <key>.json                       answers and numbers by everything they depend on; a second run loads no model
    answers-<items>-<model>.json     the same answers with their questions, for people and for a judge
    verdicts-<items>-<model>.json    what a judge made of them, {"verdicts": [true, ...]} in the order of the questions

The engine has no network. Whoever runs it may show the answers to a judge and leave the verdicts there; with the
option `judged` they are scored too. Verdicts that are missing or too few are an error, never a partial mean.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.checkpoints import load_model, load_tokenizer
from engine.digests import code_digest, config_digest
from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.tasks.generation import generate, stop_at_line
from engine.tasks.sequences import context_length, prompt_ids
from engine.verification.evaluation import SUITE_VERSION, Evaluation
from engine.verification.restor_facts import Fact
from engine.verification.restor_options import option_log_probs

Numbers = tuple[float, ...]

FOLDER = "restor"
CATEGORIES = ("correct", "corrupted", "random")
NOT_IN_KEY = {"resamples", "judged"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Replies:
    """Answers in the order of the facts; log-probabilities a token in the order of the facts that are analysed.

    `correct`, `corrupted` and `random` are means over a fact's options, `best_*` the likeliest of them.
    """

    outputs: tuple[str, ...]
    correct: Numbers = ()
    corrupted: Numbers = ()
    random: Numbers = ()
    best_correct: Numbers = ()
    best_corrupted: Numbers = ()


def replies(asked: Evaluation, facts: Sequence[Fact], digest: str, role: str) -> Replies:
    """What the model of a role says, from the cache where it was asked the same before."""
    folder = asked.cache / FOLDER if asked.cache else None
    path = folder / f"{_key(asked, digest, role)}.json" if folder else None
    said = _stored(path, facts) if path else None
    if said is None:
        said = _ask(asked, facts, role)
        if path is not None:
            _write(path, dataclasses.asdict(said))
    if folder is not None:
        _write(folder / f"answers-{digest}-{asked.digests[role]}.json", {"answers": answered(facts, said.outputs)})
    return said


def answered(facts: Sequence[Fact], outputs: Sequence[str]) -> list[dict[str, Any]]:
    """Questions, answers and our own verdicts as JSON objects."""
    return [
        {
            "entity": fact.entity,
            "question": fact.question,
            "answers": list(fact.answers),
            "output": output,
            "accepted": fact.accepts(output),
        }
        for fact, output in zip(facts, outputs, strict=True)
    ]


def verdicts(asked: Evaluation, facts: Sequence[Fact], digest: str, role: str) -> tuple[bool, ...]:
    """What a judge made of the answers of a role's model, one verdict a fact."""
    if asked.cache is None:
        raise EngineError("bad_job", "the option 'judged' needs 'cache', the folder that holds the judge's verdicts")
    path = asked.cache / FOLDER / f"verdicts-{digest}-{asked.digests[role]}.json"
    try:
        given = json.loads(path.read_text(encoding="utf-8"))["verdicts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError("bad_data", f"there are no verdicts of a judge for the model {role!r}") from error
    if not (isinstance(given, list) and len(given) == len(facts) and all(isinstance(one, bool) for one in given)):
        raise EngineError("bad_data", f"the judge's verdicts for the model {role!r} are not one for each question")
    return tuple(given)


def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    facts: Sequence[Fact],
    options: EvaluateOptions,
    report: Callable[[float], None],
) -> Replies:
    """Ask a model everything; `report` is told the fraction that is done."""
    report(0.0)
    outputs = _outputs(model, tokenizer, [fact.prompt for fact in facts], options.answer_tokens)
    report(0.6)
    analysed = [fact for fact in facts if fact.corrupted]
    rows = [(fact.answers, fact.corrupted, fact.random) for fact in analysed]
    pairs = [
        (fact.prompt, option) for fact, lists in zip(analysed, rows, strict=True) for each in lists for option in each
    ]
    scores = iter(option_log_probs(model, tokenizer, pairs, budget=options.tokens_per_batch))
    scored = [[np.array([next(scores) for _ in each]) for each in lists] for lists in rows]
    report(1.0)
    means = {name: tuple(float(lists[i].mean()) for lists in scored) for i, name in enumerate(CATEGORIES)}
    best = {f"best_{name}": tuple(float(lists[i].max()) for lists in scored) for i, name in enumerate(CATEGORIES[:2])}
    return Replies(outputs=outputs, **means, **best)


def _outputs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], limit: int
) -> tuple[str, ...]:
    room = context_length(model.config) - limit
    if room < 1:
        raise EngineError("bad_options", f"answer_tokens {limit} leave no room for a prompt in the model's context")
    ids = prompt_ids(tokenizer, prompts, room=room)
    outputs = generate(model, ids, limits=[limit] * len(ids), stop=stop_at_line(tokenizer))
    texts = tokenizer.batch_decode(outputs, skip_special_tokens=True)
    return tuple(text.strip().split("\n", 1)[0].strip() for text in texts)


def _ask(asked: Evaluation, facts: Sequence[Fact], role: str) -> Replies:
    stage, folder = f"measure:{role}", asked.folders[role]
    asked.progress(stage, 0.0, None)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    return ask(model, tokenizer, facts, asked.options, lambda done: asked.progress(stage, done, None))


def _key(asked: Evaluation, digest: str, role: str) -> str:
    options = {name: value for name, value in dataclasses.asdict(asked.options).items() if name not in NOT_IN_KEY}
    parts = {"model": asked.digests[role], "items": digest, "settings": options}
    return config_digest({**parts, "suite": SUITE_VERSION, "code": code_digest()})


def _stored(path: Path, facts: Sequence[Fact]) -> Replies | None:
    """An entry of the cache; None where there is none that can be read and is whole."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        numbers = {f.name: tuple(map(float, value[f.name])) for f in dataclasses.fields(Replies) if f.name != "outputs"}
        said = Replies(outputs=tuple(map(str, value["outputs"])), **numbers)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    analysed = sum(bool(fact.corrupted) for fact in facts)
    whole = len(said.outputs) == len(facts) and all(len(values) == analysed for values in numbers.values())
    return said if whole else None


def _write(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".partial-{os.getpid()}")
    try:
        partial.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")
    except ValueError:  # a model that says NaN is asked again each time
        partial.unlink(missing_ok=True)
        return
    partial.replace(path)
