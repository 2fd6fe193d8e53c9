"""Gates: what the measured evidence must show, decided on intervals and never on points.

A gate looks at the 95 % interval [lo, hi] of a metric's difference, after minus reference, against a margin:

    at_most      hi <=  margin: held      lo >  margin: contradicted     else underpowered
    at_least     lo >= -margin: held      hi < -margin: contradicted     else underpowered
    within       both hold: held          either contradicted            else underpowered

Fewer than `minimum_n` resampled units is underpowered whatever the interval says; an interval that is absent or not
finite is missing. Nothing has a default that passes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from audits.errors import expect

Direction = Literal["at_most", "at_least", "within"]
Outcome = Literal["held", "contradicted", "underpowered", "missing"]
GuaranteeClass = Literal["exact", "certified", "conditional", "empirical", "suppression"]
_ENDS = 2
CLASSES: tuple[GuaranteeClass, ...] = get_args(GuaranteeClass)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """One requirement of a policy; `margin` in the metric's own unit, `minimum_n` in resampled units."""

    metric: str
    direction: Direction
    margin: float
    minimum_n: int

    def __post_init__(self) -> None:
        """Refuse a gate that could not fail or could not be computed."""
        expect(self.direction in get_args(Direction), f"A gate's direction is one of {get_args(Direction)}.")
        expect(math.isfinite(self.margin) and self.margin >= 0, "A gate's margin is finite and not negative.")
        expect(self.minimum_n >= 1, "A gate asks for at least one resampled unit.")

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Gate":
        """The gate as a statement writes it."""
        return cls(
            metric=value["metric"],
            direction=value["direction"],
            margin=value["margin"],
            minimum_n=value["minimumN"],
        )

    def to_json(self) -> dict[str, Any]:
        """The gate as a statement writes it."""
        return {
            "metric": self.metric,
            "direction": self.direction,
            "margin": self.margin,
            "minimumN": self.minimum_n,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What the evidence says of a gate: the interval of the difference, its n, and the outcome."""

    gate: Gate
    interval: tuple[float, float] | None
    n: int | None
    outcome: Outcome

    def to_json(self) -> dict[str, Any]:
        """The result as a statement writes it."""
        interval = None if self.interval is None else list(self.interval)
        return {**self.gate.to_json(), "interval": interval, "n": self.n, "outcome": self.outcome}


def judge(gate: Gate, finding: Mapping[str, Any] | None) -> Result:
    """Hold one gate against the finding of its metric (None: there is none)."""
    interval, n = _difference(finding)
    if interval is None or n is None:
        return Result(gate=gate, interval=None, n=None, outcome="missing")
    outcome: Outcome = "underpowered" if n < gate.minimum_n else _compare(gate, *interval)
    return Result(gate=gate, interval=interval, n=n, outcome=outcome)


def judge_all(gates: Iterable[Gate], findings: Iterable[Mapping[str, Any]]) -> list[Result]:
    """Hold every gate against the findings; a metric measured twice is as good as not measured."""
    by_metric: dict[str, Mapping[str, Any] | None] = {}
    for finding in findings:
        metric = str(finding["metric"])
        by_metric[metric] = None if metric in by_metric else finding
    return [judge(gate, by_metric.get(gate.metric)) for gate in gates]


def blocks(guarantee: GuaranteeClass, outcome: Outcome) -> bool:
    """Whether this outcome of one gate keeps a run of this guarantee class from being published.

    Where evidence is all there is, it must hold. Where a construction or a theorem stands behind the run, evidence
    that is too weak does not stop it; evidence against it does, and so does evidence that is not there.
    """
    expect(guarantee in CLASSES, f"There is no guarantee class {guarantee!r}.")
    if guarantee in ("exact", "certified"):
        return outcome in ("contradicted", "missing")
    return outcome != "held"


def _difference(finding: Mapping[str, Any] | None) -> tuple[tuple[float, float] | None, int | None]:
    difference = finding.get("difference") if finding is not None else None
    if not isinstance(difference, Mapping):
        return None, None
    interval, n = difference.get("ci95"), difference.get("n")
    if not isinstance(interval, Sequence) or len(interval) != _ENDS or not all(map(_is_finite, interval)):
        return None, None
    if type(n) is not int:
        return None, None
    low, high = interval
    return ((low, high), n) if low <= high else (None, None)


def _is_finite(value: object) -> bool:
    """Whether `value` is a finite number; True and False are numbers to Python, and no measurement."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _compare(gate: Gate, low: float, high: float) -> Outcome:
    above = gate.direction in ("at_most", "within")
    below = gate.direction in ("at_least", "within")
    if (above and low > gate.margin) or (below and high < -gate.margin):
        return "contradicted"
    if (above and high > gate.margin) or (below and low < -gate.margin):
        return "underpowered"
    return "held"
