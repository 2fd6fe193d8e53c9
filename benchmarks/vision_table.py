"""Tables and verdicts of `vision.py`, from the results in its work folder; nothing is trained here.

    .venv/bin/python benchmarks/vision_table.py work/vision

Intervals are those of a mean over seeds at 95 % (Student's t); differences are paired by seed. A finding is
`replicated` (a goal of ours: `reached`) where the whole interval lies beyond its limit, `not` so otherwise, and has no
verdict on one seed alone. The gap of a model is the mean of |model - retraining| over UA, RA, TA and MIA-efficacy,
retraining being that of the same seed, set and start. Written: `table.md` and `numbers.json` in the work folder.
"""

import json
import math
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import t

MEASURES = {"ua": "UA", "ra": "RA", "ta": "TA", "mia_efficacy": "MIA"}
SETS = {"class": "one class", "random": "random 10 %", "worst": "worst-case 10 %"}
RELABELLING = ("random-labels", "salun", "boundary-shrink", "boundary-expand")
ABOUT_ZERO, DROP, LOSS, CHEAP = 0.01, 0.70, 0.05, 0.2  # of UA; of accuracy; of the time of retraining
TUNED = 100  # seeds from here on were tuned on
REFERENCE = "retrain"
GOAL = "goal of ours"  # no paper found it

Key = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """One model of one seed: what the suite said of it, its gap to retraining and its time over retraining's."""

    data: str
    seed: int
    start: str
    chosen: str
    method: str
    options: dict[str, Any]
    values: dict[str, float]
    gap: float
    rte: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """A mean over seeds with its 95 % interval, which one seed alone does not have."""

    value: float
    half: float | None
    n: int

    @property
    def ci95(self) -> tuple[float, float] | None:
        """The interval."""
        return None if self.half is None else (self.value - self.half, self.value + self.half)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that a paper found, as a number that should lie above a limit or below it."""

    paper: str
    what: str
    mean: Mean
    limit: float
    above: bool

    @property
    def verdict(self) -> str:
        """Whether the whole interval lies beyond the limit."""
        found = self.mean.ci95
        if found is None:
            return "no verdict"
        beyond = found[0] > self.limit if self.above else found[1] < self.limit
        word = "reached" if self.paper == GOAL else "replicated"
        return word if beyond else f"not {word}"


def main(arguments: Sequence[str]) -> None:
    """Print tables and findings, and write them beside the results."""
    place = Path(arguments[0])
    told = read(place)
    text = "\n\n".join(part for data in _order(one.data for one in told) for part in _parts(told, data, place))
    print(text)
    (place / "table.md").write_text(text + "\n", encoding="utf-8")
    (place / "numbers.json").write_text(json.dumps(numbers(told), indent=1) + "\n", encoding="utf-8")


def read(place: Path, *, tuned: bool = False) -> list[Told]:
    """All results below a work folder, of reported or of tuning seeds, that retraining is there for."""
    raw = [
        {"data": path.parts[-3], **json.loads(path.read_text(encoding="utf-8"))}
        for path in sorted(place.glob("*/seed-*/*.found.json"))
    ]
    raw = [one for one in raw if (one["seed"] >= TUNED) is tuned]
    known = {(one["data"], one["seed"], one["start"], one["chosen"]): one for one in raw if one["method"] == REFERENCE}
    return [_told(one, known) for one in raw if (one["data"], one["seed"], one["start"], one["chosen"]) in known]


def _told(one: dict[str, Any], known: dict[tuple[str, int, str, str], dict[str, Any]]) -> Told:
    beside = known[one["data"], one["seed"], one["start"], one["chosen"]]
    dense = known.get((one["data"], one["seed"], "dense", one["chosen"]), beside)
    gap = statistics.fmean(abs(one["values"][name] - beside["values"][name]) for name in MEASURES)
    fields = {name: one[name] for name in ("data", "seed", "start", "chosen", "method", "options", "values")}
    return Told(**fields, gap=gap, rte=one["seconds"] / dense["seconds"])


def mean(values: Iterable[float]) -> Mean:
    """The mean of some seeds' values; `ValueError` for none or for what is not finite."""
    known = list(values)
    if not known or not all(map(math.isfinite, known)):
        message = "a mean needs finite values"
        raise ValueError(message)
    n = len(known)
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(known) / math.sqrt(n) if n > 1 else None
    return Mean(value=statistics.fmean(known), half=half, n=n)


def paired(told: Sequence[Told], one: Key, other: Key, of: Callable[[Told], float]) -> Mean | None:
    """The mean of `of(one) - of(other)` over the seeds that have both (start, set, method); None where none has."""
    first, second = ({x.seed: of(x) for x in told if (x.start, x.chosen, x.method) == key} for key in (one, other))
    both = sorted(first.keys() & second.keys())
    return mean(first[seed] - second[seed] for seed in both) if both else None


def findings(told: Sequence[Told]) -> list[Finding]:
    """What the papers found, on one data set's results; what was not run is left out."""
    made = [*_sparsity(told), *_l1(told), *_worst(told), *_label_agnostic(told), *_cheap(told)]
    return [
        Finding(paper=paper, what=what, mean=found, limit=limit, above=above)
        for paper, what, found, limit, above in made
        if found is not None
    ]


Claims = Iterator[tuple[str, str, Mean | None, float, bool]]


def _sparsity(told: Sequence[Told]) -> Claims:
    for chosen in ("class", "random"):
        for method in ("finetune", "ga", "influence"):
            found = paired(told, ("dense", chosen, method), ("sparse", chosen, method), _gap)
            yield "Model Sparsity", f"{method}, {SETS[chosen]}: gap dense - gap 95 % sparse above 0", found, 0.0, True


def _l1(told: Sequence[Told]) -> Claims:
    keys = ("dense", "class", "l1-sparse"), ("dense", "class", "finetune")
    what = "l1-sparse - finetune, one class: UA above 0 at equal epochs"
    yield "Model Sparsity", what, paired(told, *keys, _value("ua")), 0.0, True


def _worst(told: Sequence[Told]) -> Claims:
    paper = "Challenging Forgets"
    worst, random = ("dense", "worst", REFERENCE), ("dense", "random", REFERENCE)
    alone = [x.values["ua"] for x in told if (x.start, x.chosen, x.method) == worst]
    yield paper, "retrain, worst-case: UA below 1 point", mean(alone) if alone else None, ABOUT_ZERO, False
    found = paired(told, random, worst, _value("ua"))
    yield paper, "retrain: UA random - worst-case above 0", found, 0.0, True
    for method in RELABELLING:
        found = paired(told, ("dense", "worst", method), ("dense", "random", method), _gap)
        yield paper, f"{method}: gap worst-case - gap random above 0", found, 0.0, True


def _label_agnostic(told: Sequence[Told]) -> Claims:
    paper = "Label-Agnostic Forgetting"
    for method in ("laf", "laf-r"):
        after, before = ("dense", "class", method), ("dense", "class", "before")
        found = paired(told, after, before, _value("ua"))
        yield paper, f"{method}: accuracy on the class falls by more than 70 points", found, DROP, True
        for name, whose in (("ra", "those who stay"), ("ta", "strangers of other classes")):
            found = paired(told, before, after, _value(name))
            yield paper, f"{method}: accuracy on {whose} falls by less than 5 points", found, LOSS, False


def _cheap(told: Sequence[Told]) -> Claims:
    for method in ("finetune", "ga", "l1-sparse"):
        mine = [x for x in told if (x.start, x.method) == ("dense", method)]
        known = [statistics.fmean(x.rte for x in mine if x.seed == seed) for seed in _order(x.seed for x in mine)]
        what = f"{method}: below .2 of the time of retraining, mean over sets"
        yield GOAL, what, mean(known) if known else None, CHEAP, False


def _gap(one: Told) -> float:
    return one.gap


def _value(name: str) -> Callable[[Told], float]:
    return lambda one: one.values[name]


def numbers(told: Sequence[Told]) -> dict[str, Any]:
    """Every mean with its interval and its seeds, and every finding, as JSON."""
    rows = [
        {"data": data, "start": start, "set": chosen, "method": method, "seeds": len(group)}
        | {name: _plain(mean(of(one) for one in group)) for name, of in COLUMNS.items()}
        for (data, start, chosen, method), group in _grouped(told)
    ]
    verdicts = [
        {"data": data, "paper": one.paper, "what": one.what, "limit": one.limit, "verdict": one.verdict}
        | _plain(one.mean)
        for data in _order(one.data for one in told)
        for one in findings([x for x in told if x.data == data])
    ]
    return {"rows": rows, "findings": verdicts}


COLUMNS: dict[str, Callable[[Told], float]] = {**{name: _value(name) for name in MEASURES}, "gap": _gap}
COLUMNS["rte"] = lambda one: one.rte


def _plain(found: Mean) -> dict[str, Any]:
    return {"value": found.value, "ci95": None if found.ci95 is None else list(found.ci95), "n": found.n}


def _grouped(told: Sequence[Told]) -> list[tuple[tuple[str, str, str, str], list[Told]]]:
    groups: dict[tuple[str, str, str, str], list[Told]] = {}
    for one in told:
        groups.setdefault((one.data, one.start, one.chosen, one.method), []).append(one)
    return list(groups.items())


def _parts(told: Sequence[Told], data: str, place: Path) -> Iterator[str]:
    """One table a start and set, and the findings."""
    mine = [one for one in told if one.data == data]
    for start in _order(one.start for one in mine):
        for chosen, name in SETS.items():
            group = [one for one in mine if (one.start, one.chosen) == (start, chosen)]
            if group:
                yield f"**{data}, {name}, from a {start} model**\n\n{table(group)}"
    yield f"**{data}: the papers' findings**\n\n{verdicts(findings(mine))}"
    yield _overlaps(place / data)


def table(told: Sequence[Told]) -> str:
    """Markdown: a line a method, before and retraining first, then by gap; accuracies in per cent."""
    head = [*(f"{name} %" for name in MEASURES.values()), "gap, points", "RTE"]
    methods = _order(one.method for one in told)
    groups = {method: [one for one in told if one.method == method] for method in methods}
    gaps = {method: statistics.fmean(one.gap for one in group) for method, group in groups.items()}
    first = {"before": -2.0, REFERENCE: -1.0}
    lines = [f"| method | {' | '.join(head)} | seeds |", "|---" * (len(head) + 2) + "|"]
    for method in sorted(methods, key=lambda name: first.get(name, gaps[name])):
        cells = [_shown(mean(of(one) for one in groups[method]), name) for name, of in COLUMNS.items()]
        lines.append(f"| {method} | {' | '.join(cells)} | {len(groups[method])} |")
    return "\n".join(lines)


def verdicts(found: Sequence[Finding]) -> str:
    """Markdown: a line a finding, as fractions of 1."""
    lines = ["| paper | finding | value, 95 % interval | seeds | verdict |", "|---|---|---|---|---|"]
    for one in found:
        interval = "" if one.mean.ci95 is None else " [{:.3f} {:.3f}]".format(*one.mean.ci95)
        cells = (one.paper, one.what, f"{one.mean.value:.3f}{interval}", str(one.mean.n), one.verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tuned(told: Sequence[Told]) -> str:
    """A line a method, setting: mean gap on each data set and set, and over all; the best of a method first."""
    groups: dict[tuple[str, str], list[Told]] = {}
    for one in told:
        if one.method not in (REFERENCE, "before"):
            groups.setdefault((one.method, json.dumps(one.options, sort_keys=True)), []).append(one)
    made = [(name, _over(group), options, group) for (name, options), group in groups.items()]
    lines = []
    for name, over, options, group in sorted(made, key=lambda one: one[:2]):
        kinds = _order((x.data, x.chosen) for x in group)
        parts = [f"{' '.join(kind)} {100 * _on(group, kind):.2f}" for kind in kinds]
        rte = statistics.fmean(x.rte for x in group)
        lines.append(f"{name} {options}: {100 * over:.2f} points ({', '.join(parts)}), RTE {rte:.2f}, {len(group)}")
    return "\n".join(lines)


def _over(group: Sequence[Told]) -> float:
    """The mean over data sets and sets of the mean gap on each, however many seeds each has."""
    return statistics.fmean(_on(group, kind) for kind in _order((one.data, one.chosen) for one in group))


def _on(group: Sequence[Told], kind: tuple[str, str]) -> float:
    return statistics.fmean(one.gap for one in group if (one.data, one.chosen) == kind)


def _overlaps(place: Path) -> str:
    """How far the worst-case sets are from random ones."""
    found = [
        json.loads(path.read_text(encoding="utf-8"))["training"] for path in sorted(place.glob("*/worst.job.json"))
    ]
    if not found:
        return "no worst-case set was chosen"
    shared = [one["overlap"] for one in found]
    return f"Worst-case sets share {min(shared):.3f} to {max(shared):.3f} with a random set, .1 by chance."


def _shown(found: Mean, name: str) -> str:
    """Per cent with half the interval, or a ratio for RTE."""
    factor, digits = (1.0, 3) if name == "rte" else (100.0, 2)
    half = "" if found.half is None else f" ± {factor * found.half:.{digits}f}"
    return f"{factor * found.value:.{digits}f}{half}"


def _order(names: Iterable[Any]) -> list[Any]:
    """Each once, as they first come."""
    return list(dict.fromkeys(names))


if __name__ == "__main__":
    main(sys.argv[1:])
