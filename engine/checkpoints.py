"""Hugging Face model folders in and out: configuration, tokenizer or pixels, and weights as safetensors only.

A folder that holds a pickle is refused as a whole, before any of its files is opened, because loading one runs
whatever code it contains. No network: what is not in the folder does not exist. `trust_remote_code` does not exist
here either.
"""

import json
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoTokenizer,
    CLIPModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from engine import guards
from engine.contract import task_of
from engine.errors import EngineError
from engine.tasks import image_models, vision_language
from engine.tasks.pixels import Pixels, read_pixels

logging.disable_progress_bar()

Reader = PreTrainedTokenizerFast | Pixels  # what turns records into what a model takes

SHOWN = 3  # names in a sentence
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


def task(folder: Path) -> str:
    """The family of the model in a folder (`engine.contract.TASKS`)."""
    check(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return task_of(config)
    except (OSError, ValueError, AttributeError) as error:
        raise EngineError("bad_model", f"the config.json of {folder.name!r} cannot be read") from error


def architecture(folder: Path) -> str:
    """What the configuration of a folder calls its model, for a sentence about it."""
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures")
    except (OSError, ValueError, AttributeError):
        names = None
    return str(names[0]) if isinstance(names, list) and names else "no architecture named"


def load(folder: Path) -> tuple[PreTrainedModel, Reader]:
    """A model with what reads records for it."""
    family = task(folder)
    if family == "language":
        return load_model(folder), load_tokenizer(folder)
    if family == "vision-language":
        clip = load_clip(folder)
        channels = int(clip.config.vision_config.num_channels)
        return clip, vision_language.read_reader(folder, load_tokenizer(folder), channels=channels)
    model = load_classifier(folder)
    return model, read_pixels(folder, channels=model.config.num_channels)


def load_classifier(folder: Path) -> PreTrainedModel:
    """The image classifier of a folder, float32, in evaluation mode."""
    check(folder)
    image_models.register()
    try:
        model = _whole(folder, AutoModelForImageClassification, trust_remote_code=False)
        if model.config.num_channels not in (1, 3):
            raise EngineError("bad_model", f"the model folder {folder.name!r} takes neither grey nor colour pictures")
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, SafetensorError) as error:
        raise EngineError(
            "bad_model", f"the model folder {folder.name!r} is not an image classifier that can be loaded"
        ) from error
    model.eval()
    return model


def load_clip(folder: Path) -> PreTrainedModel:
    """The CLIP of a folder, float32, in evaluation mode; with its guard, if there is one."""
    check(folder)
    try:
        model = _whole(folder, CLIPModel)
        if model.config.vision_config.num_channels not in (1, 3):
            raise EngineError("bad_model", f"the model folder {folder.name!r} takes neither grey nor colour pictures")
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, SafetensorError) as error:
        raise EngineError("bad_model", f"the model folder {folder.name!r} is not a CLIP that can be loaded") from error
    model.eval()
    return guards.wrap(model, folder) if guards.present(folder) else model


def load_model(folder: Path) -> PreTrainedModel:
    """The causal language model of a folder, float32, in evaluation mode; with its guard, if there is one."""
    check(folder)
    try:
        model = _whole(folder, AutoModelForCausalLM, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        message = f"the model folder {folder.name!r} ({architecture(folder)}) is not a causal language model"
        raise EngineError("bad_model", f"{message} that can be loaded") from error
    model.eval()
    return guards.wrap(model, folder) if guards.present(folder) else model


def _whole(folder: Path, kind: Any, **more: bool) -> PreTrainedModel:  # noqa: ANN401 - a class of the library
    """A model with all its weights from the folder: the library draws a head that is missing at random and goes on."""
    model, told = kind.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True, **more
    )
    missing = sorted(told["missing_keys"])
    if missing:
        named = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        message = f"the model folder {folder.name!r} ({architecture(folder)}) lacks weights ({named})"
        raise EngineError("bad_model", f"{message}; save the whole model, with its head")
    return cast("PreTrainedModel", model)


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


def save(folder: Path, model: PreTrainedModel, reader: Reader) -> None:
    """Write model and tokenizer, or pixels; equal weights give equal bytes."""
    model.save_pretrained(folder)
    reader.save_pretrained(folder)
