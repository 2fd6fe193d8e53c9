"""Weights as they stand in a model folder, one tensor at a time, for methods that must go back to where they began."""

from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from engine.errors import EngineError


def originals(model: nn.Module, folder: Path) -> Iterator[tuple[nn.Parameter, Tensor]]:
    """Each parameter of `model` with its value in `folder`, converted to the parameter's type and device.

    Raises:
        EngineError: `bad_model` when a parameter stands in no file of the folder under its name.
    """
    places = {name: path for path in sorted(folder.glob("*.safetensors")) for name in _names(path)}
    for name, parameter in model.named_parameters():
        if name not in places:
            raise EngineError("bad_model", f"the weights of {folder.name!r} do not hold {name}; save the model anew")
        with safe_open(places[name], "pt") as file:
            yield parameter, file.get_tensor(name).to(parameter)


def _names(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())
