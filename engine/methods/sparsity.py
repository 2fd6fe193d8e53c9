"""Which weights a sparse classifier has: pruned by magnitude or by SynFlow, and a mask that every step keeps.

    magnitude    the weights smallest in absolute value, over all prunable layers together; arXiv 2304.04934, section 3
    synflow      score |dR/dw * w| with R the sum of outputs for a picture of ones, all tensors made positive, the
                 share that stays falling geometrically over `ROUNDS` rounds; arXiv 2006.05467, algorithm 1

Prunable are the weights of convolutions, as published, or of every hidden layer; a network without convolutions has
its hidden matrices pruned. Biases, normalisations and the classifier never are. No data is needed to score: SynFlow's
network passes on what a normalisation would divide by a picture's own statistics, scaled as it says, which is what
batch normalisation does in evaluation mode.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.errors import EngineError

ROUNDS = 100  # of SynFlow
PICTUREWISE = (nn.GroupNorm, nn.LayerNorm)  # what they divide by depends on the picture


@dataclass(frozen=True, kw_only=True, slots=True)
class Mask:
    """Per parameter what may move (bool, of its shape); parameters that are not named move freely."""

    kept: Mapping[str, Tensor]

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """Set to zero what was pruned."""
        for parameter, kept in self._of(model):
            parameter.masked_fill_(~kept.to(parameter.device), 0.0)

    @torch.no_grad()
    def still(self, model: nn.Module) -> None:
        """Take away the gradient of what was pruned, so that no optimiser without weight decay moves it."""
        for parameter, kept in self._of(model):
            if parameter.grad is not None:
                parameter.grad.masked_fill_(~kept.to(parameter.grad.device), 0.0)

    def _of(self, model: nn.Module) -> Iterator[tuple[nn.Parameter, Tensor]]:
        for name, parameter in model.named_parameters():
            if name in self.kept:
                yield parameter, self.kept[name]


def head(model: nn.Module) -> tuple[str, nn.Linear]:
    """The layer that gives the classes: the last matrix of the model, with its name."""
    found = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not found:
        raise EngineError("bad_model", "the model has no linear layer that gives its classes")
    return found[-1]


def prunable(model: nn.Module, layers: str = "convolutions") -> dict[str, Tensor]:
    """The weights that pruning may touch, by name; `layers` is `convolutions` or `hidden`.

    Raises:
        EngineError: `bad_model` where there are none.
    """
    last = head(model)[0]
    named = list(model.named_modules())
    convolutions = {f"{name}.weight": m.weight for name, m in named if isinstance(m, nn.Conv2d)}
    matrices = {f"{name}.weight": m.weight for name, m in named if isinstance(m, nn.Linear) and name != last}
    found = convolutions if convolutions and layers == "convolutions" else {**convolutions, **matrices}
    if not found:
        raise EngineError("bad_model", "the model has no hidden layer whose weights could be pruned; set sparsity to 0")
    return found


def zeros(model: nn.Module) -> Mask:
    """What was pruned when the model was made: weights of hidden layers that are exactly zero stay so."""
    last = head(model)[0]
    wide = (nn.Conv2d, nn.Linear)
    found = {f"{n}.weight": m.weight for n, m in model.named_modules() if isinstance(m, wide) and n != last}
    return Mask(kept={name: weight.detach() != 0 for name, weight in found.items() if bool((weight == 0).any())})


def magnitude(model: nn.Module, sparsity: float, layers: str) -> Mask:
    """All but the smallest `sparsity` of the prunable weights; none that is zero already comes back."""
    return _largest({name: weight.detach().abs() for name, weight in prunable(model, layers).items()}, sparsity)


def synflow(model: nn.Module, sparsity: float, layers: str, shape: tuple[int, int, int]) -> Mask:
    """By SynFlow, for pictures of `shape` (channels, height, width); weights and buffers are left as they were."""
    mask, training = Mask(kept={}), model.training
    with remembered(model) as restore, _passing(model):
        model.double().eval()
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.abs_()
        for done in range(1, ROUNDS + 1):
            mask = _largest(_flow(model, prunable(model, layers), shape), 1 - (1 - sparsity) ** (done / ROUNDS))
            mask.apply(model)
        model.float()
        restore()
    model.train(training)
    return mask


def remaining(model: nn.Module) -> dict[str, float]:
    """The share of weights that are not zero, per kind of layer that holds matrices or filters."""
    counted: dict[str, list[int]] = {}
    last = head(model)[0]
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            kind = "classifier" if name == last else "convolutions" if isinstance(layer, nn.Conv2d) else "matrices"
            told = counted.setdefault(kind, [0, 0])
            told[0] += int((layer.weight != 0).sum())
            told[1] += layer.weight.numel()
    return {kind: some / all_ for kind, (some, all_) in counted.items()}


@contextlib.contextmanager
def remembered(model: nn.Module) -> Iterator["Snapshot"]:
    """The weights as they are now, in a file that is gone afterwards; call what is given to have them back."""
    with tempfile.TemporaryDirectory(prefix="expunge-") as name:
        snapshot = Snapshot(path=Path(name) / "weights.safetensors", model=model)
        snapshot.take()
        yield snapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Weights and buffers of one model on disk, so that nobody keeps a second model."""

    path: Path
    model: nn.Module

    def take(self) -> None:
        """Write them as they are now, in the place of what was there."""
        save_file({name: t.detach().cpu().contiguous() for name, t in self._tensors()}, self.path)

    @torch.no_grad()
    def __call__(self) -> None:
        """Put them back."""
        with safe_open(self.path, "pt") as file:
            for name, tensor in self._tensors():
                tensor.copy_(file.get_tensor(name))

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.model.named_parameters()
        yield from self.model.named_buffers()


def _largest(scores: Mapping[str, Tensor], sparsity: float) -> Mask:
    """All but the `sparsity` lowest scores, over all tensors; of equals the first go."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    order = flat.argsort(stable=True)
    kept = torch.ones_like(flat, dtype=torch.bool)
    kept[order[: round(sparsity * len(flat))]] = False
    parts = kept.split([score.numel() for score in scores.values()])
    return Mask(kept={name: part.view_as(scores[name]).cpu() for name, part in zip(scores, parts, strict=True)})


def _flow(model: nn.Module, weights: Mapping[str, Tensor], shape: tuple[int, int, int]) -> dict[str, Tensor]:
    first = next(iter(weights.values()))
    ones = torch.ones((1, *shape), dtype=first.dtype, device=first.device)
    with torch.enable_grad():
        found = torch.autograd.grad(model(pixel_values=ones).logits.sum(), list(weights.values()))
    return {n: (g * w.detach()).abs() for (n, w), g in zip(weights.items(), found, strict=True)}


@contextlib.contextmanager
def _passing(model: nn.Module) -> Iterator[None]:
    """Normalisations by a picture's own statistics only scale and shift."""
    layers = [layer for layer in model.modules() if isinstance(layer, PICTUREWISE)]
    hooks = [layer.register_forward_hook(_scaled) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _scaled(layer: nn.GroupNorm | nn.LayerNorm, taken: tuple[Tensor, ...], _given: Tensor) -> Tensor:
    scaled = taken[0]
    over = (-1, *(1,) * (scaled.ndim - 2)) if isinstance(layer, nn.GroupNorm) else (-1,)
    tensors = dict(layer.named_parameters())  # none where the layer has no affine part
    if "weight" in tensors:
        scaled = scaled * tensors["weight"].view(over)
    return scaled + tensors["bias"].view(over) if "bias" in tensors else scaled
