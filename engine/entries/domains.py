"""The catalogue's entries of what works on a CLIP and its domains. Standard library only."""

from engine.contract import Form, Guarantee, MethodSpec
from engine.options.domains import AduOptions, ClipFitOptions, DomainOptions

NEEDS = ("model", "forget", "retain")
TASK = "vision-language"
MODULE = "engine.methods.domains"
RETRAIN = Form(module="engine.methods.domains_fit", options=ClipFitOptions)

DOMAIN_METHODS: tuple[MethodSpec, ...] = (
    MethodSpec(
        name="adu",
        tasks=(TASK,),
        scopes=("domain",),
        guarantee=Guarantee.SUPPRESSION,
        needs=NEEDS,
        source="Kawamura et al. 2025, arXiv 2510.08132: approximate domain unlearning, prompts beside a frozen CLIP",
        module=MODULE,
        options=AduOptions,
    ),
    MethodSpec(
        name="clip-fit",
        tasks=(TASK,),
        scopes=("domain",),
        guarantee=Guarantee.EMPIRICAL,
        needs=NEEDS,
        source="Li et al. 2024, arXiv 2407.00106: biases and norms alone, on the first two terms of arXiv 2510.08132",
        module=MODULE,
        options=DomainOptions,
    ),
)
