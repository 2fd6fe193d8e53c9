"""Learning rates by model size, where the options name none. Standard library only.

    descent   rate(n) = rate_1M * (10^6 / n) ** 1/2    times 10 with adapters
    fit       rate(n) = 10^-2 up to a million parameters, then * (10^6 / n) ** 3/4

A method states its rate for a million parameters, measured on models of that size (`docs/results.md`). The powers lead
from there to what the papers use on seven thousand million, 1e-5 (TOFU, NPO, MUSE), within a factor of two. Adapters
take a rate ten times as high (arXiv 2106.09685, appendix D). Small models are trained with Muon on their matrices,
large ones, which came pre-trained, with AdamW alone. A preset is where a search starts: `tune` searches around it.
"""

import dataclasses
import math
from typing import Any

from engine.options import DescentOptions, FitOptions, Options
from engine.options.domains import DomainOptions

MILLION = 1e6
FROM_SCRATCH = 1e-2  # of the fit of a small model, both optimisers
ADAPTERS = 10.0
# Of prompts beside a CLIP: as published for ViT-B/16 (arXiv 2510.08132), and beside one that was trained here.
PUBLISHED = {"learning_rate": 2.5e-3, "max_norm": 0.0, "gamma": 30.0, "mmd_weight": 10.0}
SMALL = {"learning_rate": 0.1, "max_norm": 1.0, "gamma": 3.0, "mmd_weight": 10.0}
MUON_UP_TO = 20e6  # parameters; above, a model came pre-trained and its matrices are not to be made orthogonal


def resolved(options: Options, rate: float | None, parameters: int) -> Options:
    """`options` with the preset in the place of a learning rate that was not given."""
    if isinstance(options, DescentOptions) and options.learning_rate is None:
        value = _rounded((rate or 0.0) * math.sqrt(MILLION / parameters) * (ADAPTERS if options.lora_rank else 1.0))
        return dataclasses.replace(options, learning_rate=value)
    if isinstance(options, FitOptions) and options.learning_rate is None:
        value = fit_rate(parameters, adapters=bool(options.lora_rank))
        small = parameters <= MUON_UP_TO and not options.lora_rank
        matrix = options.matrix_learning_rate or (value if small else None)
        return dataclasses.replace(options, learning_rate=value, matrix_learning_rate=matrix)
    return _of_domains(options, parameters) if isinstance(options, DomainOptions) else options


def _of_domains(options: DomainOptions, parameters: int) -> DomainOptions:
    presets = PUBLISHED if parameters > MUON_UP_TO else SMALL
    missing: dict[str, Any] = {name: value for name, value in presets.items() if getattr(options, name, value) is None}
    return dataclasses.replace(options, **missing)


def fit_rate(parameters: int, *, adapters: bool) -> float:
    """The rate of ordinary training for a model with that many parameters."""
    scale = min(1.0, (MILLION / parameters) ** 0.75)
    return _rounded(FROM_SCRATCH * scale * (ADAPTERS if adapters and scale < 1 else 1.0))


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
