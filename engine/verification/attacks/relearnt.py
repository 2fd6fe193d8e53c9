"""What is relearned: which records, and who is asked afterwards.

A fact is never scored after it was taught. The forgotten people are split into two halves: one is trained on and the
other asked, then the other way round, so everybody is asked once. With one person alone these are the halves of that
person's records. Related records are those of the retain set that share most words with a forgotten one.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from engine.corpus import Record, by_unit, passages, questions
from engine.seeds import stream

POOL = 2000  # retain records that are searched for related ones
THEMES = 200  # forgotten records that they are compared with


@dataclass(frozen=True, kw_only=True, slots=True)
class Half:
    """Forgotten records that are relearned, and the questions and passages, by index, that are asked after it."""

    records: tuple[Record, ...]
    questions: tuple[int, ...]
    passages: tuple[int, ...]


def split(forget: Sequence[Record], asked: Sequence[Record], cut: Sequence[Record], seed: int) -> tuple[Half, ...]:
    """The two halves, `asked` questions and `cut` passages by index; none where a half would be empty."""
    sides = _sides(forget, stream(seed, "attack", "halves"))
    made = tuple(
        Half(
            records=tuple(r for r in forget if sides[r.record_id] == side),
            questions=tuple(i for i, r in enumerate(asked) if sides[r.record_id] != side),
            passages=tuple(i for i, r in enumerate(cut) if sides[r.record_id] != side),
        )
        for side in (0, 1)
    )
    return made if all(half.records for half in made) else ()


def _sides(forget: Sequence[Record], rng: random.Random) -> dict[str, int]:
    """Which half a record is in: with its person; where there is one person, in turns among texts and questions."""
    units = list(by_unit(forget))
    if len(units) == 1:
        order = [*shuffled(passages(forget), rng), *shuffled(questions(forget), rng)]
        return {record.record_id: i % 2 for i, record in enumerate(order)}
    side = {unit: i % 2 for i, unit in enumerate(rng.sample(units, len(units)))}
    return {record.record_id: side[record.unit] for record in forget}


def most_like(forget: Sequence[Record], retain: Sequence[Record], count: int, seed: int) -> tuple[Record, ...]:
    """The retain records that share most words with a forgotten one."""
    rng = stream(seed, "attack", "related")
    pool, themes = (
        rng.sample(list(given), min(most, len(given))) for given, most in ((retain, POOL), (forget, THEMES))
    )
    bags = [words(_whole(record)) for record in themes]
    ranked = sorted(pool, key=lambda r: -max(likeness(words(_whole(r)), bag) for bag in bags))
    return tuple(ranked[:count])


def _whole(record: Record) -> str:
    return record.text or f"{record.question} {record.answer}"


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """The share of words that two texts have in common (Jaccard), between 0 and 1."""
    return len(one & other) / max(1, len(one | other))


def words(text: str) -> frozenset[str]:
    """A text's words in lower case."""
    return frozenset(text.lower().split())


def shuffled(records: Sequence[Record], rng: random.Random) -> list[Record]:
    """The records in random order."""
    return rng.sample(list(records), len(records))
