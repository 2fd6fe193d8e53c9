"""Images as arrays: what stands for the tokenizer where the records are pictures.

Decoding, size and scaling are fixed by the model's folder (`preprocessor_config.json`, as the library writes it for its
own classifiers) and are never fitted on records: a normalisation that was fitted on private pictures is outside every
theorem, and there is no way to ask for one here.
"""

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engine.corpus import Record
from engine.errors import EngineError

FILE = "preprocessor_config.json"
MODES = {1: "L", 3: "RGB"}  # by channels
READABLE = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"})
LARGEST = 64_000_000  # pixels of one picture; a file of a few kilobytes can claim more than memory holds
BROKEN = "cannot be decoded; save it as PNG or JPEG"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pixels:
    """How pictures are read: `channels` x `height` x `width`, then (value / 255 - mean) / deviation a channel."""

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 images (rows x channels x height x width) as the model wants them, float32 on the same device."""
        mean = torch.tensor(self.mean, device=images.device).view(-1, 1, 1)
        deviation = torch.tensor(self.deviation, device=images.device).view(-1, 1, 1)
        return (images.float() / 255.0 - mean) / deviation

    def scaled(self, image: Image.Image) -> Image.Image:
        """A decoded picture in the model's size."""
        return image.resize((self.width, self.height), Image.Resampling.BILINEAR)

    def save_pretrained(self, folder: Path) -> None:
        """Write it where the library looks for it."""
        (folder / FILE).write_text(json.dumps(self.mapping(), indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def mapping(self) -> dict[str, Any]:
        """What the file says."""
        return {
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.deviation),
            "rescale_factor": 1 / 255,
            "size": {"height": self.height, "width": self.width},
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """Pictures with their classes: uint8 (rows x channels x height x width) and int64 (rows,)."""

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.classes)

    def at(self, rows: Sequence[int] | NDArray[np.int64]) -> "Pictures":
        """Some of them, in the order asked for."""
        index = torch.as_tensor(rows, dtype=torch.long)
        return Pictures(images=self.images[index], classes=self.classes[index])


def read_pixels(folder: Path, *, channels: int) -> Pixels:
    """How the model of a folder wants its pictures; `EngineError("bad_model")` where the folder does not say."""
    try:
        value = json.loads((folder / FILE).read_text(encoding="utf-8"))
        height, width = _size(value["size"])
        mean, deviation = (_per_channel(value.get(key), channels) for key in ("image_mean", "image_std"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"the model folder {folder.name!r} has no {FILE} that says size, image_mean and image_std"
        raise EngineError("bad_model", message) from error
    return Pixels(channels=channels, height=height, width=width, mean=mean, deviation=deviation)


def pictures(records: Sequence[Record], pixels: Pixels, classes: Mapping[str, int]) -> Pictures:
    """Decode records in order.

    Raises:
        EngineError: `bad_data`, with the position of the first record that is no picture, is broken, or whose label
            the model does not have.
    """
    images = np.zeros((len(records), pixels.channels, pixels.height, pixels.width), dtype=np.uint8)
    known = np.zeros(len(records), dtype=np.int64)
    for i, record in enumerate(records):
        images[i], known[i] = _decoded(record, i, pixels), _class(record, i, classes)
    return Pictures(images=torch.from_numpy(images), classes=torch.from_numpy(known))


def _decoded(record: Record, position: int, pixels: Pixels) -> NDArray[np.uint8]:
    if record.image is None:
        raise EngineError("bad_data", f"record {position + 1} is no picture; this model needs image and label")
    try:
        with Image.open(io.BytesIO(base64.b64decode(record.image, validate=True))) as image:
            _refuse(image, position)
            image.load()
            made = image.convert(MODES[pixels.channels])
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise EngineError("bad_data", f"the image of record {position + 1} {BROKEN}") from error
    if made.size != (pixels.width, pixels.height):
        made = pixels.scaled(made)
    values = np.frombuffer(made.tobytes(), dtype=np.uint8)  # asarray takes three times as long for small pictures
    return values.reshape(pixels.height, pixels.width, pixels.channels).transpose(2, 0, 1)


def _refuse(image: Image.Image, position: int) -> None:
    if image.mode not in READABLE:
        message = f"the image of record {position + 1} has the mode {image.mode}; convert it to 8 bits a channel"
        raise EngineError("bad_data", message)
    if image.width * image.height > LARGEST:
        message = f"the image of record {position + 1} has more than {LARGEST} pixels; make it smaller"
        raise EngineError("bad_data", message)


def _class(record: Record, position: int, classes: Mapping[str, int]) -> int:
    found = classes.get(record.label or "")
    if found is None:
        message = f"the label of record {position + 1} is none of the {len(classes)} that the model has"
        raise EngineError("bad_data", message)
    return found


def _size(value: object) -> tuple[int, int]:
    """The library writes a side, the shortest edge, or height and width."""
    if isinstance(value, int):
        return value, value
    told = cast("Mapping[str, int]", value)
    edge = told.get("shortest_edge")
    return (edge, edge) if edge else (told["height"], told["width"])


def _per_channel(value: object, channels: int) -> tuple[float, ...]:
    """One number a channel; a folder that names none does not normalise, which is not guessed at."""
    numbers = tuple(float(number) for number in cast("Sequence[float]", value))
    if len(numbers) != channels:
        message = "another number of channels"
        raise ValueError(message)
    return numbers
