"""Losses of unlearning against the textbook: one sequence at a time, the whole vocabulary, and a real second model.

The model has moved away from its reference, so that a reference that was not kept as it was would show.
"""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from engine.methods.descent import Part, Term, ascent_term, divergence_term, likelihood_term, preference_term
from engine.tasks.language import Forward, label_features, label_losses, summed_log_probs
from engine.tasks.sequences import Batch, Tokens, collate
from tests.engine import tiny

PAD, END = 0, 2  # of the tiny tokenizer; the last sequence holds both as genuine tokens
SEQUENCES = (
    Tokens(ids=(1, 40, 41, 42, 43), weights=(0.0, 1.0, 1.0, 3.0, 3.0)),
    Tokens(ids=(1, 50, 51), weights=(0.0, 0.0, 1.0)),
    Tokens(ids=(1, 60, END, 61, PAD, 62, 63, END), weights=(0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0)),
)
BETA = 0.3


@torch.no_grad()
def log_probs(model: PreTrainedModel, tokens: Tokens) -> Tensor:
    """Log-probabilities (tokens - 1 x vocabulary) of one sequence by the model's own forward, in float64."""
    ids = torch.tensor([tokens.ids])
    logits: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    return functional.log_softmax(logits[0, :-1].double(), dim=-1)


def label_log_probs(model: PreTrainedModel, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """Log-probabilities and weights of the tokens that are labels."""
    weights = torch.tensor(tokens.weights[1:]).double()
    taken = log_probs(model, tokens).gather(1, torch.tensor(tokens.ids[1:]).unsqueeze(1)).squeeze(1)
    return taken[weights > 0], weights[weights > 0]


@pytest.fixture
def moved() -> tuple[PreTrainedModel, PreTrainedModel, Part]:
    """A model, its reference from before it moved, and a batch with what was kept of the reference."""
    reference = tiny.model()
    model = copy.deepcopy(reference)
    batch: Batch = collate(SEQUENCES)
    forward = Forward(model)
    with torch.no_grad():
        part = Part(
            batch=batch,
            log_probs=summed_log_probs(label_losses(forward, batch), batch),
            features=label_features(forward, batch),
        )
    return model, reference, part


def move(model: PreTrainedModel) -> None:
    """Change every weight, as steps of an optimiser would."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))


@torch.no_grad()
def total(term: Term, part: Part) -> float:
    """The value of a term on a part, before it is divided by its count."""
    return float(term.total(part))


def test_npo_sums_label_log_probabilities_against_the_cached_reference(
    moved: tuple[PreTrainedModel, PreTrainedModel, Part],
) -> None:
    """-(2 / beta) log sigmoid(-beta (log pi - log pi_ref)) of each sequence, and their mean."""
    model, reference, part = moved
    term = preference_term(Forward(model), BETA)
    move(model)
    ratios = [
        label_log_probs(model, tokens)[0].sum() - label_log_probs(reference, tokens)[0].sum() for tokens in SEQUENCES
    ]
    expected = [-(2 / BETA) * functional.logsigmoid(-BETA * ratio) for ratio in ratios]
    assert max(abs(float(ratio)) for ratio in ratios) > 0.05
    assert term.count([part]) == 3
    assert total(term, part) == pytest.approx(float(sum(expected)), rel=1e-4)


def test_ga_is_minus_the_mean_cross_entropy_of_labels(moved: tuple[PreTrainedModel, PreTrainedModel, Part]) -> None:
    """Weighted by label, over the whole step, with padding left out."""
    model, _, part = moved
    move(model)
    found = [label_log_probs(model, tokens) for tokens in SEQUENCES]
    taken, weights = (torch.cat(values) for values in zip(*found, strict=True))
    expected = float((taken * weights).sum() / weights.sum())
    term = ascent_term(Forward(model))
    assert term.count([part]) == pytest.approx(float(weights.sum()))
    assert total(term, part) / term.count([part]) == pytest.approx(expected, rel=1e-5)


def test_the_gd_term_is_the_ordinary_loss(moved: tuple[PreTrainedModel, PreTrainedModel, Part]) -> None:
    """The very opposite of ascent on the same batch."""
    model, _, part = moved
    forward = Forward(model)
    assert total(likelihood_term(forward), part) == -total(ascent_term(forward), part)
    assert likelihood_term(forward).count([part]) == ascent_term(forward).count([part])


def test_the_kl_term_is_that_of_two_real_models(moved: tuple[PreTrainedModel, PreTrainedModel, Part]) -> None:
    """KL(p_ref || p) over the whole vocabulary at each label, although no second model is kept."""
    model, reference, part = moved
    term = divergence_term(Forward(model))
    move(model)
    expected = 0.0
    for tokens in SEQUENCES:
        before, now = log_probs(reference, tokens), log_probs(model, tokens)
        each = functional.kl_div(now, before, log_target=True, reduction="none").sum(-1)
        expected += float((each * torch.tensor(tokens.weights[1:])).sum())
    assert expected > 0.05
    assert total(term, part) == pytest.approx(expected, rel=1e-3)


def test_equal_models_do_not_diverge(moved: tuple[PreTrainedModel, PreTrainedModel, Part]) -> None:
    """Before the first step the KL is 0 and NPO is log 2 times 2 / beta."""
    model, _, part = moved
    forward = Forward(model)
    assert total(divergence_term(forward), part) == pytest.approx(0.0, abs=1e-5)
    assert total(preference_term(forward, BETA), part) == pytest.approx(3 * (2 / BETA) * 0.693147, rel=1e-4)


def test_padding_changes_no_loss_and_no_gradient(moved: tuple[PreTrainedModel, PreTrainedModel, Part]) -> None:
    """A padded batch gives what its sequences give one by one, genuine end and padding tokens included."""
    model, _, part = moved
    forward = Forward(model)

    def gradients(parts: list[Batch]) -> list[Tensor]:
        model.zero_grad()
        sum(label_losses(forward, batch).sum() for batch in parts).backward()  # type: ignore[union-attr]
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    singles = [collate([tokens]) for tokens in SEQUENCES]
    together, apart = gradients([part.batch]), gradients(singles)
    losses = torch.cat([label_losses(forward, batch) for batch in singles])
    assert torch.allclose(label_losses(forward, part.batch), losses, atol=1e-5)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(together, apart, strict=True))
    assert len(losses) == sum(weight > 0 for tokens in SEQUENCES for weight in tokens.weights[1:])


def test_padding_is_not_the_end_token() -> None:
    """A model that must learn to stop needs an end token of its own."""
    tokenizer = tiny.tokenizer()
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD, END)
    assert tokenizer.bos_token_id not in {PAD, END}


def test_a_term_without_what_it_needs_is_a_fault() -> None:
    """A part that was planned without its reference stops instead of counting as 0."""
    part = Part(batch=collate(SEQUENCES))
    forward = Forward(tiny.model())
    with pytest.raises(ValueError, match="planned without"):
        preference_term(forward, BETA).total(part)
    with pytest.raises(ValueError, match="planned without"):
        divergence_term(forward).total(part)
