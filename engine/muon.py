"""Muon (Jordan 2024): momentum whose matrix is orthogonalised before the step, in float32.

Why not `torch.optim.Muon`: it orthogonalises in bfloat16, which a CPU without bfloat16 units emulates more slowly
than the whole forward and backward pass of a small model, and which rounds differently from machine to machine.
Matrices of one shape are stepped together.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (
    3.4445,
    -4.7750,
    2.0315,
)  # of the quintic that Jordan found; it drives singular values to about 1, not to 1
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For two-dimensional hidden weights only; embeddings, head, norms and biases belong to another optimiser."""

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95) -> None:
        """`lr` is the step's spectral size, times sqrt(max(1, rows / columns)) as in the original."""
        super().__init__(list(matrices), {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of every matrix that has a gradient."""
        del closure
        for group in self.param_groups:
            for matrices in _by_shape(group["params"]):
                updates = torch.stack([self._momentum(p, group["momentum"]) for p in matrices])
                rows, columns = updates.shape[1:]
                size = group["lr"] * max(1.0, rows / columns) ** 0.5
                for p, update in zip(matrices, orthogonalised(updates), strict=True):
                    p.add_(update, alpha=-size)

    def _momentum(self, p: nn.Parameter, momentum: float) -> Tensor:
        gradient = p.grad
        if gradient is None:
            message = "only matrices with gradients are stepped"
            raise ValueError(message)
        buffer: Tensor = self.state[p].setdefault("momentum", torch.zeros_like(p))
        buffer.lerp_(gradient, 1 - momentum)
        update: Tensor = gradient.lerp(buffer, momentum)
        return update


def orthogonalised(matrices: Tensor) -> Tensor:
    """Nearly the orthogonal factors of a stack of matrices (n x rows x columns), by a Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=1e-7)[:, None, None]
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


def _by_shape(matrices: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    groups: dict[torch.Size, list[nn.Parameter]] = {}
    for p in matrices:
        if p.grad is not None:
            groups.setdefault(p.shape, []).append(p)
    return list(groups.values())
