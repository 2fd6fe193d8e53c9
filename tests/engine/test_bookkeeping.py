"""Clipped sums out of one backward pass, against gradients of one unit at a time and against opacus."""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from engine.errors import EngineError
from engine.methods.bookkeeping import HELD, BookKeeping

VOCABULARY, WIDTH, ROWS, TOKENS = 64, 16, 6, 12
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
OWNERS = ([0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 1, 3], [2, 0, 1, 0, 2, 0])  # one row each; in sequence; mixed, one has none
CLIP = 0.7

Loss = Callable[[Tensor], Tensor]  # of some rows, added up


def one_by_one(model: nn.Module, loss: Loss, owners: Tensor, clip: float) -> tuple[list[Tensor], list[float]]:
    """The clipped sum and the norms, by an ordinary backward pass for each unit."""
    trained = [p for p in model.parameters() if p.requires_grad]
    total, norms = [torch.zeros_like(p) for p in trained], []
    for unit in range(int(owners.max()) + 1):
        rows = (owners == unit).nonzero().flatten()
        parts = torch.autograd.grad(loss(rows), trained, allow_unused=True) if len(rows) else [None] * len(trained)
        gradient = [torch.zeros_like(p) if g is None else g for p, g in zip(trained, parts, strict=True)]
        norms.append(float(torch.stack([g.double().norm() for g in gradient]).norm()))
        total = [t + g * min(1.0, clip / max(norms[-1], clip)) for t, g in zip(total, gradient, strict=True)]
    return total, norms


def kept(
    model: nn.Module, loss: Loss, owners: Tensor, clip: float, held: int = HELD
) -> tuple[list[Tensor], list[float]]:
    """The same by keeping books."""
    book = BookKeeping(model, held=held)
    with book.recording():
        loss(torch.arange(len(owners))).backward()
    sums = book.sums(clip, owners, int(owners.max()) + 1)
    return sums, book.norms.tolist()


def gap(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """The largest difference of two tensors, of the second's norm."""
    return max(float((a - b).norm() / b.norm().clamp(min=1e-30)) for a, b in zip(left, right, strict=True))


def text_loss(model: nn.Module, rows: int = ROWS) -> Loss:
    """Cross-entropy of every next token of random text."""
    ids = torch.randint(VOCABULARY, (rows, TOKENS), generator=torch.Generator().manual_seed(3))

    def loss(chosen: Tensor) -> Tensor:
        told = ids[chosen]
        positions = torch.arange(TOKENS).expand(told.shape)
        logits = model(input_ids=told, position_ids=positions, use_cache=False).logits
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), told[:, 1:].flatten(), reduction="sum")

    return loss


def squares_loss(model: nn.Module, x: Tensor) -> Loss:
    """Half the squared outputs, so that the gradient depends on the output."""
    return lambda chosen: model(x[chosen]).square().sum() / 2


def llama(*, tied: bool) -> LlamaForCausalLM:
    """A tiny Llama; its RMSNorm computes in float32 whatever the model's type."""
    return LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=tied))


def neox(*, tied: bool) -> GPTNeoXForCausalLM:
    """A tiny GPT-NeoX, with biases and LayerNorm."""
    return GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, tie_word_embeddings=tied))


def convolutions() -> nn.Module:
    """Every way of padding, groups, a stride, and activations that overwrite."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.GroupNorm(2, 8),
        nn.Conv2d(8, 8, 3, stride=2, groups=2, padding_mode="circular", padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, (3, 2), padding="same", dilation=2),
        nn.Flatten(2),
        nn.LayerNorm([8, 16]),
        nn.Linear(16, 4),
        nn.RMSNorm(4, eps=1e-5),
    )


class Recurrent(nn.Module):
    """One matrix and one bias, used at each of several steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.step = nn.Linear(WIDTH, WIDTH)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to its own output."""
        for _ in range(self.steps):
            x = torch.tanh(self.step(x))
        return x


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


@pytest.mark.parametrize(
    "layer",
    [
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
