r"""Four ways to near the minimum of a `Stack`, of which each has a theorem (docs/guarantees.md).

`newton`    until the measured gradient is short enough            section 8
`descend`   full gradient steps from a ball                        section 15
`walk`      the same with noise in every step                      section 16
`onward`    full gradient steps from a state that is kept          section 10

Gradient steps have size 2 / (L + m). Their theorems allow a gradient to be off by a stated length; a step in which
rounding could do more is refused. What `newton` and `descend` return has no noise yet and is secret (`Internal`).
"""

from typing import Protocol

import numpy as np

from engine.errors import EngineError
from engine.guarantees.convex import GradientSteps
from engine.heads.rows import Vector
from engine.heads.stacked import Stack
from engine.heads.weights import Internal, Noise, Published, normals

_UNIT = float(np.finfo(np.float64).eps)
_INSIDE = 1 - 1e-12  # so that rounding does not leave the ball
_HALVINGS = 30


class Stepping(Protocol):
    """What a step needs to know of a mechanism."""

    @property
    def rate(self) -> float:
        """2 / (L + m)."""
        ...

    @property
    def gradient_error(self) -> float:
        """How far off a gradient may be."""
        ...


def newton(problem: Stack, start: Vector, *, residual: float, limit: int) -> Internal:
    """Newton steps from `start` (K, d) to a gradient of norm at most `residual`; where they fail, anew from 0.

    Raises:
        EngineError: after `limit` steps from 0 the measured norm, rounding included, is still above `residual`.
    """
    for first in (start, np.zeros(problem.shape)):
        found = _converged(problem, first, residual=residual, limit=limit)
        if found is not None:
            return Internal(found)
    message = (
        f"the optimiser did not converge: the theorem needs a measured gradient of norm at most {residual:.3g}, "
        f"and {limit} steps ended above it; allow more head_steps, or a larger residual or penalty"
    )
    raise EngineError("bad_options", message)


def descend(problem: Stack, start: Vector, told: GradientSteps) -> Internal:
    """All steps from `start`, which is first put into the ball."""
    v = inside(start, told.start_radius)
    for _ in range(told.steps):
        v = _moved(problem, v, told)
    return Internal(v)


def onward(problem: Stack, start: Internal, told: Stepping, *, steps: int) -> Internal:
    """So many steps from where they ended before; there is no ball."""
    v = start.unnoised
    for _ in range(steps):
        v = _moved(problem, v, told)
    return Internal(v)


def walk(problem: Stack, start: Vector, told: GradientSteps, noise: Noise) -> Published:
    """The same with a round of noise in every step."""
    v = inside(start, told.start_radius)
    for round_ in range(told.steps):
        z = told.noise * normals(noise, round_=round_, count=v.size).reshape(v.shape)
        v = _moved(problem, v, told, z)
    return Published(weights=v)


def inside(v: Vector, radius: float) -> Vector:
    """The nearest point of the ball around 0, or of one that is smaller by a rounding error."""
    norm, limit = float(np.linalg.norm(v)), radius * _INSIDE
    nearest: Vector = v if norm <= limit else v * (limit / norm)
    return nearest


def _converged(problem: Stack, v: Vector, *, residual: float, limit: int) -> Vector | None:
    """Where the measured gradient is short enough, if so many steps lead there."""
    gradient = problem.gradient(v)
    for _ in range(limit):
        if problem.norm(v, gradient) <= residual:
            break
        try:
            v = _stepped(problem, v, gradient)
        except np.linalg.LinAlgError:  # the penalty is lost in rounding
            return None
        gradient = problem.gradient(v)
    return v if problem.norm(v, gradient) <= residual else None  # NaN is not


def _moved(problem: Stack, v: Vector, told: Stepping, noise: Vector | float = 0.0) -> Vector:
    gradient = problem.gradient(v)
    moved: Vector = v - told.rate * gradient + noise
    lengths = (float(np.linalg.norm(one)) for one in (v, moved, told.rate * gradient))
    error = problem.rounding(v) + 8 * _UNIT * sum(lengths) / told.rate
    if not error <= told.gradient_error:  # not `>`: NaN ends here as well
        message = (
            f"the theorem allows a gradient to be off by {told.gradient_error:.0e}, and with so many rows, or weights "
            f"of such a size, rounding may do {error:.1e}; lower the noise, or use newton-noise"
        )
        raise EngineError("bad_options", message)
    return moved


def _stepped(problem: Stack, v: Vector, gradient: Vector) -> Vector:
    """One Newton step of every head; a head whose gradient no step shrinks stays where it is."""
    steps = np.stack([problem.newton_step(v, gradient, head) for head in range(len(v))])
    before = np.linalg.norm(gradient, axis=1)
    found, waiting = v.copy(), before > 0
    for halving in range(_HALVINGS):
        trial = np.where(waiting[:, None], v - steps / 2**halving, found)
        shorter = waiting & (np.linalg.norm(problem.gradient(trial), axis=1) < before)
        found[shorter], waiting = trial[shorter], waiting & ~shorter
        if not waiting.any():
            break
    return found
