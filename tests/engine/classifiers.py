"""A classifier of bars that was trained on all of them, asked to forget some; and what it makes of pictures."""

import copy
import importlib
from functools import cache
from pathlib import Path
from typing import Any

import torch

from engine.catalogue import check_options, method
from engine.corpus import Record
from engine.methods import Setting, sparse_training
from engine.tasks.image import classes_of, scores
from engine.tasks.image_models import ImageModel
from engine.tasks.pixels import Pixels, pictures
from engine.training import Fitted
from tests.engine import painted, tiny

EVERYTHING = painted.records(range(48))
GONE = tuple(record for record in EVERYTHING if record.label == "left")
KEPT = tuple(record for record in EVERYTHING if record.label != "left")


def setting(model: Any, pixels: Pixels, options: Any, **changes: Any) -> Setting[Any]:  # noqa: ANN401 - any options
    """A whole class is to be forgotten."""
    given: dict[str, Any] = {"forget": GONE, "retain": KEPT, "seed": 1, **changes}
    rest = {"progress": tiny.quiet, "folder": Path("x"), "digest": "x", "cache": Path("x")}
    return Setting(model=model, reader=pixels, options=options, **given, **rest)  # type: ignore[arg-type]


def trained(**options: Any) -> tuple[ImageModel, Pixels, Fitted]:  # noqa: ANN401 - any option
    """A network trained on everything, as a `train` job would."""
    return trained_on(EVERYTHING, **options)


def trained_on(records: tuple[Record, ...], **options: Any) -> tuple[ImageModel, Pixels, Fitted]:  # noqa: ANN401 - any option
    """The same on some records."""
    model, pixels = painted.network()
    checked = check_options("train", None, {"epochs": 10, "batch": 8, **options}, "image")
    fitted = sparse_training.refit(setting(model, pixels, checked, forget=(), retain=records))
    return model, pixels, fitted


@cache
def _deployed() -> tuple[ImageModel, Pixels, Fitted]:
    return trained()


def deployed() -> tuple[ImageModel, Pixels]:
    """A copy of the one that the tests share."""
    model, pixels, _ = _deployed()
    return copy.deepcopy(model), pixels


def unlearned(name: str, model: Any = None, **changes: Any) -> tuple[ImageModel, Fitted]:  # noqa: ANN401 - any option or field
    """What a method makes of the deployed model; `forget`, `retain` and `seed` are fields, the rest are options."""
    before, pixels = deployed()
    model = before if model is None else model
    fields = {key: changes.pop(key) for key in ("forget", "retain", "seed") if key in changes}
    checked = check_options("unlearn", name, {"batch": 8, **changes}, "image")
    function = getattr(importlib.import_module(method(name).form("image").module), name.replace("-", "_"))
    return model, function(setting(model, pixels, checked, **fields))


def accuracy(model: ImageModel, records: tuple[Record, ...]) -> float:
    """The share of pictures whose class is the likeliest."""
    return float(told(model, records).hits.mean())


def loss(model: ImageModel, records: tuple[Record, ...]) -> float:
    """Nats a picture."""
    return -float(told(model, records).log_probs.mean())


def told(model: ImageModel, records: tuple[Record, ...]) -> Any:  # noqa: ANN401 - scores
    """What the model says about pictures."""
    _, pixels = painted.network()
    return scores(model, pixels, pictures(records, pixels, classes_of(model)), rows_per_pass=64)


def weights(model: torch.nn.Module) -> torch.Tensor:
    """Every parameter, flat."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])
