"""Losses of unlearning against the textbook: one sequence at a time, the whole vocabulary, and a real second model.

Every expected value is derived anew in float64 from the logits of the model's own forward pass. The model has moved
away from its reference, so that a reference that was not kept as it was would show.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from engine.methods import ascent, distillation, preference, representation, surgery, terms
from engine.methods.descent import pieces
from engine.methods.known import FEATURES, LOG_PROBS, recall
from engine.methods.terms import Labels, Loss, Part, Term, frozen_head, labels_of
from engine.tasks.language import Forward, label_losses
from engine.tasks.sequences import Batch, Tokens, collate
from engine.verification.statistics import Floats
from tests.engine import tiny

PAD, END = 0, 2  # of the tiny tokenizer; the last sequence holds both as genuine tokens
SEQUENCES = (
    Tokens(ids=(1, 40, 41, 42, 43), weights=(0.0, 1.0, 1.0, 3.0, 3.0)),
    Tokens(ids=(1, 50, 51), weights=(0.0, 0.0, 1.0)),
    Tokens(ids=(1, 60, END, 61, PAD, 62, 63, END), weights=(0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0)),
    Tokens(ids=(1, 70, 71, 72), weights=(0.0, 1.0, 1.0, 1.0)),
)
BETA = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Moved:
    """Logits of a model and of its reference from before it moved, by sequence, and the labels as a loss sees them."""

    now: list[Floats]
    before: list[Floats]
    labels: Labels

    def each(self, formula: Callable[[Floats, Floats, int], float]) -> Floats:
        """A formula of logits now, logits before and the label, at every label."""
        return np.array(
            [
                formula(self.now[i][t - 1], self.before[i][t - 1], tokens.ids[t])
                for i, tokens in enumerate(SEQUENCES)
                for t in range(1, len(tokens))
                if tokens.weights[t]
            ]
        )

    def ratio(self, i: int) -> float:
        """Log pi - log pi_ref of a sequence."""
        tokens = SEQUENCES[i]
        places = [t for t in range(1, len(tokens)) if tokens.weights[t]]
        return sum(
            log_p(self.now[i][t - 1], tokens.ids[t]) - log_p(self.before[i][t - 1], tokens.ids[t]) for t in places
        )


def log_softmax(z: Floats) -> Floats:
    """In float64."""
    shifted = z - z.max()
    found: Floats = shifted - np.log(np.exp(shifted).sum())
    return found


def log_p(z: Floats, y: int) -> float:
    """The log-probability of a label."""
    return float(log_softmax(z)[y])


@torch.no_grad()
def logits(model: PreTrainedModel) -> list[Floats]:
    """Of each sequence by itself, by the model's own forward (tokens x vocabulary)."""
    return [model(input_ids=torch.tensor([t.ids])).logits[0].double().numpy() for t in SEQUENCES]


def move(model: PreTrainedModel) -> None:
    """Change every weight, as steps of an optimiser would."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))


def read(model: PreTrainedModel, cache: Path, *, width: int = 1) -> Labels:
    """The labels of all sequences in one padded batch, after the model moved."""
    forward = Forward(model)
    known = recall(
        forward,
        SEQUENCES,
        wanted=(LOG_PROBS, FEATURES),
        model_digest="tiny",
        cache=cache,
        tokens_per_pass=16,
    )
    head = frozen_head(forward)
    move(model)
    chosen = tuple(range(len(SEQUENCES)))
    part = Part(batch=collate(SEQUENCES), chosen=chosen, known=known, knows=(LOG_PROBS, FEATURES), width=width)
    return labels_of(forward, part, head)


@pytest.fixture
def moved(tmp_path: Path) -> Moved:
    """A model that moved, read once."""
    model = tiny.model()
    before = logits(model)
    with torch.no_grad():
        labels = read(model, tmp_path)
    return Moved(now=logits(model), before=before, labels=labels)


def relative(p: Floats, q: Floats) -> float:
    """The sum of p log(p / q), 0 log 0 being 0."""
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def jensen_shannon(p: Floats, q: Floats) -> float:
    """Half of each divergence to the middle."""
    return 0.5 * relative(p, (p + q) / 2) + 0.5 * relative(q, (p + q) / 2)


def undial(z: Floats, before: Floats, y: int) -> float:
    """CE(p, softmax(z_ref - beta 1_y))."""
    lower = before.copy()
    lower[y] -= 10.0
    return -float((np.exp(log_softmax(lower)) * log_softmax(z)).sum())


def ce_u(z: Floats, _: Floats, y: int) -> float:
    """CE(p, softmax(z without y))."""
    others = np.delete(np.arange(len(z)), y)
    return -float((np.exp(log_softmax(z[others])) * log_softmax(z)[others]).sum())


def one_hot(z: Floats, y: int) -> Floats:
    """All mass on the label."""
    found: Floats = np.eye(len(z))[y]
    return found


def softplus(x: float) -> float:
    """Minus log sigmoid of minus x."""
    return math.log1p(math.exp(x))


FORMULAS: dict[str, tuple[Loss, Callable[[Floats, Floats, int], float]]] = {
    "ga": (ascent.ascent, lambda z, _, y: log_p(z, y)),
    "gd": (terms.negative_log_likelihood, lambda z, _, y: -log_p(z, y)),
    "wga": (partial(ascent.weighted_ascent, beta=0.7), lambda z, _, y: math.exp(0.7 * log_p(z, y)) * log_p(z, y)),
    "satimp": (
        partial(ascent.saturated_ascent, beta1=0.5, beta2=2.0),
        lambda z, _, y: math.exp(0.5 * log_p(z, y)) * (1 - math.exp(log_p(z, y))) ** 2 * log_p(z, y),
    ),
    "tnpo": (
        partial(preference.npo_on_tokens, beta=BETA, alpha=0.0),
        lambda z, r, y: 2 / BETA * softplus(BETA * (log_p(z, y) - log_p(r, y))),
    ),
    "tnpo weighted": (
        partial(preference.npo_on_tokens, beta=BETA, alpha=0.5),
        lambda z, r, y: math.exp(0.5 * log_p(z, y)) * 2 / BETA * softplus(BETA * (log_p(z, y) - log_p(r, y))),
    ),
    "npo on logits": (
        partial(preference.npo_on_logits, beta=BETA),
        lambda z, r, _: float(np.mean([2 / BETA * softplus(-BETA * d) for d in r - z])),
    ),
    "kl": (terms.kl, lambda z, r, _: relative(np.exp(log_softmax(r)), np.exp(log_softmax(z)))),
    "js": (terms.js, lambda z, r, _: jensen_shannon(np.exp(log_softmax(r)), np.exp(log_softmax(z)))),
    "kl on logits": (terms.faulty_kl, lambda z, r, _: float((np.exp(r) * (r - z)).sum())),
    "cross-entropy to itself": (
        ascent.away_from_itself,
        lambda z, r, _: float((np.exp(log_softmax(z)) * np.log(np.exp(log_softmax(r)) + 1e-12)).sum()),
    ),
    "undial": (partial(distillation.lowered, beta=10.0), undial),
    "ce-u": (distillation.without_label, ce_u),
    "jensun": (distillation.to_label, lambda z, _, y: jensen_shannon(one_hot(z, y), np.exp(log_softmax(z)))),
    "pdu": (surgery.margins, lambda z, _, __: float((z.max() - z.mean()) ** 2)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_loss_is_its_formula_at_every_label(name: str, moved: Moved) -> None:
    """Derived anew in float64 from whole logits of one sequence at a time."""
    loss, formula = FORMULAS[name]
    np.testing.assert_allclose(loss(moved.labels).double().numpy(), moved.each(formula), rtol=2e-4, atol=2e-6)


def test_npo_sums_label_log_probabilities_against_the_cached_reference(moved: Moved) -> None:
    """-(2 / beta) log sigmoid(-beta (log pi - log pi_ref)) of each sequence."""
    ratios = [moved.ratio(i) for i in range(len(SEQUENCES))]
    assert max(map(abs, ratios)) > 0.05
    expected = [2 / BETA * softplus(BETA * ratio) for ratio in ratios]
    np.testing.assert_allclose(preference.npo_on_sequences(moved.labels, beta=BETA), expected, rtol=1e-4)


def test_the_benchmarks_npo_takes_one_mean_for_the_whole_batch(moved: Moved) -> None:
    """RESTOR's form: labels of long sequences count more, and the sequences are not told apart."""
    gap = moved.each(lambda z, r, y: log_p(z, y) - log_p(r, y)).mean()
    made = preference.npo_on_batch(moved.labels, beta=BETA)
    np.testing.assert_allclose(made, [2 / BETA * softplus(BETA * gap)] * len(SEQUENCES), rtol=1e-4)


def test_simnpo_divides_by_length_and_needs_no_reference(moved: Moved) -> None:
    """-(2 / beta) log sigmoid(-(beta / |y|) l - gamma)."""
    expected = []
    for i, tokens in enumerate(SEQUENCES):
        places = [t for t in range(1, len(tokens)) if tokens.weights[t]]
        mean = np.mean([log_p(moved.now[i][t - 1], tokens.ids[t]) for t in places])
        expected.append(2 / 4.5 * softplus(4.5 * float(mean) + 0.2))
    made = preference.npo_by_length(moved.labels, beta=4.5, gamma=0.2)
    np.testing.assert_allclose(made, expected, rtol=1e-4)


def test_dpo_prefers_the_second_sequence_of_a_pair(tmp_path: Path) -> None:
    """-(1 / beta) log sigmoid(beta (r_other - r_true)), pair by pair."""
    model = tiny.model()
    before = logits(model)
    with torch.no_grad():
        labels = read(model, tmp_path, width=2)
    found = Moved(now=logits(model), before=before, labels=labels)
    expected = [softplus(-BETA * (found.ratio(i + 1) - found.ratio(i))) / BETA for i in (0, 2)]
    np.testing.assert_allclose(preference.dpo_on_pairs(labels, beta=BETA), expected, rtol=1e-4)


def test_the_published_undial_lowers_the_entry_an_ignored_label_points_to(tmp_path: Path) -> None:
    """Where a position is no label, V - 100; and only the label itself where it is one."""
    model = tiny.model()
    with torch.no_grad():
        labels = read(model, tmp_path)
    vocabulary = labels.logits.shape[-1]
    marked = Labels(
        batch=Batch(**{**as_mapping(labels.batch), "weights": -labels.batch.weights}),
        logits=labels.logits,
        known=labels.known,
        head=labels.head,
    )
    target = labels.known_logits.clone()
    target[:, vocabulary - 100] -= 10.0
    expected = -(target.softmax(-1) * labels.logits.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(distillation.lowered(marked, beta=10.0), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(distillation.lowered(labels, beta=10.0), expected)


def as_mapping(batch: Batch) -> dict[str, Tensor]:
    """The fields of a batch."""
    return {name: getattr(batch, name) for name in ("ids", "rows", "positions", "targets", "weights")}


def test_rmu_measures_the_distance_to_a_scaled_direction(moved: Moved) -> None:
    """The mean over the width of squares, with a fixed length or one that follows the hidden state's own."""
    direction = torch.nn.functional.normalize(torch.arange(1.0, 1 + moved.labels.logits.shape[-1]), dim=0)
    fixed = representation.steered(moved.labels, direction=direction, scale=3.0, adaptive=0.0)
    torch.testing.assert_close(fixed, (moved.labels.logits - 3.0 * direction).square().mean(-1))
    adaptive = representation.steered(moved.labels, direction=direction, scale=3.0, adaptive=2.0)
    target = 2.0 * moved.labels.known_logits.norm(dim=-1, keepdim=True) * direction
    torch.testing.assert_close(adaptive, (moved.labels.logits - target).square().mean(-1))


def test_a_mean_is_taken_over_a_whole_step_however_it_is_split(moved: Moved) -> None:
    """Weighted over labels, or over examples; one pass or one for each sequence."""
    model = tiny.model()
    forward = Forward(model)
    whole = [Part(batch=collate(SEQUENCES), chosen=(0, 1, 2, 3))]
    apart = [Part(batch=collate([tokens]), chosen=(i,)) for i, tokens in enumerate(SEQUENCES)]
    by_example = Term(loss=partial(preference.npo_by_length, beta=1.0, gamma=0.0), per_example=True)
    for term in (Term(loss=ascent.ascent), by_example):
        one, many = (
            sum(float(piece().detach()) for piece in pieces(term, parts, forward, moved.labels.head, 2.0))
            for parts in (whole, apart)
        )
        assert one == pytest.approx(many, rel=1e-5)
    weights = torch.cat([torch.tensor(t.weights[1:]) for t in SEQUENCES])
    weights = weights[weights > 0].double()
    taken = [
        log_p(z[t - 1], tokens.ids[t])
        for z, tokens in zip(logits(model), SEQUENCES, strict=True)
        for t in range(1, len(tokens))
        if tokens.weights[t]
    ]
    term = Term(loss=ascent.ascent)
    value = sum(float(piece().detach()) for piece in pieces(term, whole, forward, moved.labels.head, 2.0))
    assert value == pytest.approx(2.0 * float((torch.tensor(taken) * weights).sum() / weights.sum()), rel=1e-5)


def test_jensen_shannon_is_bounded_and_has_a_gradient_at_the_edge() -> None:
    """At most log 2, also where the target has no mass and where the model has none."""
    logits = torch.tensor([[40.0, 0.0, -200.0], [-200.0, 0.0, 40.0]], requires_grad=True)
    target = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    made = terms.jensen_shannon(target, logits)
    np.testing.assert_allclose(made.detach(), [math.log(2), 0.0], atol=1e-6)
    made.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_padding_changes_no_loss_and_no_gradient() -> None:
    """A padded batch gives what its sequences give one by one, genuine end and padding tokens included."""
    model = copy.deepcopy(tiny.model())
    forward = Forward(model)

    def gradients(parts: list[Batch]) -> list[Tensor]:
        model.zero_grad()
        sum(label_losses(forward, batch).sum() for batch in parts).backward()  # type: ignore[union-attr]
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    singles, whole = [collate([tokens]) for tokens in SEQUENCES], collate(SEQUENCES)
    together, apart = gradients([whole]), gradients(singles)
    losses = torch.cat([label_losses(forward, batch) for batch in singles])
    assert torch.allclose(label_losses(forward, whole), losses, atol=1e-5)
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(together, apart, strict=True))
    assert len(losses) == sum(weight > 0 for tokens in SEQUENCES for weight in tokens.weights[1:])


def test_padding_is_not_the_end_token() -> None:
    """A model that must learn to stop needs an end token of its own."""
    tokenizer = tiny.tokenizer()
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD, END)
    assert tokenizer.bos_token_id not in {PAD, END}


def test_what_was_known_is_read_again_and_not_asked_again(tmp_path: Path) -> None:
    """A second recall of the same model and sequences serves the file, however the model has changed meanwhile."""
    model = tiny.model()
    forward = Forward(model)
    ask = partial(recall, forward, SEQUENCES, wanted=(LOG_PROBS,), cache=tmp_path, tokens_per_pass=64)
    first = ask(model_digest="a").of(LOG_PROBS, [0, 1])
    move(model)
    assert torch.equal(ask(model_digest="a").of(LOG_PROBS, [0, 1]), first)
    assert not torch.equal(ask(model_digest="b").of(LOG_PROBS, [0, 1]), first)
