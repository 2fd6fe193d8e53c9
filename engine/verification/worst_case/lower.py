"""The lower level: a model that forgets softly, record i with weight w_i, stepped by the sign of its gradient.

    theta <- theta - rate * sign(d/dtheta of sum_i c_i l_i),   c_i = 1 - w_i            `finetune`
                                                               c_i = 1 - w_i - w_i      `ascent`

`finetune` is what the released selector has, `ascent` what the paper describes with lambda = 1 (arXiv 2403.07362,
section 4). Each round begins with the weights of the model's folder, read back tensor by tensor. The network is in
evaluation mode throughout, so that no dropout and no statistics of a batch normalisation get from one round into the
next; the released code reads the losses of the upper level in training mode, with augmentation.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.errors import EngineError
from engine.methods import Setting
from engine.options import WorstCaseOptions
from engine.seeds import derive
from engine.tasks.image import classes_of, losses, scores
from engine.tasks.pixels import Pictures, pictures
from engine.training import accelerator_for, accumulate, device
from engine.verification.worst_case.simplex import Floats
from engine.weights import originals


class Signed(torch.optim.Optimizer):
    """Steps of one size in every coordinate whose gradient is not 0; neither momentum nor decay."""

    def __init__(self, parameters: Sequence[nn.Parameter], rate: float) -> None:
        super().__init__(parameters, {"lr": rate})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # noqa: ARG002 - the library's signature
        """Theta <- theta - rate * sign(gradient)."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad.sign(), alpha=group["lr"])


class Lower:
    """The records of a setting and its model, which is asked again and again what a choice of weights does to it."""

    def __init__(self, setting: Setting[WorstCaseOptions]) -> None:
        self._setting = setting
        self._known = pictures(setting.retain, setting.pixels, classes_of(setting.model))

    def losses(self, weights: Floats, round_: int) -> Floats:
        """Cross-entropy (records,) in nats after the lower level was run with `weights` (records,)."""
        setting, options = self._setting, self._setting.options
        model: nn.Module = setting.model
        model.to(device())
        for parameter, before in originals(model, setting.folder):
            parameter.data.copy_(before)
        pulled = torch.from_numpy(1.0 - weights if options.lower == "finetune" else 1.0 - 2.0 * weights).float()
        accelerator = accelerator_for(options.precision)
        optimiser = Signed([p for p in model.parameters() if p.requires_grad], options.rate)
        model.eval()
        for epoch in range(options.epochs):
            for rows in _order(len(pulled), options.batch, setting.seed, round_, epoch):
                self._step(accelerator, optimiser, self._known.at(rows), pulled[torch.from_numpy(rows)])
        return -scores(setting.model, setting.pixels, self._known, rows_per_pass=options.rows_per_pass).log_probs

    def _step(self, accelerator: Accelerator, optimiser: Signed, batch: Pictures, pulled: Tensor) -> None:
        setting = self._setting
        size = setting.options.rows_per_pass
        pieces = [
            partial(_loss, setting, batch.at(range(i, min(i + size, len(batch)))), pulled[i : i + size])
            for i in range(0, len(batch), size)
        ]
        if not math.isfinite(accumulate(accelerator, setting.model, pieces)):
            raise EngineError("not_finite", "the loss of the lower level was not finite; lower its rate")
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def _loss(setting: Setting[Any], batch: Pictures, pulled: Tensor) -> Tensor:
    """The sum of c_i l_i; the sign of its gradient is that of any multiple."""
    values = losses(setting.model, setting.pixels, batch)
    return (pulled.to(values.device) * values).sum()


def _order(size: int, batch: int, seed: int, round_: int, epoch: int) -> list[NDArray[np.int64]]:
    order = np.random.default_rng(derive(seed, "lower", str(round_), str(epoch))).permutation(size)
    return [order[i : i + batch] for i in range(0, size, batch)]
