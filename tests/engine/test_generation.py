"""Batched greedy generation against one token at a time."""

import copy

import pytest
import torch
from transformers import DynamicCache, LlamaForCausalLM

from engine.tasks.caching import roomy_cache
from engine.tasks.generation import Stop, Ties, generate, stop_at_blank_line, stop_at_end, stop_at_line
from tests.engine import tiny

PREFIX = [1, 40, 41, 42, 43, 44]
PROMPTS = [[*PREFIX, 50], [*PREFIX, 60, 61, 62, 63], [*PREFIX, 70, 71], [*PREFIX, 80, 81, 82, 83, 84, 85]]


def never(size: int) -> Stop:
    """A rule that stops nothing."""
    none = torch.zeros(size, dtype=torch.bool)
    return Stop(ends=none, closes=none, opens=none)


def one_by_one(model: LlamaForCausalLM, prompt: list[int], limit: int, ends: set[int]) -> list[int]:
    """Greedy generation that forwards everything again for every token."""
    ids = list(prompt)
    for _ in range(limit):
        token = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token in ends:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize("prompts", [PROMPTS, [prompt[3 + i :] for i, prompt in enumerate(PROMPTS)], PROMPTS[:1]])
def test_batches_caches_and_shared_prefixes_change_no_token(prompts: list[list[int]]) -> None:
    """With and without a common beginning, whatever the lengths."""
    model = tiny.model(seed=3)
    limits = [4, 9, 1, 6][: len(prompts)]
    expected = [one_by_one(model, p, limit, set()) for p, limit in zip(prompts, limits, strict=True)]
    assert generate(model, prompts, limits=limits, stop=never(model.config.vocab_size), rows=3) == expected


def test_a_row_stops_by_token_id_and_the_others_go_on() -> None:
    """The token that stops a row is not part of it."""
    model = tiny.model(seed=3)
    free = [one_by_one(model, prompt, 8, set()) for prompt in PROMPTS]
    end = free[1][4]
    stop = never(model.config.vocab_size)
    stop.ends[end] = True
    expected = [one_by_one(model, prompt, 8, {end}) for prompt in PROMPTS]
    assert generate(model, PROMPTS, limits=[8] * 4, stop=stop) == expected


def test_an_empty_line_stops_within_one_token_and_across_two() -> None:
    """Where the published rule cuts an answer, generation ends; a single line break does not end it."""
    tokenizer = tiny.tokenizer()
    stop = stop_at_blank_line(tokenizer)
    [line], [word] = tokenizer.encode("\n"), tokenizer.encode("a")
    ids = torch.tensor([line, word])
    assert stop.after(ids[[0]], ids[[0]]).all()
    assert not stop.after(ids[[1]], ids[[0]]).any()
    assert not stop.after(ids[[0]], ids[[1]]).any()


def test_the_other_rules_stop_at_the_end_token_and_at_a_line_break() -> None:
    """VerbMem runs to the end of the text, RESTOR's answers to the end of the line."""
    tokenizer = tiny.tokenizer()
    [line] = torch.tensor([tokenizer.encode("\n")])
    end = torch.tensor([tokenizer.eos_token_id])
    assert stop_at_end(tokenizer).after(line, end).all()
    assert not stop_at_end(tokenizer).after(line, line).any()
    assert stop_at_line(tokenizer).after(end, line).all()


def test_a_cache_with_room_holds_what_the_librarys_holds() -> None:
    """Whatever is appended, repeated and selected; a copy is a cache of its own."""
    config, made = tiny.model().config, torch.Generator().manual_seed(0)
    plain, roomy = DynamicCache(config=config), roomy_cache(config)
    kept = roomy

    def append(rows: int, length: int) -> None:
        keys, values = torch.randn(2, rows, 2, length, 8, generator=made)
        for one, other in zip(plain.update(keys, values, 0), roomy.update(keys, values, 0), strict=True):
            assert torch.equal(one, other)

    append(1, 5)
    roomy = copy.deepcopy(roomy)
    for cache in (plain, roomy):
        cache.batch_repeat_interleave(4)
    for length in (3, 1, 1, 100, 1):
        append(4, length)
    for cache in (plain, roomy):
        cache.batch_select_indices(torch.tensor([0, 3]))
    append(2, 1)
    append(2, 1)
    assert (roomy.get_seq_length(), kept.get_seq_length()) == (113, 5)


def test_rows_whose_best_logits_were_near_are_found() -> None:
    """Those and no others, for a margin between the smallest gaps of two rows; rows that are done are not looked at."""
    model, limits = tiny.model(seed=3), [4, 9, 1, 6]
    smallest = []
    for prompt, limit in zip(PROMPTS, limits, strict=True):
        ids, gaps = list(prompt), []
        for _ in range(limit):
            best = model(input_ids=torch.tensor([ids])).logits[0, -1].detach().topk(2)
            gaps.append(float(best.values[0] - best.values[1]))
            ids.append(int(best.indices[0]))
        smallest.append(min(gaps))
    order = sorted(range(4), key=lambda i: smallest[i])
    ties = Ties(margin=(smallest[order[1]] + smallest[order[2]]) / 2)
    generate(model, PROMPTS, limits=limits, stop=never(model.config.vocab_size), ties=ties)
    assert ties.prompts == set(order[:2])


def test_a_vocabulary_that_is_larger_than_the_tokenizers_stops_nothing() -> None:
    """Models pad their embeddings; what the padding says is a token like another."""
    model = tiny.model(seed=3)
    assert generate(model, PROMPTS, limits=[8] * 4, stop=never(50)) == generate(
        model, PROMPTS, limits=[8] * 4, stop=never(model.config.vocab_size)
    )


def test_nothing_asked_is_nothing_generated() -> None:
    """An empty list of prompts is no error."""
    model = tiny.model()
    assert generate(model, [], limits=[], stop=never(model.config.vocab_size)) == []
