"""Losses as functions of what a model says at the labels of a micro-batch, and the retain terms that all methods share.

A loss is a function of `Labels` and gives a value a label, or a value an example (`per_example`). Its mean over a step
is taken by `engine.methods.descent`, which also splits steps in micro-batches, so a loss must not average itself.

    gd   CE of ordinary training                       js   Jensen-Shannon(p_ref, p)
    kl   KL(p_ref || p)                                faulty_kl   what MUSE's code calls KLR
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from engine.methods.known import FEATURES, LOG_PROBS, Known, Reader
from engine.tasks.language import Forward, Head
from engine.tasks.sequences import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """One micro-batch: logits (labels x vocabulary) now, and what was known of them before.

    `batch.weights` above 0 mark labels; below 0, positions that are none and count only in a published variant.
    `width` sequences in a row make an example.
    """

    batch: Batch
    logits: Tensor
    width: int = 1
    known: dict[str, Tensor]
    head: Head

    @property
    def log_probs(self) -> Tensor:
        """Log-probability of each label, now (labels,)."""
        return -functional.cross_entropy(self.logits, self.batch.targets, reduction="none")

    @property
    def known_log_probs(self) -> Tensor:
        """Log-probability of each label before (labels,)."""
        return self.known[LOG_PROBS]

    @property
    def known_logits(self) -> Tensor:
        """Logits before (labels x vocabulary)."""
        return self.head.logits(self.known[FEATURES]).float()

    def sums(self, values: Tensor) -> Tensor:
        """Sums over the labels of each sequence (examples x width)."""
        rows = torch.zeros(self.batch.ids.shape[0], dtype=values.dtype, device=values.device)
        return rows.index_add(0, self.batch.rows, values).view(-1, self.width)

    def lengths(self) -> Tensor:
        """The number of labels of each sequence (examples x width)."""
        return self.sums(torch.ones_like(self.batch.weights))


Loss = Callable[[Labels], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """A loss with what it needs: kinds of knowledge, every position or labels alone, and how its mean is taken."""

    loss: Loss
    knows: tuple[str, ...] = ()
    per_example: bool = False
    everywhere: bool = False  # published variants: prompts are averaged over like labels
    whole: bool = False  # published variants: the loss of a batch, which cannot be split


def negative_log_likelihood(labels: Labels) -> Tensor:
    """Cross-entropy of each label in nats."""
    return -labels.log_probs


def kl(labels: Labels) -> Tensor:
    """KL(p_ref || p) in nats at each label."""
    return divergences(labels.known_logits, labels.logits)


def js(labels: Labels) -> Tensor:
    """The Jensen-Shannon divergence of p_ref and p in nats at each label."""
    return jensen_shannon(labels.known_logits.softmax(-1), labels.logits)


def faulty_kl(labels: Labels) -> Tensor:
    """What MUSE's code minimises: `kl_div` on raw logits, sum exp(z_ref) (z_ref - z), which is no divergence."""
    before = labels.known_logits
    return (before.exp() * (before - labels.logits)).sum(-1)


def divergences(reference_logits: Tensor, logits: Tensor) -> Tensor:
    """KL(p_ref || p) in nats of each label, from logits of shape (labels x vocabulary)."""
    reference = functional.log_softmax(reference_logits, dim=-1)
    return (reference.exp() * (reference - functional.log_softmax(logits, dim=-1))).sum(-1)


def jensen_shannon(target: Tensor, logits: Tensor) -> Tensor:
    """JS of a distribution and the model's, in nats at each label; at most log 2."""
    p = logits.softmax(-1)
    middle = 0.5 * (target + p)
    return 0.5 * (_relative(target, middle) + _relative(p, middle))


def retain_term(name: str) -> Term | None:
    """The term an option names; None for `none`."""
    return {
        "none": None,
        "gd": Term(loss=negative_log_likelihood),
        "kl": Term(loss=kl, knows=(FEATURES,)),
        "js": Term(loss=js, knows=(FEATURES,)),
    }[name]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A micro-batch: sequences of similar length, and where what is known of them stands."""

    batch: Batch
    chosen: tuple[int, ...]
    known: Known | None = None
    knows: tuple[str, ...] = ()
    width: int = 1


def labels_of(reader: Reader, part: Part, head: Head) -> Labels:
    """Read a micro-batch: one forward pass, the head at its labels alone, in float32 whatever the pass ran in."""
    batch = part.batch.to(reader.model.device)
    features = reader.features(batch.ids)[batch.rows, batch.positions]
    known = {}
    if part.known is not None:
        known = {name: part.known.of(name, part.chosen).to(batch.ids.device) for name in part.knows}
    return Labels(batch=batch, logits=reader.logits(features).float(), width=part.width, known=known, head=head)


def frozen_head(reader: Reader) -> Head:
    """The head as it is now; none is copied for readers whose features are what losses see."""
    return reader.frozen_head() if isinstance(reader, Forward) else Head(weight=None, bias=None)


def _relative(p: Tensor, q: Tensor) -> Tensor:
    """The sum of p log(p / q), with 0 log 0 = 0, also in its gradient."""
    safe = torch.where(p > 0, p, torch.ones_like(p))
    return (p * (safe.log() - q.clamp_min(torch.finfo(q.dtype).tiny).log())).sum(-1)
