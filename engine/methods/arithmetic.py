"""Task vectors (arXiv 2212.04089): learn the forget set still better, then go as far the other way.

    theta - alpha (theta_fine-tuned - theta)

The weights as they were are read back from the model's folder, one tensor at a time; with adapters, B A is what
fine-tuning changed, and it is scaled where it stands.
"""

from dataclasses import replace
from typing import Any

from engine.methods import Setting
from engine.methods.refit import refit
from engine.training import Fitted
from engine.weights import originals


def task_vector(setting: Setting[Any]) -> Fitted:
    """Fine-tune on the forget set, and subtract what that changed."""
    fitted, alpha = refit(replace(setting, retain=setting.forget)), setting.options.alpha
    if setting.options.lora_rank:
        for name, parameter in setting.model.named_parameters():
            if ".lora_B." in name:
                parameter.data.mul_(-alpha)
        return fitted
    for parameter, before in originals(setting.model, setting.folder):
        parameter.data.copy_(before - alpha * (parameter.data - before))
    return fitted
