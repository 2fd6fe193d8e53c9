"""The pure parts of the attacks against numbers worked out by hand or again in float64."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from engine.verification.attacks.prefill import score
from engine.verification.attacks.probe import beginning, fitted, picked
from engine.verification.attacks.relearning import areas, merged, preset
from engine.verification.attacks.rounding import round_weights, rounded
from engine.verification.attacks.subject import NOT_ASKED, Scores, placed
from tests.engine import tiny


def test_rounding_to_four_bits_has_fifteen_levels_scaled_by_the_largest_weight() -> None:
    """7 levels to each side: a row with the largest weight 7 is rounded to whole numbers, ties to even."""
    weight = torch.tensor([[7.0, 0.6, -1.4, 2.5, -6.51], [0.7, 0.06, -0.14, 0.0, -0.651]])
    expected = torch.tensor([[7.0, 1.0, -1.0, 2.0, -7.0], [0.7, 0.1, -0.1, 0.0, -0.7]])
    assert torch.allclose(rounded(weight, 4), expected, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_rounding_is_to_the_nearest_level_of_each_channel(bits: int) -> None:
    """Every level is tried in float64; and no weight moves by more than half a step."""
    torch.manual_seed(0)
    weight = torch.randn(6, 40)
    levels = 2 ** (bits - 1) - 1
    for row, given in zip(rounded(weight, bits).double().numpy(), weight.double().numpy(), strict=True):
        grid = np.abs(given).max() / levels * np.arange(-levels, levels + 1)
        nearest = grid[np.abs(given[:, None] - grid[None, :]).argmin(axis=1)]
        assert np.allclose(row, nearest, atol=1e-6)
        assert np.abs(row - given).max() <= np.abs(given).max() / levels / 2 + 1e-6


def test_a_channel_of_zeros_stays_zero() -> None:
    """Nothing is divided by its largest weight."""
    assert torch.equal(rounded(torch.zeros(2, 3), 8), torch.zeros(2, 3))


def test_only_linear_layers_are_rounded_and_not_the_head() -> None:
    """Embedding, head and norms keep their bits, as in the usual loaders."""
    model = tiny.model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert round_weights(model, 4) == 7
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name, m in before.items() if "proj" in name}


def test_layers_that_hold_their_matrix_the_other_way_round_are_rounded_by_output_too() -> None:
    """GPT-2's: the output channels are the columns."""
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=20, n_positions=16))
    weight = model.get_parameter("transformer.h.0.mlp.c_fc.weight")
    before = weight.detach().clone()
    assert round_weights(model, 4) == 4
    linear = nn.Linear(8, 32)
    with torch.no_grad():
        linear.weight.copy_(before.T)
    assert torch.allclose(weight, rounded(linear.weight, 4).T)


def test_the_area_is_the_mean_height_of_the_curve() -> None:
    """Trapezia over steps 0, 1 and 5: (0.5 + 4 * 0.75) / 5, and a missing point leaves none."""
    curve = [(0.0, 0.2), (1.0, 0.2), (0.5, NOT_ASKED)]
    whole, missing = areas([0, 1, 5], curve)
    assert whole == pytest.approx(0.7)
    assert missing == NOT_ASKED
    assert areas([0, 50], [(0.25,), (0.25,)]) == (0.25,)


def test_two_halves_make_one_curve() -> None:
    """Each item has its number from the half that asked it."""
    one: Scores = {"knowmem_f": (0.5, NOT_ASKED)}
    other: Scores = {"knowmem_f": (NOT_ASKED, 0.0)}
    assert merged([[one], [other]]) == [{"knowmem_f": (0.5, 0.0)}]
    assert merged([]) == []


def test_numbers_stand_at_the_places_of_their_items() -> None:
    """The others say that they were not asked."""
    assert placed([2, 0], [0.1, 0.2], 4) == (0.2, NOT_ASKED, 0.1, NOT_ASKED)


def test_larger_models_relearn_at_a_lower_rate() -> None:
    """By the root of the number of parameters, from 3e-4 at a million."""
    assert preset(1_000_000) == pytest.approx(3e-4)
    assert preset(100_000_000) == pytest.approx(3e-5)


def test_a_rest_without_a_word_counts_when_it_is_exact() -> None:
    """ROUGE sees none in the end of a word."""
    assert score("\u00f6", "\u00f6") == 1.0
    assert score("\u00f6", "\u00e4") == 0.0
    assert score("of Oslo", "in Oslo") == pytest.approx(0.5)


def test_a_tie_shares_the_point_so_that_guessing_scores_chance() -> None:
    """Alone best: 1. One of two: 1/2. Beaten: 0. All alike: chance."""
    assert picked(np.array([2.0, 1.0, 0.0])) == 1.0
    assert picked(np.array([2.0, 2.0, 0.0])) == 0.5
    assert picked(np.array([1.0, 2.0, 0.0])) == 0.0
    assert picked(np.zeros(5)) == 0.2


def test_a_beginning_that_all_answers_share_leaves_each_a_token() -> None:
    """Up to the first place where they differ, and never a whole answer."""
    assert beginning([[1, 2, 3], [1, 2, 4], [1, 2, 5, 6]]) == 2
    assert beginning([[1, 2, 3], [1, 2]]) == 1
    assert beginning([[1], [2]]) == 0


def test_a_probe_finds_the_direction_in_which_true_answers_stand_out() -> None:
    """One feature of twenty tells; the probe answers new questions by it, and by chance where nothing tells."""
    rng = np.random.default_rng(0)

    def questions(count: int, *, tells: float) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
        made = [rng.normal(size=(4, 20)) for _ in range(count)]
        for one in made:
            one[0, 3] += tells
        return made

    for tells, low, high in ((6.0, 0.95, 1.0), (0.0, 0.15, 0.35)):
        weights = fitted(questions(60, tells=tells))
        right = np.mean([picked(one @ weights) for one in questions(300, tells=tells)])
        assert low <= right <= high
