"""Generic labels against a float64 re-derivation, the two rules of consistency, and blocks."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from engine.methods.generic import Base, Block, Relabelled, blocks, generic_labels, generic_logits, relabelled
from engine.methods.known import FEATURES, recall
from engine.methods.translation import Dictionary
from engine.tasks.language import Forward
from tests.engine import tiny

DICTIONARY = Dictionary({"Ada Berg": "Jon Moe", "Malmö": "Town"})
TEXT = "Ada Berg lives in Malmö. In Malmö they know Ada Berg, and Bo Ceder knows ADA BERG."


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, so that `ö` is two tokens when it has to be."""
    return tiny.tokenizer()


def read(tokenizer: PreTrainedTokenizerFast, block: Block, place: int, translated: int) -> tuple[str, str]:
    """What has been read at a place, in the block and in its translation."""
    first, second = block.ids[: place + 1], block.translated[: translated + 1]
    return (
        str(tokenizer.decode(list(first), skip_special_tokens=True)),
        str(tokenizer.decode(list(second), skip_special_tokens=True)),
    )


def test_generic_logits_are_the_published_formula() -> None:
    """v_base - alpha relu(v_reinforced - v_base), less the reduction where a substitute would contradict the text."""
    rng = np.random.default_rng(0)
    base, reinforced = rng.normal(size=(2, 3, 5))
    expected = base - 5.0 * np.maximum(reinforced - base, 0.0)
    expected[1, 2] -= 7.0
    expected[1, 4] -= 7.0
    reduced = [frozenset[int](), frozenset({2, 4}), frozenset[int]()]
    made = generic_logits(torch.tensor(base), torch.tensor(reinforced), reduced, alpha=5.0, reduction=7.0)
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-12)


def test_a_label_stands_where_both_models_have_read_the_same(tokenizer: PreTrainedTokenizerFast) -> None:
    """At every place outside a term, what the one has read is the translation of what the other has read."""
    [block] = blocks(tokenizer, [TEXT], DICTIONARY, size=96, context=200)
    terms = [match.span() for match in re.finditer("ada berg|malmö", TEXT, re.IGNORECASE)]
    checked = set()
    for place, other in block.places:
        here, there = read(tokenizer, block, place, other)
        within = any(start < len(here) < end for start, end in terms) or "\ufffd" in here  # a term, or a character
        if not within:
            assert there == DICTIONARY.translate(here).target
            checked.add(len(here))
    assert {0, len("Ada Berg"), TEXT.index(" In"), TEXT.index(" they")} <= checked
    for column in zip(*block.places, strict=True):
        assert list(column) == sorted(set(column))


def test_what_follows_a_first_occurrence_has_no_label_where_the_term_is_said_again(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Rule (a): a first occurrence is predicted, its repeats are not, also in another case; all else is."""
    [block] = blocks(tokenizer, [TEXT], DICTIONARY, size=96, context=200)
    spans = tokenizer(TEXT, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    places = {place for place, _ in block.places}
    predicted = {i for start, end in (spans[p] for p in range(len(spans)) if p in places) for i in range(start, end)}
    repeats = ["Malmö they", "Ada Berg,", "ADA BERG"]
    assert not predicted & {i for one in repeats for i in range(TEXT.index(one), TEXT.index(one) + 4)}
    assert set(range(TEXT.index(" they"), TEXT.index(" Ada Berg,"))) <= predicted
    assert TEXT.index("Malmö.") in predicted


def test_substitutes_are_reduced_from_the_end_of_the_first_occurrence_on(tokenizer: PreTrainedTokenizerFast) -> None:
    """Rule (b): not before the term was read whole, and never the tokens with which the term itself begins."""
    [block] = blocks(tokenizer, [TEXT], DICTIONARY, size=96, context=200)
    jon, ada = ({tokenizer(word, add_special_tokens=False)["input_ids"][0]} for word in ("Jon", "Ada"))
    for (place, _), reduced in zip(block.places, block.reduced, strict=True):
        here = str(tokenizer.decode(list(block.ids[: place + 1]), skip_special_tokens=True))
        assert (jon <= reduced) == (len(here) >= len("Ada Berg"))
        assert not ada & reduced


def test_labels_are_the_likeliest_tokens_of_both_models(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Place by place, from two models that read everything again, in float64."""
    base, reinforced = tiny.model(seed=1), tiny.model(seed=2)
    chosen = blocks(tokenizer, [TEXT, "Bo Ceder lives in Oslo."], DICTIONARY, size=96, context=200)
    forward = Forward(base)
    counterparts = [block.counterpart() for block in chosen]
    known = recall(forward, counterparts, wanted=(FEATURES,), model_digest="a", cache=tmp_path, tokens_per_pass=64)
    told = Base(head=forward.frozen_head(), known=known, alpha=5.0, reduction=3.0)
    made = generic_labels(Forward(reinforced), chosen, told, budget=64)
    for block, labels in zip(chosen, made, strict=True):
        with torch.no_grad():
            v_base = base(torch.tensor([block.translated])).logits[0].double().numpy()
            v_reinforced = reinforced(torch.tensor([block.ids])).logits[0].double().numpy()
        for (place, other), reduced, label in zip(block.places, block.reduced, labels.labels, strict=True):
            generic = v_base[other] - 5.0 * np.maximum(v_reinforced[place] - v_base[other], 0.0)
            generic[sorted(reduced)] -= 3.0
            assert generic[label] > generic.max() - 1e-4
            assert labels.weights[place + 1] == 1.0


def test_blocks_end_at_word_borders_and_hold_the_whole_text(tokenizer: PreTrainedTokenizerFast) -> None:
    """No term is cut in two, no token is lost, and none is longer than was asked."""
    text = " ".join([TEXT] * 4)
    made = blocks(tokenizer, [text], DICTIONARY, size=24, context=96)
    start = tokenizer.bos_token_id
    assert all(block.ids[0] == start and block.translated[0] == start for block in made)
    assert [token for block in made for token in block.ids[1:]] == tokenizer(text, add_special_tokens=False)[
        "input_ids"
    ]
    assert max(len(block.ids) for block in made) <= 24
    words = [str(tokenizer.decode(list(block.ids[1:]))).split() for block in made]
    assert [word for part in words for word in part] == text.split()
    assert sum(block.terms for block in made) == text.upper().count("ADA BERG") + text.count("Malmö")


def test_a_translation_that_is_too_long_loses_its_end_and_no_more(tokenizer: PreTrainedTokenizerFast) -> None:
    """A position whose counterpart does not fit the context gets no label."""
    wordy = Dictionary({"Bo": "x " * 40})
    [block] = blocks(tokenizer, ["In Oslo Bo ate."], wordy, size=40, context=30)
    assert len(block.counterpart()) <= 30
    assert 0 < len(block.places) < len(block.ids) - 1


def test_a_batch_is_trained_on_its_labels_and_not_on_its_tokens() -> None:
    """Row after row, at the places with a weight."""
    rows = [
        Relabelled(ids=(5, 6, 7), weights=(0.0, 1.0, 1.0), labels=(60, 70)),
        Relabelled(ids=(5, 6, 7, 8), weights=(0.0, 0.0, 1.0, 0.0), labels=(71,)),
    ]
    batch = relabelled(rows)
    assert (batch.rows.tolist(), batch.positions.tolist()) == ([0, 0, 1], [0, 1, 1])
    assert batch.targets.tolist() == [60, 70, 71]
