"""Pruning: which weights go, that they stay gone, and that a sparse classifier learns as one of ours."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

from engine.errors import EngineError
from engine.methods.sparsity import Mask, magnitude, prunable, remaining, remembered, synflow, zeros
from tests.engine import classifiers, painted
from tests.engine.classifiers import EVERYTHING, accuracy, trained, unlearned, weights


class Chain(nn.Module):
    """Two matrices and nothing between them: logits of a picture of one row and two columns."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3, bias=False)
        self.last = nn.Linear(3, 2, bias=False)
        self.first.weight.data = torch.tensor([[1.0, -2.0], [3.0, 0.5], [-0.1, 5.0]])
        self.last.weight.data = torch.tensor([[1.0, -1.0, 0.0], [2.0, 0.5, -0.1]])

    def forward(self, pixel_values: Tensor) -> SimpleNamespace:
        """Rows x 2."""
        return SimpleNamespace(logits=self.last(self.first(pixel_values.flatten(1))))


def test_synflow_on_a_linear_net_by_hand() -> None:
    """Scores |w_ij| * sum_k |v_ki|: 3, 6; 4.5, .75; .01, .5, of which a half is pruned; no weight changes."""
    model = Chain()
    before = weights(model)
    mask = synflow(model, 0.5, "convolutions", (1, 1, 2))

    assert mask.kept["first.weight"].tolist() == [[True, True], [True, False], [False, False]]
    assert torch.equal(weights(model), before)
    assert model.first.weight.dtype == torch.float32


def test_magnitude_goes_by_size_alone() -> None:
    """The same net loses .1, .5 and 1, though .1 stands before much."""
    assert magnitude(Chain(), 0.5, "hidden").kept["first.weight"].tolist() == [
        [False, True],
        [True, False],
        [False, True],
    ]


def test_synflow_asks_no_data_and_leaves_no_layer_empty() -> None:
    """At nine tenths every layer still passes something on, which one cut by size does not promise."""
    model, _ = painted.network()
    before = weights(model)
    mask = synflow(model, 0.9, "hidden", (1, 12, 12))

    assert torch.equal(weights(model), before)
    assert not model.training
    assert all(bool(kept.any()) for kept in mask.kept.values())
    kept = torch.cat([one.flatten() for one in mask.kept.values()])
    assert float(kept.float().mean()) == pytest.approx(0.1, abs=1e-3)


@settings(max_examples=12)
@given(st.floats(0, 0.999), st.sampled_from(["convolutions", "hidden"]), st.integers(0, 3))
def test_magnitude_prunes_the_asked_share_and_the_smallest(sparsity: float, layers: str, seed: int) -> None:
    """To the weight; no survivor is smaller than what went, and pruning again changes nothing."""
    model, _ = painted.network(seed)
    mask = magnitude(model, sparsity, layers)
    flat = torch.cat([p.detach().abs().flatten() for p in prunable(model, layers).values()])
    kept = torch.cat([one.flatten() for one in mask.kept.values()])

    assert int((~kept).sum()) == round(sparsity * len(flat))
    if 0 < int(kept.sum()) < len(kept):
        assert float(flat[kept].min()) >= float(flat[~kept].max())
    mask.apply(model)
    again = magnitude(model, sparsity, layers)
    assert all(torch.equal(again.kept[name], one) for name, one in mask.kept.items())


def test_what_is_pruned_are_convolutions_or_hidden_matrices_and_never_the_classifier() -> None:
    """A network without convolutions has its hidden matrices pruned; one without either is refused."""
    model, _ = painted.network()
    assert set(prunable(model)) == {"body.0.weight", "body.4.weight"}
    assert set(prunable(model, "hidden")) == {"body.0.weight", "body.4.weight", "body.9.weight"}
    assert set(prunable(Chain())) == {"first.weight"}
    gabor, _ = painted.network(architecture="gabor")
    with pytest.raises(EngineError, match="no hidden layer whose weights could be pruned"):
        prunable(gabor)
    with pytest.raises(EngineError, match="no linear layer"):
        prunable(nn.Conv2d(1, 1, 1))


def test_the_classifier_of_a_library_model_is_found() -> None:
    """Its patches are a convolution, its blocks hidden matrices."""
    shape: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = ViTForImageClassification(ViTConfig(**shape, image_size=12, patch_size=6, num_channels=1))

    assert "classifier.weight" not in prunable(model, "hidden")
    assert len(prunable(model, "convolutions")) == 1
    assert len(prunable(model, "hidden")) > 5


def test_a_mask_holds_weights_and_gradients() -> None:
    """What is masked is zero, and no gradient is left on it."""
    model = Chain()
    mask = Mask(kept={"first.weight": torch.tensor([[True, False], [True, True], [False, True]])})
    model.forward(torch.ones(1, 2)).logits.sum().backward()
    mask.apply(model)
    mask.still(model)

    assert model.first.weight[0, 1] == 0 == model.first.weight[2, 0]
    assert model.first.weight.grad is not None
    assert model.first.weight.grad[0, 1] == 0 == model.first.weight.grad[2, 0]
    assert model.first.weight.grad[0, 0] != 0
    assert set(zeros(model).kept) == {"first.weight"}
    assert remaining(model) == {"matrices": 4 / 6, "classifier": 5 / 6}


def test_weights_come_back_from_where_they_were_written() -> None:
    """Bit for bit, buffers too."""
    model: Any = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with remembered(model) as restore:
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model(torch.ones(4, 2))
        model[0].weight.data.zero_()
        restore()

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("pruning", ["one-shot", "iterative", "synflow"])
def test_a_classifier_is_trained_sparse(pruning: str) -> None:
    """Three quarters of its hidden weights are zero, evidence says so, and it has learned."""
    asked = {"pruning": pruning, "sparsity": 0.75, "pruned_layers": "hidden", "pruning_rounds": 2, "epochs": 8}
    model, _, fitted = trained(**asked)
    flat = torch.cat([p.detach().flatten() for p in prunable(model, "hidden").values()])

    assert float((flat == 0).float().mean()) == pytest.approx(0.75, abs=1e-3)
    assert fitted.details["remaining"] == remaining(model)
    assert accuracy(model, EVERYTHING) >= 0.9
    assert fitted.steps == {"one-shot": 48 + 42, "iterative": 48 + 2 * 42, "synflow": 48}[pruning]


def test_survivors_go_back_to_where_they_were() -> None:
    """With next to no training afterwards, the rewound weights are those of the early epoch, at zero the start's."""
    start, _ = painted.network()
    model, _, _ = trained(sparsity=0.5, rewind_epochs=0, learning_rate=1e-9, epochs=1)
    now, then = (dict(one.named_parameters())["body.0.weight"] for one in (model, start))

    assert torch.allclose(now, then.where(now != 0, 0.0), atol=1e-6)


def test_an_early_epoch_must_leave_some_to_train() -> None:
    """Otherwise nothing would be trained after pruning."""
    with pytest.raises(EngineError, match="rewind_epochs must leave epochs to train"):
        trained(sparsity=0.5, epochs=2, rewind_epochs=2)
    with pytest.raises(EngineError, match="no records to train on"):
        classifiers.trained_on((), sparsity=0.5)


def test_without_sparsity_training_is_what_it_was() -> None:
    """And tells of no sparsity."""
    assert trained(epochs=1)[2].details == {}


@pytest.mark.parametrize("name", ["finetune", "ga"])
def test_a_model_that_was_trained_sparse_stays_as_sparse(name: str) -> None:
    """Without being asked: its zeros are its mask."""
    sparse, _, _ = trained(sparsity=0.8, epochs=2)
    gone = {n: p == 0 for n, p in sparse.named_parameters() if bool((p == 0).any())}
    model, fitted = unlearned(name, sparse)

    assert set(gone) == {"body.0.weight", "body.4.weight"}
    assert all(bool((dict(model.named_parameters())[n][zero] == 0).all()) for n, zero in gone.items())
    assert fitted.details["remaining"]["convolutions"] == pytest.approx(0.2, abs=1e-2)


@pytest.mark.parametrize("pruning", ["one-shot", "iterative", "synflow"])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_deployed_model_is_pruned_before_it_unlearns(pruning: str, optimiser: str) -> None:
    """By each way of pruning and under both optimisers the share that remains is the one asked for."""
    _, fitted = unlearned("finetune", sparsity=0.75, pruning=pruning, pruning_rounds=2, epochs=1, optimiser=optimiser)

    assert fitted.details["remaining"]["convolutions"] == pytest.approx(0.25, abs=2e-3)
    assert fitted.details["remaining"]["matrices"] == 1.0
