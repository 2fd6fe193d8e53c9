"""Which shadow model holds which example, decided by coins before anything is trained; and what they said.

The unit (data subject) is tossed, not the example: all examples of one person are in a model together or not at all.
Models come in pairs, the second with the opposite of the first's coins (as Zarifzadeh et al. 2024, arXiv 2312.03262,
do), so that half of the models hold each unit exactly and even two models leave each unit out once. For unlearning
audits models come in threes (RULI, USENIX Security 2025): a random order of out, in, and in-then-unlearned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.seeds import derive
from engine.verification.statistics import Floats

Bools = NDArray[np.bool_]
Roles = NDArray[np.int8]

OUT, IN, UNLEARNT = 0, 1, 2
PAIR, TRIPLE = 2, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Shadows:
    """A statistic of shadow models, and where an example counts as in or out; all of shape (shadows, examples).

    An entry that is neither is ignored. The target model is none of them.
    """

    statistic: Floats
    inside: Bools
    outside: Bools

    def __post_init__(self) -> None:
        """Refuse tables that do not belong together."""
        shape = self.statistic.shape
        if len(shape) != PAIR or self.inside.shape != shape or self.outside.shape != shape:
            raise EngineError("bad_data", "shadow statistics and roles are tables of shadows by examples, of one shape")
        if (self.inside & self.outside).any():
            raise EngineError("bad_data", "an example is either in a shadow model or out of it")


def keep_matrix(units: Sequence[str], *, shadows: int, seed: int) -> Bools:
    """Which shadow is trained on which example (shadows, examples), from the unit of each example.

    Raises:
        EngineError: `bad_options` when `shadows` is not an even number above 0.
    """
    _whole(shadows, PAIR)
    owners, count = _owners(units)
    coins = _generator(seed, "keep").random((shadows // PAIR, count)) < 1 / PAIR
    return np.stack([coins, ~coins], axis=1).reshape(shadows, count)[:, owners]


def three_ways(units: Sequence[str], *, shadows: int, seed: int) -> Roles:
    """OUT, IN or UNLEARNT for each shadow and example (shadows, examples): a third each for every example.

    Raises:
        EngineError: `bad_options` when `shadows` is not a multiple of 3 above 0.
    """
    _whole(shadows, TRIPLE)
    owners, count = _owners(units)
    order = _generator(seed, "three ways").random((shadows // TRIPLE, TRIPLE, count)).argsort(axis=1)
    return order.reshape(shadows, count)[:, owners].astype(np.int8)


def _whole(shadows: int, size: int) -> None:
    if shadows < size or shadows % size:
        raise EngineError("bad_options", f"the number of shadow models is a multiple of {size}")


def _owners(units: Sequence[str]) -> tuple[NDArray[np.int64], int]:
    order = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    return np.array([order[unit] for unit in units], dtype=np.int64), len(order)


def _generator(seed: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng(derive(seed, "shadows", purpose))
