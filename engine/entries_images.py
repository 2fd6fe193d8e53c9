"""The catalogue's entries of unlearners for image classifiers. Standard library only."""

from typing import Any

from engine.contract import Form, Guarantee, MethodSpec
from engine.options import at_least, extended
from engine.options_images import ImageUnlearnOptions

NEEDS = ("model", "forget", "retain")
SCOPES = ("records", "class")
SPARSITY = "Jia et al. 2023, arXiv 2304.04934"


def _entry(name: str, source: str, module: str, **knobs: Any) -> MethodSpec:  # noqa: ANN401 - fields or plain defaults
    return MethodSpec(
        name=name,
        tasks=("image",),
        scopes=SCOPES,
        guarantee=Guarantee.EMPIRICAL,
        needs=NEEDS,
        source=source,
        module=f"engine.methods.{module}",
        options=extended(ImageUnlearnOptions, f"{name}-options", **knobs),
    )


ASCENT = Form(
    module="engine.methods.image_finetuning",
    options=extended(ImageUnlearnOptions, "image-ga-options", learning_rate=1e-4, stop=at_least(0, 1.0)),
)

IMAGE_METHODS: tuple[MethodSpec, ...] = (
    _entry("finetune", "Warnecke et al. 2023, arXiv 2108.11577; " + SPARSITY, "image_finetuning"),
    _entry(
        "l1-sparse",
        SPARSITY + ", equation 3",
        "image_finetuning",
        gamma=at_least(0, 5e-4),
        epochs_without=at_least(0, 0),
    ),
    _entry("cf-k", "Goel et al. 2022, arXiv 2201.06640", "image_finetuning", layers=at_least(1, 1)),
    _entry("eu-k", "Goel et al. 2022, arXiv 2201.06640", "image_finetuning", layers=at_least(1, 1)),
)
