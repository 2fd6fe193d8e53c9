"""What each kind of job and each method can be told, with defaults that suit a small model on a CPU.

The defaults are the preset measured in `docs/results.md`: a Llama of 0.7 million parameters and a few hundred
people. An option that would void a guarantee does not exist: DP training has no switch for its sampling, its
clipping or its noise.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

RETAIN_TERMS = ("none", "gd", "kl", "js")
PRECISIONS = ("float32", "bfloat16")
ARCHITECTURES = ("cnn", "gabor", "gabor-cnn", "resnet18")
UNITS = ("data subject", "record")
SUITES = ("records", "muse", "restor", "membership", "tofu", "attacks", "image", "domain")
SPLITS = ("auto", "forget01", "forget05", "forget10")


def at_least(low: float, default: Any) -> Any:  # noqa: ANN401 - dataclass fields are typed by their annotation
    """A number from `low` on."""
    return field(default=default, metadata={"low": low})


def above(low: float, default: Any) -> Any:  # noqa: ANN401 - dataclass fields are typed by their annotation
    """A number above `low`."""
    return field(default=default, metadata={"above": low})


def one_of(*choices: str) -> Any:  # noqa: ANN401 - dataclass fields are typed by their annotation
    """One of some words; the first is the default."""
    return field(default=choices[0], metadata={"choices": choices})


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What every kind of options has in common: nothing but their being options."""


def extended(base: type[Options], name: str, **knobs: Any) -> type[Options]:  # noqa: ANN401 - fields or plain defaults
    """`base` with more knobs, or with other defaults for the ones it has; what a catalogue line gives a method.

    A plain value given for a knob of `base` becomes its default and keeps its limits; a new knob that is given as a
    plain value has no limits but its type.
    """
    known = {f.name: f for f in dataclasses.fields(base)}
    fields = []
    for knob, value in knobs.items():
        new = value if isinstance(value, dataclasses.Field) else field(default=value)
        if knob in known and not isinstance(value, dataclasses.Field):
            new = field(default=value, metadata=dict(known[knob].metadata))
        hint = known[knob].type if knob in known else type(new.default)
        fields.append((knob, hint, new))
    return dataclasses.make_dataclass(name, fields, bases=(base,), frozen=True, kw_only=True, slots=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeOptions(Options):
    """How weights are stepped, not towards what: all of them or low-rank adapters, and in which numbers.

    `tokens_per_pass` bounds the padded tokens of one backward pass; gradients of several passes add up to the
    gradient of the whole batch, so it changes memory and time and nothing else.
    """

    lora_rank: int = at_least(0, 0)
    lora_alpha: float = above(0, 16.0)
    precision: str = one_of(*PRECISIONS)
    tokens_per_pass: int = at_least(16, 2048)


@dataclass(frozen=True, kw_only=True, slots=True)
class FitOptions(ComputeOptions):
    """Ordinary training: Muon on the hidden matrices, AdamW on the rest, one cosine over all steps.

    Without a `learning_rate` the preset for the model's size is taken, and with it whether Muon is used at all;
    a `matrix_learning_rate` asks for it.
    """

    epochs: int = at_least(1, 16)
    tokens_per_batch: int = at_least(16, 1500)
    learning_rate: float | None = above(0, None)
    matrix_learning_rate: float | None = above(0, None)
    answer_weight: float = above(0, 3.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SisaOptions(FitOptions):
    """People dealt to `shards`, adapters trained on each; their changes are averaged (`mean`) or added up (`sum`)."""

    shards: int = at_least(1, 4)
    combine: str = one_of("mean", "sum")
    lora_rank: int = at_least(1, 8)


@dataclass(frozen=True, kw_only=True, slots=True)
class InitialiseOptions(Options):
    """A tokenizer and a small Llama, both from public text alone."""

    vocabulary: int = at_least(260, 1000)
    hidden: int = at_least(8, 128)
    layers: int = at_least(1, 2)
    heads: int = at_least(1, 2)
    intermediate: int = at_least(8, 192)
    context: int = at_least(32, 512)
    epochs: int = at_least(1, 2)
    tokens_per_batch: int = at_least(16, 1500)
    learning_rate: float = above(0, 1e-2)
    matrix_learning_rate: float = above(0, 1e-2)
    answer_weight: float = above(0, 3.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInitialiseOptions(Options):
    """A network for pictures of one size, with random weights, or trained for `epochs` on public pictures."""

    labels: tuple[str, ...]
    architecture: str = one_of(*ARCHITECTURES)
    channels: int = field(default=1, metadata={"choices": (1, 3)})
    size: int = at_least(8, 28)
    width: int = at_least(2, 16)
    epochs: int = at_least(1, 5)
    batch: int = at_least(1, 64)
    learning_rate: float = above(0, 3e-3)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFitOptions(Options):
    """Ordinary training of a classifier: AdamW and one cosine over `epochs`, or over `steps` where they are given."""

    epochs: int = at_least(1, 15)
    steps: int | None = at_least(1, None)
    batch: int = at_least(1, 64)
    learning_rate: float = above(0, 3e-3)
    precision: str = one_of(*PRECISIONS)
    rows_per_pass: int = at_least(1, 512)


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseOptions(ImageFitOptions):
    """A share of the weights of `pruned_layers` is zero and stays zero; 0 prunes nothing (arXiv 2304.04934).

    `iterative` prunes in `pruning_rounds`, with training between them; `synflow` asks no data.
    """

    sparsity: float = field(default=0.0, metadata={"low": 0, "high": 0.999})
    pruning: str = one_of("one-shot", "iterative", "synflow")
    pruned_layers: str = one_of("convolutions", "hidden")
    pruning_rounds: int = at_least(1, 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseFitOptions(SparseOptions):
    """Ordinary training, sparse where that is asked for: what survives goes back to where it was at `rewind_epochs`."""

    rewind_epochs: int = at_least(0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoisyOptions(FitOptions):
    """Noisy clipped steps, then ordinary training. The caller has the accountant: it gives `sigma`, a step's noise.

    The model is clipped to norm `start_radius`; each of `noisy_steps` goes `noisy_rate` along a gradient that is
    clipped to `noisy_clip`, and shrinks the weights by `noisy_rate` * `weight_decay`. `projected`: back into the ball
    after each step. There are no adapters: the weights beside them would keep what nobody clipped or noised.
    """

    lora_rank: int = field(default=0, metadata={"choices": (0,)})
    sigma: float = field(metadata={"above": 0})
    start_radius: float = above(0, 1.0)
    noisy_steps: int = at_least(1, 50)
    noisy_rate: float = above(0, 1e-3)
    noisy_clip: float = above(0, 1.0)
    weight_decay: float = at_least(0, 100.0)
    projected: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageNoisyOptions(ImageFitOptions):
    """The same for image classifiers."""

    sigma: float = field(metadata={"above": 0})
    start_radius: float = above(0, 1.0)
    noisy_steps: int = at_least(1, 50)
    noisy_rate: float = above(0, 1e-3)
    noisy_clip: float = above(0, 1.0)
    weight_decay: float = at_least(0, 100.0)
    projected: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadOptions(Options):
    """Logistic heads, one a class, on features that nobody fitted (`fixed`), or fitted on `public` data alone.

    That features are `public` is the operator's word and stands among the conditions of the certificate. `penalty` is
    lambda of the mean loss. The caller has the accountant: it gives `sigma`, the noise of the stacked heads.
    """

    sigma: float = field(metadata={"above": 0})
    penalty: float = above(0, 1e-5)
    features: str = one_of("fixed", "public")
    rows_per_pass: int = at_least(1, 512)


@dataclass(frozen=True, kw_only=True, slots=True)
class NewtonNoiseOptions(HeadOptions):
    """At most `head_steps` Newton steps until the gradient's norm is at most `residual`, refused where it is not."""

    residual: float = above(0, 1e-8)
    head_steps: int = at_least(1, 50)


@dataclass(frozen=True, kw_only=True, slots=True)
class DescentNoiseOptions(HeadOptions):
    """The start is put into the ball of `start_radius`; then `head_steps` full gradient steps, and noise once."""

    penalty: float = above(0, 1e-4)
    start_radius: float = above(0, 0.03)
    head_steps: int = at_least(1, 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class LangevinOptions(HeadOptions):
    """The same with noise in every step."""

    penalty: float = above(0, 1e-4)
    start_radius: float = above(0, 0.03)
    head_steps: int = at_least(1, 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptOptions(HeadOptions):
    """Heads whose state is kept from one request to the next; `classes` is how many heads the noise was made for."""

    classes: int = field(metadata={"low": 2})


@dataclass(frozen=True, kw_only=True, slots=True)
class NewtonRemovalOptions(KeptOptions):
    """`sigma` is that of the linear term in the sum of losses, one vector a head.

    At most `head_steps` Newton steps until every head's residual is at most `residual`; trained anew where it is not.
    """

    penalty: float = above(0, 1e-5)
    residual: float = above(0, 1e-3)
    head_steps: int = at_least(1, 10)


@dataclass(frozen=True, kw_only=True, slots=True)
class DescentToDeleteOptions(KeptOptions):
    """`head_steps` full gradient steps for each record that left; `points` is the n that the noise is made for."""

    points: int = field(metadata={"low": 2})
    penalty: float = above(0, 1e-3)
    head_steps: int = at_least(1, 1000)


@dataclass(frozen=True, kw_only=True, slots=True)
class RewindOptions(KeptOptions):
    """`head_steps` full gradient steps of size `rate`, the last `rewound` of which are taken again without who left.

    At most a `share` of the records that were trained on may be gone. `smoothness` and `slope` are L and G as the noise
    was computed for them; `samples` estimates that exceed them end the run.
    """

    penalty: float = above(0, 1e-4)
    head_steps: int = at_least(2, 20)
    rewound: int = at_least(1, 15)
    rate: float = above(0, 1.0)
    smoothness: float = above(0, 0.251)
    slope: float = above(0, 4.0)
    share: float = field(default=0.01, metadata={"above": 0, "high": 0.99})
    samples: int = at_least(1, 20)


@dataclass(frozen=True, kw_only=True, slots=True)
class DpOptions(Options):
    """DP training: who is a `unit`, and the mechanism. The caller has the accountant: sigma, sample_rate, steps.

    With `canaries` the mechanism is first probed and audited in a rehearsal, which takes as long again; at least 8.
    """

    sigma: float = field(metadata={"above": 0})
    sample_rate: float = field(metadata={"above": 0, "high": 1})
    steps: int = field(metadata={"low": 1})
    unit: str = one_of(*UNITS)
    clip: float = above(0, 1.0)
    learning_rate: float = above(0, 5e-3)
    margin: float = above(0, 0.5)
    rows_per_pass: int = at_least(1, 16)
    clipper: str = one_of("hooks", "book-keeping")
    canaries: int = field(default=0, metadata={"low": 0})


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateOptions(DpOptions):
    """DP training of a language model: of all weights, or of low-rank adapters that are merged in the end."""

    answer_weight: float = above(0, 3.0)
    lora_rank: int = at_least(0, 0)
    lora_alpha: float = above(0, 16.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePrivateOptions(DpOptions):
    """DP training of an image classifier."""

    clip: float = above(0, 0.3)
    rows_per_pass: int = at_least(1, 256)


@dataclass(frozen=True, kw_only=True, slots=True)
class DescentOptions(ComputeOptions):
    """Steps on forget_weight * F + retain_weight * R; what F is, the method says, and R is the retain term.

    Without a `learning_rate` the preset of the method for the model's size is taken; evidence shows which.
    """

    learning_rate: float | None = above(0, None)
    steps: int = at_least(1, 50)
    forget_weight: float = above(0, 1.0)
    retain_weight: float = above(0, 1.0)
    retain_term: str = field(default="gd", metadata={"choices": RETAIN_TERMS})
    forget_batch: int = at_least(1, 16)
    retain_batch: int = at_least(1, 48)
    context_pairs: int = at_least(0, 3)
    answer_weight: float = above(0, 3.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class WhpOptions(FitOptions):
    """Who's Harry Potter: `reinforce_epochs` on the forget texts, then `epochs` on the generic labels of its blocks.

    A block has at most `block` tokens. The second fit takes `generic_rate` times the learning rate of the first
    (published: 1e-6 after 3e-6, where the preset is 1e-5). `reduction` is what logits of substitutes lose once their
    term was read.
    """

    epochs: int = at_least(1, 8)
    reinforce_epochs: int = at_least(1, 6)
    generic_rate: float = above(0, 0.1)
    alpha: float = above(0, 5.0)
    block: int = at_least(8, 512)
    reduction: float = at_least(0, 5.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class WhpMuseOptions(FitOptions):
    """MUSE's variant: `epochs` on the forget texts make the model that answers are contrasted with, at `alpha`."""

    epochs: int = at_least(1, 10)
    alpha: float = above(0, 4.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class EcoOptions(Options):
    """Embedding-corrupted prompts. Strengths are in units of the root mean square of the embedding table.

    `corruption` of `count` components (0: all) that are the first, drawn with the seed, or the largest. The strength
    is doubled from `strength` on, and then searched with differences of `search_width` of it, until the score on the
    forget set is within `tolerance` of `surrogate`, which is measured on the holdout set where it is not given.
    `held_out` of the people who stay test the classifier; `false_alarms` above 0 asks for a conformal threshold.
    """

    corruption: str = one_of("noise", "zero", "flip")
    components: str = one_of("first", "random", "largest")
    count: int = at_least(0, 0)
    strength: float = above(0, 0.5)
    doublings: int = at_least(0, 10)
    search_steps: int = at_least(1, 10)
    search_width: float = field(default=0.1, metadata={"above": 0, "high": 0.5})
    tolerance: float = at_least(0, 0.02)
    surrogate: float | None = field(default=None, metadata={"low": 0, "high": 1})
    held_out: float = field(default=0.25, metadata={"above": 0, "high": 0.5})
    false_alarms: float = field(default=0.0, metadata={"low": 0, "high": 0.5})
    tokens_per_pass: int = at_least(16, 2048)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions(Options):
    """Which suite, and how large; what is drawn is drawn with the job's seed.

    TOFU: the forget `split` (`auto`: the largest whose perturbed answers are there), how many `items` of each file
    (0: all; the published logs hold 300), and how many tokens an answer may have. `prompt_space`: whether the space
    that ends a published prompt is left to the model to write, as in training, or is tokenised with the prompt.
    Attacks: at most how many forgotten questions and passages; of relearning the steps, the AdamW rate (by default by
    the model's size) and the batch; bits of weights; answer tokens that are given; examples in context.
    """

    suite: str = field(default="records", metadata={"choices": SUITES})
    shots: int = at_least(0, 3)
    retain_questions: int = at_least(1, 60)
    min_k: float = field(default=0.4, metadata={"above": 0, "high": 1})
    resamples: int = at_least(100, 2000)
    answer_tokens: int = at_least(1, 32)
    continuation_tokens: int = at_least(1, 128)
    alternatives: int = at_least(1, 4)
    tokens_per_batch: int = at_least(64, 4096)
    split: str = one_of(*SPLITS)
    items: int = at_least(0, 0)
    generated_tokens: int = at_least(1, 200)
    prompt_space: str = one_of("joint", "published")
    attack_items: int = at_least(1, 200)
    attack_steps: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50)
    attack_rate: float | None = above(0, None)
    attack_tokens_per_batch: int = at_least(64, 512)
    attack_bits: tuple[int, ...] = (8, 4)
    attack_prefill: tuple[int, ...] = (1, 2, 4, 8)
    attack_shots: tuple[int, ...] = (0, 5, 10)
    judged: bool = False  # restor: score a judge's verdicts too
    pictures: int = at_least(0, 0)  # image: of those who stay and of strangers, domain: of the probe's; 0: all
    rows_per_pass: int = at_least(1, 512)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadowOptions(Options):
    """A per-example audit: how many shadow models, each with the options of `training` and of the method, if any.

    `outsiders` is a number of units of the holdout set (0: up to twice the forget set's). Shadows are trained side by
    side in `processes`, which changes time and nothing else.
    """

    shadows: int = at_least(1, 16)
    outsiders: int = at_least(0, 0)
    resamples: int = at_least(100, 1000)
    processes: int = at_least(1, 1)
    training: dict[str, Any] = field(default_factory=dict)
    method_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstCaseOptions(Options):
    """A forget set that is hard to forget: how many records, data subjects (`unit`) or classes are chosen, and how.

    Each of `rounds` fine-tunes the model for `epochs` with steps of `rate` in the direction of the gradient's sign,
    and moves the weights by `step` along ranks of losses (`published`: along losses, which moves next to nothing at
    the published step). `penalty` is gamma; `reverse` asks for the set that is easiest to forget.
    """

    count: int = field(metadata={"low": 1})
    by: str = one_of("record", "unit", "class")
    rounds: int = at_least(1, 10)
    epochs: int = at_least(1, 2)
    batch: int = at_least(1, 64)
    rate: float = above(0, 1e-3)
    step: float = above(0, 1.0)
    penalty: float = at_least(0, 1e-4)
    start: str = one_of("uniform", "random")
    lower: str = one_of("finetune", "ascent")
    losses: str = one_of("ranked", "published")
    reverse: bool = False
    precision: str = one_of(*PRECISIONS)
    rows_per_pass: int = at_least(1, 512)


BY_KIND: dict[str, dict[str, type[Options]]] = {
    "language": {
        "initialise": InitialiseOptions,
        "train": FitOptions,
        "dp_base": PrivateOptions,
        "evaluate": EvaluateOptions,
        "audit": ShadowOptions,
    },
    "image": {
        "initialise": ImageInitialiseOptions,
        "train": SparseFitOptions,
        "dp_base": ImagePrivateOptions,
        "worst_case": WorstCaseOptions,
        "evaluate": EvaluateOptions,
        "audit": ShadowOptions,
    },
}
