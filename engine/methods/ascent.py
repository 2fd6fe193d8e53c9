"""Ascent: make forgotten labels unlikely, plainly or weighted. p is a label's probability; weights have no gradient.

    ga, graddiff, kl-min   log p                                       arXiv 2210.01504, 2401.06121
    wga                    p^beta log p                                arXiv 2502.19301, eq. 9
    satimp                 p^beta1 (1 - p)^beta2 log p                 arXiv 2505.11953

Means over labels. `kl-min` has two published forms that are not what its paper says: `published` takes MUSE's
`kl_div` on raw logits for the retain term, `published-restor` RESTOR's cross-entropy to the model as it was, on the
forget set, with CE on retain, each at every position.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from engine.methods import Setting
from engine.methods.descent import Objective, descend
from engine.methods.known import FEATURES
from engine.methods.terms import Labels, Term, faulty_kl, negative_log_likelihood
from engine.training import Fitted

SMALLEST = 1e-12  # what RESTOR's code adds to a probability before its logarithm


def ga(setting: Setting[Any]) -> Fitted:
    """Gradient ascent."""
    return descend(setting, Objective(forget=Term(loss=ascent)))


def graddiff(setting: Setting[Any]) -> Fitted:
    """Gradient difference: ascent on the forget set, the retain term of the options beside it."""
    return descend(setting, Objective(forget=Term(loss=ascent)))


def kl_min(setting: Setting[Any]) -> Fitted:
    """Ascent on the forget set, KL to the model as it was on the retain set; or one of the two published forms."""
    objectives = {
        "correct": Objective(forget=Term(loss=ascent)),
        "published": Objective(
            forget=Term(loss=ascent), retain=Term(loss=faulty_kl, knows=(FEATURES,), everywhere=True)
        ),
        "published-restor": Objective(
            forget=Term(loss=away_from_itself, knows=(FEATURES,), everywhere=True),
            retain=Term(loss=negative_log_likelihood),
        ),
    }
    return descend(setting, objectives[setting.options.variant])


def wga(setting: Setting[Any]) -> Fitted:
    """Weighted gradient ascent: a label that is unlikely already is left alone."""
    return descend(setting, Objective(forget=Term(loss=partial(weighted_ascent, beta=setting.options.beta))))


def satimp(setting: Setting[Any]) -> Fitted:
    """Saturation and importance: labels that are likely, and of those the ones not certain, are pushed."""
    loss = partial(saturated_ascent, beta1=setting.options.beta1, beta2=setting.options.beta2)
    return descend(setting, Objective(forget=Term(loss=loss)))


def ascent(labels: Labels) -> Tensor:
    """Log p of each label: minus its cross-entropy."""
    return labels.log_probs


def weighted_ascent(labels: Labels, *, beta: float) -> Tensor:
    """The p^beta log p of each label."""
    log_p = labels.log_probs
    return (beta * log_p.detach()).exp() * log_p


def saturated_ascent(labels: Labels, *, beta1: float, beta2: float) -> Tensor:
    """The p^beta1 (1 - p)^beta2 log p of each label."""
    log_p = labels.log_probs
    p = log_p.detach().exp()
    return p**beta1 * (1 - p).clamp_min(0) ** beta2 * log_p


def away_from_itself(labels: Labels) -> Tensor:
    """RESTOR's forget term: sum p log(p_ref + 1e-12), minus the cross-entropy from the model to what it was."""
    before = labels.known_logits.softmax(-1)
    return (labels.logits.softmax(-1) * torch.log(before + SMALLEST)).sum(-1)
