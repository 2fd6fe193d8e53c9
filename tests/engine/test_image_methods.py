"""Unlearners of classifiers that train on, or climb: what they forget, what they keep, what they refuse."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from engine.entries.images import IMAGE_METHODS
from engine.errors import EngineError
from engine.methods.image_finetuning import last_layers, penalty
from tests.engine import classifiers, painted
from tests.engine.classifiers import GONE, KEPT, accuracy, deployed, loss, unlearned, weights

NAMES = ("ga", *(spec.name for spec in IMAGE_METHODS))
LEAVES: dict[str, dict[str, Any]] = {
    "ga": {"learning_rate": 3e-3, "epochs": 10, "stop": 2.0},
    "l1-sparse": {"learning_rate": 3e-3, "epochs": 12},
    "finetune": {"learning_rate": 3e-3, "epochs": 12},
    "eu-k": {"learning_rate": 1e-2, "epochs": 12},
}


def short(name: str) -> dict[str, int]:
    """As little of a method as there is."""
    return {"epochs": 1, **({"samples": 6} if name in {"fisher", "influence"} else {})}


@pytest.mark.parametrize("name", LEAVES)
def test_a_whole_class_is_forgotten_and_the_others_stay(name: str) -> None:
    """The main case: after it no picture of the class is recognised, and nearly all others are."""
    model, _ = unlearned(name, **LEAVES[name])

    assert accuracy(deployed()[0], GONE) == 1.0
    assert accuracy(model, GONE) <= 0.1
    assert accuracy(model, KEPT) >= 0.9


@pytest.mark.parametrize("name", NAMES)
def test_a_method_is_the_same_for_one_seed_and_keeps_the_mask(name: str) -> None:
    """Every random choice is drawn from the seed, and what is pruned first stays zero through every step."""
    asked: dict[str, Any] = {"sparsity": 0.5, "pruned_layers": "hidden", **short(name)}
    one, fitted = unlearned(name, **asked)
    other, _ = unlearned(name, **asked)

    assert torch.equal(weights(one), weights(other))
    parts = fitted.details["remaining"]
    sizes = {"convolutions": 4 * 25 + 8 * 4 * 25, "matrices": 72 * 16}
    total = sum(parts[kind] * size for kind, size in sizes.items())
    assert total == pytest.approx(0.5 * sum(sizes.values()), abs=1)
    assert parts["classifier"] == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_a_method_moves_the_model_and_leaves_it_finite(name: str) -> None:
    """Something happened, and the model is one that can be saved."""
    model, _ = unlearned(name, **short(name))

    assert not model.training
    assert torch.isfinite(weights(model)).all()
    assert not torch.equal(weights(model), weights(deployed()[0]))


@pytest.mark.parametrize("name", NAMES)
def test_classifiers_of_the_library_are_unlearned_alike(name: str) -> None:
    """A ViT, and a ResNet whose batch normalisation carries statistics."""
    names: dict[str, Any] = {"id2label": dict(enumerate(painted.LABELS)), "num_channels": 1}
    shape: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    vit = ViTForImageClassification(ViTConfig(**shape, image_size=12, patch_size=6, **names))
    resnet = ResNetForImageClassification(ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], **names))
    models: list[Any] = [vit, resnet]
    for model in models:
        model.eval()
        unlearned(name, model, forget=GONE[:4], retain=KEPT[:8], **short(name))
        assert torch.isfinite(weights(model)).all()


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0.4), (1, 0.3), (2, 0.2), (3, 0.1), (4, 0.0), (5, 0.0)])
def test_the_penalty_falls_and_ends_before_the_last_epochs(epoch: int, weight: float) -> None:
    """As it is published: linearly to nothing at epoch E - E_0."""
    assert penalty(0.4, epoch=epoch, epochs=6, without=2) == pytest.approx(weight)


@settings(max_examples=25)
@given(st.floats(0, 1), st.integers(1, 20), st.data())
def test_the_penalty_never_rises(gamma: float, epochs: int, data: st.DataObject) -> None:
    """It begins at gamma; where no epoch is left for it to fall in it is constant."""
    without = data.draw(st.integers(0, epochs))
    told = [penalty(gamma, epoch=t, epochs=epochs, without=without) for t in range(epochs)]

    assert told[0] == gamma
    assert sorted(told, reverse=True) == told
    assert all(0 <= one <= gamma for one in told)


def test_the_penalty_shrinks_the_norm() -> None:
    """More of it leaves smaller weights, over all parameters."""
    norms = [weights(unlearned("l1-sparse", gamma=gamma, epochs=2)[0]).abs().sum() for gamma in (0.0, 1e-2)]

    assert norms[1] < norms[0]


def test_without_a_penalty_it_is_fine_tuning() -> None:
    """Bit for bit."""
    assert torch.equal(weights(unlearned("l1-sparse", gamma=0.0)[0]), weights(unlearned("finetune")[0]))


def test_ascent_raises_the_loss_of_what_is_forgotten_and_stops() -> None:
    """It ends once the forget loss is that of a guess, where without an end it goes on."""
    asked: dict[str, Any] = {"learning_rate": 3e-3, "epochs": 10}
    stopped, fitted = unlearned("ga", **asked)
    endless, all_of_them = unlearned("ga", stop=0.0, **asked)

    assert fitted.details["stopped_early"]
    assert fitted.steps < all_of_them.steps == 20
    assert loss(deployed()[0], GONE) < math.log(4) <= loss(stopped, GONE) < loss(endless, GONE)


def test_ascent_on_some_of_a_class_ends_sooner() -> None:
    """Others of the class stay, and are still recognised."""
    asked: dict[str, Any] = {"forget": GONE[:4], "retain": GONE[4:] + KEPT, "learning_rate": 3e-3, "epochs": 20}
    model, fitted = unlearned("ga", **asked)

    assert fitted.details["stopped_early"]
    assert accuracy(model, GONE[4:]) >= 0.75
    assert unlearned("ga", **asked, stop_records=1.0)[1].steps > fitted.steps


def test_a_step_too_far_is_not_taken() -> None:
    """Where the model is as unsure as that already, nothing is done."""
    guesser, _ = painted.network()
    before = weights(guesser)
    _, fitted = unlearned("ga", guesser, stop=0.1)

    assert fitted.steps == 0
    assert torch.equal(weights(guesser), before)


@pytest.mark.parametrize("name", ["cf-k", "eu-k"])
def test_layers_before_the_last_ones_do_not_move(name: str) -> None:
    """Only the last two matrices are trained, and the gradient is asked of everything again afterwards."""
    model, _ = unlearned(name, layers=2)
    before = dict(deployed()[0].named_parameters())
    moved = {
        n.split(".weight")[0].split(".bias")[0] for n, p in model.named_parameters() if not torch.equal(p, before[n])
    }

    assert moved == {"body.9", "classifier"}
    assert all(p.requires_grad for p in model.parameters())


def test_statistics_of_layers_that_are_not_trained_stay() -> None:
    """A batch normalisation before the last layer keeps its running mean."""
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1])
    config.id2label = dict(enumerate(painted.LABELS))
    model: Any = ResNetForImageClassification(config)
    before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    unlearned("cf-k", model, epochs=1, layers=1)

    assert before
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_buffers())


def test_layers_are_drawn_anew_once() -> None:
    """The last layer starts from other weights, and the same seed draws the same ones."""
    model, _ = deployed()
    assert [type(layer).__name__ for layer in last_layers(model, 2)] == ["Linear", "Linear"]
    first, second = (unlearned("eu-k", learning_rate=1e-9)[0].classifier.weight for _ in range(2))

    assert torch.equal(first, second)
    assert not torch.allclose(first, model.classifier.weight, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("cf-k", {"layers": 9}, "the model has 4 layers"),
        ("finetune", {"sparsity": 1.0}, "at most 0.999"),
        ("finetune", {"sparsity": float("nan")}, "must be a finite number"),
        ("ga", {"forget": ()}, "no records in the forget set"),
        ("finetune", {"retain": ()}, "no records in the retain set"),
        ("l1-sparse", {"gamma": -1.0}, "at least 0"),
        ("l1-sparse", {"epochs": 3, "epochs_without": 4}, "epochs_without"),
    ],
)
def test_what_cannot_be_done_is_refused(name: str, changes: dict[str, Any], sentence: str) -> None:
    """In one sentence that says what to change."""
    with pytest.raises(EngineError, match=sentence):
        classifiers.unlearned(name, **changes)
