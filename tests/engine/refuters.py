"""One refuter a certified mechanism: it draws a random small setting from a seed, runs the code, says what it found.

Each runs the mechanism's own functions, in two worlds that the theorem says are hard to tell apart, and as far apart as
the theorem allows where that can be arranged. Noise follows from the settings by the accountant, as in a policy: the
least for a random epsilon and delta.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from audits import mechanisms
from engine.catalogue import check_options
from engine.heads.rows import Vector
from engine.methods import Setting, noisy
from tests.engine import refuters_heads as convex_heads
from tests.engine import tiny
from tests.engine.refuting import Found, audited, promise, repeated
from tests.engine.refuting_training import canaries, networks, single_unit

WALKS = 150  # runs a world


class Point(nn.Module):
    """A model that is one vector of two numbers."""

    def __init__(self, at: Vector) -> None:
        """Start `at` a place (2,)."""
        super().__init__()
        self.at = nn.Parameter(torch.from_numpy(at).float())


def noisy_steps(seed: int, quiet: float = 1.0) -> Found:
    """Two starts at opposite ends of the ball; the loss drives them apart, or is the same function of where they are.

    Every other setting is projected. What is looked at is how far along the line between them a run ends.
    """
    rng = np.random.default_rng([seed, 1])
    told, delta, certified = _noisy_setting(rng, projected=bool(seed % 2))
    angle = rng.uniform(0, 2 * np.pi)
    line = np.array([np.cos(angle), np.sin(angle)])
    same_loss = seed % 4 > 1

    def end(sign: float, secret: bytes) -> float:
        model, along = Point(2 * told.start_radius * sign * line), torch.from_numpy(line).float()

        def loss() -> torch.Tensor:
            place = model.at @ along
            return -1e3 * (place.abs() if same_loss else sign * place)

        taken = replace(told, noise=told.noise * quiet)
        noisy.take_steps(model, [[loss]] * told.steps, taken, walking(secret))  # type: ignore[arg-type]
        return float((model.at @ along).detach())

    ends = [repeated(partial(end, sign), runs=WALKS, seed=seed + 10 * i) for i, sign in enumerate((1.0, -1.0))]
    return audited(*ends, certified=certified, delta=delta, curve=not told.projected)


def _noisy_setting(rng: np.random.Generator, *, projected: bool) -> tuple[noisy.Steps, float, float]:
    """Settings, a delta, and the epsilon of the accountant there, which is the drawn one or a hair less."""
    low, high = (0.7, 1.8) if projected else (2.0, 7.0)  # so that the runs could refute it
    delta, wanted = promise(rng, low=low, high=high)
    told = noisy.Steps(
        start_radius=float(rng.uniform(0.2, 3.0)),
        clip=float(rng.uniform(0.1, 1.0)),
        learning_rate=float(rng.uniform(0.05, 0.5)),
        weight_decay=float(rng.uniform(0.0, 1.5)),
        noise=1.0,
        steps=int(rng.integers(1, 5)),
        projected=projected,
    )
    told = replace(told, noise=mechanisms.noise_for(told.to_mapping(), epsilon=wanted, delta=delta))
    return told, delta, mechanisms.epsilon(told.to_mapping(), delta=delta, group=1)


def walking(secret: bytes) -> Setting[Any]:
    """What noisy steps ask of a setting."""
    return Setting(
        model=None,  # type: ignore[arg-type]
        reader=None,  # type: ignore[arg-type]
        forget=(),
        retain=(),
        options=check_options("unlearn", "noisy-ft", {"sigma": 1.0}, "image"),
        seed=0,
        progress=tiny.quiet,
        folder=Path(),
        digest="",
        cache=Path(),
        secret=secret,
    )


Refuter = Callable[[int, float], Found]  # of a seed, and of how much of the claimed noise is really added
# By mechanism: the refuter, and how many random settings it is asked about.
REFUTERS: Mapping[str, tuple[Refuter, int]] = {
    "DP training, canaries": (canaries, 10),
    "DP training, one unit or none": (single_unit, 5),
    "DP training, real networks": (networks, 4),
    "noisy clipped steps": (noisy_steps, 8),
    "newton-noise": (convex_heads.newton_noise, 6),
    "descent-noise": (convex_heads.descent_noise, 5),
    "langevin": (convex_heads.langevin_noise, 6),
    "descent-to-delete": (convex_heads.kept_descent, 3),
    "Descent-to-Delete, library": (convex_heads.descent_to_delete, 4),
    "Langevin, library": (convex_heads.langevin_chains, 4),
}
# Which of them stand behind a certified method of the catalogue.
COVERED: Mapping[str, tuple[str, ...]] = {
    "dp2": ("DP training, canaries", "DP training, one unit or none", "DP training, real networks"),
    "noisy-ft": ("noisy clipped steps",),
    "newton-noise": ("newton-noise",),
    "descent-noise": ("descent-noise",),
    "langevin": ("langevin",),
    "descent-to-delete": ("descent-to-delete", "Descent-to-Delete, library"),
}
