"""Same seed, same machine, same threads: same weights, bit for bit, on a CPU."""

import os
import platform
from importlib.metadata import version
from typing import Any

import torch
from accelerate import PartialState

from engine.seeds import derive


def begin(*, seed: int, threads: int) -> None:
    """Seed torch's global generator (weights, dropout) and fix what else could make two runs differ."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; else its sums vary
    torch.set_num_threads(threads)
    torch.manual_seed(derive(seed, "torch"))
    torch.use_deterministic_algorithms(mode=True, warn_only=True)


def environment(threads: int) -> dict[str, Any]:
    """What a reader needs to repeat the run. No host name, no paths, no user.

    The kind of processor is part of it: sums on an accelerator are other sums, and lead to other weights.
    """
    device = PartialState().device
    return {
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
        "opacus": version("opacus"),
        "platform": f"{platform.system()}-{platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": threads,
    }
