"""A torch mechanism as the probe sees it: one vector of doubles a round, at fixed weights."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from accelerate import Accelerator
from torch import nn

from engine.training import Gradient
from engine.verification.privacy.probe import Running
from engine.verification.statistics import Floats

Unit = TypeVar("Unit")


def running(
    parameters: Sequence[nn.Parameter],
    make: Callable[[Sequence[Unit], float | None], Gradient[int]],
    *,
    units: Sequence[Unit],
    huge: Unit,
) -> Running[Unit]:
    """The mechanism whose gradient function of these units at this sample rate is `make(units, sample_rate)`.

    Where that rate is None, `make` takes the training's own. No optimiser steps, so weights stay as they are. A
    parameter on which a round leaves nothing counts as zeros.
    """
    accelerator = Accelerator()

    def gradient(members: Sequence[Unit], round_: int, sample_rate: float | None) -> Floats:
        for parameter in parameters:
            parameter.grad = None
        make(members, sample_rate)(accelerator, round_)
        return _left_on(parameters)

    return Running(gradient=gradient, units=units, huge=huge)


def _left_on(parameters: Sequence[nn.Parameter]) -> Floats:
    left = [
        np.zeros(p.numel()) if p.grad is None else p.grad.detach().double().cpu().numpy().ravel() for p in parameters
    ]
    return np.concatenate(left)
