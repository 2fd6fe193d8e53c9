"""What `domains.py` prints: means over choices of forgotten domains with Student's 95 % intervals, in Markdown."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.verification.statistics import t_quantile

METRICS = {"h": "H", "mem": "Mem", "for": "For", "domain_probe": "domain probe"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What one row measured with one choice of forgotten domains and one seed."""

    row: str
    choice: tuple[str, ...]
    seed: int
    values: dict[str, float]


def tables(told: Sequence[Told], *, ours: str, baseline: str) -> Iterator[str]:
    """Lines of Markdown: for every number of forgotten domains the means, the paired difference, and H by choice."""
    rows = list(dict.fromkeys(one.row for one in told))
    for leave in sorted({len(one.choice) for one in told}):
        mine = [one for one in told if len(one.choice) == leave]
        choices = list(dict.fromkeys(one.choice for one in mine))
        yield f"\n{leave} forgotten, {len(choices)} choices\n"
        yield from _line("row", "seeds", *METRICS.values())
        yield "|---" * (2 + len(METRICS)) + "|"
        for row in rows:
            seeds = len({one.seed for one in mine if one.row == row})
            yield from _line(row, seeds, *(interval(by_choice(mine, row, metric).values()) for metric in METRICS))
        if ours in rows and baseline in rows:
            apart = [interval(differences(mine, ours, baseline, metric), signed=True) for metric in METRICS]
            yield from _line(f"{ours} - {baseline}", "", *apart)
        yield "\nH by choice\n"
        yield from _line("forgotten", *rows)
        yield "|---" * (1 + len(rows)) + "|"
        for choice in choices:
            yield from _line(" + ".join(choice), *(f"{by_choice(mine, row, 'h')[choice]:.3f}" for row in rows))


def by_choice(told: Sequence[Told], row: str, metric: str) -> dict[tuple[str, ...], float]:
    """A row's mean over seeds for each choice."""
    choices: dict[tuple[str, ...], list[float]] = {}
    for one in told:
        if one.row == row:
            choices.setdefault(one.choice, []).append(one.values[metric])
    return {choice: statistics.mean(values) for choice, values in choices.items()}


def differences(told: Sequence[Told], ours: str, baseline: str, metric: str) -> list[float]:
    """One row minus another for each choice; seeds that only one of them has are left out."""
    seeds = [{(one.choice, one.seed) for one in told if one.row == row} for row in (ours, baseline)]
    both = [one for one in told if (one.choice, one.seed) in seeds[0] & seeds[1]]
    other = by_choice(both, baseline, metric)
    return [mine - other[choice] for choice, mine in by_choice(both, ours, metric).items()]


def interval(values: Iterable[float], *, signed: bool = False) -> str:
    """The mean over choices and Student's 95 % interval of it; a single one has none."""
    told, sign = list(values), "+" if signed else ""
    mean = statistics.mean(told)
    if len(told) == 1:
        return f"{mean:{sign}.3f}"
    half = t_quantile(0.975, len(told) - 1) * statistics.stdev(told) / math.sqrt(len(told))
    return f"{mean:{sign}.3f} [{mean - half:{sign}.3f}, {mean + half:{sign}.3f}]"


def _line(*cells: object) -> Iterator[str]:
    yield "| " + " | ".join(map(str, cells)) + " |"
