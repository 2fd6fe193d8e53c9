r"""What Guo et al. 2020 (arXiv:1911.03030) prove of the residual after *one* exact Newton step.

They hold for a step with the exact Hessian of the remaining rows. `newton` measures the residual instead of bounding
it: a measured one is hundreds of times smaller, and covers several steps, an inverse that is out of date, and a start
that was not the exact minimiser. The bounds are what the measurement is compared with.

Logistic loss: |l'| <= 1, and l'' is 1/4-Lipschitz, which is what the paper uses (the best constant is 1 / (6 sqrt 3)).
"""

import numpy as np

from engine.errors import EngineError
from engine.heads.logistic import Logistic, solved
from engine.heads.rows import Rows, Vector

LIPSCHITZ = 0.25


def worst_case(*, lam: float, rows: int, removed: int = 1) -> float:
    """4 gamma m^2 / (lambda^2 (n - m)) from the exact minimiser: theorem 1, and its form for m rows at once."""
    if not 0 < lam < np.inf or not 0 < removed < rows:
        raise EngineError("bad_options", "the bound needs a penalty above 0 and fewer rows removed than there are")
    return 4 * LIPSCHITZ * removed**2 / (lam**2 * (rows - removed))


def data_dependent(remaining: Rows, step: Vector, *, spectral: float) -> float:
    """Return gamma ||X||_2 ||s||_2 ||X s||_2 (corollary 1), for X the remaining rows and a step s (d,) from any point.

    `spectral` is ||X||_2 or anything above it, such as that of the rows before the removal.
    """
    return float(LIPSCHITZ * spectral * np.linalg.norm(step) * np.linalg.norm(remaining.x @ step))


def spectral_norm(rows: Rows) -> float:
    """The largest singular value of the rows, by the eigenvalues of X'X."""
    return float(np.sqrt(max(0.0, np.linalg.eigvalsh(rows.x.T @ rows.x)[-1])))


def exact_step(remaining: Logistic, w: Vector) -> Vector:
    """Return -H^{-1} grad L(w) (d,): from the minimiser before a removal, the paper's H^{-1} Delta."""
    return -solved(remaining, w, remaining.gradient(w))
