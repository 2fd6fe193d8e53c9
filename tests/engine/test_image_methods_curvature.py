"""Fisher and influence forgetting: the curvature is the right one, against matrices written out."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.catalogue import check_options
from engine.errors import EngineError
from engine.methods.fisher import diagonal, variance
from engine.methods.image_descent import whole_classes
from engine.methods.influence import inverse_times, rank_one
from engine.tasks.image import classes_of, logits
from engine.tasks.pixels import pictures
from tests.engine import painted
from tests.engine.classifiers import GONE, KEPT, accuracy, deployed, loss, setting, unlearned, weights


@settings(max_examples=25)
@given(st.integers(1, 8), st.integers(1, 6), st.floats(0.01, 10), st.integers(0, 99))
def test_the_recursion_is_the_inverse(count: int, width: int, damping: float, seed: int) -> None:
    """Times any vector, of damping * I + (1/m) sum g g', which is inverted here as a matrix."""
    rng = torch.Generator().manual_seed(seed)
    gradients = torch.randn(count, width, generator=rng, dtype=torch.float64)
    vector = torch.randn(width, generator=rng, dtype=torch.float64)
    matrix = damping * torch.eye(width, dtype=torch.float64) + gradients.T @ gradients / count

    found = inverse_times(iter(gradients), vector, count, damping)
    assert torch.allclose(found, torch.linalg.solve(matrix, vector), rtol=1e-6, atol=1e-8)


def test_the_published_recursion_is_not_the_inverse() -> None:
    """By hand: the second gradient never changes the direction, so what it says is lost."""
    gradients = torch.tensor([[1.0, 0.0], [0.0, 2.0]])

    assert rank_one(iter(gradients), torch.tensor([1.0, 1.0]), 2).tolist() == [0.0, 1.0]
    exact = inverse_times(iter(gradients), torch.tensor([1.0, 1.0]), 2, 1.0)
    assert exact.tolist() == pytest.approx([1 / 1.5, 1 / 3])


def test_the_fisher_diagonal_is_that_of_single_pictures() -> None:
    """Against a sum over pictures and classes written out; of a batch, gradients of pictures cancel."""
    model, pixels = deployed()
    batch = pictures(KEPT[:4], pixels, classes_of(model))
    given = setting(model, pixels, check_options("unlearn", "fisher", {}, "image"))
    found = diagonal(given, batch, size=1)["classifier.bias"]
    probabilities = logits(model, pixels, batch.images).softmax(-1).detach()
    by_hand = (probabilities * (1 - probabilities)).mean(0)  # of a bias: sum_y p_y (1[y = j] - p_j)^2
    mean = probabilities.mean(0)
    cancelled = mean * (1 - mean) ** 2 + (1 - mean) * mean**2

    assert torch.allclose(found, by_hand, atol=1e-6)
    assert torch.allclose(diagonal(given, batch, size=4)["classifier.bias"], cancelled, atol=1e-6)


def test_variances_are_bounded_as_published() -> None:
    """Mean over the second dimension, ten times for one dimension and for the classifier, which is cut at 100."""
    flat = torch.tensor([1e-2, 0.0])

    assert variance(flat, 0.1, of_head=False).tolist() == pytest.approx([100.0, 1000.0], rel=1e-5)
    assert variance(flat, 0.1, of_head=True).tolist() == pytest.approx([100.0, 100.0], rel=1e-5)
    wide = variance(torch.tensor([[1.0, 0.5], [0.0, 0.0]]), 1.0, of_head=False)
    assert torch.allclose(wide, torch.tensor([[1.5, 1.5], [1000.0, 1000.0]]))


def test_the_row_of_a_class_that_is_gone_is_drawn_around_zero() -> None:
    """And only where nobody who stays belongs to that class."""
    model, pixels = deployed()
    classes = classes_of(model)
    gone, kept = (pictures(records, pixels, classes) for records in (GONE, KEPT))
    assert whole_classes(gone, kept) == [classes["left"]]
    assert whole_classes(gone, pictures(GONE[:1] + KEPT, pixels, classes)) == []

    noisy, _ = unlearned("fisher", samples=8)
    assert float(noisy.classifier.weight[classes["left"]].detach().abs().max()) < 0.06
    assert accuracy(noisy, KEPT) >= 0.9


@pytest.mark.parametrize("variant", ["correct", "published"])
def test_without_noise_fisher_changes_nothing(variant: str) -> None:
    """Where no whole class is to be forgotten."""
    model, fitted = unlearned("fisher", alpha=0.0, variant=variant, forget=GONE[:2], retain=GONE[2:] + KEPT, samples=4)

    assert torch.equal(weights(model), weights(deployed()[0]))
    assert fitted.first_loss == fitted.last_loss


@pytest.mark.parametrize("variant", ["correct", "published"])
def test_an_influence_step_raises_the_loss_of_what_is_forgotten(variant: str) -> None:
    """Evidence tells it before and after, and how far the step went."""
    model, fitted = unlearned("influence", variant=variant, samples=24)

    assert fitted.first_loss == pytest.approx(loss(deployed()[0], GONE), rel=1e-4)
    assert fitted.last_loss == pytest.approx(loss(model, GONE), rel=1e-4)
    assert fitted.last_loss > fitted.first_loss
    moved = (weights(model) - weights(deployed()[0])).norm()
    assert fitted.details["step_norm"] == pytest.approx(float(moved), rel=1e-3)


def test_a_step_that_would_not_fit_into_memory_is_refused() -> None:
    """With how many pictures would."""
    model, _ = painted.network(width=96)
    asked: dict[str, Any] = {"retain": KEPT * 20, "samples": 600}
    with pytest.raises(EngineError, match=r"options\.samples must be at most \d+ for a model"):
        unlearned("influence", model, **asked)
