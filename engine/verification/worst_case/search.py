"""The search for a worst-case forget set as one job: rounds of lower and upper level, then the two sets of records.

What is chosen is a number of records, of data subjects (`unit`) or of whole classes; what is forgotten together has
one weight, and the mean of its records' losses. The random set that a search is compared with is drawn from the seed;
where weights start at 0 and 1, it is also where they start. Only numbers go into the evidence, no record's id.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.corpus import Record
from engine.errors import EngineError
from engine.methods import Setting
from engine.options import WorstCaseOptions
from engine.seeds import derive
from engine.training import Fitted, report
from engine.verification.worst_case.lower import Lower
from engine.verification.worst_case.selection import (
    Places,
    Rule,
    begun,
    in_ranks,
    mean_by,
    overlap,
    travelled,
)
from engine.verification.worst_case.simplex import Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The chosen records and the others, each in the order they were given, and what is told of the search."""

    forget: tuple[Record, ...]
    retain: tuple[Record, ...]
    fitted: Fitted


def search(setting: Setting[WorstCaseOptions]) -> Found:
    """Choose `count` groups of the setting's `retain` records; the model is left as the last lower level made it.

    Raises:
        EngineError: `bad_data` where there are not more groups than are to be chosen, `not_finite` if a loss is.
    """
    options, records = setting.options, setting.retain
    groups = _groups(records, options.by)
    size = int(groups.max()) + 1 if len(groups) else 0
    if options.count >= size:
        words = {"record": "records", "unit": "data subjects", "class": "classes"}[options.by]
        raise EngineError("bad_data", f"options.count must be below the number of {words}, which is {size}")
    rule = Rule(
        count=options.count,
        step=options.step,
        penalty=options.penalty,
        ranked=options.losses == "ranked",
        easiest=options.reverse,
    )
    drawn = np.random.default_rng(derive(setting.seed, "worst-case")).choice(size, options.count, replace=False)
    weights = start = begun(size, drawn, binary=options.start == "random")
    lower, objectives, started = Lower(setting), [], time.monotonic()
    losses = np.zeros(size)
    for round_ in range(options.rounds):
        losses = mean_by(groups, lower.losses(weights[groups], round_))
        objectives.append(float(weights @ losses) / options.count)
        weights = rule.moved(weights, losses)
        report(setting.progress, "select", round_ + 1, options.rounds, started)
    chosen = rule.chosen(weights, losses)
    inside = np.isin(groups, chosen)
    details = {
        "candidates": size,
        "chosen": options.count,
        "forget_records": int(inside.sum()),
        "retain_records": int((~inside).sum()),
        "overlap": overlap(chosen, drawn),
        "moved": travelled(weights, start),
        **_told(losses, chosen, weights),
    }
    taken = inside.tolist()
    return Found(
        forget=tuple(record for record, one in zip(records, taken, strict=True) if one),
        retain=tuple(record for record, one in zip(records, taken, strict=True) if not one),
        fitted=Fitted(steps=options.rounds, first_loss=objectives[0], last_loss=objectives[-1], details=details),
    )


def _told(losses: Floats, chosen: Places, weights: Floats) -> dict[str, Any]:
    """How the chosen differ from all, after the last lower level; `undecided` is the weight that is neither 0 nor 1."""
    between = (weights > 0) & (weights < 1)
    return {
        "loss_chosen": float(losses[chosen].mean()),
        "loss_all": float(losses.mean()),
        "rank_chosen": float(in_ranks(losses)[chosen].mean()),
        "undecided": float(weights[between].sum() / weights.sum()),
    }


def _groups(records: Sequence[Record], by: str) -> Places:
    """For each record the number of its group (records,); groups are numbered as they first appear."""
    names = [{"record": record.record_id, "unit": record.unit, "class": record.label}[by] for record in records]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.asarray([numbers[name] for name in names], dtype=np.int64)
