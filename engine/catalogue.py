"""Every method that the engine has: what it is for, what it may claim, what it needs, its knobs, who described it.

Standard library only. The guarantee class stands here and nowhere else; reports copy it. One entry is all that a new
method needs beside the file that holds its function (README, "Add a method").
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from engine.contract import Form, Guarantee, MethodSpec
from engine.entries.domains import DOMAIN_METHODS, RETRAIN
from engine.entries.images import ASCENT, IMAGE_METHODS
from engine.entries.label_agnostic import LAF_METHODS
from engine.errors import EngineError
from engine.options import (
    BY_KIND,
    DescentNoiseOptions,
    DescentOptions,
    DescentToDeleteOptions,
    EcoOptions,
    FitOptions,
    ImageFitOptions,
    ImageNoisyOptions,
    KeptOptions,
    LangevinOptions,
    NewtonNoiseOptions,
    NewtonRemovalOptions,
    NoisyOptions,
    Options,
    RewindOptions,
    SisaOptions,
    SparseFitOptions,
    WhpMuseOptions,
    WhpOptions,
    above,
    at_least,
    extended,
    one_of,
)
from engine.options.domains import CLIP_KINDS
from engine.strict import decode

KINDS = {**BY_KIND, "vision-language": CLIP_KINDS}
EVERY_SCOPE = ("records", "work", "facts", "class", "domain")
TEXT_SCOPES = ("records", "work", "facts")
DESCENT = ("model", "forget", "retain")
VARIANTS = ("correct", "published")
KEEPING = ("newton-removal", "descent-to-delete", "rewind")  # they keep a secret state in the job's cache
PICTURES = {"image": Form(module="engine.methods.images", options=ImageFitOptions)}  # ordinary training on pictures
BENCHMARK_VARIANTS = (*VARIANTS, "published-restor")  # MUSE's and RESTOR's code differ from the paper and each other


def _head(name: str, source: str, options: type[Options]) -> MethodSpec:
    """An entry of a method for a linear classifier of pictures, from wherever it starts; proved here."""
    return MethodSpec(
        name=name,
        tasks=("image",),
        scopes=EVERY_SCOPE,
        guarantee=Guarantee.CERTIFIED,
        needs=("model", "retain"),
        source=source,
        module="engine.methods.convex",
        options=options,
    )


def _kept(name: str, source: str, options: type[KeptOptions], guarantee: Guarantee, *needs: str) -> MethodSpec:
    """The same with a state that is kept secret from one request to the next."""
    module = f"engine.methods.convex_{'newton' if options is NewtonRemovalOptions else 'kept'}"
    return dataclasses.replace(_head(name, source, options), module=module, guarantee=guarantee, needs=needs)


def _descent(
    name: str,
    source: str,
    module: str,
    *,
    rate: float,
    needs: tuple[str, ...] = DESCENT,
    scopes: tuple[str, ...] = TEXT_SCOPES,
    **knobs: Any,  # noqa: ANN401 - fields or plain defaults
) -> MethodSpec:
    """An entry of a method that steps from the deployed model: evidence is all it can have."""
    return MethodSpec(
        name=name,
        tasks=("language",),
        scopes=scopes,
        guarantee=Guarantee.EMPIRICAL,
        needs=needs,
        source=source,
        module=f"engine.methods.{module}",
        options=extended(DescentOptions, f"{name}-options", **knobs),
        rate=rate,
    )


def _in_both(spec: MethodSpec, image: Form) -> MethodSpec:
    """The entry with a form for image classifiers, where whole classes can be asked for."""
    scopes = (*spec.scopes, "class")
    return dataclasses.replace(spec, tasks=("language", "image"), scopes=scopes, others={"image": image})


METHODS: tuple[MethodSpec, ...] = (
    MethodSpec(
        name="retrain",
        tasks=("language", "image", "vision-language"),
        scopes=EVERY_SCOPE,
        guarantee=Guarantee.EXACT,
        needs=("base", "retain"),
        source="Bourtoule et al. 2021, arXiv 1912.03817, section 3: the definition of unlearning",
        module="engine.methods.refit",
        options=FitOptions,
        others={
            "image": Form(module="engine.methods.sparse_training", options=SparseFitOptions),
            "vision-language": RETRAIN,
        },
    ),
    MethodSpec(
        name="dp2",
        tasks=("language", "image"),
        scopes=("records", "work"),
        guarantee=Guarantee.CERTIFIED,
        needs=("base", "retain"),
        source="Al Mahmud et al. 2025, arXiv 2504.13774, with the data subject as the unit",
        module="engine.methods.refit",
        options=FitOptions,
        others=PICTURES,
    ),
    MethodSpec(
        name="noisy-ft",
        tasks=("language", "image"),
        scopes=EVERY_SCOPE,
        guarantee=Guarantee.CERTIFIED,
        needs=("model", "retain"),
        source="Koloskova et al. 2025, noisy clipped fine-tuning; proofs in docs/guarantees.md, section 6",
        module="engine.methods.noisy",
        options=NoisyOptions,
        others={"image": Form(module="engine.methods.noisy", options=ImageNoisyOptions)},
    ),
    _head(
        "newton-noise",
        "Newton steps (Guo et al. 2020), noise by the measured gradient; proof in docs/guarantees.md, section 8",
        NewtonNoiseOptions,
    ),
    _head(
        "descent-noise",
        "Full gradient steps (Neel et al. 2021) without a kept state; proof in docs/guarantees.md, section 15",
        DescentNoiseOptions,
    ),
    _head(
        "langevin",
        "Chien et al. 2024, from any start; proof in docs/guarantees.md, section 16",
        LangevinOptions,
    ),
    _kept(
        "newton-removal",
        "Guo et al. 2020, arXiv 1911.03030; docs/guarantees.md, section 9",
        NewtonRemovalOptions,
        Guarantee.CONDITIONAL,
        *DESCENT,
    ),
    _kept(
        "descent-to-delete",
        "Neel, Roth and Sharifi-Malvajerdi 2021, arXiv 2007.02923; docs/guarantees.md, section 10",
        DescentToDeleteOptions,
        Guarantee.CERTIFIED,
        "model",
        "retain",
    ),
    _kept(
        "rewind",
        "Mu and Klabjan 2025, rewind to delete; docs/guarantees.md, section 12",
        RewindOptions,
        Guarantee.CONDITIONAL,
        "model",
        "retain",
    ),
    _descent(
        "npo",
        "Zhang et al. 2024, arXiv 2404.05868, equation 3",
        "preference",
        rate=1.25e-3,
        beta=above(0, 0.1),
        variant=one_of(*BENCHMARK_VARIANTS),
    ),
    _descent(
        "simnpo",
        "Fan et al. 2024, arXiv 2410.07163",
        "preference",
        rate=1e-3,
        beta=above(0, 4.5),
        gamma=at_least(0, 0.0),
        forget_weight=0.125,
    ),
    _descent(
        "tnpo",
        "Wang et al. 2025, arXiv 2502.19301: NPO token by token, weighted by p^alpha",
        "preference",
        rate=1.25e-3,
        beta=above(0, 1.0),
        alpha=at_least(0, 0.0),
    ),
    _descent(
        "idkdpo",
        "Maini et al. 2024, arXiv 2401.06121: direct preference optimisation (arXiv 2305.18290) of a refusal",
        "preference",
        rate=1e-3,
        beta=above(0, 0.1),
    ),
    _descent(
        "dpo",
        "Rafailov et al. 2023, arXiv 2305.18290; other answers as in Mekala et al. 2024, arXiv 2409.13474",
        "preference",
        rate=1e-3,
        needs=(*DESCENT, "alternatives"),
        beta=above(0, 0.1),
    ),
    _in_both(
        _descent(
            "ga",
            "Jang et al. 2023, arXiv 2210.01504",
            "ascent",
            rate=1e-4,
            steps=40,
            retain_term="none",
        ),
        ASCENT,
    ),
    _descent(
        "graddiff",
        "Liu et al. 2022, arXiv 2203.12817, and Maini et al. 2024, arXiv 2401.06121: ascent, and descent on retain",
        "ascent",
        rate=1e-4,
        retain_term=one_of("gd"),
    ),
    _descent(
        "kl-min",
        "Maini et al. 2024, arXiv 2401.06121: ascent, and KL to the model as it was on retain",
        "ascent",
        rate=1e-4,
        retain_term=one_of("kl"),
        variant=one_of(*BENCHMARK_VARIANTS),
    ),
    _descent(
        "wga",
        "Wang et al. 2025, arXiv 2502.19301: ascent weighted by p^beta",
        "ascent",
        rate=1e-3,
        beta=at_least(0, 1.0),
    ),
    _descent(
        "satimp",
        "Yang et al. 2025, arXiv 2505.11953: ascent weighted by p^beta1 (1 - p)^beta2",
        "ascent",
        rate=1e-3,
        beta1=at_least(0, 5.0),
        beta2=at_least(0, 1.0),
    ),
    _descent(
        "undial",
        "Dong et al. 2024, arXiv 2402.10052",
        "distillation",
        rate=1e-3,
        beta=above(0, 10.0),
        variant=one_of(*VARIANTS),
    ),
    _descent(
        "ce-u",
        "Yang 2025, arXiv 2503.01224",
        "distillation",
        rate=1e-3,
    ),
    _descent(
        "jensun",
        "Singh et al. 2025, arXiv 2509.02820: Jensen-Shannon divergence to a refusal",
        "distillation",
        rate=1e-3,
        retain_term="js",
    ),
    _descent(
        "rmu",
        "Li et al. 2024, arXiv 2403.03218; adaptive: Dang et al. 2024, arXiv 2408.06223",
        "representation",
        rate=1e-3,
        layer=at_least(-1, -1),
        steering=above(0, 20.0),
        adaptive=at_least(0, 0.0),
        retain_term=one_of("mse"),
        retain_weight=10.0,
    ),
    _descent(
        "pdu",
        "Entesari et al. 2025, arXiv 2506.05314: logit-margin flattening, primal-dual",
        "surgery",
        rate=1e-3,
        slack=at_least(0, 0.1),
        dual_rate=above(0, 1.0),
        dual_warmup=at_least(0, 5),
        retain_term=one_of("gd", "kl", "js"),
    ),
    _descent(
        "gru",
        "Wang et al. 2025, arXiv 2503.09117: the forget gradient without what would harm retain",
        "surgery",
        rate=1e-3,
        beta=above(0, 0.1),
        objective=one_of("npo", "ga", "wga"),
        retain_term=one_of("gd", "kl", "js"),
    ),
    _descent(
        "sam-npo",
        "Fan et al. 2025, arXiv 2502.05374: NPO at the worst point nearby, against relearning",
        "surgery",
        rate=1.25e-3,
        beta=above(0, 0.1),
        rho=above(0, 0.01),
    ),
    MethodSpec(
        name="task-vector",
        tasks=("language",),
        scopes=TEXT_SCOPES,
        guarantee=Guarantee.EMPIRICAL,
        needs=("model", "forget"),
        source="Ilharco et al. 2023, arXiv 2212.04089, section 3",
        module="engine.methods.arithmetic",
        options=extended(FitOptions, "task-vector-options", alpha=above(0, 1.0), epochs=5),
    ),
    MethodSpec(
        name="whp",
        tasks=("language",),
        scopes=TEXT_SCOPES,
        guarantee=Guarantee.EMPIRICAL,
        needs=("model", "forget", "dictionary"),
        source="Eldan & Russinovich 2023, arXiv 2310.02238: Who's Harry Potter, fine-tuned on generic labels",
        module="engine.methods.potter",
        options=WhpOptions,
    ),
    MethodSpec(
        name="whp-muse",
        tasks=("language",),
        scopes=TEXT_SCOPES,
        guarantee=Guarantee.SUPPRESSION,
        needs=("model", "forget"),
        source="Shi et al. 2024, arXiv 2407.06460: Who's Harry Potter as MUSE has it, a contrast at inference",
        module="engine.methods.contrast",
        options=WhpMuseOptions,
    ),
    MethodSpec(
        name="eco",
        tasks=("language",),
        scopes=TEXT_SCOPES,
        guarantee=Guarantee.SUPPRESSION,
        needs=("model", "forget", "retain"),
        source="Liu et al. 2024, arXiv 2406.07933: embedding-corrupted prompts",
        module="engine.methods.corruption",
        options=EcoOptions,
    ),
    MethodSpec(
        name="sisa",
        tasks=("language",),
        scopes=EVERY_SCOPE,
        guarantee=Guarantee.EXACT,
        needs=("base", "retain"),
        source="Bourtoule et al. 2021, arXiv 1912.03817, with an adapter (arXiv 2106.09685) a shard",
        module="engine.methods.sharded",
        options=SisaOptions,
    ),
    *LAF_METHODS,
    *IMAGE_METHODS,
    *DOMAIN_METHODS,
)


def method(name: str) -> MethodSpec:
    """The entry called `name`; `EngineError("bad_job")` if there is none."""
    for spec in METHODS:
        if spec.name == name:
            return spec
    raise EngineError(
        "bad_job", f"there is no method {name!r}; methods are: {', '.join(spec.name for spec in METHODS)}"
    )


def permitted(given: frozenset[str]) -> tuple[MethodSpec, ...]:
    """The methods for which all that they need is `given` (fields of a job), as for a model that was imported."""
    return tuple(spec for spec in METHODS if given.issuperset(spec.needs))


def check_options(kind: str, name: str | None, options: Mapping[str, Any], task: str = "language") -> Options:
    """`options` with every default applied; `EngineError("bad_options")` names the first thing that is wrong."""
    return decode(_options(kind, name, task), options, what="options", code="bad_options")


def defaults(kind: str, name: str | None = None, task: str = "language") -> dict[str, Any]:
    """The default of every option that has one."""
    fields = dataclasses.fields(_options(kind, name, task))
    return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}


def _options(kind: str, name: str | None, task: str) -> type[Options]:
    if kind == "unlearn" and name in {spec.name for spec in METHODS}:
        return method(name or "").form(task).options
    found = KINDS[task].get(kind)
    if found is None:
        raise EngineError("bad_options", f"there are no options for kind {kind!r} and method {name!r}")
    return found
