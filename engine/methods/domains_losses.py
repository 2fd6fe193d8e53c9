"""The terms of approximate domain unlearning, as functions of logits and features alone (arXiv 2510.08132).

    L_forget   - (1 / |C|) sum_j log p_j                                                    cross-entropy to uniform
    MMD^2      2 / (D (D - 1)) sum_{d < d'} || mean_d phi(x) - mean_d' phi(x) ||^2          over pairs of domains

phi belongs to a mixture of Gaussian kernels, the mean of exp(-|x - y|^2 / 2 s^2) over s in `SCALES`, on features of
length 1, whose distances are at most 2. A bounded kernel bounds MMD^2 by 2, so that maximising it ends somewhere.
"""

from itertools import combinations

import torch
from torch import Tensor

SCALES = (0.25, 0.5, 1.0, 2.0)


def to_uniform(scores: Tensor) -> Tensor:
    """The cross-entropy to the uniform distribution of each row of logits (rows,), in nats; at least ln |C|."""
    return -scores.log_softmax(-1).mean(-1)


def kernel(features: Tensor) -> Tensor:
    """The mixture's values (rows x rows), from 0 to 1, 1 on the diagonal."""
    squared = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.stack([torch.exp(-squared / (2 * scale**2)) for scale in SCALES]).mean(0)


def discrepancy(features: Tensor, domains: Tensor) -> Tensor:
    """MMD^2 averaged over pairs of the domains (rows,) that are there; 0 where there is one, and never above 2."""
    values = kernel(features)
    rows = [domains == domain for domain in domains.unique()]
    means = {(i, j): values[a][:, b].mean() for i, a in enumerate(rows) for j, b in enumerate(rows) if i <= j}
    pairs = [means[i, i] + means[j, j] - 2 * means[i, j] for i, j in combinations(range(len(rows)), 2)]
    return torch.stack(pairs).mean() if pairs else features.sum() * 0.0
