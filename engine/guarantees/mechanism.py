"""The record from which an accountant computes epsilon: the Poisson-subsampled Gaussian mechanism.

The unit is a data subject or a record. Neighbouring data sets differ by adding or removing everything of one unit. In
each of `steps` rounds every unit joins independently with probability `sample_rate`; each joining unit's gradient is
clipped to L2 norm `clip`; Gaussian noise of standard deviation `noise_multiplier * clip` is added to the sum, also in a
round that nobody joined.
"""

from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError

NAME = "poisson_subsampled_gaussian"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mechanism:
    """What was run. There is no field that could say that sampling, clipping or noise was left out."""

    sample_rate: float
    noise_multiplier: float
    steps: int
    clip: float
    units: int
    unit: str = "data subject"

    def __post_init__(self) -> None:
        """Refuse settings under which the theorem says nothing."""
        if (
            not 0 < self.sample_rate <= 1
            or not self.noise_multiplier > 0
            or not self.clip > 0
            or self.steps < 1
            or self.units < 1
        ):
            raise EngineError(
                "bad_options", "a DP mechanism needs 0 < sample rate <= 1, and noise, clip, steps and units above 0"
            )

    def to_mapping(self) -> dict[str, Any]:
        """The JSON object that stands under `accountant` in evidence."""
        return {
            "mechanism": NAME,
            "sampleRate": self.sample_rate,
            "noiseMultiplier": self.noise_multiplier,
            "steps": self.steps,
            "clip": self.clip,
            "units": self.units,
            "unit": self.unit,
        }
