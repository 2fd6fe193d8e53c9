"""What one model says about one example, as one number: the statistic that every attack starts from.

Carlini et al. 2022 (arXiv 2112.03570, section IV.A) scale the confidence so that it is close to normal over models:

    phi(x, y) = ln( p_y / (1 - p_y) ) = ln p_y - ln sum_{c != y} p_c = z_y - ln sum_{c != y} e^{z_c}

which is computed from logits z and never from a probability that has been rounded to 1. For language models any
number an example will do; the mean log-probability of the label tokens, or `log_odds` of it, are the usual ones.

The population attack needs no shadow model: its score is the statistic itself (the confidence, or minus the loss),
one threshold for everybody. Hayes et al. 2024 (arXiv 2403.01218) show that it overestimates protection.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from engine.errors import EngineError
from engine.verification.statistics import Floats, Ints

TABLE = 2  # dimensions


def log_prob(logits: ArrayLike, labels: Ints) -> Floats:
    """Log-probability of each label (examples,), minus the loss, from logits (examples, classes)."""
    z = _checked(logits, labels)
    value: Floats = z[np.arange(len(z)), labels] - logsumexp(z, axis=1)
    return value


def margin(logits: ArrayLike, labels: Ints) -> Floats:
    """Phi of each label (examples,) from logits (examples, classes): finite whenever the logits are."""
    z = _checked(logits, labels)
    rows = np.arange(len(z))
    others = z.copy()
    others[rows, labels] = -np.inf
    value: Floats = z[rows, labels] - logsumexp(others, axis=1)
    return value


def log_odds(log_probs: ArrayLike) -> Floats:
    """ln(p / (1 - p)) from ln p <= 0, any shape; infinite, and so never a finding, where p has been rounded to 1."""
    values = np.asarray(log_probs, dtype=np.float64)
    if (values > 0).any():
        raise EngineError("bad_data", "a log-probability lies above 0")
    with np.errstate(divide="ignore"):
        odds: Floats = values - np.log(-np.expm1(values))
    return odds


def _checked(logits: ArrayLike, labels: Ints) -> Floats:
    z = np.asarray(logits, dtype=np.float64)
    if z.ndim != TABLE or z.shape[1] < TABLE or labels.shape != z.shape[:1]:
        raise EngineError(
            "bad_data", "logits are a table of examples by two classes or more, with one label an example"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < z.shape[1]:
        raise EngineError("bad_data", "a label is not one of the classes")
    return z
