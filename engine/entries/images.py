"""The catalogue's entries of unlearners for image classifiers. Standard library only.

Presets are those of `benchmarks/vision.py --tune`, for classes and for random records alike, on small networks. Two
epochs of fine-tuning and of l1-sparse, where training has 15, keep them near a fifth of its time.
"""

from typing import Any

from engine.contract import Form, Guarantee, MethodSpec
from engine.options import above, at_least, extended, one_of
from engine.options.images import ImageUnlearnOptions, share

NEEDS = ("model", "forget", "retain")
SCOPES = ("records", "class")
VARIANTS = ("correct", "published")
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
    options=extended(
        ImageUnlearnOptions,
        "image-ga-options",
        learning_rate=3e-4,
        stop=at_least(0, 1.0),
        stop_records=at_least(0, 0.03),
    ),
)

IMAGE_METHODS: tuple[MethodSpec, ...] = (
    _entry(
        "finetune",
        "Warnecke et al. 2023, arXiv 2108.11577; " + SPARSITY,
        "image_finetuning",
        learning_rate=3e-3,
        epochs=2,
    ),
    _entry(
        "l1-sparse",
        SPARSITY + ", equation 3",
        "image_finetuning",
        learning_rate=3e-3,
        epochs=2,
        gamma=at_least(0, 1e-3),
        epochs_without=at_least(0, 0),
    ),
    _entry(
        "cf-k",
        "Goel et al. 2022, arXiv 2201.06640",
        "image_finetuning",
        learning_rate=1e-2,
        layers=at_least(1, 2),
    ),
    _entry(
        "eu-k",
        "Goel et al. 2022, arXiv 2201.06640",
        "image_finetuning",
        learning_rate=1e-3,
        layers=at_least(1, 2),
    ),
    _entry(
        "fisher",
        "Golatkar et al. 2020, arXiv 1911.04933; " + SPARSITY,
        "fisher",
        alpha=at_least(0, 1e-7),
        samples=at_least(1, 300),
        variant=one_of(*VARIANTS),
    ),
    _entry(
        "influence",
        "Koh & Liang 2017, arXiv 1703.04730, by WoodFisher, arXiv 2004.14340; " + SPARSITY,
        "influence",
        alpha=above(0, 3.0),
        damping=above(0, 0.1),
        samples=at_least(1, 300),
        variant=one_of(*VARIANTS),
    ),
    _entry("random-labels", "Golatkar et al. 2020, arXiv 1911.04933", "image_relabelling", learning_rate=3e-4),
    _entry("salun", "Fan et al. 2024, arXiv 2310.12508", "image_relabelling", learning_rate=3e-4, saliency=share(0.5)),
    _entry(
        "boundary-shrink",
        "Chen et al. 2023, arXiv 2303.11570",
        "image_relabelling",
        learning_rate=2e-4,
        reach=share(0.1),
    ),
    _entry("boundary-expand", "Chen et al. 2023, arXiv 2303.11570", "image_relabelling", learning_rate=2e-4),
    _entry(
        "scrub",
        "Kurmanji et al. 2023, arXiv 2302.09880",
        "image_teachers",
        learning_rate=1e-3,
        epochs=6,
        max_epochs=at_least(0, 4),
        forget_batch=at_least(1, 16),
        alpha=at_least(0, 0.1),
        temperature=above(0, 4.0),
    ),
    _entry("bad-teacher", "Chundawat et al. 2023, arXiv 2205.08096", "image_teachers", temperature=above(0, 1.0)),
)
