"""Greedy generation in batches: sorted by length, cached, a common prefix read once, stopped by token id.

Prompts are padded on the left; the attention mask comes from their lengths. The tokens that all prompts begin with
(examples in context) are forwarded once and their cache is repeated. Rows that are done leave the batch once they
are half of it. Batching adds up the same numbers in another order: where the two best logits are that near, another
token may be chosen than one by one. `Ties` finds out which rows have such a place.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerFast

from engine.guards import reads_at_once
from engine.tasks.caching import roomy_cache

CACHED = 2**17  # tokens whose keys and values are kept at a time: 64 prompts of 2,048


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """When a row is done, decided on token ids alone: an end token, or a blank line within or across two tokens."""

    ends: Tensor  # vocabulary, bool: ends the text by itself
    closes: Tensor  # vocabulary, bool: the token's text ends in a line break
    opens: Tensor  # vocabulary, bool: the token's text starts with one

    def to(self, device: torch.device) -> "Stop":
        """The same on a device."""
        return Stop(ends=self.ends.to(device), closes=self.closes.to(device), opens=self.opens.to(device))

    def sized(self, vocabulary: int) -> "Stop":
        """For a model whose vocabulary is padded beyond the tokenizer's: what the padding says stops nothing."""
        grown = functional.pad(
            torch.stack([self.ends, self.closes, self.opens]), (0, max(0, vocabulary - len(self.ends)))
        )
        return Stop(ends=grown[0], closes=grown[1], opens=grown[2])

    def after(self, previous: Tensor, current: Tensor) -> Tensor:
        """Which rows are done, given their last two tokens."""
        return self.ends[current] | (self.closes[previous] & self.opens[current])


def stop_at_end(tokenizer: PreTrainedTokenizerFast) -> Stop:
    """Stop at end-of-text alone."""
    return _stop(tokenizer, [""] * len(tokenizer), "\n")


def stop_at_blank_line(tokenizer: PreTrainedTokenizerFast) -> Stop:
    """Stop at end-of-text, and where the published rule for answers cuts: at an empty line."""
    return _stop(tokenizer, tokenizer.batch_decode([[i] for i in range(len(tokenizer))]), "\n\n")


def stop_at_line(tokenizer: PreTrainedTokenizerFast) -> Stop:
    """Stop at end-of-text and at a line break."""
    return _stop(tokenizer, tokenizer.batch_decode([[i] for i in range(len(tokenizer))]), "\n")


def _stop(tokenizer: PreTrainedTokenizerFast, texts: list[str], within: str) -> Stop:
    ends = torch.tensor([within in text for text in texts])
    if isinstance(tokenizer.eos_token_id, int):
        ends[tokenizer.eos_token_id] = True
    return Stop(
        ends=ends,
        closes=torch.tensor([text.endswith("\n") for text in texts]),
        opens=torch.tensor([text.startswith("\n") for text in texts]),
    )


@dataclass(kw_only=True, slots=True)
class Ties:
    """Which prompts had, before they were done, two best logits within `margin` of each other."""

    margin: float = 1e-4
    prompts: set[int] = field(default_factory=set)

    def note(self, logits: Tensor, prompts: Sequence[int]) -> None:
        """Look at the logits (rows x vocabulary) of the next token of some prompts."""
        best = logits.topk(2).values
        near = (best[:, 0] - best[:, 1] <= self.margin).tolist()
        self.prompts.update(prompt for prompt, tie in zip(prompts, near, strict=True) if tie)


@torch.no_grad()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    limits: Sequence[int],
    stop: Stop,
    rows: int = 64,
    ties: Ties | None = None,
) -> list[list[int]]:
    """Greedy continuations, at most `limits[i]` new tokens for prompt i, without the token that stopped it."""
    stop = stop.sized(int(model.config.vocab_size)).to(model.device)
    read = 0 if reads_at_once(model) else _common(prompts)
    shared = _read_prefix(model, prompts[0][:read]) if read else None
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), limits[i]))
    result: dict[int, list[int]] = {}
    for group in _groups(order, [len(prompts[i]) + limits[i] for i in range(len(prompts))], rows):
        own, room = [prompts[i][read:] for i in group], [limits[i] for i in group]
        outputs = _generate(model, own, room, stop, shared, partial(_note, ties, group))
        result.update(zip(group, outputs, strict=True))
    return [result[i] for i in range(len(prompts))]


def _groups(order: Sequence[int], lengths: Sequence[int], rows: int) -> Iterator[list[int]]:
    """At most `rows` prompts at a time, and no more tokens in the cache than `CACHED`; a longer one is alone."""
    group: list[int] = []
    for i in order:
        if group and (len(group) == rows or (len(group) + 1) * max(lengths[j] for j in (*group, i)) > CACHED):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _note(ties: Ties | None, group: Sequence[int], logits: Tensor, rows: Tensor) -> None:
    if ties is not None:
        ties.note(logits, [group[row] for row in rows.tolist()])


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """How many first tokens all prompts share, leaving each at least one of its own."""
    longest = min((len(prompt) for prompt in prompts), default=1) - 1
    first = prompts[0] if prompts else ()
    different = (i for i in range(longest) if any(prompt[i] != first[i] for prompt in prompts))
    return next(different, longest)


def _read_prefix(model: PreTrainedModel, prefix: Sequence[int]) -> DynamicCache:
    cache = roomy_cache(model.config)
    model(input_ids=torch.tensor([list(prefix)], device=model.device), past_key_values=cache, use_cache=True)
    return cache


def _generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    stop: Stop,
    shared: DynamicCache | None,
    note: Callable[[Tensor, Tensor], None],
) -> list[list[int]]:
    ids, mask = _pad_left(prompts, model.device)
    read = 0 if shared is None else shared.get_seq_length()
    cache = roomy_cache(model.config) if shared is None else copy.deepcopy(shared)
    if shared is not None:
        cache.batch_repeat_interleave(len(prompts))
    mask = torch.cat([torch.ones(len(prompts), read, dtype=torch.long, device=model.device), mask], dim=1)
    places = (mask.cumsum(1) - 1).clamp(min=0)[:, read:]
    rooms = torch.tensor(limits, device=model.device)
    alive = torch.arange(len(prompts), device=model.device)
    outputs: list[list[int]] = [[] for _ in prompts]
    previous = ids[:, -1]
    for step in range(max(limits)):
        logits = _next(model, ids, mask, places, cache)
        going = rooms[alive] > step
        note(logits[going], alive[going])
        chosen = logits.argmax(-1)
        done = stop.after(previous, chosen) | (rooms[alive] <= step)
        going = ~done
        for row, token in zip(alive[going].tolist(), chosen[going].tolist(), strict=True):
            outputs[row].append(token)
        rooms[alive[done]] = 0
        if not bool((rooms[alive] > 0).any()):
            break
        previous, ids, places = chosen, chosen.unsqueeze(1), places[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        keep = (rooms[alive] > 0).nonzero().squeeze(1)
        if 2 * len(keep) <= len(alive):
            cache.batch_select_indices(keep)
            previous, ids, places, mask, alive = previous[keep], ids[keep], places[keep], mask[keep], alive[keep]
    return outputs


def _next(model: PreTrainedModel, ids: Tensor, mask: Tensor, places: Tensor, cache: DynamicCache) -> Tensor:
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "position_ids": places}
    logits: Tensor = model(**arguments, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    return logits[:, -1]


def _pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt), dtype=torch.long)
        mask[row, width - len(prompt) :] = 1
    return ids.to(device), mask.to(device)
