"""Is the unlearned model one that forgot the example, or one that never saw it? Per example.

U-LiRA (Hayes et al. 2024, arXiv 2403.01218): shadow models that were trained with the example and then unlearned it
against models that never had it, as LiRA's in and out. RULI (USENIX Security 2025) gives each example a third of the
models out, a third in, a third in-then-unlearned, estimates densities of the statistic over models with Gaussian
kernels of bandwidth 1, and reads two ratios:

    privacy     f_unlearnt / (f_unlearnt + f_out)   at the unlearned target, both over models after unlearning
    reference   f_in / (f_in + f_out)               at the original target, both over models before unlearning

Returned are the logits of these, ln f - ln f_out: the same order, without rounding to 0 or 1. Forget sets of the
shadows should be unlearned together and be as large as the request's.
"""

import numpy as np
from scipy.special import logsumexp

from engine.errors import EngineError
from engine.verification.privacy import lira
from engine.verification.privacy.shadows import IN, OUT, UNLEARNT, Bools, Roles, Shadows
from engine.verification.statistics import Floats

BANDWIDTH = 1.0


def u_lira(target: Floats, statistic: Floats, roles: Roles) -> Floats:
    """Log-likelihood ratio unlearned over never seen (examples,), from models after unlearning (shadows, examples)."""
    return lira.online(target, Shadows(statistic=statistic, inside=roles == UNLEARNT, outside=roles == OUT))


def ruli(target: Floats, statistic: Floats, roles: Roles, *, bandwidth: float = BANDWIDTH) -> Floats:
    """RULI's privacy score as a logit (examples,): target and shadows after unlearning."""
    return _log_ratio(target, statistic, roles == UNLEARNT, roles == OUT, bandwidth)


def ruli_reference(target: Floats, statistic: Floats, roles: Roles, *, bandwidth: float = BANDWIDTH) -> Floats:
    """RULI's plain membership score as a logit (examples,): target and shadows before unlearning."""
    return _log_ratio(target, statistic, roles == IN, roles == OUT, bandwidth)


def _log_ratio(target: Floats, statistic: Floats, one: Bools, other: Bools, bandwidth: float) -> Floats:
    shadows = Shadows(statistic=statistic, inside=one, outside=other)
    if not 0 < bandwidth < np.inf:
        raise EngineError("bad_options", "the bandwidth of a kernel is finite and above 0")
    if target.shape != statistic.shape[1:]:
        raise EngineError("bad_data", "the target model has one statistic for each example of the shadow models")
    above = _log_kernels(target, statistic, shadows.inside, bandwidth)
    return above - _log_kernels(target, statistic, shadows.outside, bandwidth)


def _log_kernels(target: Floats, statistic: Floats, mask: Bools, bandwidth: float) -> Floats:
    """Log of the mean kernel at the target (examples,) up to a constant; NaN where no model counts."""
    known = mask.any(0)
    held = np.where(mask, -0.5 * ((target - np.where(mask, statistic, 0.0)) / bandwidth) ** 2, -np.inf)
    density = np.full(target.shape, np.nan)
    density[known] = logsumexp(held[:, known], axis=0) - np.log(mask.sum(0)[known])
    return density
