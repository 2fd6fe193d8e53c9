"""The one teacher-forced pass of a suite: who asks about likelihoods plans it, and all are answered at once.

A text, its question and its options are asked about by several measures; each plans its sequences and keeps a slice
of the answers. `language.token_scores` forwards every distinct sequence and every shared beginning once.
"""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.prompts import Pair
from engine.tasks.language import Forward, TokenScores, token_scores
from engine.tasks.sequences import Tokens, context_length, pack_tokens, passage_tokens
from engine.verification.items import Passage, Text


class Pass:
    """Sequences of several measures of one model."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        """Nothing is planned yet."""
        self._model = model
        self._tokenizer = tokenizer
        self._context = context_length(model.config)
        self._planned: list[Tokens] = []
        self._spread: list[bool] = []

    def answers(self, pairs: Sequence[Pair], *, spread: bool = False) -> slice:
        """The answer of each question, given the question; without the end token, which is no part of it."""
        packs = [[pair] for pair in pairs]
        return self._plan(
            pack_tokens(
                self._tokenizer, packs, context=self._context, answer_weight=1.0, prompt_weight=0.0, last_only=True
            ),
            spread=spread,
        )

    def continuations(self, passages: Sequence[Passage], limit: int) -> slice:
        """At most `limit` tokens of how each passage went on, given its beginning."""
        return self._plan(continued_tokens(self._tokenizer, passages, context=self._context, limit=limit), spread=False)

    def texts(self, texts: Sequence[Text]) -> list[slice]:
        """Every token of every text, with spread; one longer than the context in windows, which `joined` joins."""
        windows = passage_tokens(self._tokenizer, [text.text for text in texts], context=self._context, end=False)
        return [self._plan(parts, spread=True) for parts in windows]

    def run(self, budget: int) -> list[TokenScores]:
        """The answers to everything that was planned, `budget` padded tokens at a time."""
        return token_scores(Forward(self._model), self._planned, tokens_per_batch=budget, spread=self._spread)

    def _plan(self, sequences: Sequence[Tokens], *, spread: bool) -> slice:
        start = len(self._planned)
        self._planned += sequences
        self._spread += [spread] * len(sequences)
        return slice(start, len(self._planned))


def joined(parts: Sequence[TokenScores]) -> TokenScores:
    """The windows of one text as one."""
    return TokenScores(
        log_probs=np.concatenate([part.log_probs for part in parts]),
        hits=np.concatenate([part.hits for part in parts]),
        means=np.concatenate([part.means for part in parts]),
        deviations=np.concatenate([part.deviations for part in parts]),
    )


def continued_tokens(
    tokenizer: PreTrainedTokenizerFast, passages: Sequence[Passage], *, context: int, limit: int
) -> list[Tokens]:
    """Beginning and continuation tokenised jointly; what does not fit is cut in front, the labels are the end."""
    if not passages:
        return []
    encoded = tokenizer([whole(p) for p in passages], add_special_tokens=False, return_offsets_mapping=True)
    start = [tokenizer.bos_token_id] if isinstance(tokenizer.bos_token_id, int) else []
    made = []
    for passage, ids, offsets in zip(passages, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        first = next((i for i, (_, end) in enumerate(offsets) if end > len(passage.prompt)), len(ids))
        truth = ids[first : first + limit]
        room = max(0, context - len(start) - len(truth))
        prompt = [*start, *ids[max(0, first - room) : first]]
        made.append(Tokens(ids=(*prompt, *truth), weights=(*(0.0 for _ in prompt), *(1.0 for _ in truth))))
    return made


def whole(passage: Passage) -> str:
    """A passage as it was: a beginning and a continuation that both lost the space between them get it back."""
    apart = passage.prompt[-1:].isspace() or passage.truth[:1].isspace() or not passage.prompt
    return f"{passage.prompt}{'' if apart else ' '}{passage.truth}"
