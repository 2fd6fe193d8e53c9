"""The projection on the capped simplex, {w in [0, 1]^n : sum w = total}: the nearest allowed weights.

By the conditions of Karush, Kuhn and Tucker it is w_i = clip(a_i - mu, 0, 1), for the mu at which the sum is right
(arXiv 2403.07362, section 4). The sum falls in mu, so mu is bisected. Entries whose side is decided by the bracket
(0, 1, or in between all over it) leave the search and are remembered as two sums, so a round costs only what is still
open; once nothing is, what is left of the sum is a line and mu follows from it without a tolerance.
"""

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError

Floats = NDArray[np.float64]
ROUNDS = 2000  # a bracket of float64 halves at most about 1,100 times before its middle is one of its ends


def project(values: Floats, total: float) -> Floats:
    """The nearest point (n,) to `values` (n,) with entries in [0, 1] and the sum `total`.

    Raises:
        EngineError: `bad_options` unless 0 <= total <= n, `not_finite` for values that are not finite.
    """
    if not 0 <= total <= len(values):
        raise EngineError("bad_options", f"weights of {len(values)} entries cannot have the sum {total:g}")
    if not np.isfinite(values).all():
        raise EngineError("not_finite", "weights that are to be projected are not finite")
    if total in (0, len(values)):
        return np.full(len(values), float(bool(total)))
    shifted = np.asarray(values - values.max(), dtype=np.float64)  # equal large values stay equal, and differ by 1
    return np.clip(shifted - _threshold(shifted, float(total)), 0.0, 1.0)


def _threshold(values: Floats, total: float) -> float:
    """The mu at which clip(values - mu, 0, 1) adds up to `total`, for values up to 0."""
    low, high = float(values.min()) - 1.0, 0.0
    live, above, count = (
        values,
        0.0,
        0,
    )  # what is open; of what is decided: the sum at mu = 0, and how many have a slope
    for _ in range(ROUNDS):
        middle = low + (high - low) / 2
        if not low < middle < high:
            break
        reached = above - count * middle + float(np.clip(live - middle, 0.0, 1.0).sum())
        low, high = (middle, high) if reached > total else (low, middle)
        full, empty = live >= high + 1.0, live <= low
        sloping = (live >= high) & (live <= low + 1.0)
        above += float(np.count_nonzero(full)) + float(live[sloping].sum())
        count += int(np.count_nonzero(sloping))
        live = live[~(full | empty | sloping)]
        if not len(live):
            return float(np.clip((above - total) / count, low, high)) if count else low + (high - low) / 2
    return low + (high - low) / 2
