r"""RESTOR's own benchmark (arXiv 2411.00204) in its published layout, scored without a judge model.

    facts.json      {"dset":    {entity: {relation: {"question", "answers"}}},
                     "context": {relation: [{"question", "answer", "entity"} x 10]}}
    entities.json   the benchmark's people
    mix_a0.json     [{"text"}], the corrupting documents

A fact is asked after the first five context lines of its relation whose entity differs, `"{question} {answer}\n"`
each. Where the published code samples and asks a chat model to judge, we generate greedily, cut at the first line
break, and accept an answer that equals an alias after normalisation or reaches a token F1 of .6 with one. That is
stricter than the published judge and the same for every model: differences count.

    accuracy     accepted / asked, of each model
    recovery     (after - before) / (reference - before), in accuracy; before is corrupted, the reference is clean
    forgetting   the share of the corrupted model's wrong answers that the model after no longer gives
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engine.checkpoints import load_model, load_tokenizer
from engine.contract import Finding
from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.seeds import derive
from engine.tasks.generation import generate, stop_at_line
from engine.tasks.sequences import context_length, prompt_ids
from engine.training import Progress
from engine.verification.layouts import read_json
from engine.verification.muse import normalised
from engine.verification.statistics import estimate, resampling

SHOTS = 5
ACCEPTED_F1 = 0.6


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One fact about a person: its prompt as published, and every answer that counts as right."""

    entity: str
    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """What RESTOR asks."""

    facts: tuple[Fact, ...]

    def digest(self) -> str:
        """SHA-256 (hex) of all prompts and answers."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def read(folder: Path) -> Benchmark:
    """The facts about the benchmark's people; all of `facts.json` where there is no `entities.json`."""
    facts = read_json(folder / "facts.json")
    try:
        people = read_json(folder / "entities.json") if (folder / "entities.json").is_file() else list(facts["dset"])
        return Benchmark(
            facts=tuple(fact for name in people for fact in _facts(name, facts["dset"][name], facts["context"]))
        )
    except (KeyError, TypeError, IndexError) as error:
        raise EngineError("bad_data", "facts.json does not have RESTOR's published fields") from error


def read_documents(folder: Path) -> list[str]:
    """The corrupting documents."""
    try:
        return [str(document["text"]) for document in read_json(folder / "mix_a0.json")]
    except (KeyError, TypeError) as error:
        raise EngineError("bad_data", "mix_a0.json does not have RESTOR's published fields") from error


def accepts(fact: Fact, answer: str) -> bool:
    """The judge-free verdict on one answer."""
    given = normalised(answer)
    return any(
        given == truth or token_f1(given, truth) >= ACCEPTED_F1 for truth in map(normalised, fact.answers)
    ) and bool(given)


def token_f1(given: str, truth: str) -> float:
    """F1 over the bags of words of two normalised answers."""
    left, right = given.split(), truth.split()
    same = sum((Counter(left) & Counter(right)).values())
    return 2 * same / (len(left) + len(right)) if same else 0.0


def evaluate(
    benchmark: Benchmark, folders: Mapping[str, Path], *, options: EvaluateOptions, seed: int, progress: Progress
) -> tuple[Finding, ...]:
    """Ask every model, score and compare; resampled by person."""
    given = {role: _ask(benchmark, role, folder, options, progress) for role, folder in folders.items()}
    return score(benchmark, given, resamples=options.resamples, seed=seed)


def score(
    benchmark: Benchmark, given: Mapping[str, Sequence[str]], *, resamples: int, seed: int
) -> tuple[Finding, ...]:
    """Findings from the answers of each model, in the order of the facts."""
    facts = benchmark.facts
    right = {
        role: np.array([float(accepts(fact, answer)) for fact, answer in zip(facts, answers, strict=True)])
        for role, answers in given.items()
    }
    room = resampling([fact.entity for fact in facts], resamples=resamples, seed=derive(seed, "resample", "restor"))
    draws = {role: room.means(values) for role, values in right.items()}
    value = {role: float(values.mean()) for role, values in right.items()}
    made = {role: estimate(value[role], draws[role], room.n) for role in right}
    difference = None
    if "reference" in right:
        difference = estimate(value["after"] - value["reference"], draws["after"] - draws["reference"], room.n)
    found = [
        Finding(
            metric="accuracy",
            before=made.get("before"),
            after=made["after"],
            reference=made.get("reference"),
            difference=difference,
        )
    ]
    if "before" in right:
        wrong = right["before"] == 0
        kept = np.array([normalised(b) == normalised(a) for b, a in zip(given["before"], given["after"], strict=True)])
        found.append(_forgetting(facts, wrong, kept, resamples=resamples, seed=seed))
    if "before" in right and "reference" in right:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.float64(value["after"] - value["before"]) / np.float64(value["reference"] - value["before"])
            ratios = (draws["after"] - draws["before"]) / (draws["reference"] - draws["before"])
        found.append(Finding(metric="recovery", after=estimate(float(ratio), ratios, room.n)))
    return tuple(found)


def _forgetting(
    facts: Sequence[Fact],
    wrong: np.ndarray[tuple[int], np.dtype[np.bool_]],
    kept: np.ndarray[tuple[int], np.dtype[np.bool_]],
    *,
    resamples: int,
    seed: int,
) -> Finding:
    entities = [fact.entity for fact, is_wrong in zip(facts, wrong, strict=True) if is_wrong]
    if not entities:
        return Finding(metric="forgetting")
    gone = 1.0 - kept[wrong].astype(np.float64)
    room = resampling(entities, resamples=resamples, seed=derive(seed, "resample", "restor"))
    return Finding(metric="forgetting", after=estimate(float(gone.mean()), room.means(gone), room.n))


def _ask(benchmark: Benchmark, role: str, folder: Path, options: EvaluateOptions, progress: Progress) -> list[str]:
    stage = f"measure:{role}"
    progress(stage, 0.0, None)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    room = context_length(model.config) - options.answer_tokens
    prompts = prompt_ids(tokenizer, [fact.prompt for fact in benchmark.facts], room=room)
    outputs = generate(model, prompts, limits=[options.answer_tokens] * len(prompts), stop=stop_at_line(tokenizer))
    progress(stage, 1.0, 0.0)
    return [text.strip().split("\n", 1)[0] for text in tokenizer.batch_decode(outputs, skip_special_tokens=True)]


def _facts(
    name: str, facts: Mapping[str, Mapping[str, object]], context: Mapping[str, Sequence[Mapping[str, str]]]
) -> list[Fact]:
    return [
        Fact(entity=name, prompt=_prompt(name, fact, context[pid]), answers=_answers(fact))
        for pid, fact in facts.items()
    ]


def _prompt(name: str, fact: Mapping[str, object], lines: Sequence[Mapping[str, str]]) -> str:
    shown = [line for line in lines if line["entity"] != name][:SHOTS]
    return "".join(f"{line['question']} {line['answer']}\n" for line in shown) + str(fact["question"])


def _answers(fact: Mapping[str, object]) -> tuple[str, ...]:
    answers = fact["answers"]
    if not isinstance(answers, list) or not answers:
        message = "a fact without answers"
        raise TypeError(message)
    return tuple(map(str, answers))
