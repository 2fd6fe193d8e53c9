"""Embedding-corrupted prompts (ECO, Liu et al. 2024, arXiv 2406.07933): a judged prompt is read through noise.

When a prompt is read (more than one token, nothing in the cache), a classifier says whether it is about what is to be
forgotten. If so, the embeddings of the selected tokens are corrupted before the first layer sees them: those of the
names that the guard knows, and where it finds none, all but the last token and the special ones.

    noise  e + s rms n      zero  (1 - min(s, 1)) e      flip  (1 - 2 min(s, 1)) e

in `count` components: the first, some that were drawn once, or the largest of each token; rms is that of the table,
and n was drawn once for each place in a prompt. So the same prompt is answered the same, alone or in any batch.
Never touched: tokens that were not selected, tokens that are generated, and tokens that are scored as an answer
(`guards.scoring`), whose prompt is what stands before the first of them. A caller who may bring a cache of their own
has got past the guard, as has whoever has the weights.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine import guards
from engine.checkpoints import load_tokenizer
from engine.errors import EngineError
from engine.guards.classifier import Classifier, classifier_from
from engine.guards.names import Names

PLACES = 64  # of a prompt, after which the noise repeats
JUDGED = 4096  # prompts whose verdict is remembered
TABLE = 2  # dimensions of a mask of tokens

# Which tokens of a prompt are to be corrupted.
Choose = Callable[[tuple[int, ...]], Sequence[bool]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """How prompts are judged and corrupted; `measured` is what was found when that was chosen."""

    corruption: str
    components: str
    count: int
    strength: float
    threshold: float
    longest_name: int = 0
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Corruption:
    """What is done to an embedding. `noise` is PLACES x width, `chosen` the components unless they are the largest."""

    parameters: Parameters
    noise: Tensor
    chosen: Tensor

    def __call__(self, embeddings: Tensor, places: Tensor, rms: float) -> Tensor:
        """Corrupted embeddings (tokens x width) of tokens at `places` of their prompts."""
        told, strength = self.parameters, self.parameters.strength
        if told.corruption == "noise":
            noise = self.noise.to(embeddings)[places % PLACES]
            changed = embeddings + strength * rms * noise
        else:
            changed = (1 - (1 if told.corruption == "zero" else 2) * min(strength, 1.0)) * embeddings
        return torch.where(self._components(embeddings), changed, embeddings)

    def _components(self, embeddings: Tensor) -> Tensor:
        touched = torch.zeros_like(embeddings, dtype=torch.bool)
        if self.parameters.components == "largest" and self.parameters.count:
            largest = embeddings.abs().topk(self.parameters.count, dim=-1).indices
            return touched.scatter(-1, largest, value=True)
        touched[:, self.chosen.to(embeddings.device)] = True
        return touched


@dataclass(frozen=True, kw_only=True, slots=True)
class CorruptionGuard:
    """Everything that the guard has to know."""

    corruption: Corruption
    classifier: Classifier
    names: Names

    def save(self, folder: Path) -> None:
        """Write `guard/` into a model folder."""
        tensors = {
            "noise": self.corruption.noise,
            "components": self.corruption.chosen,
            "names": torch.tensor(sorted(self.names.digests), dtype=torch.long),
            "key": torch.tensor(list(self.names.key), dtype=torch.uint8),
            **self.classifier.tensors(),
        }
        guards.write(folder, "corruption", asdict(self.corruption.parameters), tensors)


class Corrupting:
    """The guard at work: hooks on the model's body and on its table, and none but its own are ever removed."""

    whole_prompts = True

    def __init__(self, model: PreTrainedModel, corruption: Corruption, choose: Choose) -> None:
        self.model, self.corruption = model, corruption
        self.choose = functools.lru_cache(JUDGED)(choose)
        self.selected: tuple[Tensor, Tensor] | None = None
        table = model.get_input_embeddings()
        weight = cast("Tensor", table.weight)
        self.rms = float(weight.detach().float().square().mean().sqrt()) * float(getattr(table, "embed_scale", 1.0))
        body = model.base_model
        self.handles = (
            body.register_forward_pre_hook(self._read, with_kwargs=True),
            table.register_forward_hook(self._corrupt),
            body.register_forward_hook(self._done, always_call=True),
        )
        guards.mark(model, self)

    def remove(self) -> None:
        """Give the model back as it was."""
        for handle in self.handles:
            handle.remove()
        guards.mark(self.model, None)

    def _read(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Judge the prompts of a call before its first layer; rows of a batch each for itself."""
        self.selected = None
        ids, cache = args[0] if args else kwargs.get("input_ids"), kwargs.get("past_key_values")
        if ids is None:
            raise EngineError("bad_job", "a guarded model reads token ids; it cannot judge embeddings")
        if ids.shape[1] == 1 or (cache is not None and cache.get_seq_length() > 0):
            return
        prompt = self._prompt(ids, kwargs.get("attention_mask"))
        selected = torch.zeros_like(prompt)
        for row, tokens in enumerate(prompt):
            selected[row, tokens] = torch.tensor(self.choose(tuple(ids[row][tokens].tolist())), device=ids.device)
        if selected.any():
            self.selected = selected, (prompt.cumsum(1) - 1)[selected]

    def _prompt(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Which tokens are prompt (rows x tokens, bool): no padding, and no answer that is scored."""
        if mask is None:
            mask = torch.ones_like(ids)
        if mask.ndim != TABLE:
            message = "a guarded model reads one prompt in a row"
            raise ValueError(message)
        lengths = guards.told_prompts(self.model)
        prompt = mask.bool()
        return prompt if lengths is None else prompt & (prompt.cumsum(1) <= lengths[:, None])

    def _corrupt(self, _: nn.Module, __: tuple[Any, ...], embeddings: Tensor) -> Tensor:
        if self.selected is None or embeddings.shape[:2] != self.selected[0].shape:
            return embeddings
        selected, places = self.selected
        changed = embeddings.clone()
        changed[selected] = self.corruption(embeddings[selected], places, self.rms)
        return changed

    def _done(self, *_: object) -> None:
        self.selected = None


def chooser(tokenizer: PreTrainedTokenizerFast, names: Names, judge: Callable[[str], bool] = lambda _: True) -> Choose:
    """Select the tokens of names in the prompts that `judge` picks; where it finds none, all but the last token."""
    special = frozenset(tokenizer.all_special_ids)

    def choose(ids: tuple[int, ...]) -> Sequence[bool]:
        plain = [i for i, token in enumerate(ids) if token not in special]
        text = str(tokenizer.decode([ids[i] for i in plain]))
        if not judge(text):
            return [False] * len(ids)
        named = _named(tokenizer, names, text, [ids[i] for i in plain])
        last = len(ids) - 1
        chosen = {i for i, yes in zip(plain, named, strict=True) if yes and i != last} or {*plain} - {last}
        return [i in chosen for i in range(len(ids))]

    return choose


def _named(tokenizer: PreTrainedTokenizerFast, names: Names, text: str, ids: Sequence[int]) -> list[bool]:
    """Which tokens belong to a name; none where the text is not cut the way it was, and positions cannot be told."""
    spans = names.spans(text) if names.digests else []
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True) if spans else {"input_ids": []}
    if encoded["input_ids"] != list(ids):
        return [False] * len(ids)
    return [any(start < until and since < end for since, until in spans) for start, end in encoded["offset_mapping"]]


def wrap(
    model: PreTrainedModel, parameters: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> PreTrainedModel:
    """Let a model read judged prompts through noise from now on."""
    told, classifier = guards.parameters_of(Parameters, parameters), classifier_from(tensors)
    try:
        digests, key = frozenset(tensors["names"].tolist()), bytes(tensors["key"].tolist())
        corruption = Corruption(parameters=told, noise=tensors["noise"], chosen=tensors["components"])
    except KeyError as error:
        raise EngineError("bad_model", "the guard of this model lacks a tensor; write it again") from error
    names = Names(digests=digests, longest=told.longest_name, key=key)
    choose = chooser(load_tokenizer(folder), names, lambda text: classifier.score(text) > told.threshold)
    Corrupting(model, corruption, choose)
    return model
