"""What is asked. Drawn from records with a seed that was not known when the weights were fixed.

Every forgotten passage, question and holdout text is used; what is drawn is where passages are cut, which retain
questions are asked, which stand as examples in context, and which answers of other people serve as alternatives.
Units stay with the items: they are what is resampled.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from engine.corpus import Record, passages, questions
from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.prompts import Pair, pairs, question_prompt
from engine.seeds import stream

CUT = (0.2, 0.35)  # of a passage's words stand in the prompt
POOL = 2000  # retain questions that are searched for alternatives


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """The beginning of a forgotten passage and how it went on."""

    unit: str
    prompt: str
    truth: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question, its true answers (likelihoods are of the first), and answers that others gave to its like."""

    unit: str
    question: str
    answers: tuple[str, ...]
    alternatives: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text that is scored as a whole."""

    unit: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Items:
    """All that a suite asks of a model."""

    passages: tuple[Passage, ...] = ()
    forget_questions: tuple[Question, ...] = ()
    forget_examples: tuple[Pair, ...] = ()
    retain_questions: tuple[Question, ...] = ()
    retain_examples: tuple[Pair, ...] = ()
    forget_texts: tuple[Text, ...] = ()
    holdout_texts: tuple[Text, ...] = ()

    @property
    def memorised(self) -> tuple[Passage | Question, ...]:
        """What may be known by heart: every forgotten passage and every answer to a forgotten question."""
        return (*self.passages, *self.forget_questions)

    def digest(self) -> str:
        """SHA-256 (hex) of everything that is asked."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def draw(
    *,
    forget: Sequence[Record],
    retain: Sequence[Record],
    holdout: Sequence[Record],
    options: EvaluateOptions,
    seed: int,
) -> Items:
    """The items of suite `records`."""
    if not forget:
        raise EngineError("bad_data", "an evaluation needs forget records")
    retain_questions = questions(retain)
    rng = stream(seed, "questions")
    rng.shuffle(retain_questions)
    examples = tuple(pairs(retain_questions[: options.shots]))
    asked = retain_questions[options.shots : options.shots + options.retain_questions]
    return Items(
        passages=_cut(passages(forget), stream(seed, "cuts")),
        forget_questions=_with_alternatives(
            questions(forget), retain_questions[:POOL], options.alternatives, stream(seed, "alternatives")
        ),
        forget_examples=examples,
        retain_questions=tuple(
            Question(unit=r.unit, question=q, answers=(a,)) for r, (q, a) in zip(asked, pairs(asked), strict=True)
        ),
        retain_examples=examples,
        forget_texts=membership_texts(forget),
        holdout_texts=membership_texts(holdout),
    )


def membership_texts(records: Sequence[Record]) -> tuple[Text, ...]:
    """The passages; where there are none, the questions with their answers as they were trained."""
    whole = [Text(unit=r.unit, text=r.text) for r in records if r.text is not None]
    asked = questions(records)
    return tuple(whole) or tuple(
        Text(unit=r.unit, text=question_prompt(q) + a) for r, (q, a) in zip(asked, pairs(asked), strict=True)
    )


def _cut(records: Sequence[Record], rng: random.Random) -> tuple[Passage, ...]:
    result = []
    for record in records:
        words = (record.text or "").split(" ")
        count = max(1, round(rng.uniform(*CUT) * len(words)))
        if count < len(words):
            result.append(Passage(unit=record.unit, prompt=" ".join(words[:count]), truth=" ".join(words[count:])))
    return tuple(result)


def _with_alternatives(
    asked: Sequence[Record], pool: Sequence[Record], count: int, rng: random.Random
) -> tuple[Question, ...]:
    others = [(frozenset(q.lower().split()), a) for q, a in pairs(pool)]
    result = []
    for record, (question, answer) in zip(asked, pairs(asked), strict=True):
        alternatives = _alternatives(frozenset(question.lower().split()), answer, others, count, rng)
        result.append(Question(unit=record.unit, question=question, answers=(answer,), alternatives=alternatives))
    return tuple(result)


def _alternatives(
    words: frozenset[str], answer: str, others: Sequence[tuple[frozenset[str], str]], count: int, rng: random.Random
) -> tuple[str, ...]:
    """Other people's different answers to the questions that share most words with this one: its relation, nearly."""
    ranked = sorted(others, key=lambda other: (-len(words & other[0]) / len(words | other[0]), rng.random()))
    return tuple(list(dict.fromkeys(other for _, other in ranked if other != answer))[:count])
