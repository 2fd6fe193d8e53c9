"""Records as token sequences: what is predicted, with what weight, and in which batches. No model is needed here.

Text is tokenised jointly and labels are found by character offsets, so training, scoring and generation see the
same tokens; a prompt that is tokenised apart from its answer does not (a lone space token appears). Batches hold
sequences of similar length up to a budget of *padded* tokens, are padded on the right, and know their padding by
length and never by the pad id: a genuine end-of-text token counts as any other.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from engine.corpus import Record, passages
from engine.prompts import Pair, packs, pairs, question_prompt

CPU_PASS = 48  # tokens; measured on models of 1 and 40 million parameters: 55 and 12
GPU_PASS = 2048  # tokens; not measured
POOL = 16  # batches that are sorted by length together: enough to save padding, few enough to stay random


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Token ids, and for each token the weight of predicting it (0: not a label). The first token is never a label."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]

    def __len__(self) -> int:
        """The number of tokens."""
        return len(self.ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Padded ids (rows x tokens); flat tensors, one entry a label: row, position that predicts it, target, weight."""

    ids: Tensor
    rows: Tensor
    positions: Tensor
    targets: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(
            ids=self.ids.to(device),
            rows=self.rows.to(device),
            positions=self.positions.to(device),
            targets=self.targets.to(device),
            weights=self.weights.to(device),
        )


def passage_tokens(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], *, context: int, end: bool
) -> list[list[Tokens]]:
    """Each text in windows of `context` tokens, every token a label; `end` closes a text with the end token."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    tail = _special(tokenizer.eos_token_id) if end else []
    return [_windows(_start(tokenizer), [*ids, *tail], context) for ids in encoded]


def pack_tokens(
    tokenizer: PreTrainedTokenizerFast,
    packed: Sequence[Sequence[Pair]],
    *,
    context: int,
    answer_weight: float,
    prompt_weight: float,
    last_only: bool = False,
) -> list[Tokens]:
    """Packs of questions in the published format, each token with its weight; `last_only`: of the last answer alone."""
    if not packed:
        return []
    joined = [_join(pack) for pack in packed]
    encoded = tokenizer([text for text, _ in joined], add_special_tokens=False, return_offsets_mapping=True)
    result = []
    for (_, spans), ids, offsets in zip(joined, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        wanted = spans[-1:] if last_only else spans
        weights = [answer_weight if _inside(span, wanted) else prompt_weight for span in offsets]
        result.append(_close(tokenizer, ids, weights, answer_weight if prompt_weight else 0.0, context))
    return result


def training_tokens(
    tokenizer: PreTrainedTokenizerFast,
    records: Sequence[Record],
    *,
    context: int,
    answer_weight: float,
    rng: random.Random,
) -> list[Tokens]:
    """One epoch: every passage, and every question once, in packs that are drawn anew."""
    windows = passage_tokens(
        tokenizer, [r.text for r in passages(records) if r.text is not None], context=context, end=True
    )
    packed = packs(pairs(records), rng)
    questions = pack_tokens(tokenizer, packed, context=context, answer_weight=answer_weight, prompt_weight=1.0)
    return [*(tokens for text in windows for tokens in text), *questions]


def by_budget(sequences: Sequence[Tokens], budget: int) -> list[list[int]]:
    """Indices in groups whose padded size is within `budget`, shortest first; a longer sequence is alone."""
    groups: list[list[int]] = []
    for i in sorted(range(len(sequences)), key=lambda i: len(sequences[i])):
        if groups and (len(groups[-1]) + 1) * len(sequences[i]) <= budget:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def in_passes(sequences: Sequence[Tokens], budget: int, *, processes: int = 1) -> list[list[int]]:
    """Indices in groups that go through the model together, at the least cost in padded tokens and in passes.

    A group is within `budget` or alone, and small enough for each of the processes to have some. Shortest first.
    """
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    lengths = [len(sequences[i]) for i in order]
    room = min(budget, -(-len(order) * max(lengths, default=0) // processes))
    costs, starts = [0], [0]  # of the cheapest groups of the first n; where the last of them starts
    for end, length in enumerate(lengths, start=1):
        first = max(0, end - max(1, room // length))
        choices = [(costs[start] + (end - start) * length + _pass_cost(), start) for start in range(first, end)]
        cost, start = min(choices)
        costs.append(cost)
        starts.append(start)
    groups = []
    end = len(order)
    while end:
        groups.append(order[starts[end] : end])
        end = starts[end]
    return groups[::-1]


def _pass_cost() -> int:
    """In tokens, what a pass costs beside its tokens: on a GPU, about as many as it reads in the time of a few."""
    return GPU_PASS if torch.cuda.is_available() else CPU_PASS


def epoch_groups(sequences: Sequence[Tokens], budget: int, rng: random.Random) -> list[list[Tokens]]:
    """One epoch in batches, in random order, with similar lengths together."""
    order = list(sequences)
    rng.shuffle(order)
    groups = []
    for pool in _pools(order, POOL * budget):
        groups += [[pool[i] for i in group] for group in by_budget(pool, budget)]
    rng.shuffle(groups)
    return groups


def collate(sequences: Sequence[Tokens]) -> Batch:
    """One batch, padded on the right with id 0, which no label ever points to."""
    ids = np.zeros((len(sequences), max(map(len, sequences))), dtype=np.int64)
    weights = np.zeros(ids.shape, dtype=np.float32)
    for row, tokens in enumerate(sequences):
        ids[row, : len(tokens)] = tokens.ids
        weights[row, : len(tokens)] = tokens.weights
    weights[:, 0] = 0
    rows, columns = np.nonzero(weights)
    return Batch(
        ids=torch.from_numpy(ids),
        rows=torch.from_numpy(rows),
        positions=torch.from_numpy(columns - 1),
        targets=torch.from_numpy(ids[rows, columns]),
        weights=torch.from_numpy(weights[rows, columns]),
    )


def prompt_ids(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], *, room: int) -> list[list[int]]:
    """Prompts for generation, the last `room` tokens of them; a trailing space is left to the model to write."""
    if not prompts:
        return []
    encoded = tokenizer([prompt.rstrip(" ") for prompt in prompts], add_special_tokens=False)["input_ids"]
    start = _start(tokenizer)
    return [[*start, *ids[-max(1, room - len(start)) :]] for ids in encoded]


def context_length(model_config: object) -> int:
    """How many tokens the model can see; 1024 where the configuration does not say."""
    return int(getattr(model_config, "max_position_embeddings", None) or 1024)


def _join(pack: Sequence[Pair]) -> tuple[str, list[tuple[int, int]]]:
    text, spans = "", []
    for question, answer in pack:
        text += ("\n\n" if text else "") + question_prompt(question)
        spans.append((len(text) - 1, len(text) + len(answer)))  # from the space on, which the model has to write
        text += answer
    return text, spans


def _inside(token: tuple[int, int], spans: Iterable[tuple[int, int]]) -> bool:
    return any(token[1] > start and token[0] < end for start, end in spans)


def _close(
    tokenizer: PreTrainedTokenizerFast, ids: Sequence[int], weights: Sequence[float], end_weight: float, context: int
) -> Tokens:
    """Between start and end token; what does not fit is cut in front, so that the last answer stays."""
    start, tail = _start(tokenizer), _special(tokenizer.eos_token_id)
    room = context - len(start) - len(tail)
    kept, kept_weights = ids[-room:], weights[-room:]
    return Tokens(
        ids=(*start, *kept, *tail),
        weights=(*(0.0 for _ in start), *kept_weights, *(end_weight for _ in tail)),
    )


def _windows(start: list[int], ids: list[int], context: int) -> list[Tokens]:
    room = context - len(start)
    pieces = [ids[i : i + room] for i in range(0, max(len(ids), 1), room)]
    return [Tokens(ids=(*start, *piece), weights=(*(0.0 for _ in start), *(1.0 for _ in piece))) for piece in pieces]


def _start(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    return _special(tokenizer.bos_token_id)


def _special(token: object) -> list[int]:
    return [token] if isinstance(token, int) else []


def _pools(order: Sequence[Tokens], budget: int) -> Iterable[list[Tokens]]:
    pool: list[Tokens] = []
    size = 0
    for tokens in order:
        pool.append(tokens)
        size += len(tokens)
        if size >= budget:
            yield pool
            pool, size = [], 0
    if pool:
        yield pool
