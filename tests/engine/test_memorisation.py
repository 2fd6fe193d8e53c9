"""Extraction strength and exact memorisation: golden cases, and what greedy generation has to do with them."""

import math

import numpy as np
import pytest
import torch

from engine.tasks.generation import Stop, generate
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import Tokens
from engine.verification.memorisation import exact_memorisation, extraction_strength
from tests.engine import tiny


@pytest.mark.parametrize(
    ("hits", "strength", "exact"),
    [
        ("1111", 1.0, 1.0),  # k = 0: all of it from the question alone
        ("0111", 0.75, 0.75),
        ("1011", 0.5, 0.75),  # the suffix counts, not the hits before it
        ("1110", 0.0, 0.75),  # 1/L in the published code, which never reaches k = L
        ("0000", 0.0, 0.0),
        ("1", 1.0, 1.0),
        ("0", 0.0, 0.0),
    ],
)
def test_extraction_strength_is_the_share_of_the_suffix_that_is_known(hits: str, strength: float, exact: float) -> None:
    """1 - k / L with the smallest k from which every label is the likeliest; worked out by hand."""
    marks = np.array([mark == "1" for mark in hits])
    assert extraction_strength(marks) == strength
    assert exact_memorisation(marks) == exact


def test_a_text_without_labels_has_no_score() -> None:
    """NaN ends as no finding; 0 would say that nothing is left."""
    assert math.isnan(extraction_strength(np.zeros(0, dtype=bool)))
    assert math.isnan(exact_memorisation(np.zeros(0, dtype=bool)))


def test_what_is_extracted_is_what_greedy_generation_writes() -> None:
    """A model's own continuation has strength 1; another token in its middle leaves what comes after it at most."""
    model, prompt = tiny.model(seed=3), [1, 40, 41, 42]
    none = torch.zeros(model.config.vocab_size, dtype=torch.bool)
    [written] = generate(model, [prompt], limits=[8], stop=Stop(ends=none, closes=none, opens=none))
    wrong = [*written[:3], (written[3] + 1) % 300, *written[4:]]
    texts = [Tokens(ids=(*prompt, *text), weights=(0.0,) * 4 + (1.0,) * 8) for text in (written, wrong)]
    own, other = token_scores(Forward(model), texts, tokens_per_batch=64)
    assert (extraction_strength(own.hits), exact_memorisation(own.hits)) == (1.0, 1.0)
    assert extraction_strength(other.hits) <= 0.5
