"""The catalogue's entries of label-agnostic forgetting. Standard library only."""

from engine.contract import Guarantee, MethodSpec
from engine.options.label_agnostic import LafOptions, LafRepairOptions

SOURCE = "Shen et al. 2024, arXiv 2404.00506: label-agnostic forgetting"
MODULE = "engine.methods.label_agnostic"
NEEDS, SCOPES = ("model", "forget", "retain"), ("records", "class")

LAF_METHODS: tuple[MethodSpec, ...] = (
    MethodSpec(
        name="laf",
        tasks=("image",),
        scopes=SCOPES,
        guarantee=Guarantee.EMPIRICAL,
        needs=NEEDS,
        source=SOURCE,
        module=MODULE,
        options=LafOptions,
        blind=("forget", "retain", "holdout"),
    ),
    MethodSpec(
        name="laf-r",
        tasks=("image",),
        scopes=SCOPES,
        guarantee=Guarantee.EMPIRICAL,
        needs=NEEDS,
        source=SOURCE + ", and the head repaired with labels of the retain set",
        module=MODULE,
        options=LafRepairOptions,
        blind=("forget", "holdout"),
    ),
)
