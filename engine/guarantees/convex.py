"""The records from which an accountant computes the epsilon of convex heads: three procedures, one objective.

    F(V) = (1/n) sum_i sum_k log(1 + exp(-y_ik v_k'x_i)) + (lambda / 2) ||V||^2        ||x_i|| <= 1

V holds one head a class and is one vector in every norm. F is m-strongly convex and L-smooth with m = lambda and
L = lambda + 1/4; both are proved from the penalty, which is enforced. Whatever a record says is fixed before the data
are read. docs/guarantees.md, sections 8 and 15. Standard library only.
"""

from dataclasses import dataclass
from typing import Any

from engine.options import DescentNoiseOptions, LangevinOptions, NewtonNoiseOptions

MEASURED, CONTRACTED, LANGEVIN = "measured_gradient", "contracted_gradient_steps", "noisy_gradient_steps"
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


def record(options: object) -> dict[str, Any] | None:
    """The mechanism of a convex method's options; None for those of any other."""
    if isinstance(options, NewtonNoiseOptions):
        return measured(options).to_mapping()
    if isinstance(options, DescentNoiseOptions | LangevinOptions):
        return walked(options).to_mapping()
    return None
