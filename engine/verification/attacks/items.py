"""What the attacks ask, and what the attacker brings along. Drawn with the job's seed; no model is needed.

Forgotten questions and passages are those of suite `records`, so that `unattacked.*` is what that suite reports. If
there are more than `attack_items` of each, those are asked that the user has a paraphrase for, and then some of
everybody. Every other text an attack uses is drawn here too, and the digest covers it.

The answers that a probe has to choose between are all of the same standing: those of a forgotten question are true of
other forgotten people, because a model tells answers that it has seen from answers it has not, whoever they are about.
"""

import hashlib
import json
import random
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from engine.corpus import Record, by_unit, passages, questions
from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.prompts import Pair, few_shot_prefix, pairs, question_prompt
from engine.seeds import derive, stream
from engine.verification.attacks.relearnt import Half, likeness, most_like, shuffled, split, words
from engine.verification.attacks.wording import Paraphrase, variants
from engine.verification.items import Passage, Question, draw

FOLDS = 5  # of the people that a probe learns from


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackItems:
    """All that the attacks ask and use. `companions` and `reworded` are per question, `reprompted` per passage."""

    passages: tuple[Passage, ...]
    questions: tuple[Question, ...]
    companions: tuple[tuple[Pair, ...], ...]
    reworded: tuple[tuple[str, ...], ...]
    reprompted: tuple[tuple[str, ...], ...]
    examples: tuple[Pair, ...]
    known: tuple[tuple[Question, ...], ...]
    halves: tuple[Half, ...]
    related: tuple[Record, ...]
    unrelated: tuple[Record, ...]
    seed: int

    def digest(self) -> str:
        """SHA-256 (hex) of everything that is asked or used."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def draw_attacks(
    *,
    forget: Sequence[Record],
    retain: Sequence[Record],
    holdout: Sequence[Record],
    paraphrases: Sequence[Paraphrase],
    options: EvaluateOptions,
    seed: int,
) -> AttackItems:
    """The items of suite `attacks`.

    Raises:
        EngineError: `bad_data` when a set is empty, or a paraphrase is of no forgotten record or of the wrong kind.
    """
    for name, given in (("forget", forget), ("retain", retain), ("holdout", holdout)):
        if not given:
            raise EngineError("bad_data", f"the suite 'attacks' needs {name} records, and there are none")
    said = _by_record(paraphrases, forget)
    texts = [r for r in passages(forget) if " " in (r.text or "")]
    shown = [r for group in (texts, questions(forget)) for r in _spread(group, options.attack_items, said, seed)]
    if not shown:
        raise EngineError(
            "bad_data", "no forgotten record is a question or a passage of two words, so none can be asked"
        )
    most = max((options.shots, *options.attack_shots))
    plain = draw(forget=shown, retain=retain, holdout=(), options=replace(options, shots=most), seed=seed)
    asked, cut = questions(shown), passages(shown)
    halves = split(forget, asked, cut, seed)
    dose = max((len(half.records) for half in halves), default=len(forget))
    return AttackItems(
        passages=plain.passages,
        questions=_with_options(plain.forget_questions, options.alternatives, stream(seed, "attack", "options")),
        companions=_companions(asked, forget, most),
        reworded=_reworded(asked, plain.forget_examples[: options.shots], said, seed),
        reprompted=tuple(tuple(one.prompt or "" for one in said.get(record.record_id, ())) for record in cut),
        examples=plain.forget_examples,
        known=_known(plain.retain_questions, options.alternatives, seed),
        halves=halves,
        related=most_like(forget, retain, dose, seed),
        unrelated=tuple(stream(seed, "attack", "unrelated").sample(list(holdout), min(dose, len(holdout)))),
        seed=derive(seed, "attack", "batches"),
    )


def _spread(records: Sequence[Record], limit: int, first: Container[str], seed: int) -> list[Record]:
    """At most `limit` records: the `first`, then one of each person before a second of anybody; in their own order."""
    if len(records) <= limit:
        return list(records)
    rng = stream(seed, "attack", "spread")
    ranked = [
        (r.record_id not in first, rank, rng.random(), r)
        for group in by_unit(records).values()
        for rank, r in enumerate(shuffled(group, rng))
    ]
    kept = {r.record_id for *_, r in sorted(ranked, key=lambda entry: entry[:3])[:limit]}
    return [record for record in records if record.record_id in kept]


def _with_options(asked: Sequence[Question], count: int, rng: random.Random) -> tuple[Question, ...]:
    """Each with other people's answers to the questions most like it, out of the same set."""
    bags = [words(question.question) for question in asked]
    result = []
    for question, bag in zip(asked, bags, strict=True):
        others = [
            (likeness(bag, b), rng.random(), q.answers[0])
            for q, b in zip(asked, bags, strict=True)
            if q.unit != question.unit
        ]
        answers = dict.fromkeys(
            answer for _, _, answer in sorted(others, reverse=True) if answer not in question.answers
        )
        result.append(replace(question, alternatives=tuple(answers)[:count]))
    return tuple(result)


def _known(asked: Sequence[Question], count: int, seed: int) -> tuple[tuple[Question, ...], ...]:
    """Retain questions in folds of whole people; the answers to choose from stay within the fold."""
    rng = stream(seed, "attack", "known")
    units = list(dict.fromkeys(question.unit for question in asked))
    fold = {unit: i % FOLDS for i, unit in enumerate(rng.sample(units, len(units)))}
    return tuple(_with_options([q for q in asked if fold[q.unit] == i], count, rng) for i in range(FOLDS))


def _companions(asked: Sequence[Record], forget: Sequence[Record], most: int) -> tuple[tuple[Pair, ...], ...]:
    groups = by_unit(questions(forget))
    others = ([r for r in groups[record.unit] if r.record_id != record.record_id] for record in asked)
    return tuple(tuple(pairs(group[:most])) for group in others)


def _reworded(
    asked: Sequence[Record], examples: Sequence[Pair], said: Mapping[str, Sequence[Paraphrase]], seed: int
) -> tuple[tuple[str, ...], ...]:
    """Prompts: the rules' questions and the user's after the examples, the user's own prompts as they are."""
    prefix, rng, result = few_shot_prefix(examples), stream(seed, "attack", "typos"), []
    for record in asked:
        given = said.get(record.record_id, ())
        texts = [*variants(record.question or "", rng), *(one.question for one in given if one.question is not None)]
        raw = [one.prompt for one in given if one.prompt is not None]
        result.append((*(prefix + question_prompt(text) for text in texts), *raw))
    return tuple(result)


def _by_record(paraphrases: Sequence[Paraphrase], forget: Sequence[Record]) -> dict[str, list[Paraphrase]]:
    records = {record.record_id: record for record in forget}
    found: dict[str, list[Paraphrase]] = {}
    for one in paraphrases:
        if one.record_id not in records:
            raise EngineError("bad_data", "paraphrases.jsonl names a record that is not in the forget set")
        if one.question is not None and records[one.record_id].text is not None:
            raise EngineError("bad_data", "paraphrases.jsonl has a question for a passage; give it a prompt instead")
        found.setdefault(one.record_id, []).append(one)
    return found
