r"""RESTOR's own benchmark (arXiv 2411.00204) in its published layout: what is asked, of whom, and what was corrupted.

    facts.json      {"dset":    {entity: {relation: {"question", "answers"}}},
                     "context": {relation: [{"question", "answer", "entity"} x 10]}}
    entities.json   the benchmark's people
    mix_a0.json     [{"text"}], the corrupting documents; without it nothing is known about the corruption

A fact is asked after the first five context lines of its relation whose entity differs, `"{question} {answer}\n"`
each. Where the published code samples, we generate greedily and cut at the first line break.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.verification import restor_matching
from engine.verification.layouts import read_json
from engine.verification.restor_options import corrupted_options, random_options

DOCUMENTS = "mix_a0.json"
SHOTS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One fact about a person: its prompt as published, every answer that counts as right, and what else there is.

    `rivals` are the other answers that the published facts know for the relation. `corrupted` and `random` are the
    options of `restor_options`, both empty where a fact is not analysed; `targeted` says that the person has
    corrupting documents.
    """

    entity: str
    prompt: str
    answers: tuple[str, ...]
    relation: str = ""
    rivals: tuple[str, ...] = ()
    corrupted: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    targeted: bool = False

    @property
    def question(self) -> str:
        """The question itself, without the lines before it."""
        return self.prompt.rsplit("\n", 1)[-1]

    def accepts(self, answer: str) -> bool:
        """The judge-free verdict on one answer."""
        return restor_matching.accepts(self.answers, answer, rivals=self.rivals)


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """What RESTOR asks."""

    facts: tuple[Fact, ...]

    def digest(self) -> str:
        """SHA-256 (hex) of everything that is asked and of everything that decides what is right."""
        hasher = hashlib.sha256()
        for fact in self.facts:
            parts = (fact.entity, fact.prompt, fact.relation, fact.targeted)
            line = (*parts, fact.answers, fact.rivals, fact.corrupted, fact.random)
            hasher.update(json.dumps(line).encode() + b"\n")
        return hasher.hexdigest()


def read(folder: Path) -> Benchmark:
    """The facts about the benchmark's people; all of `facts.json` where there is no `entities.json`."""
    content = read_json(folder / "facts.json")
    documents = read_documents(folder) if (folder / DOCUMENTS).is_file() else []
    try:
        people = read_json(folder / "entities.json") if (folder / "entities.json").is_file() else list(content["dset"])
        known = known_answers(content)
        about = {name: "\n".join(text for text in documents if name in text) for name in people}
        return Benchmark(
            facts=tuple(
                _fact(name, relation, fact, content["context"][relation], known[relation], about[name])
                for name in people
                for relation, fact in content["dset"][name].items()
            )
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise EngineError("bad_data", "facts.json does not have RESTOR's published fields") from error


def read_documents(folder: Path) -> list[str]:
    """The corrupting documents."""
    try:
        return [str(document["text"]) for document in read_json(folder / DOCUMENTS)]
    except (KeyError, TypeError) as error:
        raise EngineError("bad_data", f"{DOCUMENTS} does not have RESTOR's published fields") from error


def known_answers(content: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Every answer that the published facts and context lines have for each relation, sorted."""
    known: dict[str, set[str]] = {
        relation: {str(line["answer"]) for line in lines} for relation, lines in content["context"].items()
    }
    for facts in content["dset"].values():
        for relation, fact in facts.items():
            known.setdefault(relation, set()).update(map(str, fact["answers"]))
    return {relation: tuple(sorted(values)) for relation, values in known.items()}


def prompt(name: str, question: str, lines: Sequence[Mapping[str, str]]) -> str:
    """The published prompt: the first five lines about others, then the bare question."""
    shown = [line for line in lines if line["entity"] != name][:SHOTS]
    return "".join(f"{line['question']} {line['answer']}\n" for line in shown) + question


def _fact(
    name: str,
    relation: str,
    fact: Mapping[str, Any],
    lines: Sequence[Mapping[str, str]],
    known: Sequence[str],
    documents: str,
) -> Fact:
    answers = _answers(fact)
    corrupted = corrupted_options(name, answers, known, documents) if documents else ()
    random = random_options(name, relation, answers, known, corrupted) if corrupted else ()
    return Fact(
        entity=name,
        prompt=prompt(name, str(fact["question"]), lines),
        answers=answers,
        relation=relation,
        rivals=tuple(value for value in known if value not in answers),
        corrupted=corrupted if random else (),
        random=random,
        targeted=bool(documents),
    )


def _answers(fact: Mapping[str, Any]) -> tuple[str, ...]:
    answers = fact["answers"]
    if not isinstance(answers, list) or not answers:
        message = "a fact without answers"
        raise TypeError(message)
    return tuple(map(str, answers))
