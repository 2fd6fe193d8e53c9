"""What counts as a right answer."""

import pytest

from engine.verification.items import Question
from engine.verification.measure import is_correct


@pytest.mark.parametrize(("truth", "given"), [("A", "a"), ("+", "+"), ("the Hague", "Hague.")])
def test_an_answer_that_says_the_same_is_right(truth: str, given: str) -> None:
    """Case, articles and punctuation do not count, unless nothing else is there."""
    assert is_correct(Question(unit="u", question="Which?", answers=(truth,)), given)


@pytest.mark.parametrize(("truth", "given"), [("A", ""), ("A", "the"), ("+", "-"), ("Hague", "")])
def test_an_answer_that_says_nothing_is_wrong(truth: str, given: str) -> None:
    """Normalising never makes a true answer equal to no answer at all."""
    assert not is_correct(Question(unit="u", question="Which?", answers=(truth,)), given)
