"""Hugging Face model folders in and out: configuration, tokenizer, and weights as safetensors only.

A folder that holds a pickle is refused as a whole, before any of its files is opened, because loading one runs
whatever code it contains. No network: what is not in the folder does not exist. `trust_remote_code` does not exist
here either.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from engine import guards
from engine.errors import EngineError

logging.disable_progress_bar()

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"})


def check(folder: Path) -> None:
    """Refuse a folder that is no safetensors model folder, with one sentence that says what to change."""
    if not folder.is_dir():
        raise EngineError("bad_model", f"there is no model folder called {folder.name!r}")
    pickles = sorted(path.name for path in folder.rglob("*") if path.suffix.lower() in PICKLES)
    if pickles:
        raise EngineError(
            "pickle_refused",
            f"{pickles[0]} can run code when it is loaded; convert the model to safetensors and remove it",
        )
    if not (folder / "config.json").is_file():
        raise EngineError("bad_model", f"the model folder {folder.name!r} has no config.json")
    if not list(folder.glob("*.safetensors")):
        raise EngineError("bad_model", f"the model folder {folder.name!r} has no *.safetensors file")


def load_model(folder: Path) -> PreTrainedModel:
    """The causal language model of a folder, float32, in evaluation mode; with its guard, if there is one."""
    check(folder)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise EngineError(
            "bad_model", f"the model folder {folder.name!r} is not a causal language model that can be loaded"
        ) from error
    model.eval()
    return guards.wrap(model, folder) if guards.present(folder) else model


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder; it must be a fast one, because labels are found by character offsets."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise EngineError(
            "bad_model", f"the model folder {folder.name!r} has no tokenizer that can be loaded"
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise EngineError(
            "bad_model", f"the tokenizer in {folder.name!r} gives no character offsets; save it as tokenizer.json"
        )
    return tokenizer


def save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Write model and tokenizer; equal weights give equal bytes."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
