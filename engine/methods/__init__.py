"""How models are changed. One module a family, one function a method; `engine.catalogue` says which module has which.

A method takes a `Setting` and changes its model in place. It sees records, never people, and draws every random
choice from the setting's seed, except DP training, whose randomness is secret. It never holds a second model: what
the model said before is computed once and kept below `cache` (`engine.methods.known`), and weights as they were are
read back from `folder` tensor by tensor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.checkpoints import Reader
from engine.corpus import Record
from engine.errors import EngineError
from engine.tasks.pixels import Pixels
from engine.training import Progress

OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting(Generic[OptionsT]):
    """What a method works with. `retain` is also the training set where nothing is forgotten.

    `reader` is the model's tokenizer, or how it takes pictures; `tokenizer` and `pixels` are that, checked.

    `folder` is where the model was read from, and `digest` that folder's. `scratch` is a folder of this run alone,
    which is removed when it ends; `cache` outlives it where the job names one, and is `scratch` where it does not;
    `durable` says which.
    `secret` is 256 bits for noise that nobody may know; it is never written anywhere.
    `dictionary` maps terms to generic substitutes, `alternatives` record ids to other answers or texts.
    """

    model: PreTrainedModel
    reader: Reader
    forget: Sequence[Record]
    retain: Sequence[Record]
    options: OptionsT
    seed: int
    progress: Progress
    folder: Path
    digest: str
    cache: Path
    durable: bool = False
    dictionary: Mapping[str, str] = field(default_factory=dict)
    alternatives: Mapping[str, str] = field(default_factory=dict)
    holdout: Sequence[Record] = ()
    secret: bytes = field(default=b"", repr=False)

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer of a language model."""
        if isinstance(self.reader, Pixels):
            raise EngineError("bad_model", "this model takes pictures, and the method works on text")
        return self.reader

    @property
    def pixels(self) -> Pixels:
        """How an image classifier takes its pictures."""
        if not isinstance(self.reader, Pixels):
            raise EngineError("bad_model", "this model takes text, and the method works on pictures")
        return self.reader
