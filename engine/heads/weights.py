"""Weights that may leave, weights that may not, and the noise between them.

Where noise is added at publication, the weights without it void the certificate if anybody sees them. They have a
type of their own, which cannot be printed, copied into a mapping or pickled by mistake; only `unnoised` reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np

from engine.errors import EngineError
from engine.heads.rows import Vector


class Noise(Protocol):
    """Standard normal numbers (count,) of a round, the same whenever the round is asked for again.

    A source belongs to one head: two states that went on from the same one in different ways share rounds, and only
    one of them may ever be published.
    `functools.partial(engine.methods.secret.gaussians, secret)` with 256 secret bits is one.
    """

    def __call__(self, *, round_: int, count: int) -> Vector:
        """The numbers of one round."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Published:
    """Weights that may be shown to anybody; a read-only copy."""

    weights: Vector

    def __post_init__(self) -> None:
        """Detach them from the state that they came from, and let nothing pass that is not a finite number."""
        copy = np.array(self.weights, dtype=np.float64)
        if not bool(np.all(np.isfinite(copy))):
            raise EngineError("not_finite", "weights became NaN or infinite and were not published")
        copy.flags.writeable = False
        object.__setattr__(self, "weights", copy)

    def tensors(self) -> Mapping[str, Vector]:
        """By name, as a file of weights wants them."""
        return {"weights": self.weights}


class Internal:
    """Weights before noise was added: part of a head's secret state, like the secret of its noise."""

    __slots__ = ("_weights",)

    def __init__(self, weights: Vector) -> None:
        self._weights = weights

    @property
    def unnoised(self) -> Vector:
        """The weights themselves, for the next step of descent and for sealed storage."""
        return self._weights

    def __repr__(self) -> str:
        return "Internal(secret)"

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        """Refuse copies that nobody asked for: `pickle`, `copy`, `dataclasses.asdict`."""
        raise EngineError("internal", "weights without noise are secret and are not written down")


def normals(noise: Noise, *, round_: int, count: int) -> Vector:
    """One round of `noise`, refused unless it is `count` finite numbers."""
    drawn = np.asarray(noise(round_=round_, count=count), dtype=np.float64)
    if drawn.shape != (count,) or not bool(np.all(np.isfinite(drawn))):
        raise EngineError("bad_options", f"the noise source gave no {count} finite numbers")
    return drawn


def noised(weights: Internal, *, sigma: float, noise: Noise, round_: int) -> Published:
    """W + N(0, sigma^2 I). A round belongs to one state: two draws for the same weights would average the noise out."""
    raw = weights.unnoised
    return Published(weights=raw + sigma * normals(noise, round_=round_, count=raw.size))
