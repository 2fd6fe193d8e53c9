r"""Langevin unlearning (Chien et al. 2024, arXiv:2401.10371): projected noisy gradient descent, then more of it.

    w <- Proj_R( w - eta g(w) + sqrt(2 eta sigma^2) N(0, I) ),    g(w) = (1/n) sum_i clip_M(grad l_i(w)) + lambda w

Learning takes `burn_in` steps from 0, forgetting K more on the remaining rows, from where learning ended: the weights
hold their noise, so there are no others to keep, and every state may be published.

* Clipping keeps the theorem's conditions. The gradient of a logistic loss is -y s(-y w'x) x; cutting its length cuts
  the factor s, which stays monotone in w'x and no steeper, so the clipped gradient is that of another convex, 1/4
  R^2-smooth loss. The penalty stands outside the clip: inside it, strong convexity would be lost.
* eta <= 1/L, refused otherwise. A start at 0 is the same for every data set, and with m eta <= 1 the law of w keeps a
  log-Sobolev constant of at most 2 sigma^2 / m; projecting on a ball changes neither that nor the contraction.
* Neighbours differ by *forgetting* k rows, which moves the clipped mean gradient by at most 2 k M / n: what replacing
  k rows does as well, for which the paper states its theorem.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from engine.errors import EngineError
from engine.heads.constants import constants
from engine.heads.rows import Indices, Rows, Vector, distinct
from engine.heads.weights import Noise, Published, normals


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Penalty, clip M, step size eta, noise sigma, radius of the ball, and the steps of learning."""

    lam: float
    clip: float
    rate: float
    sigma: float
    radius: float
    burn_in: int

    def __post_init__(self) -> None:
        """Refuse what the theorem does not speak of."""
        if not all(0 < one < math.inf for one in (self.clip, self.rate, self.sigma, self.radius)) or self.burn_in < 1:
            raise EngineError(
                "bad_options", "clip, step size, noise and radius are finite and above 0, and learning takes steps"
            )
        if self.rate > 1 / constants(self.lam).smoothness:
            raise EngineError("bad_options", "the theorem needs a step size of at most 1 / L, with L = lambda + 1/4")

    @property
    def convexity(self) -> float:
        """The strong convexity m."""
        return constants(self.lam).convexity

    @property
    def smoothness(self) -> float:
        """The smoothness L."""
        return constants(self.lam).smoothness


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chain:
    """Where the chain is: nothing in it is secret but the rows."""

    rows: Rows
    settings: Settings
    published: Published
    rounds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Unlearning:
    """What may be told about one batch, and all that its accountant needs."""

    removed: int
    repeated: int
    rows_before: int
    rows_after: int
    steps: int
    settings: Settings


def learn(rows: Rows, settings: Settings, noise: Noise) -> Chain:
    """`burn_in` steps from 0."""
    start = Published(weights=np.zeros(rows.features))
    return _walk(Chain(rows=rows, settings=settings, published=start, rounds=0), settings.burn_in, noise)


def unlearn(chain: Chain, indices: Sequence[int] | Indices, *, steps: int, noise: Noise) -> tuple[Chain, Unlearning]:
    """Forget rows in `steps` steps on what remains; rows that are gone already take none."""
    if steps < 1:
        raise EngineError("bad_options", "forgetting takes at least one step")
    gone = chain.rows.present(indices)
    taken = steps if gone.size else 0
    after = chain
    if gone.size:
        after = _walk(replace(chain, rows=chain.rows.without(gone)), steps, noise)
    record = Unlearning(
        removed=int(gone.size),
        repeated=int(distinct(indices).size - gone.size),
        rows_before=chain.rows.count,
        rows_after=after.rows.count,
        steps=taken,
        settings=chain.settings,
    )
    return after, record


def clipped_mean(rows: Rows, w: Vector, *, clip: float) -> Vector:
    """The mean (d,) over the rows that are present of their loss's gradients, each cut to length `clip`."""
    slopes = -rows.y * expit(-rows.y * (rows.x @ w))
    lengths = np.abs(slopes) * np.sqrt(np.einsum("nd,nd->n", rows.x, rows.x))
    factors = clip / np.maximum(lengths, clip)
    mean: Vector = (slopes * factors) @ rows.x / rows.count
    return mean


def projected(w: Vector, *, radius: float) -> Vector:
    """The nearest point of the ball around 0."""
    inside: Vector = w * min(1.0, radius / max(float(np.linalg.norm(w)), radius))
    return inside


def _walk(chain: Chain, steps: int, noise: Noise) -> Chain:
    s, w = chain.settings, chain.published.weights
    spread = math.sqrt(2 * s.rate) * s.sigma
    for round_ in range(chain.rounds, chain.rounds + steps):
        drift = clipped_mean(chain.rows, w, clip=s.clip) + s.lam * w
        z = normals(noise, round_=round_, count=w.size)
        w = projected(w - s.rate * drift + spread * z, radius=s.radius)
    return replace(chain, published=Published(weights=w), rounds=chain.rounds + steps)
