"""The one loop: repeatable, and never a step through a NaN."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from engine import determinism
from engine.contract import Job, Kind
from engine.digests import model_digest
from engine.errors import EngineError
from engine.muon import Muon, orthogonalised
from engine.run import run
from engine.training import Schedule, fit, minimise, optimisers_for
from tests.engine import tiny

STEPS = Schedule(learning_rate=0.1)


def line() -> nn.Linear:
    """One weight that starts at 1."""
    made = nn.Linear(1, 1, bias=False)
    nn.init.ones_(made.weight)
    return made


def trained(data: Path, folder: Path, out: str, seed: int) -> str:
    """The digest of a model that a job trained."""
    job = Job(
        version=1, kind=Kind.TRAIN, seed=seed, out=out, model=str(folder), train="all.jsonl", options={"epochs": 2}
    )
    return model_digest(run(job, data, tiny.quiet).model_files)


def test_one_seed_gives_the_same_bytes_and_another_gives_others(data: Path, tiny_folder: Path) -> None:
    """Same job, same digest of the whole folder; another seed, another model."""
    one, same, other = (trained(data, tiny_folder, f"out{i}", seed) for i, seed in enumerate((1, 1, 2)))
    assert one == same
    assert one != other


def test_the_global_generator_decides_nothing(data: Path, tiny_folder: Path) -> None:
    """What ran before in the process does not change what a job makes."""
    one = trained(data, tiny_folder, "out1", 1)
    torch.rand(17)
    assert trained(data, tiny_folder, "out2", 1) == one


def test_training_lowers_the_loss(data: Path, tiny_folder: Path) -> None:
    """Evidence reports the first and the last loss."""
    job = Job(
        version=1, kind=Kind.TRAIN, seed=1, out="new", model=str(tiny_folder), train="all.jsonl", options={"epochs": 30}
    )
    evidence = run(job, data, tiny.quiet)
    assert evidence.training is not None
    assert evidence.training["last_loss"] < 0.8 * evidence.training["first_loss"]


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_step(poison: float) -> None:
    """The weight is what it was after the last good step."""
    model = line()
    weights = []

    def loss(factor: float) -> Tensor:
        weights.append(model.weight.item())
        return (model.weight * factor).sum()

    with pytest.raises(EngineError, match="step 3") as refused:
        fit(
            model=model,
            batches=[[1.0], [1.0], [poison], [1.0]],
            gradient=minimise(model, loss),
            schedule=STEPS,
            stage="train",
            progress=tiny.quiet,
        )
    assert refused.value.code == "not_finite"
    assert len(weights) == 3
    assert model.weight.item() == weights[-1]


def test_a_gradient_that_is_not_finite_stops_before_the_step() -> None:
    """Also when the loss itself looks fine."""
    model = line()

    def gradient(_accelerator: Accelerator, _batch: int) -> float:
        model.weight.grad = torch.full_like(model.weight, math.nan)
        return 0.5

    with pytest.raises(EngineError, match="not finite"):
        fit(model=model, batches=[1], gradient=gradient, schedule=STEPS, stage="train", progress=tiny.quiet)
    assert model.weight.item() == 1


def test_progress_tells_the_fraction_and_an_estimate() -> None:
    """From the first step to the last, with nothing left at the end."""
    model, told = line(), []
    loss: Callable[[float], Tensor] = lambda factor: (model.weight * factor).sum()  # noqa: E731 - one expression
    fit(
        model=model,
        batches=[[1.0]] * 4,
        gradient=minimise(model, loss),
        schedule=STEPS,
        stage="train",
        progress=lambda stage, fraction, eta: told.append((stage, fraction, eta)),
    )
    assert [(stage, fraction) for stage, fraction, _ in told] == [("train", 0.25 * i) for i in (1, 2, 3, 4)]
    assert told[-1][2] == 0


def test_embeddings_head_and_norms_are_not_orthogonalised() -> None:
    """Muon has the hidden matrices and AdamW has all the rest, each parameter once."""
    model = tiny.model()
    adam, muon = optimisers_for(model, Schedule(learning_rate=1e-3, matrix_learning_rate=1e-3))
    assert isinstance(muon, Muon)
    names = {id(p): name for name, p in model.named_parameters()}
    rest = {names[id(p)] for group in adam.param_groups for p in group["params"]}
    hidden = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert rest == {name for name in names.values() if "norm" in name or "embed" in name or "lm_head" in name}
    assert hidden == set(names.values()) - rest


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_orthogonalising_brings_every_singular_value_near_one(shape: tuple[int, int]) -> None:
    """Without turning the singular vectors."""
    stack = torch.randn(3, *shape)
    for matrix, made in zip(stack, orthogonalised(stack), strict=True):
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        core = u.T @ made @ v.T
        assert core.diagonal().min() > 0.5
        assert core.diagonal().max() < 1.3
        assert (core - core.diagonal().diag()).abs().max() < 1e-3


def test_a_step_of_muon_is_the_published_one() -> None:
    """Against torch's own, whose orthogonalisation is rounded to bfloat16."""
    ours, theirs = (nn.Parameter(torch.eye(4, 6)) for _ in range(2))
    mine = Muon([ours], lr=0.1)
    reference = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        gradient = torch.randn(4, 6)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    assert (ours - theirs).abs().max() < 0.02


def test_a_job_says_in_which_environment_it_ran() -> None:
    """Versions, the kind of processor and threads, and no name of a machine."""
    names = {"python", "torch", "transformers", "opacus", "platform", "device", "threads"}
    assert set(determinism.environment(1)) == names
