"""Relabelling and teachers: what a forgotten picture is told, and what it learns of that."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engine.catalogue import check_options
from engine.errors import EngineError
from engine.methods.image_relabelling import narrowed, nearest, salient, widened, wrong
from engine.methods.image_teachers import divergence
from engine.tasks.image import classes_of
from engine.tasks.pixels import pictures
from tests.engine import painted
from tests.engine.classifiers import GONE, KEPT, accuracy, deployed, loss, setting, told, unlearned, weights

FORGETS: dict[str, dict[str, Any]] = {
    "random-labels": {"learning_rate": 3e-3},
    "salun": {"learning_rate": 3e-3},
    "boundary-shrink": {"learning_rate": 1e-3},
    "scrub": {"learning_rate": 3e-3, "epochs": 6, "max_epochs": 4, "forget_batch": 4},
    "bad-teacher": {"learning_rate": 3e-3},
}


@pytest.mark.parametrize("name", FORGETS)
def test_a_whole_class_is_forgotten(name: str) -> None:
    """No more than one in four of its pictures is recognised, and seven in ten of the others are."""
    model, _ = unlearned(name, **{"epochs": 6, **FORGETS[name]})

    assert accuracy(model, GONE) <= 0.25
    assert accuracy(model, KEPT) >= 0.7


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 99))
def test_no_picture_is_told_its_own_class(classes: list[int], seed: int) -> None:
    """Whatever the seed; and what it is told is a class."""
    own = torch.tensor(classes)
    others = wrong(own, 5, seed)

    assert not bool((own == others).any())
    assert 0 <= int(others.min()) <= int(others.max()) < 5


def test_every_other_class_is_drawn() -> None:
    """All as likely."""
    drawn = torch.bincount(wrong(torch.full((3000,), 2), 4, 0), minlength=4)

    assert drawn[2] == 0
    assert all(900 < int(count) < 1100 for count in drawn[[0, 1, 3]])


def test_the_nearest_class_is_a_wrong_one() -> None:
    """Even where a step of any size leaves the picture on its own side."""
    model, pixels = deployed()
    batch = pictures(GONE, pixels, classes_of(model))
    given = setting(model, pixels, check_options("unlearn", "boundary-shrink", {}, "image"))

    for reach in (1e-6, 1.0):
        assert not bool((nearest(given, batch, reach) == batch.classes).any())


def test_the_saliency_mask_holds_the_steepest_weights() -> None:
    """A tenth of all, and only those move."""
    model, pixels = deployed()
    given = setting(model, pixels, check_options("unlearn", "salun", {}, "image"))
    mask = salient(given, 0.1)
    chosen = torch.cat([kept.flatten() for kept in mask.kept.values()])
    after, _ = unlearned("salun", saliency=0.1)
    still = weights(after) == weights(deployed()[0])

    assert int(chosen.sum()) == round(0.1 * len(chosen))
    assert bool(still[~chosen].all())
    assert not bool(still[chosen].all())


def test_a_class_of_their_own_is_cut_off_afterwards() -> None:
    """The model has as many outputs as before, and is less sure of what was pushed out."""
    model, _ = unlearned("boundary-expand", epochs=10, learning_rate=3e-3)

    assert model.classifier.out_features == 4
    assert loss(model, GONE) > loss(deployed()[0], GONE)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_that_is_widened_and_narrowed_is_itself(bias: bool) -> None:  # noqa: FBT001 - a parameter of a test
    """Bit for bit."""
    layer = nn.Linear(3, 2, bias=bias)
    again = narrowed(widened(layer, 1))

    assert torch.equal(again.weight, layer.weight)
    assert (again.bias is None) is not bias


def test_outputs_that_are_no_classes_are_refused() -> None:
    """Boundaries are between the classes that the model names."""
    model, _ = painted.network()
    model.classifier = nn.Linear(16, 5)
    with pytest.raises(EngineError, match="gives 5 outputs, not 4"):
        unlearned("boundary-expand", model)


def test_divergence_by_hand() -> None:
    """Between (1/2, 1/2) and (1/4, 3/4): ln 2 - ln 3 / 2; none between equals; softened, times its square."""
    before, after = torch.zeros(1, 2), torch.tensor([[0.0, math.log(3)]])

    assert float(divergence(after, before, 1.0)) == pytest.approx(math.log(2) - math.log(3) / 2)
    assert float(divergence(before, before, 4.0)) == 0.0
    assert float(divergence(2 * after, before, 2.0)) == pytest.approx(4 * (math.log(2) - math.log(3) / 2), rel=1e-5)


def test_scrub_goes_up_before_it_comes_down_in_each_of_the_first_epochs() -> None:
    """Up twice in each of two epochs and down five times in each of three; without any way up it only comes down."""
    asked: dict[str, Any] = {"epochs": 3, "max_epochs": 2, "forget_batch": 6}
    assert unlearned("scrub", **asked)[1].steps == 2 * 2 + 3 * 5
    down, fitted = unlearned("scrub", **{**asked, "max_epochs": 0})

    assert fitted.steps == 15
    assert accuracy(down, KEPT) == 1.0
    assert unlearned("scrub", **asked, steps=3)[1].steps == 3


def test_a_teacher_that_knows_nothing_leaves_the_model_as_unsure() -> None:
    """Of what is forgotten; of the rest it is as sure as it was."""
    model, _ = unlearned("bad-teacher", epochs=6, learning_rate=3e-3)

    assert float(told(model, GONE).log_probs.mean()) < math.log(0.5)
    assert loss(model, KEPT) < 0.3
