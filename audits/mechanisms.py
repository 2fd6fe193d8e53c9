"""The mechanisms that a certificate can name: the bound each gives, and how each of its constants is held.

    poisson_subsampled_gaussian    DP training (`accountant`); the bound is for a group of deleted units
    noisy_clipped_steps            noisy clipped fine-tuning (`contraction`); the bound is the same for any group
    measured_gradient              a convex head near its minimum, noise once (`convex`); any group
    contracted_gradient_steps      gradient steps of a convex head from a ball, noise once (`convex`); any group
    noisy_gradient_steps           the same with noise in every step (`contraction`); any group
    perturbed_newton               Newton removal within a budget (`convex`), conditional; any group
    kept_gradient_steps            Descent-to-Delete from a state that is kept secret (`convex`); any group
    rewound_gradient_steps         gradient steps from a kept checkpoint (`convex`), conditional; any group

A constant is `enforced` (the code can't run otherwise), `proved` (computed from enforced ones), or `estimated` (seen on
data, and then the guarantee is conditional). docs/guarantees.md says for each where.
"""

import math
from collections.abc import Mapping
from typing import Any

from audits import accountant, contraction, convex
from audits.errors import expect

POISSON, NOISY = "poisson_subsampled_gaussian", "noisy_clipped_steps"
MEASURED, CONTRACTED, LANGEVIN = "measured_gradient", "contracted_gradient_steps", "noisy_gradient_steps"
REMOVED, KEPT, REWOUND = "perturbed_newton", "kept_gradient_steps", "rewound_gradient_steps"
ENFORCED, PROVED, ESTIMATED = "enforced", "proved", "estimated"
_WALK = ("startRadius", "curvature", "smoothness", "gradientError", "noise", "steps")
# In the order in which a report shows them.
CONSTANTS: Mapping[str, tuple[str, ...]] = {
    POISSON: ("sampleRate", "noiseMultiplier", "steps", "clip"),
    NOISY: ("startRadius", "clip", "learningRate", "weightDecay", "noise", "steps"),
    MEASURED: ("curvature", "residual", "noise"),
    CONTRACTED: _WALK,
    LANGEVIN: _WALK,
    REMOVED: ("curvature", "residual", "noise", "problems"),
    KEPT: ("curvature", "smoothness", "slope", "gradientError", "points", "steps", "noise", "problems"),
    REWOUND: ("smoothness", "slope", "learningRate", "steps", "rewound", "share", "noise"),
}
_HELD = {"curvature": PROVED, "smoothness": PROVED, "slope": PROVED}
_GUESSED = {"smoothness": ESTIMATED, "slope": ESTIMATED}  # of networks, by sampling
# Whether the bound also holds for whoever sees what is kept between runs: it does where nothing is kept.
COVERS_STATE: Mapping[str, bool] = {name: name not in (REMOVED, KEPT, REWOUND) for name in CONSTANTS}
# Mechanisms of which no theorem with enforced or proved constants is known, whatever their constants are held by.
CONDITIONAL = frozenset({REMOVED, REWOUND})
# What the second derivative of a logistic loss can add to the penalty's, for rows of norm 1.
_LOGISTIC = 0.25


def epsilon(record: Mapping[str, Any], *, delta: float, group: int) -> float:
    """The epsilon at `delta` for `group` deleted units, rounded up; ValueError for a record without meaning."""
    expect(record["mechanism"] in CONSTANTS, "The mechanism is none that this package accounts for.")
    if record["mechanism"] == POISSON:
        bound = accountant.epsilon(
            sample_rate=record["sampleRate"],
            noise_multiplier=record["noiseMultiplier"],
            steps=record["steps"],
            delta=delta,
            group=group,
        )
        return bound.epsilon
    expect(group >= 1, "A group has at least one unit.")
    if record["mechanism"] == REMOVED:
        return _removed(record).epsilon(noise=record["noise"], delta=delta)
    return min(contraction.epsilon(run, noise=record["noise"], delta=delta) for run in _runs(record))


def noise_for(record: Mapping[str, Any], *, epsilon: float, delta: float) -> float:
    """The noise under which all but DP training keep `epsilon` at `delta`; the record's own noise is ignored."""
    if record["mechanism"] == REMOVED:
        return _removed(record).noise_for(epsilon=epsilon, delta=delta)
    return min(contraction.noise_for(run, epsilon=epsilon, delta=delta) for run in _runs(record))


def constants(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every constant of a record with how it is held, in the order of a report."""
    names, held = CONSTANTS[record["mechanism"]], _GUESSED if record["mechanism"] == REWOUND else _HELD
    return [{"name": name, "value": float(record[name]), "held": held.get(name, ENFORCED)} for name in names]


def _runs(record: Mapping[str, Any]) -> list[contraction.Run]:
    """What was run, once for each theorem that covers it."""
    if record["mechanism"] == NOISY:
        return _clipped(record)
    if record["mechanism"] == MEASURED:
        return [convex.Measured(residual=record["residual"], curvature=record["curvature"])]
    if record["mechanism"] == KEPT:
        return [_kept(record)]
    if record["mechanism"] == REWOUND:
        return [_rewound(record)]
    run = _contracted(record)
    if record["mechanism"] == CONTRACTED:
        return [run]
    step = {"clip": run.gradient_error, "learning_rate": run.learning_rate, "weight_decay": run.curvature}
    return [contraction.Clipped(start_radius=run.start_radius, steps=run.steps, **step)]


def _clipped(record: Mapping[str, Any]) -> list[contraction.Run]:
    """The noisy run, and the same seen as a projected one, whose bound may be smaller."""
    step = {"clip": record["clip"], "learning_rate": record["learningRate"], "weight_decay": record["weightDecay"]}
    runs: list[contraction.Run] = [
        contraction.Clipped(start_radius=record["startRadius"], steps=record["steps"], **step)
    ]
    if record["projected"] and record["steps"] <= contraction.LONGEST_PROJECTED:
        runs.append(contraction.noise_then_project(radius=record["startRadius"], steps=record["steps"], **step))
    return runs


def _removed(record: Mapping[str, Any]) -> convex.Removed:
    expect(record["curvature"] > 0, "Constants and noise are finite and above zero.")
    return convex.Removed(residual=record["residual"], problems=record["problems"])


def _kept(record: Mapping[str, Any]) -> convex.Kept:
    _check_steep(record)
    steepest = 2 * math.sqrt(record["problems"])
    expect(record["slope"] >= steepest, "The gradient of so many losses and their penalty can be longer than that.")
    run = convex.Descent(
        curvature=record["curvature"],
        smoothness=record["smoothness"],
        slope=record["slope"],
        points=record["points"],
        iterations=record["steps"],
    )
    return convex.Kept(run=run, gradient_error=record["gradientError"])


def _rewound(record: Mapping[str, Any]) -> convex.Rewound:
    return convex.Rewound(
        steps=record["steps"],
        rewound=record["rewound"],
        learning_rate=record["learningRate"],
        smoothness=record["smoothness"],
        slope=record["slope"],
        share=record["share"],
    )


def _check_steep(record: Mapping[str, Any]) -> None:
    steep = record["smoothness"] >= record["curvature"] + _LOGISTIC
    expect(steep, "A logistic loss on rows of norm 1 is no smoother than its curvature and a quarter.")


def _contracted(record: Mapping[str, Any]) -> convex.Contracted:
    _check_steep(record)
    return convex.Contracted(
        start_radius=record["startRadius"],
        curvature=record["curvature"],
        smoothness=record["smoothness"],
        gradient_error=record["gradientError"],
        steps=record["steps"],
    )
