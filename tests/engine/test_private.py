"""The DP step against the slow and obvious way of computing it."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import LlamaForCausalLM

from engine.catalogue import check_options
from engine.errors import EngineError
from engine.guarantees.learned import Learned, unigram_loss
from engine.guarantees.mechanism import Mechanism
from engine.methods import Setting, secret
from engine.methods.private import clipped_sum, hooked, private_gradient, train_base
from engine.methods.private_text import Rows, Text, unit_rows
from engine.tasks.language import Forward, label_losses
from engine.tasks.sequences import collate
from tests.engine import tiny

SECRET = bytes(range(32))
CLIP = 0.7


def mechanism(**changes: Any) -> Mechanism:  # noqa: ANN401 - any field
    """Settings of a mechanism."""
    return Mechanism(**{"sample_rate": 0.5, "noise_multiplier": 1.5, "steps": 4, "clip": CLIP, "units": 6, **changes})


def people(context: int = 96) -> list[Rows]:
    """Everything of six people; with a small context they fill several rows each."""
    return unit_rows(tiny.tokenizer(), tiny.records(range(6)), context, 3.0)


def true_gradient(model: LlamaForCausalLM, rows: Rows) -> list[Tensor]:
    """The gradient of one unit's weighted mean loss, by an ordinary backward pass."""
    model.zero_grad()
    batches = [collate([row]) for row in rows]
    losses = [(label_losses(Forward(model), batch) * batch.weights).sum() for batch in batches]
    total = torch.stack(losses).sum() / sum(batch.weights.sum() for batch in batches)
    total.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def clipped(gradient: Sequence[Tensor], clip: float) -> list[Tensor]:
    """One unit's gradient, scaled to norm `clip` when it is larger."""
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradient))
    return [g * min(1.0, clip / norm) for g in gradient]


def gap(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """The largest difference between two lists of tensors."""
    return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("context", [96, 24])
@pytest.mark.parametrize("clip", [CLIP, 1e3])
def test_the_sum_is_that_of_each_persons_clipped_gradient(context: int, clip: float) -> None:
    """Also when a person fills several rows: these are added up before they are clipped."""
    model, units = tiny.model(), people(context)
    assert (max(map(len, units)) > 1) == (context == 24)
    single = [clipped(true_gradient(model, rows), clip) for rows in units]
    expected = [torch.stack(tensors).sum(0) for tensors in zip(*single, strict=True)]
    model.zero_grad()
    model.train()
    with hooked(model):
        made = clipped_sum(Text(model, units), Accelerator(), units, clip, rows_per_pass=64)
    assert gap(made, expected) < 2e-5


def test_questions_that_do_not_fit_one_row_fill_several() -> None:
    """Every answer stands in the rows of its person, as it does where there is room for all of them."""
    mine = [dataclasses.replace(record, unit="one") for record in tiny.records(range(6)) if record.question]
    roomy, tight = (unit_rows(tiny.tokenizer(), mine, context, 3.0) for context in (1000, 48))
    answers = [sum(weight == 3.0 for row in rows[0] for weight in row.weights) for rows in (roomy, tight)]
    assert len(tight[0]) > len(roomy[0])
    assert answers[1] >= answers[0]


def test_how_many_rows_a_pass_holds_changes_nothing() -> None:
    """Memory is bounded by it and the result is not."""
    model, units = tiny.model(), people(24)
    model.train()
    with hooked(model):
        made = [clipped_sum(Text(model, units), Accelerator(), units, CLIP, rows_per_pass=rows) for rows in (1, 5, 64)]
    assert gap(made[0], made[1]) < 2e-5
    assert gap(made[0], made[2]) < 2e-5


def test_one_person_moves_the_sum_by_no_more_than_the_clip() -> None:
    """The sensitivity that the noise is calibrated to."""
    model, units = tiny.model(), people()
    model.train()
    with hooked(model):
        with_all = clipped_sum(Text(model, units), Accelerator(), units, CLIP, rows_per_pass=64)
        without = clipped_sum(Text(model, units), Accelerator(), units[1:], CLIP, rows_per_pass=64)
    norm = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(with_all, without, strict=True)))
    assert norm <= CLIP * (1 + 1e-4)
    assert norm > 0.9 * CLIP


def test_a_step_is_the_sum_of_those_who_joined_plus_the_noise_of_the_round() -> None:
    """In units of the noise, so that no number of people enters the step."""
    model, units, settings = tiny.model(), people(), mechanism()
    mask = secret.joins(SECRET, round_=2, units=6, sample_rate=0.5)
    single = [clipped(true_gradient(model, rows), CLIP) for rows, joins in zip(units, mask, strict=True) if joins]
    model.zero_grad()
    model.train()
    with hooked(model):
        gradient = private_gradient(Text(model, units), mechanism=settings, secret=SECRET, rows_per_pass=64)
        assert gradient(Accelerator(), 2) == 0.0
    noise = secret.gaussians(SECRET, round_=2, count=sum(p.numel() for p in model.parameters()))
    made = np.concatenate([p.grad.double().flatten().numpy() for p in model.parameters() if p.grad is not None])
    summed = (
        torch.cat([torch.stack(tensors).sum(0).flatten() for tensors in zip(*single, strict=True)]).double().numpy()
    )
    np.testing.assert_allclose(made, summed / (1.5 * CLIP) + noise, atol=5e-5)


def test_a_round_that_nobody_joins_is_noised_like_any_other() -> None:
    """The published code skips it, which no theorem covers."""
    model, units = tiny.model(), people()
    round_ = next(i for i in range(100) if not secret.joins(SECRET, round_=i, units=6, sample_rate=0.1).any())
    model.train()
    with hooked(model):
        private_gradient(Text(model, units), mechanism=mechanism(sample_rate=0.1), secret=SECRET, rows_per_pass=8)(
            Accelerator(), round_
        )
    made = np.concatenate([p.grad.flatten().numpy() for p in model.parameters() if p.grad is not None])
    np.testing.assert_allclose(made, secret.gaussians(SECRET, round_=round_, count=len(made)), atol=1e-5)


def test_noise_is_standard_normal_and_never_repeats() -> None:
    """Mean, variance, kurtosis and correlation of two rounds, within five standard errors."""
    one, two = (secret.gaussians(SECRET, round_=i, count=200_001) for i in (0, 1))
    assert abs(one.mean()) < 5 / math.sqrt(len(one))
    assert abs(one.var() - 1) < 5 * math.sqrt(2 / len(one))
    assert abs((one**4).mean() - 3) < 5 * math.sqrt(96 / len(one))
    assert abs((one * two).mean()) < 5 / math.sqrt(len(one))
    assert np.isfinite(one).all()


def test_each_person_joins_independently_at_the_sampling_rate() -> None:
    """Over many rounds: the rate, and no link between two people."""
    rounds = np.array([secret.joins(SECRET, round_=i, units=2, sample_rate=0.3) for i in range(4000)])
    assert abs(rounds.mean() - 0.3) < 5 * math.sqrt(0.21 / rounds.size)
    both = (rounds[:, 0] & rounds[:, 1]).mean()
    assert abs(both - 0.09) < 5 * math.sqrt(0.09 * 0.91 / len(rounds))


def test_a_full_sampling_rate_leaves_nobody_out() -> None:
    """Uniforms lie in (0, 1]."""
    assert secret.joins(SECRET, round_=0, units=5000, sample_rate=1.0).all()


def test_only_a_commitment_to_the_secret_is_told() -> None:
    """256 bits, fresh each time."""
    made = {secret.fresh_secret() for _ in range(3)}
    assert {len(value) for value in made} == {32}
    assert len(made) == 3
    assert secret.commitment(SECRET) == hashlib.sha256(SECRET).hexdigest()


def base(sigma: float, steps: int, seed: bytes = SECRET, **options: str) -> tuple[Learned, Tensor]:
    """Train the tiny model under DP; whether it learned, and its weights."""
    model = tiny.model()
    setting: Setting[Any] = Setting(
        model=model,
        reader=tiny.tokenizer(),
        forget=(),
        retain=tiny.records(range(6)),
        options=check_options(
            "dp_base", None, {"sigma": sigma, "sample_rate": 0.9, "steps": steps, "learning_rate": 0.03, **options}
        ),
        seed=1,
        progress=tiny.quiet,
        folder=Path("nowhere"),
        digest="tiny",
        cache=Path("nowhere"),
    )
    outcome = train_base(setting, holdout=tiny.records(range(6, 8)), secret=seed)
    assert outcome.mechanism.units == 6
    return outcome.learned, torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_base_with_little_noise_learns_and_one_with_much_does_not() -> None:
    """The gate tells an epsilon that means something from one that is empty."""
    assert base(sigma=0.05, steps=40)[0].learned
    assert not base(sigma=50.0, steps=10)[0].learned


def test_both_ways_of_clipping_train_the_same_base() -> None:
    """The same secret and the same clipped sums, up to rounding; Adam divides by a gradient that is mostly noise."""
    hooks, books = (base(sigma=1.0, steps=3, clipper=way)[1] for way in ("hooks", "book-keeping"))
    assert torch.allclose(hooks, books, atol=1e-5)


def test_the_secret_alone_decides_the_randomness() -> None:
    """The same secret gives the same base, another gives another."""
    one, same, other = (base(sigma=1.0, steps=2, seed=seed)[1] for seed in (SECRET, SECRET, bytes(32)))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("start", "unigram", "now", "learned"),
    [
        (6.9, 5.3, 4.7, True),
        (6.9, 5.3, 4.9, False),
        (5.0, 5.3, 4.7, False),
        (6.9, 5.3, math.nan, False),
        (math.inf, 5.3, 4.0, False),
    ],
)
def test_a_base_must_beat_its_start_and_a_unigram_model_by_the_margin(
    start: float,
    unigram: float,
    now: float,
    learned: bool,  # noqa: FBT001 - the expected answer
) -> None:
    """Both, and a loss that is not finite beats nothing."""
    assert Learned(start_loss=start, unigram_loss=unigram, base_loss=now, margin=0.5).learned is learned


def test_the_unigram_loss_is_the_entropy_of_the_tokens() -> None:
    """Two equally frequent tokens cost log 2 each; no tokens have no loss."""
    assert unigram_loss([1, 2, 1, 2]) == pytest.approx(math.log(2))
    assert unigram_loss([7, 7]) == 0
    assert math.isnan(unigram_loss([]))


@pytest.mark.parametrize(
    "changes", [{"noise_multiplier": 0}, {"sample_rate": 0}, {"clip": 0}, {"steps": 0}, {"units": 0}]
)
def test_settings_under_which_no_theorem_holds_cannot_be_written_down(changes: dict[str, Any]) -> None:
    """A mechanism without noise, sampling, clipping, steps or people is refused."""
    with pytest.raises(EngineError):
        mechanism(**changes)


def test_the_mechanism_is_reported_under_the_names_of_the_certificate() -> None:
    """The verifier's accountant reads these."""
    assert mechanism().to_mapping() == {
        "mechanism": "poisson_subsampled_gaussian",
        "sampleRate": 0.5,
        "noiseMultiplier": 1.5,
        "steps": 4,
        "clip": CLIP,
        "units": 6,
        "unit": "data subject",
    }
