"""What goes into the engine and what comes out: `Job` and `Evidence`, frozen, standard library only, JSON in and out.

Rules. A job names files and folders and holds no data. Evidence holds numbers, digests and settings, and no text of
any record. Reading is strict on both sides (an unknown key or a wrong type is an error), because a field that is
silently dropped is a claim that nobody checked. Findings that could not be measured are null; they are never given
a default.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engine.errors import EngineError
from engine.options import Options
from engine.strict import canonical, decode, encode, parse

__all__ = [
    "EngineError",
    "Estimate",
    "Evidence",
    "Finding",
    "Guarantee",
    "Job",
    "Kind",
    "MethodSpec",
    "Options",
    "canonical",
]

VERSION = 1
TASKS = ("language", "image", "vision-language")  # families of models
FROM_NOTHING = ("image", "vision-language")  # a network of pictures needs no words to be made of


class Guarantee(StrEnum):
    """The class of what may be claimed; a method has exactly one and nothing upgrades it."""

    EXACT = "exact"
    CERTIFIED = "certified"
    CONDITIONAL = "conditional"
    EMPIRICAL = "empirical"
    SUPPRESSION = "suppression"


class Kind(StrEnum):
    """What a job asks for."""

    INITIALISE = "initialise"
    TRAIN = "train"
    DP_BASE = "dp_base"
    UNLEARN = "unlearn"
    EVALUATE = "evaluate"
    AUDIT = "audit"
    WORST_CASE = "worst_case"


NEEDS: dict[Kind, tuple[str, ...]] = {
    Kind.INITIALISE: ("out", "train"),
    Kind.TRAIN: ("out", "model", "train"),
    Kind.DP_BASE: ("out", "model", "train", "holdout"),
    Kind.UNLEARN: ("out", "method"),
    Kind.EVALUATE: ("models",),
    Kind.AUDIT: ("models", "model", "train", "forget", "holdout"),
    Kind.WORST_CASE: ("out", "model", "train"),
}


def task_of(config: Mapping[str, Any]) -> str:
    """The family of a model by its `config.json`: a classifier of images and a CLIP say so, all else is language."""
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    classifies = any(str(name).endswith(("ForImageClassification", "ImageModel")) for name in names)
    if "CLIPModel" in names:
        return "vision-language"
    return "image" if classifies else "language"


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """Where a method stands for one family of models, and what it can be told there."""

    module: str
    options: type[Options]


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodSpec:
    """One entry of the catalogue. `needs` are fields of a job; `module` is imported only when the method runs.

    The function has the name of the method, with underscores for hyphens. `module` and `options` are for the first of
    `tasks`, `others` has those of the rest. `rate` is the learning rate for a model of a million parameters, where the
    method takes its rate from the model's size (`engine.presets`). Of the sets named in `blind` it is given the
    pictures alone, without labels.
    """

    name: str
    tasks: tuple[str, ...]
    scopes: tuple[str, ...]
    guarantee: Guarantee
    needs: tuple[str, ...]
    source: str
    module: str
    options: type[Options]
    rate: float | None = None
    others: Mapping[str, Form] = field(default_factory=dict)
    blind: tuple[str, ...] = ()

    def form(self, task: str) -> Form:
        """The method for one family of models; `EngineError("bad_job")` where it has none."""
        if task == self.tasks[0]:
            return Form(module=self.module, options=self.options)
        if task not in self.others:
            kinds = " and ".join(self.tasks)
            raise EngineError("bad_job", f"the method {self.name!r} is for {kinds} models, and this is {task}")
        return self.others[task]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One piece of work. Paths may be relative to the working folder given to `run`."""

    version: int
    kind: Kind
    seed: int = field(metadata={"low": 0})
    task: str = field(default="language", metadata={"choices": TASKS})
    threads: int = field(default=1, metadata={"low": 1})
    processes: int = field(default=1, metadata={"low": 1})
    tune: int = field(default=0, metadata={"low": 0})
    out: str | None = None
    method: str | None = None
    model: str | None = None
    base: str | None = None
    train: str | None = None
    forget: str | None = None
    retain: str | None = None
    holdout: str | None = None
    dictionary: str | None = None
    alternatives: str | None = None
    data: str | None = None
    models: dict[str, str] = field(default_factory=dict)
    cache: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a job that lacks what its kind needs; what a method needs is the catalogue's business."""
        if self.version != VERSION:
            raise EngineError("bad_job", f"this engine speaks version {VERSION} of the job format, not {self.version}")
        from_nothing = self.kind is Kind.INITIALISE and self.task in FROM_NOTHING
        for name in ("out",) if from_nothing else NEEDS[self.kind]:
            if not getattr(self, name):
                raise EngineError("bad_job", f"a job of kind {self.kind} needs {name!r}")
        unknown = sorted(set(self.models) - {"before", "after", "reference"})
        if unknown:
            raise EngineError(
                "bad_job", f"models has the unknown role {unknown[0]!r}; roles are: before, after, reference"
            )

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Read one line of the protocol."""
        return decode(cls, parse(text, what="job", code="bad_job"), what="job", code="bad_job")

    def to_json(self) -> str:
        """One line, without the keys that are empty."""
        return canonical({key: value for key, value in encode(self).items() if value not in (None, {}, "")})


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number with its 95 % interval and the number of units (data subjects) that were resampled for it."""

    value: float
    ci95: tuple[float, ...]
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One metric on up to three models. `difference` is after minus reference, paired over units."""

    metric: str
    before: Estimate | None = None
    after: Estimate | None = None
    reference: Estimate | None = None
    difference: Estimate | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FileDigest:
    """One file of a model folder."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What a job did and measured. DP training fills `accountant` and `learned`; see `engine.guarantees`."""

    version: int
    kind: Kind
    method: str | None
    variant: str
    guarantee: Guarantee | None
    parameters: dict[str, Any]
    seconds: float
    cpu_seconds: float
    steps: int
    model_files: dict[str, FileDigest]
    model_digests: dict[str, str]
    data_digests: dict[str, str]
    code_digest: str
    config_digest: str
    environment: dict[str, Any]
    findings: tuple[Finding, ...] = ()
    accountant: dict[str, Any] | None = None
    learned: dict[str, Any] | None = None
    seed_commitment: str | None = None
    training: dict[str, Any] | None = None
    suite: str | None = None
    suite_version: str | None = None
    tuning: dict[str, Any] | None = None
    rests_on: dict[str, Any] | None = None  # of an audit: how many shadows, and examples of which kind
    aggregates: dict[str, Any] | None = None  # counts and shapes of whole groups (`engine.verification.aggregates`)

    @classmethod
    def from_json(cls, text: str) -> "Evidence":
        """Read what `to_json` wrote, or what stands under `evidence` in the protocol."""
        return cls.from_mapping(parse(text, what="evidence", code="bad_job"))

    @classmethod
    def from_mapping(cls, value: dict[str, Any]) -> "Evidence":
        """The same from a JSON object that has been parsed already."""
        return decode(cls, value, what="evidence", code="bad_job")

    def to_mapping(self) -> dict[str, Any]:
        """A JSON object; refuses NaN and infinities."""
        mapping: dict[str, Any] = encode(self)
        return mapping

    def to_json(self) -> str:
        """One line."""
        return canonical(self)
