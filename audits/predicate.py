"""The shape of an unlearning report's predicate, for the type checker.

The published JSON Schema (`schema/unlearning-report-v1.json`) is what is enforced; a test keeps both alike. Names
are lowerCamelCase and times are named by their meaning, as in-toto asks.
"""

from typing import Any, Literal, NotRequired, TypedDict

from audits.aggregates import Aggregates
from audits.gates import Direction, GuaranteeClass, Outcome
from audits.model import FileDigest


class Accounted(TypedDict):
    """One request of the ledger range and its state when the report was made."""

    requestId: str
    state: str


LedgerRange = TypedDict("LedgerRange", {"from": int, "to": int})


class RequestBatch(TypedDict):
    """What was asked: how many, committed to without naming anyone."""

    batchId: str
    requests: int
    subjects: int
    records: int
    commitmentRoot: str
    approvals: Literal["signed", "unsigned"]
    ledgerRange: LedgerRange
    accounted: list[Accounted]


class ModelVersion(TypedDict):
    """One version of the model, by digest."""

    version: int
    digest: str
    files: dict[str, FileDigest]


class Model(TypedDict):
    """The model before and after."""

    name: str
    modelId: str
    before: ModelVersion
    after: ModelVersion


class Dataset(TypedDict):
    """The training data before and after, and how many records left it."""

    name: str
    beforeDigest: str
    afterDigest: str
    removed: int


class Method(TypedDict):
    """What was run, by digest."""

    rung: str
    name: str
    variant: str | None
    parameters: dict[str, Any]
    codeDigest: str
    configDigest: str
    environment: dict[str, Any]


class PoissonSubsampledGaussian(TypedDict):
    """DP training: what the accountant needs to compute the bound again."""

    mechanism: Literal["poisson_subsampled_gaussian"]
    sampleRate: float
    noiseMultiplier: float
    steps: int
    clip: float


class NoisyClippedSteps(TypedDict):
    """Noisy clipped fine-tuning: the same."""

    mechanism: Literal["noisy_clipped_steps"]
    startRadius: float
    clip: float
    learningRate: float
    weightDecay: float
    noise: float
    steps: int
    projected: bool


class MeasuredGradient(TypedDict):
    """A convex head near its minimum."""

    mechanism: Literal["measured_gradient"]
    curvature: float
    residual: float
    noise: float
    features: Literal["fixed", "public"]


class GradientSteps(TypedDict):
    """Gradient steps of a convex head from a ball, with noise at the end or in every step."""

    mechanism: Literal["contracted_gradient_steps", "noisy_gradient_steps"]
    startRadius: float
    curvature: float
    smoothness: float
    gradientError: float
    noise: float
    steps: int
    features: Literal["fixed", "public"]


class PerturbedNewton(TypedDict):
    """Newton removal of heads that were trained under a perturbation."""

    mechanism: Literal["perturbed_newton"]
    curvature: float
    residual: float
    noise: float
    problems: int
    features: Literal["fixed", "public"]


class KeptGradientSteps(TypedDict):
    """Gradient steps of a convex head from a state that is kept secret, noise when it is published."""

    mechanism: Literal["kept_gradient_steps"]
    curvature: float
    smoothness: float
    slope: float
    gradientError: float
    points: int
    steps: int
    noise: float
    problems: int
    features: Literal["fixed", "public"]


class RewoundGradientSteps(TypedDict):
    """Gradient steps from a checkpoint that is kept secret, noise when they are published."""

    mechanism: Literal["rewound_gradient_steps"]
    smoothness: float
    slope: float
    learningRate: float
    steps: int
    rewound: int
    share: float
    noise: float
    features: Literal["fixed", "public"]


Accountant = (
    PoissonSubsampledGaussian
    | NoisyClippedSteps
    | MeasuredGradient
    | GradientSteps
    | PerturbedNewton
    | KeptGradientSteps
    | RewoundGradientSteps
)


class Constant(TypedDict):
    """One constant of the theorem, and how it is held."""

    name: str
    value: float
    held: Literal["enforced", "proved", "estimated"]


class PrivacyAudit(TypedDict):
    """A one-run audit of the running code: it can refute a certificate and never prove one."""

    canaries: int
    guesses: int
    correct: int
    significance: float
    lowerBound: float
    ceiling: float


class Learned(TypedDict):
    """Losses (nats a token, or a picture) that show whether the DP base learned anything."""

    startLoss: float
    unigramLoss: float
    baseLoss: float
    margin: float
    learned: bool


class Certificate(TypedDict):
    """An (epsilon, delta) bound for the group of all units deleted since the base was trained."""

    theorem: str
    unit: Literal["data subject", "record"]
    neighbours: str
    points: int
    epsilon: float
    delta: float
    singleEpsilon: float
    accountant: Accountant
    unitsDeletedSinceBase: int
    unitsLeft: int | None
    epsilonLimit: float
    seedCommitment: str
    learned: Learned | None
    constants: list[Constant]
    internalStateCovered: bool
    audit: PrivacyAudit | None


Guarantee = TypedDict(
    "Guarantee",
    {
        "class": GuaranteeClass,
        "statement": str,
        "conditions": list[str],
        "certificate": Certificate | None,
        "refused": str | None,
    },
)


class GateJson(TypedDict):
    """A gate of the policy."""

    metric: str
    direction: Direction
    margin: float
    minimumN: int


class GateResultJson(GateJson):
    """A gate and what the evidence said of it."""

    interval: list[float] | None
    n: int | None
    outcome: Outcome


class Policy(TypedDict):
    """The method policy that was in force."""

    name: str
    digest: str
    ladder: list[str]
    reference: Literal["retrained", "every_n", "none"]
    gates: list[GateJson]


class Plan(TypedDict):
    """The verification plan, and where the log has it."""

    digest: str
    logIndex: int


class Attempt(TypedDict):
    """One run of one rung."""

    attemptId: str
    rung: str
    outcome: Literal["published", "interim", "gates_failed", "refused", "error"]
    code: str | None
    why: str | None
    weightsDigest: str | None
    logIndex: int
    gates: list[GateResultJson]
    seconds: float


class Estimate(TypedDict):
    """A value, its 95 % interval, and the number of resampled units (data subjects)."""

    value: float
    ci95: list[float]
    n: int


class Finding(TypedDict):
    """One metric on the three models; `difference` is after minus reference, paired."""

    metric: str
    before: Estimate | None
    after: Estimate
    reference: Estimate | None
    difference: Estimate | None


class SeedCheckpoint(TypedDict):
    """The log's size and root (hex) when it held the finished weights' digest."""

    size: int
    root: str


class Time(TypedDict):
    """Minutes by the clock, and minutes of processors."""

    minutes: float
    cpuMinutes: float


class RunTime(TypedDict):
    """What the method took, and what training the reference took where that was measured."""

    method: Time
    reference: Time | None


class Evidence(TypedDict):
    """What was measured, and the digest of the file with the numbers behind it."""

    suite: str
    suiteVersion: str
    seed: str
    seedCheckpoint: SeedCheckpoint
    evidenceDigest: str
    findings: list[Finding]
    aggregates: NotRequired[Aggregates]
    runTime: NotRequired[RunTime]


class Version(TypedDict):
    """An earlier version of the model, as its own report has it; epsilon and units where it has a certificate."""

    version: int
    guarantee: GuaranteeClass
    reportDigest: str
    metrics: dict[str, Estimate]
    epsilon: float | None
    units: int | None


class Predicate(TypedDict):
    """The whole report."""

    reportId: str
    createdAt: str
    startedAt: str
    finishedAt: str
    verifiedAt: str
    requestBatch: RequestBatch
    model: Model
    dataset: Dataset
    method: Method
    guarantee: Guarantee
    policy: Policy
    plan: Plan
    attempts: list[Attempt]
    evidence: Evidence
    gates: list[GateResultJson]
    limits: list[str]
    previousReportDigest: str | None
    unpublishedReports: list[str]
    witnessed: bool
    history: NotRequired[list[Version]]
