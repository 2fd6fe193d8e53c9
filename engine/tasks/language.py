"""Causal language models: losses, log-probabilities, features; one teacher-forced pass for every statistic.

With causal attention and padding on the right no label looks at padding, so no attention mask is needed. The head
is applied only where a label is, in chunks, which is where most of the time of a small-vocabulary-heavy model goes.
A model whose logits are more than `head(features)` (scaled or capped logits) is recognised by a probe, and then its
own forward is used instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from engine.tasks.sequences import Batch, Tokens, by_budget, collate

Floats = NDArray[np.float64]

CHUNK = 4096  # labels per application of the head: bounds its memory at CHUNK x vocabulary
PROBE = 4  # tokens of the probe


class Forward:
    """A model taken apart into features and head."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Probe whether `head(features)` gives the model's own logits."""
        self.model = model
        self._head = cast("nn.Module", model.get_output_embeddings())
        self._apart = True
        self._apart = self._probe()

    def features(self, ids: Tensor, positions: Tensor | None = None) -> Tensor:
        """Last hidden states (rows x tokens x width), or logits where model and head cannot be taken apart."""
        if self._apart:
            out = self.model.base_model(input_ids=ids, position_ids=positions, use_cache=False)
            return cast("Tensor", out.last_hidden_state)
        return cast("Tensor", self.model(input_ids=ids, position_ids=positions, use_cache=False).logits)

    def logits(self, features: Tensor) -> Tensor:
        """Logits of selected features (labels x vocabulary)."""
        return cast("Tensor", self._head(features)) if self._apart else features

    def frozen_head(self) -> "Head":
        """A copy of the head as it is now, so that cached features keep giving the logits they gave."""
        if not self._apart:
            return Head(weight=None, bias=None)
        bias = getattr(self._head, "bias", None)
        weight = cast("Tensor", self._head.weight).detach().clone()
        return Head(weight=weight, bias=None if bias is None else bias.detach().clone())

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
    return forward.features(batch.ids, positions)[batch.rows, batch.positions]


def label_losses(forward: Forward, batch: Batch) -> Tensor:
    """Cross-entropy of each label in nats (flat, one entry a label)."""
    return functional.cross_entropy(forward.logits(label_features(forward, batch)), batch.targets, reduction="none")


def weighted_loss(forward: Forward, batch: Batch) -> Tensor:
    """Weighted mean cross-entropy of the batch's labels."""
    return (label_losses(forward, batch) * batch.weights).sum() / batch.weights.sum()


def summed_log_probs(losses: Tensor, batch: Batch) -> Tensor:
    """The log pi(y|x) of each row: the *sum* over its labels (NPO, equation 3), from the losses of its labels."""
    return torch.zeros(batch.ids.shape[0], dtype=losses.dtype, device=losses.device).index_add(0, batch.rows, -losses)


@torch.no_grad()
def token_scores(forward: Forward, sequences: Sequence[Tokens], *, tokens_per_batch: int) -> list[TokenScores]:
    """One forward pass a sequence, sorted by length; every per-token statistic comes out of it."""
    result: dict[int, TokenScores] = {}
    for group in by_budget(sequences, tokens_per_batch):
        batch = collate([sequences[i] for i in group]).to(forward.model.device)
        statistics = _statistics(forward, label_features(forward, batch), batch.targets)
        rows = batch.rows.cpu().numpy()
        for row, i in enumerate(group):
            log_probs, hits, means, deviations = statistics[:, rows == row]
            result[i] = TokenScores(log_probs=log_probs, hits=hits.astype(bool), means=means, deviations=deviations)
    return [result[i] for i in range(len(sequences))]


def _statistics(forward: Forward, features: Tensor, targets: Tensor) -> Floats:
    parts = []
    for start in range(0, len(targets), CHUNK):
        log_p = functional.log_softmax(forward.logits(features[start : start + CHUNK]).float(), dim=-1)
        target = targets[start : start + CHUNK]
        p = log_p.exp()
        mean = (p * log_p).sum(-1)
        variance = (p * log_p.square()).sum(-1) - mean.square()
        taken = log_p.gather(1, target.unsqueeze(1)).squeeze(1)
        hit = (log_p.argmax(-1) == target).to(taken.dtype)
        parts.append(torch.stack([taken, hit, mean, variance.clamp(min=0).sqrt()]))
    if not parts:
        return np.zeros((4, 0))
    return cast("Floats", torch.cat(parts, dim=1).double().cpu().numpy())
