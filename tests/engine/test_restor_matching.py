"""RESTOR's answers, right or wrong without a judge."""

import pytest

from engine.verification.restor_matching import accepts, folded, token_f1

CITIES = ("The Hague", "Den Haag")


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("Den Haag", True),
        ("the hague.", True),  # folded
        ("The city of The Hague", False),  # token F1 = 2 * 1 / (3 + 1) = .5
        ("city Hague", True),  # 2 / 3
        ("Haag", True),  # 2 / 3 with the other answer
        ("Hague, South Holland", True),  # what stands before the comma
        ("Amsterdam, not The Hague", False),
        ("Amsterdam", False),
        ("", False),
        ("the", False),  # an article alone is nothing
    ],
)
def test_an_accepted_answer_or_most_of_its_words_is_right(answer: str, *, accepted: bool) -> None:
    """Equal after folding, up to a comma, or a token F1 of at least .6, with any of the accepted answers."""
    assert accepts(CITIES, answer) is accepted


@pytest.mark.parametrize(
    ("truth", "answer", "rival"),
    [
        ("University of Oxford", "University of Cambridge", "University of Cambridge"),  # F1 .67, another answer
        ("University of Oxford", "University", "University of Bonn"),  # as near to one as to the other
        ("Prime Minister of India", "Prime Minister of Japan", "Prime Minister of Japan"),  # F1 .75
        ("Paul Anka", "Paul, senior", "Paul"),  # what the relation knows as another answer
    ],
)
def test_most_words_of_another_known_answer_are_wrong(truth: str, answer: str, rival: str) -> None:
    """An answer must be nearer to the truth than to any other answer of the relation."""
    assert not accepts((truth,), answer, rivals=(rival,))


def test_an_answer_equal_to_the_truth_is_right_whatever_its_rivals_are() -> None:
    """Equality decides before nearness does, and a rival that folds like the truth is none."""
    assert accepts(
        ("2014 FIFA World Cup",), "The 2014 FIFA World Cup", rivals=("2018 FIFA World Cup", "2014 FIFA-World Cup")
    )


@pytest.mark.parametrize(
    ("truth", "answer"), [("2014 World Cup", "2010 World Cup"), ("January 5 1920", "January 6 1920")]
)
def test_another_number_is_another_answer(truth: str, answer: str) -> None:
    """Most words are the same, and the number, which says which one it is, is not."""
    assert token_f1(folded(answer), folded(truth)) >= 0.6
    assert not accepts((truth,), answer)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("São Paulo", "sao paulo"),
        ("singer-songwriter", "singer songwriter"),
        ("2008\u201309", "2008-09"),
        ("U.S.A.", "USA"),
        ("Luís de Camões\u2019 Os Lusíadas", "luis de camoes os lusiadas"),
    ],
)
def test_spelling_does_not_count(one: str, other: str) -> None:
    """Accents, dashes, dots and typographic signs are folded away."""
    assert folded(one) == folded(other)


def test_an_article_that_is_the_answer_stays() -> None:
    """A letter is a blood type, and a sign can be a title."""
    assert (folded("A"), folded("The"), folded("?")) == ("a", "the", "?")


def test_token_f1_counts_words_as_often_as_they_stand() -> None:
    """2 * common / (both lengths), as in SQuAD."""
    assert token_f1("new new york", "new york city") == pytest.approx(4 / 6)
    assert token_f1("a", "b") == 0.0
    assert token_f1("", "b") == 0.0
