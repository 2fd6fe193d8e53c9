"""What is forwarded together: equal results, fewer tokens, and no sharing with models that cannot."""

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from engine import guards
from engine.tasks.language import Forward, TokenScores, token_scores
from engine.tasks.packing import alone, batches, distinct, together
from engine.tasks.sequences import Tokens
from tests.engine import tiny

SHARED = tuple(range(40, 60))


def tokens(*ids: int, labels: int | None = None) -> Tokens:
    """A sequence with its last tokens as labels; without a number, all of them."""
    wanted = len(ids) if labels is None else labels
    return Tokens(ids=ids, weights=(0.0,) * (len(ids) - wanted) + (1.0,) * wanted)


def family() -> list[Tokens]:
    """Answers to two questions that begin alike, one answer that goes on where another ends, and a loner."""
    return [
        tokens(*SHARED, 70, 71, labels=2),
        tokens(*SHARED, 70, 71, 72, 73, labels=4),
        tokens(*SHARED, 80, labels=1),
        tokens(*SHARED, 61, 62, 63, 64, 65, 66, 67, 68, 70, 71, labels=2),
        tokens(*SHARED, 61, 62, 63, 64, 65, 66, 67, 68, 90, labels=1),
        tokens(5, 6, 7, 8),
    ]


def single(model: PreTrainedModel, sequence: Tokens) -> list[float]:
    """The log-probability of each label in float64, one sequence at a time."""
    logits = model(input_ids=torch.tensor([sequence.ids])).logits[0].detach().double().log_softmax(-1)
    return [float(logits[i - 1, sequence.ids[i]]) for i in range(1, len(sequence)) if sequence.weights[i]]


def scored(model: PreTrainedModel, sequences: list[Tokens], budget: int = 200) -> list[TokenScores]:
    """The scores of one pass."""
    return token_scores(Forward(model), sequences, tokens_per_batch=budget)


def test_sequences_that_share_a_beginning_get_what_they_get_alone() -> None:
    """To 1e-5 in every log-probability, whatever they share."""
    model = tiny.model()
    assert any(len(row.members) > 3 for row in together([one.ids for one in family()]))
    for sequence, scores in zip(family(), scored(model, family()), strict=True):
        np.testing.assert_allclose(scores.log_probs, single(model, sequence), atol=1e-5)


def test_a_beginning_is_forwarded_once() -> None:
    """Seven answers to one question are the question and seven answers."""
    answers = [(*SHARED, 100 + i, 110 + i) for i in range(7)]
    [row] = together(answers)
    assert (row.shared, row.length) == (len(SHARED), len(SHARED) + 14)


def test_a_row_does_not_outgrow_its_room() -> None:
    """Attention grows with the square of a row."""
    rows = together([(*SHARED, 100 + i, 110 + i) for i in range(20)], room=40)
    assert all(row.length <= 40 for row in rows)
    assert sorted(member for row in rows for member in row.members) == list(range(20))


def test_what_is_asked_twice_is_forwarded_once_and_what_follows_the_last_label_never() -> None:
    """Two askers of one text get their own labels of it."""
    text = (*SHARED, 70, 71, 72)
    asked = [tokens(*text), Tokens(ids=text, weights=(0.0,) * 21 + (1.0, 0.0)), tokens(*text, labels=1)]
    found = distinct(asked)
    assert found.ids == (text, text[:-1])
    whole, middle, last = scored(tiny.model(), asked)
    assert middle.log_probs.tolist() == pytest.approx(whole.log_probs[-2:-1].tolist(), abs=1e-5)
    assert last.log_probs.tolist() == whole.log_probs[-1:].tolist()


def test_a_guarded_model_is_asked_one_prompt_a_row() -> None:
    """What precedes the first label is the prompt that a guard acts on, so texts with other labels are not merged."""
    model = tiny.model()
    guards.mark(model, object())
    assert not Forward(model).shares(30)
    text = (*SHARED, 70)
    assert len(distinct([tokens(*text), tokens(*text, labels=1)], by_labels=True).ids) == 2


def test_batches_stay_within_their_budget_of_padded_tokens() -> None:
    """A row that is longer than the budget is alone."""
    rows = alone([range(n) for n in (3, 50, 7, 4, 120, 8)])
    for group in batches(rows, 100):
        assert len(group) == 1 or len(group) * max(row.length for row in group) <= 100


def test_a_sequence_without_labels_has_no_scores() -> None:
    """And costs no forward pass."""
    none, one = scored(tiny.model(), [tokens(1, 2, 3, labels=0), tokens(1, 2)])
    assert (len(none.log_probs), len(one.log_probs)) == (0, 1)


def test_means_and_deviations_are_made_where_they_are_wanted() -> None:
    """Elsewhere they are NaN and not a number that looks like one."""
    wide, narrow = token_scores(
        Forward(tiny.model()), [tokens(1, 2, 3), tokens(4, 5, 6)], tokens_per_batch=64, spread=[True, False]
    )
    assert np.isfinite(wide.deviations).all()
    assert np.isnan(narrow.means).all()
    assert np.isfinite(narrow.log_probs).all()


class Deaf(LlamaForCausalLM):
    """A model that does as if it had been given no mask."""

    def forward(self, *arguments: object, **named: object) -> CausalLMOutputWithPast:
        """Plain causal attention."""
        named.pop("attention_mask", None)
        out: CausalLMOutputWithPast = super().forward(*arguments, **named)
        assert out.logits is not None
        out.logits = out.logits * 2
        return out


def test_a_model_that_ignores_the_mask_is_found_out() -> None:
    """It is read one sequence a row, with its own logits."""
    plain = tiny.model()
    deaf = Deaf(plain.config)
    deaf.load_state_dict(plain.state_dict())
    deaf.train(mode=False)
    assert not Forward(deaf).shares(30)
    for sequence, scores in zip(family(), scored(deaf, family()), strict=True):
        np.testing.assert_allclose(scores.log_probs, single(deaf, sequence), atol=1e-5)


def test_models_of_other_families_get_the_same_too() -> None:
    """Absolute positions (GPT-2), eager attention, and a sliding window that a text leaves."""
    torch.manual_seed(0)
    absolute = GPT2Config(vocab_size=120, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    window = MistralConfig(
        vocab_size=120,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=16,
    )
    eager = GPT2LMHeadModel(absolute)
    eager.set_attn_implementation("eager")
    models: list[PreTrainedModel] = [GPT2LMHeadModel(absolute), eager, MistralForCausalLM(window)]
    assert [Forward(model.eval()).shares(30) for model in models] == [True, True, False]
    for model in models:
        for sequence, scores in zip(family(), scored(model, family()), strict=True):
            np.testing.assert_allclose(scores.log_probs, single(model, sequence), atol=1e-5)
