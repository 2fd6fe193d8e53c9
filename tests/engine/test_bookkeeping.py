"""Clipped sums out of one backward pass, against gradients of one unit at a time and against opacus."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

from engine.methods.bookkeeping import HELD, BookKeeping
from tests.engine.books import (
    CLIP,
    OWNERS,
    ROWS,
    TOKENS,
    VOCABULARY,
    WIDTH,
    Recurrent,
    convolutions,
    gap,
    kept,
    llama,
    neox,
    one_by_one,
    squares_loss,
    text_loss,
)


@pytest.mark.parametrize("owners", OWNERS)
@pytest.mark.parametrize("tied", [False, True])
def test_text_models_agree_in_double_precision(*, tied: bool, owners: list[int]) -> None:
    """GPT-NeoX's sums are those of one unit at a time to 1e-10, with a table that is also the head, and rows shared."""
    model = neox(tied=tied).double().eval()
    loss = text_loss(model)

    sums, norms = kept(model, loss, torch.tensor(owners), CLIP)
    wanted, true_norms = one_by_one(model, loss, torch.tensor(owners), CLIP)

    assert gap(sums, wanted) < 1e-10
    assert norms == pytest.approx(true_norms, rel=1e-10)
    assert min(norm for norm in norms if norm) > CLIP


@pytest.mark.parametrize("owners", OWNERS)
@pytest.mark.parametrize("tied", [False, True])
def test_llama_agrees_in_single_precision(*, tied: bool, owners: list[int]) -> None:
    """Llama's sums are those of one unit at a time to 1e-5."""
    model = llama(tied=tied).eval()
    loss = text_loss(model)

    sums, norms = kept(model, loss, torch.tensor(owners), 20.0)
    wanted, true_norms = one_by_one(model, loss, torch.tensor(owners), 20.0)

    assert gap(sums, wanted) < 1e-5
    assert norms == pytest.approx(true_norms, rel=1e-5)


@pytest.mark.parametrize("owners", OWNERS)
def test_image_models_agree_in_double_precision(owners: list[int]) -> None:
    """Convolutions, GroupNorm, LayerNorm over two dimensions and RMSNorm agree to 1e-10."""
    model = convolutions().double()
    loss = squares_loss(model, torch.randn(ROWS, 3, 8, 8, dtype=torch.double))

    sums, norms = kept(model, loss, torch.tensor(owners), CLIP)
    wanted, true_norms = one_by_one(model, loss, torch.tensor(owners), CLIP)

    assert gap(sums, wanted) < 1e-10
    assert norms == pytest.approx(true_norms, rel=1e-10)


@pytest.mark.parametrize("make", [llama, neox])
def test_sums_are_those_of_opacus(make: Callable[..., nn.Module]) -> None:
    """Opacus' gradients of rows, added by unit and clipped, give the same sums to 1e-5."""
    model = make(tied=False).train()
    owners = torch.tensor(OWNERS[2])
    sums, norms = kept(model, text_loss(model), owners, CLIP)
    wrapped = GradSampleModule(model, batch_first=True, loss_reduction="sum", strict=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        text_loss(wrapped)(torch.arange(ROWS)).backward()
    rows: list[Any] = [getattr(p, "grad_sample", None) for p in model.parameters()]
    wrapped.to_standard_module()

    units = [torch.zeros(3, *g.shape[1:]).index_add(0, owners, g) for g in rows]
    true_norms = torch.stack([g.flatten(1).norm(dim=1) for g in units]).norm(dim=0)

    assert norms == pytest.approx(true_norms.tolist(), rel=1e-5)
    assert gap(sums, [torch.tensordot(CLIP / true_norms.clamp(min=CLIP), g, 1) for g in units]) < 1e-5


@settings(max_examples=25)
@given(
    owners=st.lists(st.integers(0, 4), min_size=1, max_size=7),
    tokens=st.integers(1, 40),
    steps=st.integers(1, 3),
    clip=st.floats(0.01, 100),
    held=st.sampled_from([1, 300, HELD]),
)
def test_any_owners_and_any_number_of_uses(owners: list[int], tokens: int, steps: int, clip: float, held: int) -> None:
    """Whoever owns rows, however long, often a matrix is used and little is held at once, sums and norms agree."""
    model = Recurrent(steps).double()
    loss = squares_loss(model, torch.randn(len(owners), tokens, WIDTH, dtype=torch.double))

    sums, norms = kept(model, loss, torch.tensor(owners), clip, held)
    wanted, true_norms = one_by_one(model, loss, torch.tensor(owners), clip)

    assert gap(sums, wanted) < 1e-10
    assert norms == pytest.approx(true_norms, rel=1e-10)


@pytest.mark.parametrize("held", [1, HELD])
def test_units_of_neighbouring_rows_are_cut_out(held: int) -> None:
    """Three units of two rows each, side by side, one unit at a time and together."""
    model = Recurrent(1).double()
    owners = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = squares_loss(model, torch.randn(ROWS, 3, WIDTH, dtype=torch.double))

    assert gap(kept(model, loss, owners, CLIP, held)[0], one_by_one(model, loss, owners, CLIP)[0]) < 1e-10


def test_inputs_without_tokens_are_rows() -> None:
    """Rows of numbers, and rows of one token, need no dimension for tokens."""
    model = nn.Sequential(nn.Embedding(9, 5, padding_idx=2), nn.Linear(5, 4), nn.LayerNorm(4)).double()
    loss = squares_loss(model, torch.tensor([1, 2, 3, 8]))
    owners = torch.tensor([0, 1, 0, 2])

    assert gap(kept(model, loss, owners, CLIP)[0], one_by_one(model, loss, owners, CLIP)[0]) < 1e-10


def test_padding_counts_for_nothing() -> None:
    """A unit whose row is padded on the right has the gradient that it has without padding."""
    model = neox(tied=False).double().eval()
    ids = torch.randint(VOCABULARY, (2, TOKENS))
    short = 5

    def loss(chosen: Tensor, length: int = TOKENS) -> Tensor:
        logits = model(input_ids=ids[chosen, :length], use_cache=False).logits[:, : short - 1]
        return functional.cross_entropy(logits.flatten(0, 1), ids[chosen, 1:short].flatten(), reduction="sum")

    sums, _ = kept(model, loss, torch.arange(2), CLIP)
    wanted, _ = one_by_one(model, lambda chosen: loss(chosen, short), torch.arange(2), CLIP)

    assert gap(sums, wanted) < 1e-10


def test_frozen_parameters_are_left_out() -> None:
    """Only what is trained is clipped and returned, be it a bias, a gain or the matrices of one part."""
    model = neox(tied=False).double().eval()
    for name, p in model.named_parameters():
        p.requires_grad_("layers.1" in name or name.endswith("bias"))
    loss = text_loss(model)

    sums, norms = kept(model, loss, torch.arange(ROWS), CLIP)
    wanted, true_norms = one_by_one(model, loss, torch.arange(ROWS), CLIP)

    assert len(sums) == sum(p.requires_grad for p in model.parameters()) < len(list(model.parameters()))
    assert gap(sums, wanted) < 1e-10
    assert norms == pytest.approx(true_norms, rel=1e-10)


def test_layers_that_take_no_part_have_no_gradient() -> None:
    """A layer that is never called has a sum of zeros, as autograd would have it."""
    model = nn.ModuleDict({"used": nn.Linear(4, 4), "unused": nn.Linear(4, 3)})
    x = torch.randn(2, 4)

    sums, _ = kept(model, lambda chosen: model["used"](x[chosen]).square().sum(), torch.arange(2), CLIP)

    assert [float(total.norm()) > 0 for total in sums] == [True, True, False, False]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([1.0, 30.0, 1000.0, 30000.0]))
def test_a_norm_is_never_rounded_down(seed: int, size: float) -> None:
    """Where the tokens of a unit all but cancel, rounding makes its gradient smaller than the clip and not larger."""
    torch.manual_seed(seed)
    layer = nn.Linear(32, 32, bias=False)
    x = torch.randn(1, 1, 32).expand(1, 2, 32)
    outwards = size * torch.randn(1, 32)
    weights = torch.stack([outwards, torch.randn(1, 32) - outwards], dim=1)

    sums, _ = kept(layer, lambda chosen: (layer(x[chosen]) * weights[chosen]).sum(), torch.arange(1), CLIP)

    assert float(sums[0].norm()) < CLIP * (1 + 1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_bfloat16_is_clipped_as_exactly(*, tied: bool) -> None:
    """Under autocast the gradient is rounded, and still no longer than the clip by more than float32 rounds."""
    model = llama(tied=tied).eval()
    loss = text_loss(model)

    def rounded(chosen: Tensor, first: int = 0) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return loss(chosen + first)

    for unit in range(3):
        sums, _ = kept(model, partial(rounded, first=unit), torch.arange(1), CLIP)
        assert float(torch.stack([total.norm() for total in sums]).norm()) == pytest.approx(CLIP, rel=1e-5)
    sums, _ = kept(model, rounded, torch.arange(ROWS), CLIP)

    assert gap(sums, one_by_one(model, loss, torch.arange(ROWS), CLIP)[0]) < 0.05


def test_several_losses_of_the_same_rows_add_up() -> None:
    """Two passes over the same rows are one gradient, whose norm has the terms between them."""
    model = Recurrent(2).double()
    x = torch.randn(2, ROWS, 3, WIDTH, dtype=torch.double)
    losses = [squares_loss(model, part) for part in x]
    book = BookKeeping(model)
    with book.recording():
        for loss in losses:
            loss(torch.arange(ROWS)).backward()

    sums = book.sums(CLIP, torch.arange(ROWS), ROWS)
    wanted, _ = one_by_one(model, lambda chosen: losses[0](chosen) + losses[1](chosen), torch.arange(ROWS), CLIP)

    assert gap(sums, wanted) < 1e-10


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_are_recorded_once(*, reentrant: bool) -> None:
    """A model that computes its activations twice to save memory gives the same sums."""
    model = llama(tied=False).train()
    wanted, _ = kept(model, text_loss(model), torch.arange(ROWS), CLIP)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})

    assert gap(kept(model, text_loss(model), torch.arange(ROWS), CLIP)[0], wanted) < 1e-6


def test_a_gain_that_is_stored_less_one_is_a_gain() -> None:
    """Gemma's RMSNorm, which multiplies by one plus its gain, is recognised by what it does."""
    model = nn.Sequential(nn.Linear(8, 8), GemmaRMSNorm(8)).float()
    loss = squares_loss(model, torch.randn(3, 4, 8))

    assert gap(kept(model, loss, torch.arange(3), CLIP)[0], one_by_one(model, loss, torch.arange(3), CLIP)[0]) < 1e-5
