"""What keeping books cannot follow is refused, and a model is left as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from engine.errors import EngineError
from engine.methods.bookkeeping import BookKeeping
from tests.engine.books import CLIP, ROWS, VOCABULARY, WIDTH, kept, neox, squares_loss, text_loss


class ScaledLinear(nn.Linear):
    """A linear layer that is more than one."""

    def forward(self, x: Tensor) -> Tensor:
        """Twice."""
        doubled: Tensor = 2 * super().forward(x)
        return doubled


class OffRMSNorm(LlamaRMSNorm):
    """A norm whose name promises more than it does."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Without normalising."""
        return self.weight * hidden_states


class Direct(nn.Module):
    """Uses a parameter of a layer without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Once properly and once past it."""
        found: Tensor = self.layer(x) @ self.layer.weight
        return found


class Positions(nn.Module):
    """Adds a table of places that all rows share."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        """The same for each row."""
        added: Tensor = x + self.table(torch.arange(5).unsqueeze(0))
        return added


class Overwriting(nn.Module):
    """Adds to a layer's input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """The first layer's output is the second's input, and then something else."""
        x = self.first(x)
        x += self.second(x)
        return x


def replaced() -> nn.Module:
    """A linear layer, one of whose own attributes is another forward."""
    layer = nn.Linear(4, 4)
    layer.forward = torch.relu  # type: ignore[method-assign]
    return layer


def extended() -> nn.Module:
    """A linear layer with one more parameter."""
    layer = nn.Linear(4, 4)
    layer.scale = nn.Parameter(torch.ones(()))
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(replaced(), id="replaced"),
        pytest.param(extended(), id="extended"),
        ScaledLinear(4, 4),
        OffRMSNorm(4),
        nn.MultiheadAttention(4, 2),
        nn.BatchNorm1d(4),
        nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
        nn.Embedding(4, 4, max_norm=1.0),
        nn.ParameterList([torch.zeros(3)]),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_unknown_layers_are_refused_before_anything_runs(layer: nn.Module) -> None:
    """A layer whose gradient is not known row by row is refused, unless nothing of it is trained."""
    model = nn.Sequential(nn.Linear(4, 4), layer)

    with pytest.raises(EngineError, match="gives no per-person gradients") as refused:
        BookKeeping(model)
    assert refused.value.code == "bad_model"

    layer.requires_grad_(requires_grad=False)
    BookKeeping(model)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Direct(), "outside its layer"),
        (Positions(), "one row a text"),
        (Overwriting(), "overwritten"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(5, affine=False)), "batch normalisation"),
        (nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 4)), "one row a text"),
        (nn.Sequential(nn.Flatten(0, 2), nn.Linear(60, 4)), "one row a text"),
    ],
)
def test_models_that_mix_rows_are_refused(model: nn.Module, why: str) -> None:
    """What would make a person's gradient wrong is refused, and not computed."""
    x = torch.randn(3, 5, 4)

    with pytest.raises(EngineError, match=why) as refused:
        kept(model, squares_loss(model, x), torch.arange(3), CLIP)

    assert refused.value.code == "bad_model"
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_gradient_that_is_no_number_is_refused() -> None:
    """Neither NaN nor infinity is clipped to something that looks right."""
    model = nn.Linear(4, 4)
    for bad in (float("nan"), float("inf"), 1e30):
        x = torch.ones(2, 4)
        x[0, 0] = bad
        with pytest.raises(EngineError, match="not finite") as refused:
            kept(model, squares_loss(model, x), torch.arange(2), CLIP)
        assert refused.value.code == "not_finite"


@pytest.mark.parametrize(
    ("clip", "owners", "units"),
    [
        (0.0, [0, 1], 2),
        (-1.0, [0, 1], 2),
        (float("nan"), [0, 1], 2),
        (float("inf"), [0, 1], 2),
        (1.0, [0, 2], 2),
        (1.0, [-1, 0], 2),
        (1.0, [], 2),
        (1.0, [0.0, 1.0], 2),
        (1.0, [[0, 1]], 2),
    ],
)
def test_settings_without_meaning_are_refused(clip: float, owners: list[Any], units: int) -> None:
    """A clip that bounds nothing and owners that are no units are refused."""
    model = nn.Linear(4, 4)
    book = BookKeeping(model)
    with book.recording():
        squares_loss(model, torch.randn(2, 4))(torch.arange(2)).backward()

    with pytest.raises(EngineError) as refused:
        book.sums(clip, torch.tensor(owners), units)

    assert refused.value.code == "bad_options"


def test_sums_are_given_once_and_only_of_what_was_recorded() -> None:
    """Without a recording, after a failed one and a second time there is nothing to sum, and no zeros are returned."""
    model = nn.Linear(4, 4)
    book = BookKeeping(model)
    owners = torch.arange(2)
    with pytest.raises(ZeroDivisionError), book.recording():
        squares_loss(model, torch.randn(2, 4))(owners).backward()
        raise ZeroDivisionError
    with pytest.raises(EngineError, match="no forward and backward"):
        book.sums(CLIP, owners, 2)
    with book.recording():
        squares_loss(model, torch.randn(2, 4))(owners).backward()
    book.sums(CLIP, owners, 2)

    with pytest.raises(EngineError, match="no forward and backward"):
        book.sums(CLIP, owners, 2)


def test_what_is_overwritten_after_the_pass_is_refused() -> None:
    """The caller's own tensor, written to before the sums are asked for, and before the way back."""
    x = torch.randn(2, 4)
    book = BookKeeping(nn.Linear(4, 4))
    with book.recording():
        book.model(x).square().sum().backward()
    x.zero_()
    with pytest.raises(EngineError, match="overwritten"):
        book.sums(CLIP, torch.arange(2), 2)

    book = BookKeeping(nn.LayerNorm(4))
    with pytest.raises(EngineError, match="overwritten"), book.recording():
        loss = book.model(x).square().sum()
        x.zero_()
        loss.backward()


def test_one_pass_is_gone_back_through_once() -> None:
    """What was kept is let go as soon as it is known, so a second way back is refused."""
    book = BookKeeping(nn.Linear(4, 4))
    with pytest.raises(EngineError, match="twice"), book.recording():
        loss = book.model(torch.randn(2, 4)).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(*, fails: bool) -> None:
    """Neither a hook nor a changed flag nor a gradient stays behind, also where the pass fails in between."""
    model = neox(tied=True).eval()
    model.gpt_neox.embed_in.weight.grad = earlier = torch.ones(VOCABULARY, WIDTH)
    model.gpt_neox.final_layer_norm.requires_grad_(requires_grad=False)
    flags = [p.requires_grad for p in model.parameters()]
    wrong = torch.full((1, 3), VOCABULARY)
    book = BookKeeping(model)
    if fails:
        with pytest.raises(IndexError), book.recording():
            model(input_ids=wrong)
    else:
        with book.recording():
            text_loss(model)(torch.arange(ROWS)).backward()

    assert [p.requires_grad for p in model.parameters()] == flags
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert model.gpt_neox.embed_in.weight.grad is earlier
    assert all(p.grad is None for p in list(model.parameters())[1:])
