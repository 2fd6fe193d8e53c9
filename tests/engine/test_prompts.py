"""The published strings, to the letter."""

import random

import pytest

from engine.prompts import cut_answer, few_shot_prompt, packs, question_prompt


def test_the_prompt_is_the_published_one_with_its_trailing_space() -> None:
    """MUSE asks `Question: ...` and leaves a space after `Answer:`."""
    assert question_prompt("Who?") == "Question: Who?\nAnswer: "


def test_examples_in_context_are_joined_as_published() -> None:
    """Each example ends in an empty line."""
    prompt = few_shot_prompt([("A?", "a"), ("B?", "b")], "C?")
    assert prompt == "Question: A?\nAnswer: a\n\nQuestion: B?\nAnswer: b\n\nQuestion: C?\nAnswer: "


@pytest.mark.parametrize(
    ("generated", "answer"),
    [
        (" Paris", "Paris"),
        (" Paris\n\nQuestion: Who?", "Paris"),
        (" Paris\nQuestion: Who?", "Paris"),
        (" Paris Question: Who?", "Paris"),
        (" Paris\nFrance", "Paris\nFrance"),
        ("\n\nParis", ""),
    ],
)
def test_an_answer_is_cut_as_published(generated: str, answer: str) -> None:
    """At an empty line, then at the next question."""
    assert cut_answer(generated) == answer


def test_packs_hold_every_question_once() -> None:
    """Packs of at most four questions, none lost and none repeated."""
    items = [(f"q{i}", f"a{i}") for i in range(50)]
    packed = packs(items, random.Random(1))  # noqa: S311 - repeatable
    assert sorted(pair for pack in packed for pair in pack) == sorted(items)
    assert {len(pack) for pack in packed} == {1, 2, 4}
