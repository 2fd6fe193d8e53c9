"""Guards: what a model is made to say is changed where it is asked, and its weights still hold the data.

A guard is a folder `guard/` inside a Hugging Face model folder whose other files are untouched: `guard.json` (kind,
version, parameters) and `*.safetensors`. Removing it gives the model back as it was, so the class of anything that
makes a guard is suppression. `load` gives a model that generates and scores as any other; hooks do the rest, and a
program that reads the folder without this package gets the unguarded model.

A guard holds no text of anybody. It can recognise what it hides, and so can whoever has it: it is no less personal
than the model.
"""

import contextlib
import importlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from engine.contract import canonical
from engine.errors import EngineError
from engine.strict import decode, parse

FOLDER, DESCRIPTION, TENSORS = "guard", "guard.json", "guard.safetensors"
VERSION = 1
KINDS = {
    "contrast": "engine.guards.contrast",
    "corruption": "engine.guards.corruption",
    "prompting": "engine.guards.prompting",
}
MARK, PROMPTS = "expunge_guard", "expunge_prompts"  # attributes of a guarded model

T = TypeVar("T")


class Guard(Protocol):
    """What a method makes: something that can be written beside a model."""

    def save(self, folder: Path) -> None:
        """Write `guard/` into a model folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What `guard.json` holds."""

    kind: str
    version: int
    parameters: dict[str, Any]


def present(folder: Path) -> bool:
    """Whether the model of a folder is guarded."""
    return (folder / FOLDER).is_dir()


def load(folder: Path) -> PreTrainedModel:
    """The guarded model of a folder, ready to be asked; a folder without a guard gives the plain model."""
    from engine import checkpoints  # noqa: PLC0415 - which itself looks for a guard

    return checkpoints.load(folder)[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """A guard and the folder of the model it guards."""

    source: Path
    guard: Guard

    def save(self, folder: Path) -> None:
        """Make `folder` a copy of the model folder, byte by byte, with `guard/` in it.

        What stands there already goes: it was written from a model in memory, which a method may have trained.
        """
        refuse(self.source)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.source, folder)
        self.guard.save(folder)


def refuse(folder: Path) -> None:
    """`EngineError("bad_model")` when a model is guarded: it must not be trained through its guard."""
    if present(folder):
        raise EngineError("bad_model", "this model is guarded and cannot be trained; use the model without its guard")


def wrap(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Put the guard of a folder on its model.

    Raises:
        EngineError: `bad_model` when the guard is incomplete, damaged, or of a kind or version that is not known.
    """
    try:
        text = (folder / FOLDER / DESCRIPTION).read_text(encoding="utf-8")
        tensors = load_file(folder / FOLDER / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise EngineError("bad_model", "the guard of this model cannot be read; write it again") from error
    told = decode(Description, parse(text, what=DESCRIPTION, code="bad_model"), what=DESCRIPTION, code="bad_model")
    if told.kind not in KINDS or told.version != VERSION:
        raise EngineError("bad_model", f"this engine has no guard of kind {told.kind!r} and version {told.version}")
    guarded = importlib.import_module(KINDS[told.kind]).wrap(model, told.parameters, tensors, folder)
    return cast("PreTrainedModel", guarded)


def write(folder: Path, kind: str, parameters: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write `guard/`; equal guards give equal bytes."""
    place = folder / FOLDER
    place.mkdir()
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, place / TENSORS)
    told = Description(kind=kind, version=VERSION, parameters=dict(parameters))
    (place / DESCRIPTION).write_text(canonical(told) + "\n", encoding="utf-8")


def parameters_of(cls: type[T], parameters: Mapping[str, Any]) -> T:
    """The parameters of a guard as a dataclass, read as strictly as a job."""
    return decode(cls, parameters, what=DESCRIPTION, code="bad_model")


def mark(model: PreTrainedModel, guard: object) -> None:
    """Remember the guard on its model, beside torch's own registers: it is no part of the weights."""
    object.__setattr__(model, MARK, guard)


def of(model: torch.nn.Module) -> object | None:
    """The guard of a model that `load` gave."""
    return getattr(model, MARK, None)


@contextlib.contextmanager
def scoring(model: torch.nn.Module, ids: Tensor, rows: Tensor, positions: Tensor) -> Iterator[None]:
    """Tell a guard which tokens are answers: in each row of `ids`, those from the first label on.

    A label is given by its row and by the position that predicts it. What stands before the first label is the
    prompt, and the only part that a guard may touch. Without this a row is all prompt, as in generation. It means
    nothing to a model without a guard.
    """
    if of(model) is None:
        yield
        return
    lengths = torch.full((ids.shape[0],), ids.shape[1], dtype=torch.long, device=ids.device)
    object.__setattr__(model, PROMPTS, lengths.scatter_reduce(0, rows, positions + 1, "amin"))
    try:
        yield
    finally:
        object.__setattr__(model, PROMPTS, None)


def told_prompts(model: torch.nn.Module) -> Tensor | None:
    """For each row the number of its first tokens that are prompt, where a caller has said so."""
    return getattr(model, PROMPTS, None)


def reads_at_once(model: torch.nn.Module) -> bool:
    """Whether a prompt must be read in one pass: a guard that judges prompts must see all of one."""
    return bool(getattr(of(model), "whole_prompts", False))
