r"""Question prompts as MUSE publishes them (arXiv 2407.06460), and the packs of questions that training sees.

A prompt is `"Question: {q}\nAnswer: {a}\n\n"` for each example in context, then `"Question: {q}\nAnswer: "`.
The trailing space is part of the published string but must not reach the tokenizer: byte-level BPE would make it a
token of its own that no training text contains, and answers fall apart. `tasks.language` moves it to the front of
what is generated, where joint tokenisation puts it too.
"""

import random
from collections.abc import Sequence

from engine.corpus import Record

Pair = tuple[str, str]

PACK_SIZES = (1, 1, 2, 4)
ANSWER_ENDS = ("\n\n", "\nQuestion", "Question:")


def question_prompt(question: str) -> str:
    """The prompt for one question, exactly as published, trailing space included."""
    return f"Question: {question}\nAnswer: "


def few_shot_prefix(pairs: Sequence[Pair]) -> str:
    """The examples in context that precede the prompt."""
    return "".join(f"{question_prompt(question)}{answer}\n\n" for question, answer in pairs)


def few_shot_prompt(pairs: Sequence[Pair], question: str) -> str:
    """Examples and question, exactly as published."""
    return few_shot_prefix(pairs) + question_prompt(question)


def cut_answer(generated: str) -> str:
    """The answer within what a model generated: up to the first blank line, then up to the next question."""
    for end in ANSWER_ENDS:
        generated = generated.split(end, 1)[0]
    return generated.strip()


def pairs(records: Sequence[Record]) -> list[Pair]:
    """Question and answer of every record that is a question."""
    return [(r.question, r.answer) for r in records if r.question is not None and r.answer is not None]


def packs(items: Sequence[Pair], rng: random.Random) -> list[list[Pair]]:
    """The questions in random order, in packs of 1, 1, 2 or 4: a model must also see answers after other answers."""
    order = list(items)
    rng.shuffle(order)
    result = []
    while order:
        size = rng.choice(PACK_SIZES)
        result.append(order[:size])
        order = order[size:]
    return result
