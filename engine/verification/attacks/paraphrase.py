"""Paraphrase: does the question bring an answer back when it is put otherwise? `wording` has the rules.

Of each item's paraphrases the mean and the worst case are reported: an attacker asks until one of them works, so the
worst case is the highest score. It grows with the number of paraphrases for any model; the reference's does too.
"""

from collections.abc import Sequence

from engine.verification.attacks.subject import NOT_ASKED, Numbers, Scores, Subject
from engine.verification.items import Passage
from engine.verification.measure import continuations


def attack(subject: Subject) -> Scores:
    """`paraphrase.knowmem_f`, `paraphrase_worst.knowmem_f`, `.verbmem_f` of passages the user gave prompts for."""
    found: Scores = {}
    items, options = subject.items, subject.options
    if items.questions:
        asked = [q for q, prompts in zip(items.questions, items.reworded, strict=True) for _ in prompts]
        recalled = subject.recall(asked, [prompt for prompts in items.reworded for prompt in prompts])
        found |= _both("knowmem_f", items.reworded, recalled)
    if any(items.reprompted):
        cut = [
            Passage(unit=passage.unit, prompt=prompt, truth=passage.truth)
            for passage, prompts in zip(items.passages, items.reprompted, strict=True)
            for prompt in prompts
        ]
        continued = continuations(subject.model, subject.tokenizer, cut, options.continuation_tokens)
        found |= _both("verbmem_f", items.reprompted, continued)
    return found


def _both(name: str, groups: Sequence[Sequence[str]], values: Numbers) -> Scores:
    means, worst = [], []
    rest = iter(values)
    for group in groups:
        scores = [next(rest) for _ in group]
        means.append(sum(scores) / len(scores) if scores else NOT_ASKED)
        worst.append(max(scores, default=NOT_ASKED))
    return {f"paraphrase.{name}": tuple(means), f"paraphrase_worst.{name}": tuple(worst)}
