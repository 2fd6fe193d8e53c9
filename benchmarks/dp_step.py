"""A step of DP training with the record as the unit, four ways in one run: time and memory beside a plain step.

    .venv/bin/python benchmarks/dp_step.py [--rounds 7]

A Llama of about ten million random parameters, 32 rows of 128 random tokens, one thread, AdamW. A step is forward,
backward, clipping and noise (the same for all private ways, none for the plain one), and the optimiser's step. The
plain way is what a training without privacy does; `opacus hooks` keeps the gradient of every row; `opacus ghost` goes
backward twice (its default for linear layers and embeddings; gains of norms row by row); `book-keeping` is ours.

Time: the ways take turns in one process, and each turn gives a ratio to the plain step of the same turn; printed are
the median and the whole range, which for n turns has the median of the distribution with probability 1 - 2^(1-n).
Seconds are of processor time. Memory: each way in processes of its own, the high-water mark of the resident set during
a step above what was resident before it, with model and optimiser in place; the median of the processes and their
range. Pages go back as soon as they are freed (a fixed threshold of malloc), so that what is counted is in use.
The run fails where the clipped sums of the three private ways differ, by 1e-5 of each tensor's norm.
"""

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping, register_grad_sampler
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from engine.methods.bookkeeping import BookKeeping

Gradient = Callable[[Tensor], None]  # leaves the gradient of rows on the parameters
Losses = Callable[[Tensor], Tensor]  # of each row

ROWS, TOKENS, VOCABULARY = 32, 128, 4096
SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 10,
    "num_attention_heads": 4,
    "intermediate_size": 688,
}
CLIP, NOISE = 0.5, 1.0
SAME = 1e-5
MIB = 1 << 20


def build() -> LlamaForCausalLM:
    """The model, with random weights."""
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=TOKENS, tie_word_embeddings=False, **SHAPE)
    model: LlamaForCausalLM = LlamaForCausalLM(config).train()
    return model


def losses_of(model: nn.Module) -> Losses:
    """Mean cross-entropy of each row; positions are told row by row, as opacus needs."""

    def losses(ids: Tensor) -> Tensor:
        positions = torch.arange(ids.shape[1]).expand(ids.shape)
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        found = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        return found.view(len(ids), -1).mean(1)

    return losses


def plain(model: nn.Module) -> Gradient:
    """Without privacy."""
    losses = losses_of(model)
    return lambda ids: losses(ids).sum().backward()


def hooks(model: nn.Module) -> Gradient:
    """Opacus' gradients of rows, clipped and added up parameter by parameter."""
    register_grad_sampler(LlamaRMSNorm)(_gain)
    losses = losses_of(GradSampleModule(model, batch_first=True, loss_reduction="sum", strict=False))
    parameters = list(model.parameters())

    def gradient(ids: Tensor) -> None:
        losses(ids).sum().backward()
        norms = torch.stack([p.grad_sample.flatten(1).norm(dim=1) for p in parameters]).norm(dim=0)  # type: ignore[attr-defined]
        factors = CLIP / norms.clamp(min=CLIP)
        for p in parameters:
            p.grad = torch.tensordot(factors, p.grad_sample, 1)  # type: ignore[attr-defined]
            p.grad_sample = None  # type: ignore[attr-defined]

    return gradient


def ghost(model: nn.Module) -> Gradient:
    """Opacus' norms in a first backward pass, and the gradient of the weighted loss in a second."""
    register_grad_sampler(LlamaRMSNorm)(_gain)
    wrapped = GradSampleModuleFastGradientClipping(
        model, batch_first=True, loss_reduction="sum", strict=False, max_grad_norm=CLIP
    )
    losses = losses_of(wrapped)

    def gradient(ids: Tensor) -> None:
        wrapped.enable_hooks()
        found = losses(ids)
        found.sum().backward(retain_graph=True)
        for p in model.parameters():
            p.grad = None
        norms = wrapped.get_norm_sample()
        wrapped.disable_hooks()
        (found * (CLIP / norms.clamp(min=CLIP))).sum().backward()

    return gradient


def ours(model: nn.Module) -> Gradient:
    """One backward pass, books kept."""
    losses, book = losses_of(model), BookKeeping(model)

    def gradient(ids: Tensor) -> None:
        with book.recording():
            losses(ids).sum().backward()
        sums = book.sums(CLIP, torch.arange(len(ids)), len(ids))
        for p, total in zip(model.parameters(), sums, strict=True):
            p.grad = total

    return gradient


WAYS: dict[str, Callable[[nn.Module], Gradient]] = {
    "plain": plain,
    "opacus hooks": hooks,
    "opacus ghost": ghost,
    "book-keeping": ours,
}


class Steps:
    """A model with its optimiser, stepped one way."""

    def __init__(self, way: str) -> None:
        self.model = build()
        self.way = way
        self.gradient = WAYS[way](self.model)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def step(self, ids: Tensor) -> None:
        """One step."""
        self.gradient(ids)
        for p in self.model.parameters() if self.way != "plain" else ():
            cast("Tensor", p.grad).add_(torch.randn_like(p), alpha=NOISE * CLIP)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def sums(self, ids: Tensor) -> list[Tensor]:
        """What the way leaves on the parameters."""
        self.gradient(ids)
        found = [cast("Tensor", p.grad) for p in self.model.parameters()]
        self.optimiser.zero_grad(set_to_none=True)
        return found


def main() -> int:
    """Print the table; 1 if the private ways disagree."""
    parser = argparse.ArgumentParser(description="Measure a step of DP training.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    told = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="Full backward hook is firing")
    if told.way:
        print(json.dumps(peak(told.way)))
        return 0
    turns = [{way: _child(way) for way in WAYS} for _ in range(told.processes)]
    off, times = timed(told.rounds)
    _print(times, turns)
    print(f"\nclipped sums differ by at most {off:.0e}; load at the end {os.getloadavg()[0]:.1f}")
    return int(off > SAME)


def timed(rounds: int) -> tuple[float, list[dict[str, float]]]:
    """By how much the private ways differ, and seconds of a step of each way, turn by turn."""
    ids = _ids(ROWS, TOKENS)
    steps = {way: Steps(way) for way in WAYS}
    off = _difference([steps[way].sums(ids) for way in WAYS if way != "plain"])
    steps["plain"].step(ids)
    found = []
    for turn in range(rounds):
        order = list(WAYS)[turn % len(WAYS) :] + list(WAYS)[: turn % len(WAYS)]
        found.append({way: _seconds(steps[way], ids) for way in order})
    return off, found


def peak(way: str) -> float:
    """Bytes that a step needs above what is there before it; a small step first makes the optimiser's state."""
    steps = Steps(way)
    steps.step(_ids(2, 8))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the high-water mark starts again here
    before = _status("VmRSS")
    steps.step(_ids(ROWS, TOKENS))
    return _status("VmHWM") - before


def _gain(layer: nn.Module, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    normalised = functional.rms_norm(activations[0], activations[0].shape[-1:], eps=layer.variance_epsilon)  # type: ignore[arg-type]
    return {cast("nn.Parameter", layer.weight): (normalised * backprops).sum(1)}


def _ids(rows: int, tokens: int) -> Tensor:
    return torch.randint(VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(2))


def _seconds(steps: Steps, ids: Tensor) -> float:
    begun = time.process_time()
    steps.step(ids)
    return time.process_time() - begun


def _difference(sums: Sequence[Sequence[Tensor]]) -> float:
    first, *others = sums
    return max(float((a - b).norm() / a.norm()) for other in others for a, b in zip(first, other, strict=True))


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return float(line.split()[1]) * 1024
    raise SystemExit("resident memory is read from /proc, which this system does not have")


def _child(way: str) -> float:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(MIB)}
    command = [sys.executable, __file__, "--way", way]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    return float(json.loads(done.stdout.splitlines()[-1]))


def _print(times: Sequence[dict[str, float]], peaks: Sequence[dict[str, float]]) -> None:
    numbers = sum(p.numel() for p in build().parameters())
    print(f"{numbers / 1e6:.1f} M parameters, {ROWS} x {TOKENS} tokens, {len(times)} turns, {len(peaks)} processes\n")
    print("| a step | seconds | time, of plain | memory, MiB | memory, of plain |")
    print("|---|---:|---:|---:|---:|")
    for way in WAYS:
        seconds, bytes_ = ([turn[way] for turn in turns] for turns in (times, peaks))
        time_ratio, memory_ratio = (_range([turn[way] / turn["plain"] for turn in turns]) for turns in (times, peaks))
        memory = statistics.median(bytes_) / MIB
        print(f"| {way} | {statistics.median(seconds):.2f} | {time_ratio} | {memory:.0f} | {memory_ratio} |")


def _range(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
    sys.exit(main())
