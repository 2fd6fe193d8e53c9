"""MUSE's Who's Harry Potter: a guarded model that generates with one cache for both models, and without any.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/whp.py [--prompt 900] [--tokens 128] [--runs 3]

Without a cache both models read everything again for every token, as the published code does; they give the logits
of the last position only, as a careful implementation would. Both sides run in turn in one process, the cached side
`--runs` times (its median is taken). The weights are random: time does not depend on them, and tokens are compared.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

from engine.guards.contrast import ContrastGuard, Parameters, contrasted, wrap

ALPHA = 4.0
CHANGE = 0.02  # standard deviation of what training changed


def model(width: int, layers: int, vocabulary: int) -> LlamaForCausalLM:
    """A Llama with random weights."""
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=8 * width // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=2048,
        initializer_range=0.08,
        pad_token_id=0,
        eos_token_id=None,
    )
    return LlamaForCausalLM(shape).eval()


def reinforced(plain: LlamaForCausalLM) -> dict[str, Tensor]:
    """The plain model's blocks after something like training."""
    blocks = ((name, p.detach()) for name, p in plain.named_parameters() if "layers" in name)
    return {name: p + CHANGE * torch.randn_like(p) for name, p in blocks}


@torch.no_grad()
def without_cache(first: LlamaForCausalLM, second: LlamaForCausalLM, ids: Tensor, tokens: int) -> Tensor:
    """Greedy contrast that forwards everything again through both models for every token."""
    for _ in range(tokens):
        logits = (m(ids, use_cache=False, logits_to_keep=1).logits[:, -1] for m in (first, second))
        ids = torch.cat([ids, contrasted(*logits, ALPHA).argmax(-1, keepdim=True)], dim=1)
    return ids


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds, and what came out."""
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def guarded(plain: LlamaForCausalLM, tensors: dict[str, Tensor]) -> PreTrainedModel:
    """The plain model with its guard, as `engine.guards.load` makes it."""
    parameters = {"alpha": ALPHA, "scale": 1.0}
    with tempfile.TemporaryDirectory() as folder:
        ContrastGuard(parameters=Parameters(alpha=ALPHA), tensors=tensors).save(Path(folder))
        return wrap(plain, parameters, tensors, Path(folder))


def main() -> int:
    """Print both times and their ratio; 1 when a token differs or the ratio is below ten."""
    parser = argparse.ArgumentParser(description="Time guarded generation with and without a cache.")
    for name, default in (("prompt", 900), ("tokens", 128), ("runs", 3), ("width", 256), ("layers", 6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    told = parser.parse_args()
    logging.set_verbosity_error()
    first, second = model(told.width, told.layers, 8192), model(told.width, told.layers, 8192)
    tensors = reinforced(first)
    second.load_state_dict({**second.state_dict(), **tensors})
    ids = torch.randint(3, 8192, (1, told.prompt), generator=torch.Generator().manual_seed(1))
    slow, expected = timed(lambda: without_cache(first, second, ids, told.tokens))
    served = guarded(first, tensors)
    generate = served.generate
    runs = [timed(lambda: generate(ids, max_new_tokens=told.tokens, do_sample=False)) for _ in range(told.runs)]
    fast, same = statistics.median(seconds for seconds, _ in runs), all(torch.equal(made, expected) for _, made in runs)
    size = sum(p.numel() for p in first.parameters()) / 1e6
    print(f"{told.tokens} tokens after {told.prompt}, two models of {size:.1f} million parameters, float32")
    print(f"without a cache {slow:.2f} s, with one for both {fast:.2f} s: {slow / fast:.1f} times as fast")
    distinct, machine = (
        len(set(expected[0, told.prompt :].tolist())),
        f"{platform.machine()}, torch {torch.__version__}",
    )
    print(f"identical tokens: {same} ({distinct} distinct ones); {machine}, {torch.get_num_threads()} threads")
    return 0 if same and slow >= 10 * fast else 1


if __name__ == "__main__":
    sys.exit(main())
