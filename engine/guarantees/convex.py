"""The records from which an accountant computes the epsilon of convex heads: six procedures, one objective.

    F(V) = (1/n) sum_i sum_k log(1 + exp(-y_ik v_k'x_i)) + (lambda / 2) ||V||^2        ||x_i|| <= 1

V holds one head a class and is one vector in every norm. F is m-strongly convex and L-smooth with m = lambda and
L = lambda + 1/4; both are proved from the penalty, which is enforced. Whatever a record says is fixed before the data
are read. `perturbed_newton` is about the sum n F with a linear term a head. docs/guarantees.md, sections 8 to 10, 12,
15 and 16. Standard library only.
"""

import math
from dataclasses import dataclass
from typing import Any

from engine.options import (
    DescentNoiseOptions,
    DescentToDeleteOptions,
    LangevinOptions,
    NewtonNoiseOptions,
    NewtonRemovalOptions,
    RewindOptions,
)

MEASURED, CONTRACTED, LANGEVIN = "measured_gradient", "contracted_gradient_steps", "noisy_gradient_steps"
REMOVED, KEPT, REWOUND = "perturbed_newton", "kept_gradient_steps", "rewound_gradient_steps"
LARGEST_NORM = 1 + 1e-9  # of a row, as `engine.heads.rows` checks it
GRADIENT_ERROR = 1e-9  # what rounding may change in a gradient; `engine.heads.steps` refuses a step that could pass it


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredGradient:
    """A point where the gradient's norm is at most `residual`, plus noise once."""

    curvature: float
    residual: float
    noise: float
    features: str

    def to_mapping(self) -> dict[str, Any]:
        """The JSON object that stands under `accountant` in evidence."""
        return {
            "mechanism": MEASURED,
            "curvature": self.curvature,
            "residual": self.residual,
            "noise": self.noise,
            "features": self.features,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientSteps:
    """`steps` full gradient steps of size 2 / (L + m) from a start in the ball of `start_radius`.

    Noise once at the end, or in every step.
    """

    mechanism: str
    start_radius: float
    curvature: float
    smoothness: float
    gradient_error: float
    steps: int
    noise: float
    features: str

    @property
    def rate(self) -> float:
        """The step size, at which a step shrinks every distance by (L - m) / (L + m)."""
        return 2 / (self.smoothness + self.curvature)

    def to_mapping(self) -> dict[str, Any]:
        """The JSON object that stands under `accountant` in evidence."""
        return {
            "mechanism": self.mechanism,
            "startRadius": self.start_radius,
            "curvature": self.curvature,
            "smoothness": self.smoothness,
            "gradientError": self.gradient_error,
            "noise": self.noise,
            "steps": self.steps,
            "features": self.features,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptSteps:
    """`steps` full gradient steps of size 2 / (L + m) for each record that left, from weights that are never shown."""

    curvature: float
    smoothness: float
    slope: float
    gradient_error: float
    points: int
    steps: int
    noise: float
    problems: int
    features: str

    @property
    def rate(self) -> float:
        """The step size, at which a step shrinks every distance by `contraction`."""
        return 2 / (self.smoothness + self.curvature)

    @property
    def contraction(self) -> float:
        """(L - m) / (L + m)."""
        return (self.smoothness - self.curvature) / (self.smoothness + self.curvature)

    @property
    def allowed(self) -> float:
        """The error that the theorem has of a state at most, without rounding."""
        return math.exp(self._log_allowed)

    @property
    def _log_allowed(self) -> float:
        """Logarithm of x 2M / (m n (1 - x)), x = gamma^I."""
        left = self.steps * math.log(self.contraction)
        return left + math.log(2 * self.slope / (self.curvature * self.points)) - math.log(-math.expm1(left))

    def after(self, error: float, *, gone: int, stay: int) -> float:
        """The error once `gone` records left and `gone` times I steps were taken on the `stay` others."""
        moved = gone * self.slope / (self.curvature * stay)
        return math.exp(gone * self.steps * math.log(self.contraction)) * (error + moved)

    @property
    def reach(self) -> float:
        """How far the minimum is from 0 at most: the penalty's half of M, over m."""
        return self.slope / (2 * self.curvature)

    def learning_steps(self) -> int:
        """Steps from 0 after which the error is at most `allowed`."""
        farther = math.log(self.reach) - self._log_allowed
        return math.ceil(max(0.0, farther / -math.log(self.contraction))) + 1

    def to_mapping(self) -> dict[str, Any]:
        """The JSON object that stands under `accountant` in evidence."""
        return {
            "mechanism": KEPT,
            "curvature": self.curvature,
            "smoothness": self.smoothness,
            "slope": self.slope,
            "gradientError": self.gradient_error,
            "points": self.points,
            "steps": self.steps,
            "noise": self.noise,
            "problems": self.problems,
            "features": self.features,
        }


def measured(options: NewtonNoiseOptions) -> MeasuredGradient:
    """What `newton-noise` runs."""
    return MeasuredGradient(
        curvature=options.penalty, residual=options.residual, noise=options.sigma, features=options.features
    )


def walked(options: DescentNoiseOptions | LangevinOptions) -> GradientSteps:
    """What `descent-noise` and `langevin` run."""
    return GradientSteps(
        mechanism=CONTRACTED if isinstance(options, DescentNoiseOptions) else LANGEVIN,
        start_radius=options.start_radius,
        curvature=options.penalty,
        smoothness=options.penalty + LARGEST_NORM**2 / 4,
        gradient_error=GRADIENT_ERROR,
        steps=options.head_steps,
        noise=options.sigma,
        features=options.features,
    )


def removed(options: NewtonRemovalOptions) -> dict[str, Any]:
    """What `newton-removal` runs: `noise` and `residual` are those of one head, in the sum form."""
    return {
        "mechanism": REMOVED,
        "curvature": options.penalty,
        "residual": options.residual,
        "noise": options.sigma,
        "problems": options.classes,
        "features": options.features,
    }


def steepest(classes: int) -> float:
    """The largest gradient of a record's stacked losses, penalty included, at any minimum: M of Descent-to-Delete.

    A head's loss adds at most the row's norm, so K of them sqrt(K) in one vector; the penalty's lambda ||V*|| is the
    norm of a mean of such gradients.
    """
    return 2 * math.sqrt(classes) * LARGEST_NORM


def kept(options: DescentToDeleteOptions) -> KeptSteps:
    """What `descent-to-delete` runs."""
    return KeptSteps(
        curvature=options.penalty,
        smoothness=options.penalty + LARGEST_NORM**2 / 4,
        slope=steepest(options.classes),
        gradient_error=GRADIENT_ERROR,
        points=options.points,
        steps=options.head_steps,
        noise=options.sigma,
        problems=options.classes,
        features=options.features,
    )


def rewound(options: RewindOptions) -> dict[str, Any]:
    """What `rewind` runs; L and G are what the run has to estimate no larger."""
    return {
        "mechanism": REWOUND,
        "smoothness": options.smoothness,
        "slope": options.slope,
        "learningRate": options.rate,
        "steps": options.head_steps,
        "rewound": options.rewound,
        "share": options.share,
        "noise": options.sigma,
        "features": options.features,
    }


def record(options: object) -> dict[str, Any] | None:
    """The mechanism of a convex method's options; None for those of any other."""
    if isinstance(options, NewtonRemovalOptions):
        return removed(options)
    if isinstance(options, DescentToDeleteOptions):
        return kept(options).to_mapping()
    if isinstance(options, RewindOptions):
        return rewound(options)
    if isinstance(options, NewtonNoiseOptions):
        return measured(options).to_mapping()
    if isinstance(options, DescentNoiseOptions | LangevinOptions):
        return walked(options).to_mapping()
    return None
