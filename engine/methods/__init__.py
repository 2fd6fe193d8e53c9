"""How models are changed. One module a family, one function a method; `engine.catalogue` says which module has which.

A method takes a `Setting` and changes its model in place. It sees records, never people, and draws every random
choice from the setting's seed, except DP training, whose randomness is secret.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.corpus import Record
from engine.training import Progress

OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting(Generic[OptionsT]):
    """What a method works with. `retain` is also the training set where nothing is forgotten."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    forget: Sequence[Record]
    retain: Sequence[Record]
    options: OptionsT
    seed: int
    progress: Progress
