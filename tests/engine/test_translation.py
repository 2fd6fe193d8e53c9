"""Terms replaced and positions mapped, on sentences short enough to check by eye."""

import itertools
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.methods.translation import Dictionary, Translation, aligned, overlapping

POTTER = Dictionary({"Harry Potter": "Jon Smith", "Harry": "Jon", "Potter": "Smith", "Hogwarts": "Mystic Academy"})


def tokens(text: str) -> list[tuple[int, int]]:
    """Words with the space in front of them, and single punctuation marks: how byte-level tokenizers cut text."""
    return [match.span() for match in re.finditer(r" ?\w+|[^\w ]| +", text)]


def pairs(translation: Translation) -> list[tuple[str, str | None]]:
    """Each token of the source with its counterpart, as texts."""
    source, target = tokens(translation.source), tokens(translation.target)
    found = aligned(translation, source, target)
    return [
        (translation.source[s:e], None if j is None else translation.target[slice(*target[j])])
        for (s, e), j in zip(source, found, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Harry Potter and Harry.", "Jon Smith and Jon."),  # the longest that starts there
        ("HARRY POTTER, harry potter, Harry\n Potter", "JON SMITH, jon smith, Jon Smith"),
        ("Harryson and Potters live in Hogwartsville", "Harryson and Potters live in Hogwartsville"),
        ("Harry's owl, the Potters' owl, Hogwarts' owls", "Jon's owl, the Potters' owl, Mystic Academy's owls"),
        ("'the towers of Hogwarts' he said", "'the towers of Mystic Academy's he said"),
        ("'Hogwarts' he said", "'Mystic Academy' he said"),
    ],
)
def test_terms_are_replaced_in_their_case_and_at_word_borders(text: str, expected: str) -> None:
    """Longest first, possessives kept; the last but one line shows what cannot be told: a quotation that ends in s."""
    assert POTTER.translate(text).target == expected


def test_the_leftmost_of_overlapping_terms_wins() -> None:
    """`Potter Estate` begins within `Harry Potter`, which was read first."""
    both = Dictionary({"Harry Potter": "Jon Smith", "Potter Estate": "Big House"})
    assert both.translate("Harry Potter Estate and Potter Estate").target == "Jon Smith Estate and Big House"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("term", ["Malmö", unicodedata.normalize("NFD", "Malmö")])
def test_both_forms_of_an_accent_are_one_term(term: str, form: str) -> None:
    """However the dictionary and the text write it; and `Malmo` is not found in a decomposed `Malmö`."""
    text = unicodedata.normalize(form, "In Malmö, in MALMÖ")  # type: ignore[arg-type]
    assert Dictionary({term: "Town"}).translate(text).target == "In Town, in TOWN"
    assert Dictionary({"Malmo": "Town"}).translate(text).target == text


def test_a_term_of_several_tokens_maps_to_the_tokens_of_its_substitute() -> None:
    """After `Harry` the reader of the translation has read `Jon`, after the term the whole substitute."""
    assert pairs(POTTER.translate("So Harry Potter ran")) == [
        ("So", "So"),
        (" Harry", " Jon"),
        (" Potter", " Smith"),
        (" ran", " ran"),
    ]


def test_tokens_to_spare_on_either_side_have_no_counterpart() -> None:
    """A longer substitute is entered and left at its ends; a longer term is not trained in its middle."""
    assert pairs(POTTER.translate("at Hogwarts he")) == [("at", "at"), (" Hogwarts", " Academy"), (" he", " he")]
    long = Dictionary({"Bo van der Ek": "Jo"})
    assert pairs(long.translate("hi Bo van der Ek.")) == [
        ("hi", "hi"),
        (" Bo", None),
        (" van", None),
        (" der", None),
        (" Ek", " Jo"),
        (".", "."),
    ]


def test_a_token_that_ends_within_a_token_of_the_translation_has_no_counterpart() -> None:
    """The two texts were cut differently, and nothing is guessed."""
    translation = POTTER.translate("an owl")
    assert aligned(translation, [(0, 1), (1, 2), (2, 6)], [(0, 2), (2, 6)]) == [None, 0, 1]


def test_a_character_spread_over_tokens_is_aligned_token_by_token() -> None:
    """Outside a term the bytes are the same; at the end of a term only the whole character counts."""
    outside = POTTER.translate("\u00e9!")
    assert aligned(outside, [(0, 1), (0, 1), (1, 2)], [(0, 1), (0, 1), (1, 2)]) == [0, 1, 2]
    ending = Dictionary({"B\u00e9": "J\u00f6"}).translate("B\u00e9!")
    spans = [(0, 1), (1, 2), (1, 2), (2, 3)]
    assert aligned(ending, spans, spans) == [0, None, 2, 3]


def test_first_and_repeated_occurrences_are_told_apart_by_term() -> None:
    """In another case it is the same term; a shorter term is another one."""
    found = POTTER.translate("Harry Potter, HARRY POTTER, Harry, harry")
    cut = [found.source[slice(*one.source)] for one in found.firsts()]
    assert cut == ["Harry Potter", "Harry"]
    assert [found.source[slice(*one.source)] for one in found.repeats()] == ["HARRY POTTER", "harry"]


def test_a_token_overlaps_a_span_when_they_share_a_character() -> None:
    """The space in front belongs to the token; touching is not sharing."""
    assert overlapping([(0, 2), (2, 8), (8, 9)], [(3, 8)]) == [False, True, False]
    assert overlapping([(0, 2)], []) == [False]


@given(
    st.lists(st.sampled_from(["Harry", " ", "Potter", "Hogwarts", "owl", "'s", ".", "\n", "\u00e9", "s'"]), max_size=12)
)
def test_borders_outside_terms_map_exactly_and_in_order(words: list[str]) -> None:
    """Both texts agree character by character between the terms, and every substitute stands where it is said to."""
    found = POTTER.translate("".join(words))
    borders = [found.border(i) for i in range(len(found.source) + 1)]
    known = [place for place in borders if place is not None]
    assert known == sorted(known)
    assert (borders[0], borders[-1]) == (0, len(found.target))
    for i, (here, there) in enumerate(itertools.pairwise(borders)):
        if here is not None and there is not None and there - here == 1 and not _in_a_term(found, i):
            assert found.source[i] == found.target[here]
    for one in found.occurrences:
        assert borders[one.source[1]] == one.target[1]
        assert found.target[slice(*one.target)].split("'")[0] in {"Jon Smith", "Jon", "Smith", "Mystic Academy"}


def _in_a_term(found: Translation, place: int) -> bool:
    return any(one.source[0] <= place < one.source[1] for one in found.occurrences)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({}, "is empty"),
        ({" ": "x"}, "empty term"),
        ({"Ada": " "}, "empty term or substitute"),
        ({"Ada": "x", "ADA": "y"}, "a term twice"),
        ({"Ada": "ada"}, "by itself"),
    ],
)
def test_a_dictionary_that_says_nothing_is_refused(terms: dict[str, str], words: str) -> None:
    """In one sentence, without a word of it."""
    with pytest.raises(EngineError, match=words) as caught:
        Dictionary(terms)
    assert caught.value.code == "bad_data"
    assert "ada" not in caught.value.message.lower()
