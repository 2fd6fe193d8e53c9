"""Losses and statistics against the plain way of computing them."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from engine.tasks.language import Forward, label_features, token_scores, weighted_loss
from engine.tasks.sequences import Tokens, collate, pack_tokens, passage_tokens
from tests.engine import tiny


def sequences() -> list[Tokens]:
    """A few sequences of different lengths and weights."""
    tokenizer = tiny.tokenizer()
    texts = passage_tokens(tokenizer, ["the person", "the person moved to Malmö", "a note"], context=96, end=True)
    packed = pack_tokens(tokenizer, [[("Where?", "Oslo")]], context=96, answer_weight=3, prompt_weight=1)
    return [*(tokens for text in texts for tokens in text), *packed]


def log_probs(model: LlamaForCausalLM, tokens: Tokens) -> Tensor:
    """The log-probabilities of every token but the first, one sequence at a time, by the model's own forward."""
    ids = torch.tensor([tokens.ids])
    return functional.log_softmax(model(input_ids=ids).logits[0, :-1].detach(), dim=-1)


class Capped(LlamaForCausalLM):
    """A model whose logits are more than head times features."""

    def forward(self, *arguments: object, **named: object) -> CausalLMOutputWithPast:
        """The model's own logits, capped."""
        out: CausalLMOutputWithPast = super().forward(*arguments, **named)
        assert out.logits is not None
        out.logits = 2 * torch.tanh(out.logits * 3)
        return out


def test_one_pass_gives_what_single_passes_give() -> None:
    """Batching, padding and applying the head to labels alone change no statistic of any token."""
    model = tiny.model()
    made = token_scores(Forward(model), sequences(), tokens_per_batch=64)
    for tokens, scores in zip(sequences(), made, strict=True):
        all_p = log_probs(model, tokens).double()
        targets = torch.tensor(tokens.ids[1:])
        true = all_p.gather(1, targets[:, None])[:, 0].numpy()
        mean = (all_p.exp() * all_p).sum(-1)
        deviation = ((all_p.exp() * all_p**2).sum(-1) - mean**2).sqrt()
        np.testing.assert_allclose(scores.log_probs, true, atol=1e-5)
        np.testing.assert_allclose(scores.means, mean.numpy(), atol=1e-5)
        np.testing.assert_allclose(scores.deviations, deviation.numpy(), atol=1e-4)
        assert scores.hits.tolist() == (all_p.argmax(-1) == targets).tolist()


def test_the_loss_is_the_weighted_mean_over_labels() -> None:
    """Answers weigh three times as much as the rest."""
    model, made = tiny.model(), sequences()
    total = weight = 0.0
    for tokens in made:
        losses = -log_probs(model, tokens).gather(1, torch.tensor(tokens.ids[1:])[:, None])[:, 0]
        weights = torch.tensor(tokens.weights[1:])
        total += float((losses * weights).sum())
        weight += float(weights.sum())
    assert abs(weighted_loss(Forward(model), collate(made)).item() - total / weight) < 1e-5


def test_a_model_that_caps_its_logits_is_recognised_and_scored_by_its_own_forward() -> None:
    """Taking such a model apart would give other log-probabilities than it has."""
    plain = tiny.model()
    capped = Capped(plain.config)
    capped.load_state_dict(plain.state_dict())
    capped.train(mode=False)
    [tokens] = sequences()[1:2]
    expected = log_probs(capped, tokens).gather(1, torch.tensor(tokens.ids[1:])[:, None])[:, 0]
    [scores] = token_scores(Forward(capped), [tokens], tokens_per_batch=64)
    np.testing.assert_allclose(scores.log_probs, expected.numpy(), atol=1e-5)


def test_cached_features_keep_the_logits_of_the_reference() -> None:
    """They are a function of the head as it was, not as it has become."""
    model, batch = tiny.model(), collate(sequences())
    forward = Forward(model)
    features = label_features(forward, batch).detach()
    before, head = forward.logits(features).detach().clone(), forward.frozen_head()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert torch.equal(head.logits(features), before)
