r"""Rewind-to-Delete (Mu and Klabjan 2025): back to a checkpoint of the training, and on from there without the rows.

Training takes T full-batch steps at the rate eta and keeps the weights after T - K; forgetting reloads them and takes
K steps on the remaining rows; noise is added when weights are published. Later requests start from the same checkpoint
and leave out every row that was ever forgotten, so what counts is the total.

How far apart this ends from training anew depends on L, the smoothness of the loss, and G, the largest gradient of a
row. For a network both are *estimated* here, from weights drawn around the checkpoint. A maximum over samples bounds
nothing, and it was taken over all rows, those that are forgotten later too. So the class of what comes out is
`conditional` and never `certified`, also for the linear model, for which `descent` proves its constants.
eta <= min(1 / L, n / (2 (n - m) L)), a condition of the theorem, is checked against the estimate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.errors import EngineError
from engine.heads.networks import Smooth, gradient
from engine.heads.rows import Indices, Rows, Vector, distinct
from engine.heads.weights import Internal, Noise, Published, noised

GUARANTEE = "conditional"


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """T, K, eta, the standard deviation of the noise, and the seed of the first weights and of the estimates."""

    steps: int
    rewound: int
    rate: float
    sigma: float
    seed: int
    spread: float = 0.5  # standard deviation of the first weights, and of the draws around the checkpoint
    samples: int = 50

    def __post_init__(self) -> None:
        """Refuse a rewinding that forgets nothing or goes back before the start."""
        if not 1 <= self.rewound <= self.steps:
            raise EngineError("bad_options", "rewinding goes back at least one step and at most to the start")
        if not all(0 < one < math.inf for one in (self.rate, self.sigma, self.spread)) or self.samples < 1:
            raise EngineError("bad_options", "step size, noise, spread and samples are finite and above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimated:
    """L and G as found in so many samples."""

    smoothness: float
    gradient: float
    samples: int
    source: str = "estimated"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trained:
    """The state: the checkpoint and the end of training are both without noise."""

    model: Smooth
    rows: Rows
    settings: Settings
    checkpoint: Internal
    internal: Internal
    constants: Estimated
    learned_on: int
    versions: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Rewinding:
    """What may be told about one batch; `total` rows are forgotten since training, and count in the bound."""

    removed: int
    repeated: int
    total: int
    rows: int
    settings: Settings
    constants: Estimated
    guarantee: str = GUARANTEE


def train(model: Smooth, rows: Rows, settings: Settings) -> Trained:
    """T steps from random weights."""
    start = settings.spread * np.random.default_rng(settings.seed).standard_normal(model.size)
    checkpoint = _descend(model, rows, start, rate=settings.rate, steps=settings.steps - settings.rewound)
    internal = _descend(model, rows, checkpoint, rate=settings.rate, steps=settings.rewound)
    found = estimate(model, rows, checkpoint, settings)
    _check_rate(settings.rate, found, rows=rows.count, forgotten=0)
    return Trained(
        model=model,
        rows=rows,
        settings=settings,
        checkpoint=Internal(checkpoint),
        internal=Internal(internal),
        constants=found,
        learned_on=rows.count,
    )


def rewind(trained: Trained, indices: Sequence[int] | Indices) -> tuple[Trained, Rewinding]:
    """Forget rows in K steps from the checkpoint; rows that are gone already take none."""
    gone = trained.rows.present(indices)
    after = trained
    if gone.size:
        rows, settings = trained.rows.without(gone), trained.settings
        forgotten = trained.learned_on - rows.count
        _check_rate(settings.rate, trained.constants, rows=trained.learned_on, forgotten=forgotten)
        start = trained.checkpoint.unnoised
        ended = _descend(trained.model, rows, start, rate=settings.rate, steps=settings.rewound)
        after = replace(trained, rows=rows, internal=Internal(ended), versions=trained.versions + 1)
    record = Rewinding(
        removed=int(gone.size),
        repeated=int(distinct(indices).size - gone.size),
        total=trained.learned_on - after.rows.count,
        rows=trained.learned_on,
        settings=trained.settings,
        constants=trained.constants,
    )
    return after, record


def publish(trained: Trained, noise: Noise) -> Published:
    """The weights with noise; the same to the bit until rows are forgotten."""
    return noised(trained.internal, sigma=trained.settings.sigma, noise=noise, round_=trained.versions)


def estimate(model: Smooth, rows: Rows, around: Vector, settings: Settings) -> Estimated:
    """The largest ratio of gradients to weights between `around` and draws near it, and the largest row gradient."""
    rng = np.random.default_rng([settings.seed, 1])
    here = gradient(model, around, rows)
    smoothness, largest = 0.0, 0.0
    for _ in range(settings.samples):
        moved = settings.spread * rng.standard_normal(model.size)
        w = around + moved
        smoothness = max(smoothness, float(np.linalg.norm(gradient(model, w, rows) - here) / np.linalg.norm(moved)))
        largest = max(largest, float(np.linalg.norm(model.row_gradients(w, rows) + model.penalty * w, axis=1).max()))
    if not 0 < smoothness < math.inf or not 0 < largest < math.inf:
        raise EngineError("not_finite", "the smoothness of this model could not be estimated")
    return Estimated(smoothness=smoothness, gradient=largest, samples=settings.samples)


def _check_rate(rate: float, found: Estimated, *, rows: int, forgotten: int) -> None:
    largest = min(1.0, rows / (2 * (rows - forgotten))) / found.smoothness
    if not rate <= largest:
        raise EngineError("bad_options", f"the theorem needs a step size of at most {largest:.3g} for this model")


def _descend(model: Smooth, rows: Rows, start: Vector, *, rate: float, steps: int) -> Vector:
    w = start
    for _ in range(steps):
        w = w - rate * gradient(model, w, rows)
    return w
