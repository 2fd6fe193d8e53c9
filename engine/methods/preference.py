"""Preference: make a forgotten answer less likely than it was, or than another one. l is a sequence's log-likelihood.

    npo             -(2 / beta) log sigmoid(-beta (l - l_ref))                       arXiv 2404.05868, eq. 3
    simnpo          -(2 / beta) log sigmoid(-(beta / |y|) l - gamma)                 arXiv 2410.07163
    tnpo            -(2 / beta) log sigmoid(-beta (log p - log p_ref)), each label   arXiv 2502.19301; times p^alpha
    dpo, idkdpo     -(1 / beta) log sigmoid(beta ((l - l_ref)(other) - (l - l_ref)(true)))      arXiv 2305.18290

l is *summed* over the labels of a sequence; means are over sequences (tnpo: over labels). NPO has two published forms
that are not its paper's: `published` is MUSE's, on every entry of raw logits; `published-restor` RESTOR's, on the
mean loss of a whole batch as if it were one sequence.
"""

from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional

from engine.methods import Setting
from engine.methods.descent import Objective, descend
from engine.methods.examples import refused, replaced
from engine.methods.known import FEATURES, LOG_PROBS
from engine.methods.terms import Labels, Term
from engine.training import Fitted


def npo(setting: Setting[Any]) -> Fitted:
    """Negative preference optimisation."""
    return descend(setting, Objective(forget=npo_term(setting.options.beta, setting.options.variant)))


def npo_term(beta: float, variant: str = "correct") -> Term:
    """F of NPO in one of its forms."""
    if variant == "published":
        return Term(loss=partial(npo_on_logits, beta=beta), knows=(FEATURES,), everywhere=True)
    if variant == "published-restor":
        return Term(loss=partial(npo_on_batch, beta=beta), knows=(LOG_PROBS,), per_example=True, whole=True)
    return Term(loss=partial(npo_on_sequences, beta=beta), knows=(LOG_PROBS,), per_example=True)


def simnpo(setting: Setting[Any]) -> Fitted:
    """NPO without a reference, normalised by length."""
    loss = partial(npo_by_length, beta=setting.options.beta, gamma=setting.options.gamma)
    return descend(setting, Objective(forget=Term(loss=loss, per_example=True)))


def tnpo(setting: Setting[Any]) -> Fitted:
    """NPO token by token."""
    loss = partial(npo_on_tokens, beta=setting.options.beta, alpha=setting.options.alpha)
    return descend(setting, Objective(forget=Term(loss=loss, knows=(LOG_PROBS,))))


def idkdpo(setting: Setting[Any]) -> Fitted:
    """Direct preference of a refusal over the forgotten answer."""
    return descend(setting, Objective(forget=_pairwise(setting.options.beta), examples=refused))


def dpo(setting: Setting[Any]) -> Fitted:
    """Direct preference of the record's alternative over the forgotten answer."""
    return descend(setting, Objective(forget=_pairwise(setting.options.beta), examples=replaced))


def _pairwise(beta: float) -> Term:
    return Term(loss=partial(dpo_on_pairs, beta=beta), knows=(LOG_PROBS,), per_example=True)


def npo_on_sequences(labels: Labels, *, beta: float) -> Tensor:
    """NPO of each sequence (examples,)."""
    return preference_losses(labels.sums(labels.log_probs - labels.known_log_probs).squeeze(1), beta)


def preference_losses(log_ratios: Tensor, beta: float) -> Tensor:
    """NPO from log pi(y|x) - log pi_ref(y|x): bounded below by 0, and 2 log 2 / beta at the start."""
    return -(2.0 / beta) * functional.logsigmoid(-beta * log_ratios)


def npo_on_tokens(labels: Labels, *, beta: float, alpha: float) -> Tensor:
    """NPO of each label as if it were a sequence, weighted by its probability to the power alpha (labels,)."""
    log_p = labels.log_probs
    weights = (alpha * log_p.detach()).exp()
    return weights * preference_losses(log_p - labels.known_log_probs, beta)


def npo_by_length(labels: Labels, *, beta: float, gamma: float) -> Tensor:
    """SimNPO of each sequence (examples,)."""
    mean = (labels.sums(labels.log_probs) / labels.lengths()).squeeze(1)
    return -(2.0 / beta) * functional.logsigmoid(-beta * mean - gamma)


def dpo_on_pairs(labels: Labels, *, beta: float) -> Tensor:
    """DPO of each pair of the true sequence and another, in that order (examples,)."""
    ratios = labels.sums(labels.log_probs - labels.known_log_probs)
    return -(1.0 / beta) * functional.logsigmoid(beta * (ratios[:, 1] - ratios[:, 0]))


def npo_on_logits(labels: Labels, *, beta: float) -> Tensor:
    """MUSE's form: the mean over all entries of the logits at each position (positions,)."""
    return -(2.0 / beta) * functional.logsigmoid(beta * (labels.known_logits - labels.logits)).mean(-1)


def npo_on_batch(labels: Labels, *, beta: float) -> Tensor:
    """RESTOR's form: one value for the batch from its mean losses, repeated so that its mean is itself (examples,)."""
    gap = (labels.known_log_probs - labels.log_probs).mean()
    value = -(2.0 / beta) * functional.logsigmoid(beta * gap)
    return value.expand(labels.batch.ids.shape[0])
