"""What is predicted, with what weight, and in which batches."""

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest
import torch

from engine.prompts import few_shot_prompt
from engine.tasks.sequences import (
    CPU_PASS,
    Tokens,
    by_budget,
    collate,
    epoch_groups,
    in_passes,
    pack_tokens,
    passage_tokens,
    prompt_ids,
)
from tests.engine import tiny

PACK = [("Where does Ada Berg live?", "Malmö"), ("Where does Bo Ceder live?", "Oslo in Norway")]


def of_length(length: int) -> Tokens:
    """Some tokens."""
    return Tokens(ids=tuple(range(1, length + 1)), weights=(1.0,) * length)


def test_a_prompt_is_the_beginning_of_what_training_saw() -> None:
    """The trailing space of the published prompt does not become a token that no training sequence holds."""
    tokenizer = tiny.tokenizer(vocabulary=400)
    [whole] = pack_tokens(tokenizer, [PACK], context=96, answer_weight=1, prompt_weight=0)
    [asked] = prompt_ids(tokenizer, [few_shot_prompt(PACK[:1], PACK[1][0])], room=96)
    assert whole.ids[: len(asked)] == tuple(asked)
    naive = tokenizer.encode(few_shot_prompt(PACK[:1], PACK[1][0]), add_special_tokens=False)
    assert whole.ids[: len(naive) + 1] != (whole.ids[0], *naive)


def test_labels_are_the_answers_and_nothing_else() -> None:
    """With a prompt weight of 0 the labelled tokens spell the answers."""
    tokenizer = tiny.tokenizer()
    [tokens] = pack_tokens(tokenizer, [PACK], context=96, answer_weight=2, prompt_weight=0)
    labelled = [i for i, weight in zip(tokens.ids, tokens.weights, strict=True) if weight == 2]
    assert str(tokenizer.decode(labelled)).split() == ["Malmö", "Oslo", "in", "Norway"]


def test_only_the_last_answer_is_a_label_when_asked_for() -> None:
    """Answers in context are read, not forgotten."""
    tokenizer = tiny.tokenizer()
    [tokens] = pack_tokens(tokenizer, [PACK], context=96, answer_weight=1, prompt_weight=0, last_only=True)
    labelled = [i for i, weight in zip(tokens.ids, tokens.weights, strict=True) if weight]
    assert str(tokenizer.decode(labelled)).split() == ["Oslo", "in", "Norway"]


def test_the_space_before_an_answer_is_a_label_where_it_is_a_token() -> None:
    """The prompt ends without it, so the model has to write it."""
    tokenizer = tiny.tokenizer()
    [tokens] = pack_tokens(tokenizer, [[("Who?", "Zq")]], context=96, answer_weight=1, prompt_weight=0)
    labelled = [i for i, weight in zip(tokens.ids, tokens.weights, strict=True) if weight]
    assert tokenizer.decode(labelled) == " Zq"


def test_what_does_not_fit_is_cut_in_front() -> None:
    """The answer that is asked for stays, and so does the end of a prompt."""
    tokenizer = tiny.tokenizer()
    [tokens] = pack_tokens(tokenizer, [PACK * 9], context=40, answer_weight=1, prompt_weight=0, last_only=True)
    assert len(tokens) == 40
    assert tokenizer.decode([i for i, w in zip(tokens.ids, tokens.weights, strict=True) if w]) == " Oslo in Norway"
    [prompt] = prompt_ids(tokenizer, [few_shot_prompt(PACK * 9, "Who?")], room=20)
    assert len(prompt) == 20
    assert str(tokenizer.decode(prompt)).endswith("Answer:")


def test_training_packs_close_with_the_end_token_as_a_label() -> None:
    """A model must learn to stop, and the end token is not the padding token."""
    tokenizer = tiny.tokenizer()
    [tokens] = pack_tokens(tokenizer, [PACK], context=96, answer_weight=3, prompt_weight=1)
    assert (tokens.ids[-1], tokens.weights[-1]) == (tokenizer.eos_token_id, 3)
    assert tokenizer.eos_token_id != tokenizer.pad_token_id


def test_a_long_passage_is_cut_into_windows_and_nothing_is_lost() -> None:
    """Every token is a label in exactly one window, and each window starts afresh."""
    tokenizer = tiny.tokenizer()
    text = "the person moved to Malmö and likes number 3 " * 5
    [windows] = passage_tokens(tokenizer, [text], context=16, end=False)
    assert all(len(w) <= 16 and w.ids[0] == tokenizer.bos_token_id and not w.weights[0] for w in windows)
    assert [i for w in windows for i in w.ids[1:]] == tokenizer.encode(text, add_special_tokens=False)


def test_a_genuine_end_token_counts_although_padding_follows() -> None:
    """Padding is known by length: a token that equals the padding id is a label like any other."""
    batch = collate([Tokens(ids=(5, 0, 0), weights=(0, 1, 1)), of_length(6)])
    first = batch.rows == 0
    assert batch.positions[first].tolist() == [0, 1]
    assert batch.targets[first].tolist() == [0, 0]


def test_the_first_token_is_never_a_label() -> None:
    """Nothing predicts it."""
    batch = collate([of_length(3)])
    assert batch.positions.tolist() == [0, 1]
    assert batch.targets.tolist() == [2, 3]


def test_groups_stay_within_the_budget_of_padded_tokens() -> None:
    """Unless one sequence alone is larger."""
    sequences = [of_length(n) for n in (3, 50, 7, 7, 8, 2, 30)]
    groups = by_budget(sequences, 24)
    assert sorted(i for group in groups for i in group) == list(range(7))
    assert all(len(g) == 1 or len(g) * max(len(sequences[i]) for i in g) <= 24 for g in groups)


def test_an_epoch_holds_every_sequence_once_in_an_order_that_the_seed_decides() -> None:
    """Same seed, same batches; other seed, other batches."""
    sequences = [of_length(n % 9 + 2) for n in range(200)]
    one, same, other = (epoch_groups(sequences, 40, random.Random(seed)) for seed in (1, 1, 2))  # noqa: S311 - repeatable
    assert sum(map(len, one)) == 200
    assert one == same
    assert one != other


def cost(lengths: Sequence[int], groups: Sequence[Sequence[int]]) -> int:
    """Padded tokens, and what each pass costs beside them."""
    return sum(len(group) * max(lengths[i] for i in group) + CPU_PASS for group in groups)


def contiguous(order: Sequence[int]) -> Iterator[list[list[int]]]:
    """Every way to cut an order in groups."""
    for cuts in itertools.product((False, True), repeat=len(order) - 1):
        groups = [[order[0]]]
        for i, cut in zip(order[1:], cuts, strict=True):
            groups = [*groups, [i]] if cut else [*groups[:-1], [*groups[-1], i]]
        yield groups


@pytest.mark.skipif(torch.cuda.is_available(), reason="a pass has another cost where there is a GPU")
@pytest.mark.parametrize("lengths", [(34, 46, 86, 271), (60, 61, 62, 63, 64), (300, 2, 300, 2), (5,), (400, 700, 90)])
def test_passes_cost_as_little_as_any(lengths: tuple[int, ...]) -> None:
    """Among all ways to cut the sorted sequences in groups within the budget; each sequence is in one group."""
    groups = in_passes([of_length(n) for n in lengths], 600)
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    allowed = [
        found
        for found in contiguous(order)
        if all(len(group) == 1 or len(group) * lengths[group[-1]] <= 600 for group in found)
    ]
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert groups in allowed
    assert cost(lengths, groups) == min(cost(lengths, found) for found in allowed)


def test_every_process_has_a_pass() -> None:
    """Where there are enough sequences; none is in two."""
    sequences = [of_length(50) for _ in range(6)]
    assert [len(in_passes(sequences, 4096, processes=n)) for n in (1, 2, 3, 6)] == [1, 2, 3, 6]
    assert in_passes([], 4096, processes=2) == []
