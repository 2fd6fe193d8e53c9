"""What can be told to the methods and jobs of CLIP and its domains. Standard library only."""

from dataclasses import dataclass, field

from engine.options import EvaluateOptions, Options, above, at_least, one_of

SWITCH = ("on", "off")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFitOptions(Options):
    """Contrastive training: AdamW and one cosine over `epochs`.

    On captions of classes, and in every second step of domains where all records have one (`domains` off: never).
    """

    epochs: int = at_least(1, 10)
    batch: int = at_least(2, 128)
    learning_rate: float = above(0, 2e-3)
    domains: str = one_of(*SWITCH)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipInitialiseOptions(ClipFitOptions):
    """A small CLIP with random weights, or trained for `epochs` on public pictures; `names`: words of its captions."""

    labels: tuple[str, ...]
    names: tuple[str, ...] = ()
    channels: int = field(default=3, metadata={"choices": (1, 3)})
    size: int = at_least(8, 28)
    patch: int = at_least(2, 7)
    width: int = at_least(8, 64)
    layers: int = at_least(1, 4)
    heads: int = at_least(1, 2)
    words: int = at_least(8, 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class DomainOptions(Options):
    """Few-shot training on what is to be remembered and what is to be forgotten: SGD with momentum, one cosine.

    `shots`: pictures of a class in a domain (0: all); `batch`: pictures of a domain in a step. `max_norm`: where the
    gradient's norm is cut (0: nowhere, as published). What is not given is the preset for the model's size.
    """

    shots: int = at_least(0, 8)
    epochs: int = at_least(1, 50)
    batch: int = at_least(1, 16)
    learning_rate: float | None = above(0, None)
    momentum: float = field(default=0.9, metadata={"low": 0, "high": 1})
    max_norm: float | None = at_least(0, None)
    forget_weight: float = above(0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class AduOptions(DomainOptions):
    """Prompts, InstaPG and the domain loss, each of which can be switched off.

    `prompts` tokens in each of the first `depth` blocks (0: three quarters of them), InstaPG (`instance`) before block
    `block` (-1: the middle of these, of two the earlier), and `disentangle`: `gamma` of the classifier, `mmd_weight` of
    the discrepancy.
    """

    prompts: int = at_least(1, 8)
    depth: int = at_least(0, 0)
    block: int = at_least(-1, -1)
    instance: str = one_of(*SWITCH)
    disentangle: str = one_of(*SWITCH)
    gamma: float | None = at_least(0, None)
    mmd_weight: float | None = at_least(0, None)


CLIP_KINDS: dict[str, type[Options]] = {
    "initialise": ClipInitialiseOptions,
    "train": ClipFitOptions,
    "evaluate": EvaluateOptions,
}
