"""Causal language models: losses, log-probabilities, features; one teacher-forced pass for every statistic.

With causal attention and padding on the right no label looks at padding, so no attention mask is needed. The head
is applied only where a label is, in chunks, which is where most of the time of a small-vocabulary-heavy model goes.
A model whose logits are more than `head(features)` (scaled or capped logits) is recognised by a probe, and then its
own forward is used instead. Sequences that begin alike are read together (`tasks.packing`), unless a second probe
finds that the model does not follow such a mask.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from engine import guards
from engine.tasks.packing import Distinct, Packed, Row, alone, attention, batches, distinct, pack, together
from engine.tasks.sequences import Batch, Tokens

Floats = NDArray[np.float64]

CHUNK = 2**21  # logits per application of the head on a CPU: small enough for its caches ...
LARGE_CHUNK = 2**26  # ... and elsewhere: 256 MiB in float32, enough to keep an accelerator busy
PROBE = 4  # tokens of the probe
SAME = 1e-4  # of the largest feature: by how much a float32 model may differ when beginnings are shared


class Forward:
    """A model taken apart into features and head."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Probe whether `head(features)` gives the model's own logits."""
        self.model = model
        self._head = cast("nn.Module", model.get_output_embeddings())
        self._apart = True
        self._apart = self._probe()

    def features(self, ids: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Last hidden states (rows x tokens x width), or logits where model and head cannot be taken apart."""
        told: dict[str, Any] = {"input_ids": ids, "position_ids": positions, "use_cache": False}
        if mask is not None:
            told["attention_mask"] = mask
        if self._apart:
            return cast("Tensor", self.model.base_model(**told).last_hidden_state)
        return cast("Tensor", self.model(**told).logits)

    def packed(self, batch: Packed) -> Tensor:
        """Features at the positions that predict labels (labels x width), of rows that may share beginnings."""
        mask = None if batch.segments is None else attention(batch.segments, self.model.dtype)
        with guards.scoring(self.model, batch.ids, batch.rows, batch.columns):
            return self.features(batch.ids, batch.places, mask)[batch.rows, batch.columns]

    @torch.no_grad()
    def shares(self, longest: int) -> bool:
        """Whether sequences of up to `longest` tokens get in one row what they get alone; tried with three tokens."""
        window = getattr(self.model.config, "sliding_window", None)
        if guards.of(self.model) is not None or (window is not None and window < longest):
            return False
        found = distinct([Tokens(ids=(*range(PROBE), i, i + 1), weights=(1.0,) * (PROBE + 2)) for i in (5, 6, 7)])
        row = Row(shared=PROBE, members=(0, 1, 2), length=PROBE + 6)
        try:
            packed = self.packed(pack([row], found).to(self.model.device))
        except (TypeError, ValueError, RuntimeError, IndexError):
            return False
        plain = self.packed(pack(alone(found.ids), found).to(self.model.device))
        allowed = SAME * torch.finfo(plain.dtype).eps / torch.finfo(torch.float32).eps
        return bool((packed - plain).abs().max() <= allowed * plain.abs().max())

    def logits(self, features: Tensor) -> Tensor:
        """Logits of selected features (labels x vocabulary)."""
        return cast("Tensor", self._head(features)) if self._apart else features

    def frozen_head(self) -> "Head":
        """The head as it is now, copied if it is trained: cached features keep giving the logits they gave."""
        if not self._apart:
            return Head(weight=None, bias=None)
        bias = getattr(self._head, "bias", None)
        return Head(weight=_held(cast("Tensor", self._head.weight)), bias=None if bias is None else _held(bias))

    @torch.no_grad()
    def _probe(self) -> bool:
        if not isinstance(self._head, nn.Linear):
            return False
        was_training = self.model.training
        self.model.eval()
        ids = torch.arange(PROBE, device=self.model.device).unsqueeze(0)
        whole = self.model(input_ids=ids, use_cache=False).logits
        same = torch.allclose(self._head(self.features(ids)), whole, rtol=1e-4, atol=1e-5)
        self.model.train(was_training)
        return same


def _held(weight: Tensor) -> Tensor:
    return weight.detach().clone() if weight.requires_grad else weight.detach()


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """Weights of a head at one moment; without weights the features are logits already."""

    weight: Tensor | None
    bias: Tensor | None

    def logits(self, features: Tensor) -> Tensor:
        """Logits of selected features."""
        return features if self.weight is None else functional.linear(features, self.weight, self.bias)


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenScores:
    """Per label of one sequence: log-probability, whether it was the likeliest, mean and s.d. of log p under p."""

    log_probs: Floats
    hits: NDArray[np.bool_]
    means: Floats
    deviations: Floats


def label_features(forward: Forward, batch: Batch, positions: Tensor | None = None) -> Tensor:
    """Features at the positions that predict labels (labels x width)."""
    with guards.scoring(forward.model, batch.ids, batch.rows, batch.positions):
        return forward.features(batch.ids, positions)[batch.rows, batch.positions]


def label_losses(forward: Forward, batch: Batch) -> Tensor:
    """Cross-entropy of each label in nats (flat, one entry a label)."""
    return functional.cross_entropy(forward.logits(label_features(forward, batch)), batch.targets, reduction="none")


def weighted_loss(forward: Forward, batch: Batch) -> Tensor:
    """Weighted mean cross-entropy of the batch's labels."""
    return (label_losses(forward, batch) * batch.weights).sum() / batch.weights.sum()


@torch.no_grad()
def token_scores(
    forward: Forward, sequences: Sequence[Tokens], *, tokens_per_batch: int, spread: Sequence[bool] | None = None
) -> list[TokenScores]:
    """One forward pass for all sequences; every per-token statistic of their labels comes out of it.

    `spread` says of which sequences means and deviations are wanted (None: all); elsewhere they may be NaN.
    """
    found = distinct(sequences, by_labels=guards.of(forward.model) is not None)
    wide = found.wanted(spread if spread is not None else [True] * len(sequences))
    made = [np.zeros((4, 0))] * len(found.ids)
    for batch in _packs(forward, found, tokens_per_batch):
        asked = np.repeat(wide[list(batch.members)], batch.counts)
        statistics = _statistics(forward, forward.packed(batch), batch.targets, torch.from_numpy(asked))
        for member, part in zip(batch.members, np.split(statistics, np.cumsum(batch.counts)[:-1], axis=1), strict=True):
            made[member] = part
    return [_scores(made[i][:, labels]) for i, labels in found.asked]


def _packs(forward: Forward, found: Distinct, budget: int) -> Iterator[Packed]:
    asked = [i for i, labels in enumerate(found.labels) if labels.any()]
    ids = [found.ids[i] for i in asked]
    rows = together(ids)
    if any(row.shared for row in rows) and not forward.shares(max(map(len, ids))):
        rows = alone(ids)
    for group in batches(rows, budget):
        named = [Row(shared=r.shared, members=tuple(asked[i] for i in r.members), length=r.length) for r in group]
        yield pack(named, found).to(forward.model.device)


def _scores(statistics: Floats) -> TokenScores:
    log_probs, hits, means, deviations = statistics
    return TokenScores(log_probs=log_probs, hits=hits.astype(bool), means=means, deviations=deviations)


def _statistics(forward: Forward, features: Tensor, targets: Tensor, wide: Tensor) -> Floats:
    """Log-probability, hit, mean and deviation of each label (4 x labels); the last two where `wide`, else NaN."""
    result = torch.full((4, len(targets)), math.nan, dtype=torch.float64)
    for wanted in (True, False):
        for part in _chunks(forward, features, (wide == wanted).nonzero().squeeze(1)):
            chosen = part.to(features.device)
            one = _one_chunk(forward.logits(features[chosen]).float(), targets[chosen], wide=wanted)
            result[: len(one), part] = one.double().cpu()
    return cast("Floats", result.numpy())


def _chunks(forward: Forward, features: Tensor, places: Tensor) -> Sequence[Tensor]:
    size = CHUNK if features.device.type == "cpu" else LARGE_CHUNK
    return places.split(max(1, size // int(forward.model.config.vocab_size))) if len(places) else ()


def _one_chunk(logits: Tensor, targets: Tensor, *, wide: bool) -> Tensor:
    """In place, pass by pass over what is in the cache: log p = z - log sum e^z, and its mean and s.d. under p."""
    highest, best = logits.max(-1)
    logits = logits.sub_(highest[:, None])
    taken = logits.gather(1, targets[:, None]).squeeze(1)
    p = logits.exp()
    mass = p.sum(-1)
    scores = [taken - mass.log(), (best == targets).to(taken.dtype)]
    if wide:
        mean = torch.linalg.vecdot(p, logits) / mass
        squares = logits.sub_(mean[:, None]).square_()
        scores += [mean - mass.log(), (torch.linalg.vecdot(p, squares) / mass).sqrt()]
    return torch.stack(scores)
