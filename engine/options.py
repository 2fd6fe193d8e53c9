"""What each kind of job and each method can be told, with defaults that suit a small model on a CPU.

The defaults are the preset measured in `docs/results.md`: a Llama of 0.7 million parameters and a few hundred
people. An option that would void a guarantee does not exist: DP training has no switch for its sampling, its
clipping or its noise.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.errors import EngineError
from engine.strict import decode

RETAIN_TERMS = ("none", "gd", "kl")
SUITES = ("records", "muse", "restor", "membership")


def _at_least(low: float, default: Any) -> Any:  # noqa: ANN401 - dataclass fields are typed by their annotation
    return field(default=default, metadata={"low": low})


def _above(above: float, default: Any) -> Any:  # noqa: ANN401 - dataclass fields are typed by their annotation
    return field(default=default, metadata={"above": above})


@dataclass(frozen=True, kw_only=True, slots=True)
class FitOptions:
    """Ordinary training: Muon on the hidden matrices, AdamW on the rest, one cosine over all steps."""

    epochs: int = _at_least(1, 16)
    tokens_per_batch: int = _at_least(16, 1500)
    learning_rate: float = _above(0, 1e-2)
    matrix_learning_rate: float = _above(0, 1e-2)
    answer_weight: float = _above(0, 3.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class InitialiseOptions:
    """A tokenizer and a small Llama, both from public text alone."""

    vocabulary: int = _at_least(260, 1000)
    hidden: int = _at_least(8, 128)
    layers: int = _at_least(1, 2)
    heads: int = _at_least(1, 2)
    intermediate: int = _at_least(8, 192)
    context: int = _at_least(32, 512)
    epochs: int = _at_least(1, 2)
    tokens_per_batch: int = _at_least(16, 1500)
    learning_rate: float = _above(0, 1e-2)
    matrix_learning_rate: float = _above(0, 1e-2)
    answer_weight: float = _above(0, 3.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateOptions:
    """DP training, a data subject as the unit. The caller has the accountant: it gives sigma, sample_rate, steps."""

    sigma: float = field(metadata={"above": 0})
    sample_rate: float = field(metadata={"above": 0, "high": 1})
    steps: int = field(metadata={"low": 1})
    clip: float = _above(0, 1.0)
    learning_rate: float = _above(0, 5e-3)
    answer_weight: float = _above(0, 3.0)
    margin: float = _at_least(0, 0.5)
    rows_per_pass: int = _at_least(1, 16)


@dataclass(frozen=True, kw_only=True, slots=True)
class AscentOptions:
    """Gradient ascent on the forget set, with or without a retain term."""

    learning_rate: float = _above(0, 1e-4)
    steps: int = _at_least(1, 40)
    forget_weight: float = _above(0, 1.0)
    retain_weight: float = _above(0, 1.0)
    retain_term: str = field(default="none", metadata={"choices": RETAIN_TERMS})
    forget_batch: int = _at_least(1, 16)
    retain_batch: int = _at_least(1, 48)
    context_pairs: int = _at_least(0, 3)
    answer_weight: float = _above(0, 3.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceOptions:
    """Negative preference optimisation (arXiv 2404.05868) on summed label log-probabilities."""

    beta: float = _above(0, 0.1)
    learning_rate: float = _above(0, 1.5e-3)
    steps: int = _at_least(1, 50)
    forget_weight: float = _above(0, 1.0)
    retain_weight: float = _above(0, 1.0)
    retain_term: str = field(default="gd", metadata={"choices": RETAIN_TERMS})
    forget_batch: int = _at_least(1, 16)
    retain_batch: int = _at_least(1, 48)
    context_pairs: int = _at_least(0, 3)
    answer_weight: float = _above(0, 3.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateOptions:
    """Which suite, and how large; what is drawn is drawn with the job's seed."""

    suite: str = field(default="records", metadata={"choices": SUITES})
    shots: int = _at_least(0, 3)
    retain_questions: int = _at_least(1, 60)
    min_k: float = field(default=0.4, metadata={"above": 0, "high": 1})
    resamples: int = _at_least(100, 2000)
    answer_tokens: int = _at_least(1, 32)
    continuation_tokens: int = _at_least(1, 128)
    alternatives: int = _at_least(1, 4)
    tokens_per_batch: int = _at_least(64, 4096)


Options = FitOptions | InitialiseOptions | PrivateOptions | AscentOptions | PreferenceOptions | EvaluateOptions

BY_KIND: dict[str, type[Options]] = {
    "initialise": InitialiseOptions,
    "train": FitOptions,
    "dp_base": PrivateOptions,
    "evaluate": EvaluateOptions,
}
BY_METHOD: dict[str, type[Options]] = {
    "retrain": FitOptions,
    "dp2": FitOptions,
    "ga": AscentOptions,
    "npo": PreferenceOptions,
}


def check_options(kind: str, method: str | None, options: Mapping[str, Any]) -> Options:
    """`options` with every default applied; `EngineError("bad_options")` names the first thing that is wrong."""
    table = BY_METHOD if kind == "unlearn" else BY_KIND
    cls = table.get(method or "" if kind == "unlearn" else kind)
    if cls is None:
        raise EngineError("bad_options", f"there are no options for kind {kind!r} and method {method!r}")
    return decode(cls, options, what="options", code="bad_options")


def defaults(kind: str, method: str | None = None) -> dict[str, Any]:
    """The default of every option that has one."""
    table = BY_METHOD if kind == "unlearn" else BY_KIND
    cls = table[method or "" if kind == "unlearn" else kind]
    return {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}
