"""Distillation: pull the distribution at forgotten labels towards one that does not know them. z are logits, y a label.

    undial    CE(p, softmax(z_ref - beta 1_y))                        arXiv 2402.10052, section 3
    ce-u      CE(p, softmax(z with z_y = -inf)), without gradient of the target    arXiv 2503.01224
    jensun    JS(p, 1_y) of a refusal after the forgotten question    arXiv 2509.02820; its retain term is js

Means over labels. UNDIAL's `published` form averages over prompts too, and lowers there the entry V - 100 of the
vocabulary, which is where an ignored label of -100 points to.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engine.methods import Setting
from engine.methods.descent import Objective, descend
from engine.methods.examples import refusals
from engine.methods.known import FEATURES
from engine.methods.terms import Labels, Term, jensen_shannon
from engine.training import Fitted

IGNORED = -100  # the label of a position that is none, in Hugging Face's data


def undial(setting: Setting[Any]) -> Fitted:
    """Self-distillation with the memorised token's logit lowered."""
    published = setting.options.variant == "published"
    loss = partial(lowered, beta=setting.options.beta)
    return descend(setting, Objective(forget=Term(loss=loss, knows=(FEATURES,), everywhere=published)))


def ce_u(setting: Setting[Any]) -> Fitted:
    """Cross-entropy to the model's own distribution without the label."""
    return descend(setting, Objective(forget=Term(loss=without_label)))


def jensun(setting: Setting[Any]) -> Fitted:
    """Jensen-Shannon divergence to a fixed refusal: a loss that is bounded by log 2."""
    return descend(setting, Objective(forget=Term(loss=to_label), examples=refusals))


def lowered(labels: Labels, *, beta: float) -> Tensor:
    """UNDIAL at each label (labels,)."""
    target = labels.known_logits.clone()
    vocabulary = target.shape[-1]
    entry = torch.where(labels.batch.weights > 0, labels.batch.targets, (vocabulary + IGNORED) % vocabulary)
    target.scatter_add_(1, entry.unsqueeze(1), torch.full_like(target[:, :1], -beta))
    return functional.cross_entropy(labels.logits, target.softmax(-1), reduction="none")


def without_label(labels: Labels) -> Tensor:
    """CE-U at each label (labels,)."""
    target = labels.logits.detach().scatter(1, labels.batch.targets.unsqueeze(1), -torch.inf)
    return functional.cross_entropy(labels.logits, target.softmax(-1), reduction="none")


def to_label(labels: Labels) -> Tensor:
    """The Jensen-Shannon divergence to all mass on the label (labels,)."""
    one = functional.one_hot(labels.batch.targets, labels.logits.shape[-1]).to(labels.logits.dtype)
    return jensen_shannon(one, labels.logits)
