"""A model under attack: how it is asked, and how what an attack did to its weights is undone.

There is never a second model in memory. An attack changes the weights in place; `restore` streams the originals back
from the folder, one tensor at a time.

A number is between 0 and 1, or `NOT_ASKED` where an attack does not apply to an item (an answer too short to be
prefilled) or could not be carried out (relearning that diverged).
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.errors import EngineError
from engine.options import EvaluateOptions
from engine.prompts import cut_answer, few_shot_prompt
from engine.tasks.generation import Stop, generate, stop_at_blank_line
from engine.tasks.sequences import context_length, prompt_ids
from engine.verification.attacks.items import AttackItems
from engine.verification.items import Question
from engine.verification.measure import continuations
from engine.verification.muse import rouge_l
from engine.weights import originals

NOT_ASKED = -1.0

Numbers = tuple[float, ...]
Scores = dict[str, Numbers]


class Subject:
    """A model, what it is asked, and where its weights are."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        folder: Path,
        items: AttackItems,
        options: EvaluateOptions,
    ) -> None:
        """Take a model whose weights are those of `folder`."""
        self.model, self.tokenizer, self.folder, self.items, self.options = model, tokenizer, folder, items, options

    @cached_property
    def plain(self) -> Scores:
        """What the model says unattacked. First asked before anything is changed."""
        return self.scores()

    def scores(self) -> Scores:
        """KnowMem of every forgotten question and VerbMem of every forgotten passage, as suite `records` has them."""
        items = self.items
        return self.some(range(len(items.questions)), range(len(items.passages)))

    def some(self, questions: Sequence[int], passages: Sequence[int]) -> Scores:
        """The same for some of them; the others are `NOT_ASKED`. A group without items is left out."""
        items, options = self.items, self.options
        asked, cut = [items.questions[i] for i in questions], [items.passages[i] for i in passages]
        shown = items.examples[: options.shots]
        known = self.recall(asked, [few_shot_prompt(shown, question.question) for question in asked])
        verbatim = continuations(self.model, self.tokenizer, cut, options.continuation_tokens)
        found = {
            "knowmem_f": placed(questions, known, len(items.questions)),
            "verbmem_f": placed(passages, verbatim, len(items.passages)),
        }
        return {name: numbers for name, numbers in found.items() if numbers}

    def recall(self, asked: Sequence[Question], prompts: Sequence[str]) -> Numbers:
        """ROUGE-L F1 of the greedy answer to each prompt with the answer of its question."""
        pairs = zip(asked, self.answers(prompts), strict=True)
        return tuple(max(rouge_l(truth, answer) for truth in question.answers) for question, answer in pairs)

    def answers(self, prompts: Sequence[str]) -> list[str]:
        """Greedy answers, cut as published; of a prompt longer than the context the end is read."""
        ids = prompt_ids(self.tokenizer, prompts, room=self.room(self.options.answer_tokens))
        limits = [self.options.answer_tokens] * len(ids)
        return [cut_answer(text) for text in self.decoded(generate(self.model, ids, limits=limits, stop=self.stop))]

    def decoded(self, outputs: Sequence[Sequence[int]]) -> list[str]:
        """Texts of generated tokens."""
        if not outputs:
            return []
        return list(self.tokenizer.batch_decode([list(ids) for ids in outputs], skip_special_tokens=True))

    def room(self, limit: int) -> int:
        """How many tokens a prompt may have; `EngineError("bad_options")` when there are none."""
        room = context_length(self.model.config) - limit
        if room < 1:
            raise EngineError("bad_options", f"{limit} tokens to generate leave no room for a prompt in the context")
        return room

    @cached_property
    def stop(self) -> Stop:
        """Where an answer ends."""
        return stop_at_blank_line(self.tokenizer)

    @torch.no_grad()
    def restore(self) -> None:
        """Undo what was done to the weights."""
        for parameter, original in originals(self.model, self.folder):
            parameter.copy_(original)


def placed(places: Sequence[int], values: Sequence[float], count: int) -> Numbers:
    """`values` at their places among `count` items, the others `NOT_ASKED`."""
    found = dict(zip(places, values, strict=True))
    return tuple(found.get(i, NOT_ASKED) for i in range(count))
