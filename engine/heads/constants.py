r"""The constants of the mean loss (1/n) sum_i l_i(w) + (lambda / 2) ||w||^2 of a logistic head: proved, not estimated.

With rows of norm at most R (`rows.LARGEST_NORM`):

* l_i'' is between 0 and R^2 / 4 in every direction, so the loss is m-strongly convex and L-smooth with m = lambda and
  L = lambda + R^2 / 4, on the whole space.
* ||grad l_i|| <= R = M. The penalty is left out of M on purpose: it is the same for every data set, and the proofs
  need M only for the difference of two mean gradients, in which it cancels. Forgetting k of n rows changes the mean
  gradient by (k / n) (mean over the remaining - mean over the forgotten), which is at most 2 k M / n, and so moves the
  minimiser by at most 2 k M / (m n).
* At the minimiser lambda w = -mean grad l, so ||w*|| <= M / m: its distance from a start at 0.
"""

import math
from dataclasses import dataclass

from engine.errors import EngineError
from engine.heads.rows import LARGEST_NORM


@dataclass(frozen=True, kw_only=True, slots=True)
class Constants:
    """m, L and M, and how they were come by."""

    convexity: float
    smoothness: float
    lipschitz: float
    source: str = "proved"

    @property
    def rate(self) -> float:
        """The step size 2 / (L + m), at which descent contracts best."""
        return 2 / (self.smoothness + self.convexity)

    @property
    def contraction(self) -> float:
        """Gamma = (L - m) / (L + m): the distance to the minimiser after a step, over that before."""
        return (self.smoothness - self.convexity) / (self.smoothness + self.convexity)

    @property
    def reach(self) -> float:
        """How far the minimiser is from 0 at most."""
        return self.lipschitz / self.convexity

    def shift(self, *, rows: int, removed: int) -> float:
        """How far forgetting `removed` of `rows` rows moves the minimiser at most: 2 k M / (m n)."""
        return 2 * removed * self.lipschitz / (self.convexity * rows)


def constants(lam: float) -> Constants:
    """Those of penalty `lam`."""
    if not 0 < lam < math.inf:
        raise EngineError("bad_options", "the theorem needs strong convexity: a finite penalty above 0")
    return Constants(convexity=lam, smoothness=lam + LARGEST_NORM**2 / 4, lipschitz=LARGEST_NORM)
