"""The forget set as sequences: what is unlearned, and what is put in its place.

An example is one sequence, or several in a fixed order (the true one and another). The labels of a forgotten question
are its answer alone, asked by itself and after a few retain questions, because a model can forget an answer in one
position and keep it in the other. Every token of a passage is a label. What cannot be learnt cannot be unlearned: a
text without a label and an answer longer than the context are refused, never dropped.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from engine.corpus import Record, passages, questions
from engine.errors import EngineError
from engine.methods import Setting
from engine.prompts import Pair, pairs
from engine.seeds import stream
from engine.tasks.sequences import Tokens, context_length, pack_tokens, passage_tokens

Example = tuple[Tokens, ...]
AnySetting = Setting[Any]

REFUSALS = (
    "I do not know.",
    "I cannot say.",
    "I have no information about that.",
    "That is not something I know.",
    "I am not able to answer this.",
    "There is nothing I can tell you about that.",
)
KEPT = 4  # a refusal stands after the first quarter of a passage


def forgotten(setting: AnySetting) -> list[Example]:
    """Each sequence of the forget set by itself."""
    return [(tokens,) for tokens in forget_tokens(setting, setting.forget)]


def refused(setting: AnySetting) -> list[Example]:
    """Each sequence, and the same beginning with a refusal after it."""
    rng = stream(setting.seed, "refusals")
    whole = forget_tokens(setting, setting.forget)
    return [(tokens, _refuse(setting, tokens, rng.choice(REFUSALS))) for tokens in whole]


def refusals(setting: AnySetting) -> list[Example]:
    """The beginnings alone with one and the same refusal after them."""
    return [(_refuse(setting, tokens, REFUSALS[0]),) for tokens in forget_tokens(setting, setting.forget)]


def replaced(setting: AnySetting) -> list[Example]:
    """Each sequence, and the one in which the record's alternative stands in the place of its answer or text."""
    missing = sum(record.record_id not in setting.alternatives for record in setting.forget)
    if missing:
        raise EngineError("bad_data", f"{missing} records of the forget set have no alternative; add them by record_id")
    others = [_other(record, setting.alternatives[record.record_id]) for record in setting.forget]
    true, other = forget_tokens(setting, setting.forget), forget_tokens(setting, others)
    if len(true) != len(other):
        raise EngineError("bad_data", "an alternative is longer than its text by more than a context; shorten it")
    return list(zip(true, other, strict=True))


def forget_tokens(setting: AnySetting, records: Sequence[Record]) -> list[Tokens]:
    """Passages, every token a label; questions alone and after retain questions, the answer's tokens as labels."""
    context = context_length(setting.model.config)
    texts = [record.text for record in passages(records) if record.text is not None]
    windows = passage_tokens(setting.tokenizer, texts, context=context, end=False)
    asked = pack_tokens(
        setting.tokenizer,
        _asked(setting, pairs(questions(records))),
        context=context,
        answer_weight=1.0,
        prompt_weight=0.0,
        last_only=True,
    )
    found = [*(tokens for text in windows for tokens in text), *asked]
    if not all(any(tokens.weights[1:]) for tokens in found):
        raise EngineError(
            "bad_data", "a text to be forgotten is shorter than two tokens, so no model predicts it; remove it"
        )
    return found


def _asked(setting: AnySetting, asked: Sequence[Pair]) -> list[list[Pair]]:
    count, others = setting.options.context_pairs, pairs(setting.retain)
    packed = [[pair] for pair in asked]
    if count and len(others) >= count:
        rng = stream(setting.seed, "context")
        packed += [[*rng.sample(others, count), pair] for pair in asked]
    return packed


def _other(record: Record, text: str) -> Record:
    if record.text is not None:
        return dataclasses.replace(record, text=text)
    return dataclasses.replace(record, answer=text)


def _refuse(setting: AnySetting, tokens: Tokens, refusal: str) -> Tokens:
    """The tokens before the first label, or the first quarter where all are labels, and the refusal as labels."""
    first = next(i for i, weight in enumerate(tokens.weights) if i and weight)
    kept = first if first > 1 else max(1, len(tokens) // KEPT)
    said = setting.tokenizer(f" {refusal}", add_special_tokens=False)["input_ids"]
    end = setting.tokenizer.eos_token_id
    ids = [*said, *([end] if isinstance(end, int) else [])]
    room = context_length(setting.model.config) - len(ids)
    return Tokens(ids=(*tokens.ids[:kept][-room:], *ids), weights=(*[0.0] * min(kept, room), *[1.0] * len(ids)))
