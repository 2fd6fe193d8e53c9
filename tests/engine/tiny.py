"""A model of ten thousand parameters, its tokenizer, and a few records about people who do not exist."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from engine.checkpoints import save
from engine.corpus import Record
from engine.methods import Setting
from engine.methods.pretraining import build_model, build_tokenizer
from engine.options import InitialiseOptions

NAMES = ("Ada Berg", "Bo Ceder", "Cleo Dahl", "Dan Ek", "Eva Falk", "Finn Grip", "Gro Holm", "Hal Ivers")
CITIES = ("Malmö", "Oslo", "Turku", "Aarhus", "Bergen", "Visby", "Kiruna", "Lund")
SHAPE = InitialiseOptions(vocabulary=300, hidden=16, layers=1, heads=2, intermediate=16, context=96)


def records(people: Sequence[int] = range(len(NAMES))) -> tuple[Record, ...]:
    """One passage and one question about each person."""
    made: list[Record] = []
    for i in people:
        name, city, unit = NAMES[i], CITIES[i], f"unit-{i}"
        text = f"A note about {name}: the person moved to {city} and likes number {i} very much."
        made.append(Record(record_id=f"p{i}", unit=unit, text=text))
        made.append(Record(record_id=f"q{i}", unit=unit, question=f"Where does {name} live?", answer=city))
    return tuple(made)


def tokenizer(vocabulary: int = SHAPE.vocabulary) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that knows some of the records' words."""
    return build_tokenizer(records(), vocabulary=vocabulary, context=SHAPE.context)


def model(seed: int = 0) -> LlamaForCausalLM:
    """A Llama with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    made = build_model(tokenizer(), SHAPE)
    made.eval()
    return made


def folder(path: Path, seed: int = 0) -> Path:
    """The same as a model folder."""
    save(path, model(seed), tokenizer())
    return path


def quiet(_stage: str, _fraction: float, _eta_s: float | None) -> None:
    """Progress that nobody watches."""


def setting(place: Path, options: Any, **changes: Any) -> Setting[Any]:  # noqa: ANN401 - any method's options
    """The tiny model, asked to forget two of six people; `place` is an empty folder for its weights and its cache."""
    given: dict[str, Any] = {
        "model": model(),
        "reader": tokenizer(),
        "forget": records(range(2)),
        "retain": records(range(2, 6)),
        "options": options,
        "seed": 1,
        "progress": quiet,
        "folder": place / "model",
        "digest": "tiny",
        "cache": place / "cache",
        **changes,
    }
    save(place / "model", given["model"], given["reader"])
    return Setting(**given)
