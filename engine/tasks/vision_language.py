"""CLIP (Radford et al. 2021, arXiv 2103.00020): pictures and captions in one space, and classes named by prompts.

A class is the caption "a photo of a CLASS." (underscores are spaces); a picture's logits are exp(scale) times the
cosines between its features and those of every class's caption. A folder of ours names its classes in `id2label`; one
that came from elsewhere does not, and then the classes are those of the job's records, sorted.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedModel, PreTrainedTokenizerFast

from engine.corpus import Record
from engine.errors import EngineError
from engine.seeds import derive
from engine.tasks.pixels import FILE, Pixels, pictures

PROMPT = "a photo of a {}."
STYLED = "a {} picture of a {}."  # domain, class
TOGETHER = "processor_config.json"  # where the library's newer processors write what FILE holds, under image_processor
PLACEHOLDER = "LABEL_"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader(Pixels):
    """How pictures and words are read. `cropped`: the shorter side is scaled to `edge` and the middle taken."""

    tokenizer: PreTrainedTokenizerFast
    cropped: bool = False
    edge: int = 0  # 0 for the larger of height and width
    resample: int = Image.Resampling.BICUBIC

    def scaled(self, image: Image.Image) -> Image.Image:
        """The picture in the model's size, as the library's own CLIP processor scales it."""
        if not self.cropped:
            return image.resize((self.width, self.height), self.resample)
        short, edge = min(image.size), self._shortest()
        size = (max(edge, image.width * edge // short), max(edge, image.height * edge // short))
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        resized = image.resize(size, self.resample)
        return resized.crop((left, top, left + self.width, top + self.height))

    def _shortest(self) -> int:
        return self.edge or max(self.width, self.height)

    def save_pretrained(self, folder: Path) -> None:
        """Write both where the library looks for them."""
        told = {**self.mapping(), "image_processor_type": "CLIPImageProcessor", "resample": int(self.resample)}
        told["do_center_crop"] = self.cropped
        told["crop_size"] = {"height": self.height, "width": self.width}
        if self.cropped:
            told["size"] = {"shortest_edge": self._shortest()}
        (folder / FILE).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        self.tokenizer.save_pretrained(folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelled:
    """Pictures (uint8, rows x channels x height x width) with their classes and domains by number (int64, rows)."""

    images: Tensor
    classes: Tensor
    domains: Tensor

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.classes)

    def at(self, rows: Sequence[int]) -> "Labelled":
        """Some of them, in the order asked for."""
        index = torch.as_tensor(rows, dtype=torch.long)
        return Labelled(images=self.images[index], classes=self.classes[index], domains=self.domains[index])


def read_reader(folder: Path, tokenizer: PreTrainedTokenizerFast, *, channels: int) -> Reader:
    """How the CLIP of a folder wants its pictures; `EngineError("bad_model")` where the folder does not say."""
    try:
        value = _processor(folder)
        cropped = bool(value.get("do_center_crop", False))
        height, width = _sides(value["crop_size"] if cropped else value["size"])
        edge = _edge(value.get("size", 0)) if cropped else 0
        mean, deviation = (tuple(map(float, value[key])) for key in ("image_mean", "image_std"))
        resample = int(value.get("resample", Image.Resampling.BICUBIC))
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"the model folder {folder.name!r} has no {FILE} that says size, image_mean and image_std"
        raise EngineError("bad_model", message) from error
    if len(mean) != channels or len(deviation) != channels or min(height, width) < 1 or 0 < edge < max(height, width):
        raise EngineError("bad_model", f"the {FILE} of {folder.name!r} is for another number of channels or no size")
    return Reader(
        channels=channels,
        height=height,
        width=width,
        mean=mean,
        deviation=deviation,
        tokenizer=tokenizer,
        cropped=cropped,
        edge=edge,
        resample=resample,
    )


def _sides(told: int | Mapping[str, int]) -> tuple[int, int]:
    """Height and width; older folders write one number for both."""
    return (told, told) if isinstance(told, int) else (int(told["height"]), int(told["width"]))


def _edge(told: int | Mapping[str, int]) -> int:
    """What the shorter side is scaled to before the middle is taken; ValueError for two sides, which would squeeze."""
    if isinstance(told, int):
        return told
    if "shortest_edge" not in told:
        message = "a picture is squeezed and cropped"
        raise ValueError(message)
    return int(told["shortest_edge"])


def _processor(folder: Path) -> dict[str, Any]:
    if (folder / FILE).exists():
        return cast("dict[str, Any]", json.loads((folder / FILE).read_text(encoding="utf-8")))
    together = json.loads((folder / TOGETHER).read_text(encoding="utf-8"))
    return cast("dict[str, Any]", together["image_processor"])


def clip_of(model: PreTrainedModel) -> CLIPModel:
    """The model, checked; `EngineError("bad_model")` for any other."""
    if not isinstance(model, CLIPModel):
        raise EngineError("bad_model", "this is for a CLIP, and the model is none")
    return model


def eyes(model: CLIPModel) -> CLIPVisionConfig:
    """What the vision tower is like."""
    return cast("CLIPVisionConfig", model.config.vision_config)


def reader_of(reader: object) -> Reader:
    """What reads pictures and words, checked; `EngineError("bad_model")` for any other."""
    if not isinstance(reader, Reader):
        raise EngineError("bad_model", "this model does not take pictures and words, and the method needs both")
    return reader


def class_names(model: CLIPModel, records: Iterable[Record]) -> tuple[str, ...]:
    """The model's own classes; where its folder names none, those of the records, sorted."""
    own = [str(name) for _, name in sorted((model.config.id2label or {}).items())]
    if own and not all(name.startswith(PLACEHOLDER) for name in own):
        return tuple(own)
    return tuple(sorted({record.label for record in records if record.label is not None}))


def domain_names(records: Iterable[Record]) -> tuple[str, ...]:
    """The domains of records, sorted; `EngineError("bad_data")` where one has none."""
    names = set()
    for position, record in enumerate(records):
        if record.domain is None:
            raise EngineError("bad_data", f"record {position + 1} has no domain, and this needs one of every record")
        names.add(record.domain)
    return tuple(sorted(names))


def labelled(records: Sequence[Record], reader: Reader, classes: Sequence[str], domains: Sequence[str]) -> Labelled:
    """Decode records in order; a record without a domain has the number -1."""
    read = pictures(records, reader, {name: i for i, name in enumerate(classes)})
    numbers = {name: i for i, name in enumerate(domains)}
    known = torch.tensor([numbers.get(record.domain or "", -1) for record in records], dtype=torch.long)
    return Labelled(images=read.images, classes=read.classes, domains=known)


def prompts(classes: Iterable[str]) -> list[str]:
    """The caption of each class."""
    return [PROMPT.format(name.replace("_", " ")) for name in classes]


def styled(domain: str, label: str) -> str:
    """The caption of a class in a domain."""
    return STYLED.format(domain.replace("_", " "), label.replace("_", " "))


def text_features(model: CLIPModel, reader: Reader, texts: Sequence[str]) -> Tensor:
    """Features of captions (texts x width), each of length 1."""
    words = int(cast("CLIPTextConfig", model.config.text_config).max_position_embeddings)
    read = reader.tokenizer(list(texts), padding=True, truncation=True, max_length=words, return_tensors="pt")
    there = {name: read[name].to(model.device) for name in ("input_ids", "attention_mask")}
    return functional.normalize(cast("Tensor", model.get_text_features(**there).pooler_output), dim=-1)


def image_features(model: CLIPModel, reader: Reader, images: Tensor) -> Tensor:
    """Features of uint8 pictures (rows x width), each of length 1."""
    pixels = reader.normalised(images.to(model.device))
    return functional.normalize(cast("Tensor", model.get_image_features(pixel_values=pixels).pooler_output), dim=-1)


def logits(model: CLIPModel, features: Tensor, texts: Tensor) -> Tensor:
    """exp(scale) times the cosines (rows x texts) of features of length 1."""
    return model.logit_scale.exp() * features @ texts.T


@torch.no_grad()
def all_features(model: CLIPModel, reader: Reader, images: Tensor, *, rows_per_pass: int) -> Tensor:
    """`image_features` of many pictures, in passes, on the CPU."""
    parts = [image_features(model, reader, part).cpu() for part in images.split(rows_per_pass)]
    return torch.cat(parts) if parts else torch.zeros(0, int(model.config.projection_dim or 0))


def shuffled(size: int, seed: int, *names: str) -> list[int]:
    """0 to size - 1 in an order that is drawn with the seed and the names."""
    order: list[int] = np.random.default_rng(derive(seed, *names)).permutation(size).tolist()
    return order
