"""Small models, and clipped sums of their gradients by keeping books and by one backward pass for each unit."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

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
