"""GA and NPO against numbers worked out by hand, and on a model."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.catalogue import check_options
from engine.errors import EngineError
from engine.methods import Setting, descent
from engine.methods.descent import divergences, ga, npo, preference_losses
from engine.methods.refit import refit
from engine.options import FitOptions
from engine.tasks.language import Forward, token_scores
from engine.tasks.sequences import Tokens, passage_tokens
from tests.engine import tiny

QUICK = {"steps": 3, "forget_batch": 2, "retain_batch": 4}


def setting(method: str, **options: object) -> Setting[Any]:
    """The tiny model, asked to forget two of six people."""
    return Setting(
        model=tiny.model(),
        tokenizer=tiny.tokenizer(),
        forget=tiny.records(range(2)),
        retain=tiny.records(range(2, 6)),
        options=check_options("unlearn", method, {**QUICK, **options}),
        seed=1,
        progress=tiny.quiet,
    )


def loss_on(given: Setting[Any], people: Sequence[int]) -> float:
    """The mean loss on some people's passages."""
    texts = [record.text for record in tiny.records(people) if record.text]
    windows = passage_tokens(given.tokenizer, texts, context=96, end=False)
    flat: list[Tokens] = [tokens for text in windows for tokens in text]
    scores = token_scores(Forward(given.model), flat, tokens_per_batch=512)
    return -float(np.concatenate([score.log_probs for score in scores]).mean())


def weights(given: Setting[Any]) -> Tensor:
    """All weights in one vector."""
    return torch.cat([p.detach().flatten() for p in given.model.parameters()])


def test_npo_is_the_published_formula() -> None:
    """-(2 / beta) log sigmoid(-beta r): log 2 times 2 / beta at the start, and bounded from below by 0."""
    made = preference_losses(torch.tensor([0.0, 3.0, -200.0]), 0.1)
    expected = [20 * math.log(2), 20 * math.log(1 + math.exp(0.3)), 20 * math.log(1 + math.exp(-20.0))]
    np.testing.assert_allclose(made.numpy(), expected, rtol=1e-4)


def test_npo_pulls_less_on_what_is_forgotten_already() -> None:
    """Its gradient is GA's times 2 p^b / (p^b + p_ref^b), which is 1 at the start and goes to 0."""
    ratios = torch.tensor([0.0, -10.0, -60.0], requires_grad=True)
    preference_losses(ratios, 0.1).sum().backward()
    assert ratios.grad is not None
    expected = [2 / (1 + math.exp(-0.1 * r)) for r in (0.0, -10.0, -60.0)]
    np.testing.assert_allclose(ratios.grad.numpy(), expected, rtol=1e-4)


def test_the_divergence_is_from_the_reference_to_the_model() -> None:
    """KL(p_ref || p) of two small distributions, worked out by hand, and 0 for the same one."""
    p, q = [0.5, 0.25, 0.25], [0.25, 0.5, 0.25]
    expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    made = divergences(torch.tensor([p, p]).log() + 3, torch.tensor([q, p]).log())
    np.testing.assert_allclose(made.numpy(), [expected, 0], atol=1e-6)


@pytest.mark.parametrize("term", ["none", "gd", "kl"])
def test_the_first_loss_of_npo_is_known_in_advance(term: str) -> None:
    """At the start the model is its reference, so the ratio is 0 and the divergence is 0."""
    given = setting("npo", retain_term=term, steps=1, retain_weight=2.0)
    whole = npo(given).first_loss
    forget_only = 20 * math.log(2)
    if term == "gd":
        assert whole > forget_only + 2
    else:
        assert whole == pytest.approx(forget_only, rel=1e-4)


def test_the_first_loss_of_ga_is_minus_the_loss_on_the_forget_set() -> None:
    """With every forget sequence in the batch and no question asked in context."""
    given = setting("ga", steps=1, forget_batch=99, context_pairs=0)
    sequences = descent.forget_tokens(given, 0)
    scores = token_scores(Forward(given.model), sequences, tokens_per_batch=512)
    expected = float(np.concatenate([score.log_probs for score in scores]).mean())
    assert ga(given).first_loss == pytest.approx(expected, rel=1e-4)


def test_the_forget_set_is_passages_and_answers_alone_and_in_context() -> None:
    """Two passages, two questions, and the same two after two retain questions, with the answer as label."""
    given = setting("npo")
    made = descent.forget_tokens(given, 2)
    assert len(made) == 6
    labelled = [str(given.tokenizer.decode([i for i, w in zip(t.ids, t.weights, strict=True) if w])) for t in made]
    assert [text.strip() for text in labelled[2:]] == ["Malmö", "Oslo", "Malmö", "Oslo"]
    assert all(len(long) > 1.5 * len(short) for short, long in zip(made[2:4], made[4:], strict=True))


def test_taking_a_step_apart_does_not_change_it() -> None:
    """One backward pass over everything and one for every few sequences end at the same weights."""
    whole = setting("npo", retain_term="kl")
    npo(whole)
    apart = setting("npo", retain_term="kl")
    budget = descent.TOKENS_PER_PASS
    descent.TOKENS_PER_PASS = 1
    try:
        npo(apart)
    finally:
        descent.TOKENS_PER_PASS = budget
    assert (weights(whole) - weights(apart)).abs().max() < 1e-4


@pytest.mark.parametrize(("method", "options"), [("ga", {}), ("npo", {}), ("npo", {"retain_term": "kl"})])
def test_forgetting_raises_the_loss_on_the_forgotten(method: str, options: dict[str, Any]) -> None:
    """On people the model knew, and more than on those it is to keep."""
    given = setting(method, steps=12, learning_rate=3e-3, **options)
    learner: Setting[FitOptions] = Setting(
        model=given.model,
        tokenizer=given.tokenizer,
        forget=(),
        retain=tiny.records(range(6)),
        options=FitOptions(epochs=10),
        seed=1,
        progress=tiny.quiet,
    )
    refit(learner)
    before = loss_on(given, range(2)), loss_on(given, range(2, 6))
    (ga if method == "ga" else npo)(given)
    after = loss_on(given, range(2)), loss_on(given, range(2, 6))
    assert after[0] - before[0] > 0.2
    assert after[0] - before[0] > after[1] - before[1]


@pytest.mark.parametrize(("missing", "words"), [("forget", "no records to forget"), ("retain", "needs retain records")])
def test_a_method_without_its_records_is_refused(missing: str, words: str) -> None:
    """Before anything is trained."""
    given = setting("npo")
    empty: Setting[Any] = Setting(
        model=given.model,
        tokenizer=given.tokenizer,
        forget=() if missing == "forget" else given.forget,
        retain=() if missing == "retain" else given.retain,
        options=given.options,
        seed=1,
        progress=tiny.quiet,
    )
    with pytest.raises(EngineError, match=words):
        npo(empty)
