"""A repeated run against what the report says of the first one.

Weights are compared by digest: on a CPU the engine makes the same ones again from the same inputs, seed, code, settings
and environment. A method that adds noise under a secret makes others by design, so a repeat (which draws a fresh
secret; the old one was never written down) is compared by evidence, and so is a run whose code or environment is not
at hand any more. Evidence says two things, each on the test items that the report's own seed draws:

    of the repeated weights, where they are others    does the method, run again, lead to such numbers?
    of the published weights, always                  were the reported numbers measured?

Two values of a metric agree when their 95 % intervals are no further apart than the metric's default margin
(`compliance.policy`; 0 where there is none), never the margin of the report's own policy, which its operator chose.
Two intervals of equal width touch at 2.8 standard errors, which chance in the test items alone passes about once in
200 comparisons; the margin is what a run's own randomness may add, as it is for a gate.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from compliance.policy import METRICS
from engine.contract import Evidence

Finding = Mapping[str, Any]


class Outcome(StrEnum):
    """What came of a repeated run."""

    SAME_WEIGHTS = "same_weights"
    EVIDENCE_AGREES = "evidence_agrees"
    SETTINGS_DIFFER = "settings_differ"
    WEIGHTS_DIFFER = "weights_differ"
    EVIDENCE_DIFFERS = "evidence_differs"


REPRODUCED = frozenset({Outcome.SAME_WEIGHTS, Outcome.EVIDENCE_AGREES})


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One metric: what the report says of the new model, and what was measured now.

    `agrees` within the margin; None where the report says nothing of the metric.
    """

    metric: str
    reported: Finding | None
    measured: Finding | None
    margin: float
    agrees: bool | None


def compare(reported: Sequence[Finding], measured: Sequence[Finding], *, task: str) -> list[Compared]:
    """Every reported metric beside the measured one; a metric that could not be measured again does not agree."""
    found = _after(measured)
    return [_compared(metric, one, found.get(metric), task) for metric, one in _after(reported).items()]


def beside(reported: Sequence[Finding], measured: Sequence[Finding], *, task: str) -> list[Compared]:
    """Every metric of a test chosen now beside what the report says of it, if anything."""
    found = _after(reported)
    return [_compared(metric, found.get(metric), one, task) for metric, one in _after(measured).items()]


def _after(findings: Sequence[Finding]) -> dict[str, Finding | None]:
    return {str(one["metric"]): one["after"] for one in findings}


def _compared(metric: str, reported: Finding | None, measured: Finding | None, task: str) -> Compared:
    margin, agrees = METRICS[task].get(metric, 0.0), None
    if reported is not None:
        agrees = measured is not None and _apart(reported["ci95"], measured["ci95"]) <= margin
    return Compared(metric=metric, reported=reported, measured=measured, margin=margin, agrees=agrees)


def _apart(one: Sequence[float], other: Sequence[float]) -> float:
    """The distance between two intervals; 0 when they touch."""
    return max(0.0, one[0] - other[1], other[0] - one[1])


def other_conditions(method: Mapping[str, Any], repeated: Evidence) -> list[str]:
    """What is at hand now and was not when the report's run was made: code and environment; none when all is alike."""
    return list(_other_conditions(method, repeated))


def other_settings(method: Mapping[str, Any], repeated: Evidence) -> bool:
    """Whether the report names other settings than the plan gives the method; other code may have other defaults."""
    return bool(method["codeDigest"] == repeated.code_digest and method["configDigest"] != repeated.config_digest)


def _other_conditions(method: Mapping[str, Any], repeated: Evidence) -> Iterator[str]:
    if method["codeDigest"] != repeated.code_digest:
        yield f"the engine's code ({method['codeDigest'][:16]}…, now {repeated.code_digest[:16]}…)"
    was, now = method["environment"], repeated.environment
    for name in sorted(was.keys() | now):
        if was.get(name) != now.get(name):
            yield f"{name} ({was.get(name)}, now {now.get(name)})"
