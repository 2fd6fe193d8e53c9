"""A step in many passes is the step in one, in either precision."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from engine.catalogue import check_options
from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.ascent import ga
from engine.methods.preference import npo, simnpo
from engine.methods.refit import refit
from engine.methods.surgery import gru
from engine.options import FitOptions
from engine.training import Fitted, Schedule, accelerator_for, accumulate, fit, minimise
from tests.engine import tiny

WHOLE, APART = 4096, 16
DESCENTS: dict[str, Callable[[Setting[Any]], Fitted]] = {"npo": npo, "simnpo": simnpo, "ga": ga, "gru": gru}
STEP = {"steps": 1, "forget_batch": 4, "retain_batch": 6, "learning_rate": 1e-3}


def gradient_of_first_step(given: Setting[Any], method: Callable[[Setting[Any]], Fitted]) -> Tensor:
    """All gradients in one vector, caught when the first step is about to be taken."""
    caught: list[Tensor] = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, _args, _kwargs: caught.extend(
            p.grad.detach().clone().flatten() for group in optimizer.param_groups for p in group["params"]
        )
    )
    try:
        method(given)
    finally:
        handle.remove()
    return torch.cat(caught)


def weights(model: nn.Module) -> Tensor:
    """All weights in one vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def pieces(model: nn.Linear, factors: Sequence[float]) -> list[Callable[[], Tensor]]:
    """Losses whose gradients are the factors."""
    return [partial(lambda factor: (model.weight * factor).sum(), factor) for factor in factors]


def test_gradients_of_pieces_add_up_to_what_was_there() -> None:
    """The sum of losses is returned, and earlier gradients are kept."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    accelerator = accelerator_for("float32")
    assert accumulate(accelerator, model, pieces(model, [1.0, 0.5])) == 3.0
    assert accumulate(accelerator, model, pieces(model, [0.25])) == 0.5
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 1.75


def test_a_piece_that_is_not_finite_makes_the_whole_loss_nan() -> None:
    """And no gradient of it is taken."""
    model = nn.Linear(1, 1, bias=False)
    assert math.isnan(accumulate(accelerator_for("float32"), model, pieces(model, [1.0, math.inf])))
    assert model.weight.grad is not None
    assert model.weight.grad.item() == 1.0


def test_training_in_many_passes_has_the_gradient_of_one(tmp_path: Path) -> None:
    """To a millionth of its length; labels of every pass count as in the whole step."""
    found = []
    for name, budget in (("whole", WHOLE), ("apart", APART)):
        options = FitOptions(epochs=1, tokens_per_batch=4096, tokens_per_pass=budget, learning_rate=1e-3)
        found.append(gradient_of_first_step(tiny.setting(tmp_path / name, options), refit))
    assert (found[0] - found[1]).norm() < 1e-6 * found[0].norm()


@pytest.mark.parametrize(
    ("name", "term"), [("npo", "gd"), ("npo", "kl"), ("simnpo", "gd"), ("ga", "kl"), ("ga", "js"), ("gru", "gd")]
)
def test_unlearning_in_many_passes_has_the_gradient_of_one(tmp_path: Path, name: str, term: str) -> None:
    """To a millionth of its length, for each kind of term: by label, by example, on known features, by surgery."""
    found = []
    for place, budget in (("whole", WHOLE), ("apart", APART)):
        options = check_options("unlearn", name, {**STEP, "retain_term": term, "tokens_per_pass": budget})
        found.append(gradient_of_first_step(tiny.setting(tmp_path / place, options), DESCENTS[name]))
    assert found[0].norm() > 0
    assert (found[0] - found[1]).norm() < 1e-6 * found[0].norm()


def rounded(tmp_path: Path, name: str, precision: str) -> tuple[Setting[Any], Fitted]:
    """NPO with KL, for ten steps, in a precision."""
    told = {**STEP, "steps": 10, "retain_term": "kl", "precision": precision, "learning_rate": 3e-3}
    given = tiny.setting(tmp_path / name, check_options("unlearn", "npo", told))
    return given, npo(given)


def test_bfloat16_follows_float32_and_repeats_itself(tmp_path: Path) -> None:
    """It moves the weights where float32 moves them, within 15 %, is the same twice, and is not the same as float32.

    bfloat16 has 8 bits of precision; what moves is 3e-3 at most a step and weight, in 10 steps.
    """
    start = weights(tiny.model())
    exact, first = rounded(tmp_path, "float32", "float32")
    near, second = rounded(tmp_path, "bfloat16", "bfloat16")
    again, third = rounded(tmp_path, "again", "bfloat16")
    moved = weights(exact.model) - start
    off = weights(near.model) - weights(exact.model)
    assert 0 < off.norm() < 0.15 * moved.norm()
    assert second.last_loss == pytest.approx(first.last_loss, rel=0.01)
    assert torch.equal(weights(near.model), weights(again.model))
    assert second == third
    assert {p.dtype for p in near.model.parameters()} == {torch.float32}


def test_the_reference_is_asked_in_the_precision_of_training(tmp_path: Path) -> None:
    """So that NPO starts at log ratios of exactly 0, with a loss of (2 / beta) log 2, in bfloat16 too."""
    told = {**STEP, "retain_term": "none", "precision": "bfloat16", "beta": 0.1, "tokens_per_pass": APART}
    given = tiny.setting(tmp_path, check_options("unlearn", "npo", told))
    assert npo(given).first_loss == pytest.approx(20 * math.log(2), rel=1e-6)


def test_in_bfloat16_too_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    """The weight is what it was after the last good step."""
    model = nn.Linear(1, 1, bias=False)
    seen = []

    def loss(factor: float) -> Tensor:
        seen.append(model.weight.item())
        value: Tensor = model(torch.full((1, 1), factor)).float().sum()
        return value

    with pytest.raises(EngineError, match="step 3") as refused:
        fit(
            model=model,
            batches=[[1.0], [1.0], [1.0, math.inf], [1.0]],
            gradient=minimise(model, loss),
            schedule=Schedule(learning_rate=0.1, precision="bfloat16"),
            stage="train",
            progress=tiny.quiet,
        )
    assert refused.value.code == "not_finite"
    assert model.weight.item() == seen[-1] != seen[0]


def test_a_process_may_train_in_one_precision_after_the_other() -> None:
    """A job's precision is not that of the process's first job."""
    assert [accelerator_for(name).mixed_precision for name in ("float32", "bfloat16", "float32")] == [
        "no",
        "bf16",
        "no",
    ]
