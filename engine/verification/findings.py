"""Numbers of up to three models in, findings out: metrics with intervals, and after minus reference, paired.

A metric that cannot be had is a finding with nulls, never a default: no items, no reference where one is needed, or
a ratio whose denominator does not keep away from 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.contract import Estimate, Finding
from engine.seeds import derive
from engine.verification.items import Items
from engine.verification.measure import Measurements
from engine.verification.membership import gain, privleak
from engine.verification.statistics import EVERYTHING, LEVEL, Floats, Resampling, auc, auc_draws, estimate, resampling

Models = Mapping[str, Measurements]

MEANS = (
    ("verbmem_f", "verbmem", "passages"),
    ("knowmem_f", "knowmem_f", "forget_questions"),
    ("knowmem_r", "knowmem_r", "retain_questions"),
    ("accuracy_f", "correct_f", "forget_questions"),
    ("extraction_strength_f", "extraction_f", "memorised"),
    ("exact_memorisation_f", "exact_f", "memorised"),
)
FRACTION = (0.0, 1.0)  # the span of ROUGE, accuracy and AUC
AUCS = (
    ("privleak_auc", "min_k"),
    ("auc_loss", "log_prob"),
    ("auc_min_k_plus_plus", "min_k_plus_plus"),
    ("auc_zlib", "zlib"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One metric on one model: its value and its value in every draw."""

    value: float
    draws: Floats


def findings(models: Models, items: Items, *, resamples: int, seed: int) -> tuple[Finding, ...]:
    """All findings that the items allow, in a fixed order."""
    rooms = _Rooms(items=items, resamples=resamples, seed=seed)
    found = [
        _mean(metric, name, group, models, rooms)
        for metric, name, group in MEANS
        if getattr(items, group) and any(getattr(model, name) for model in models.values())
    ]
    if items.forget_texts:
        found.append(_forget_loss(models, rooms))
    if items.forget_texts and items.holdout_texts:
        found += [_auc(metric, name, models, rooms) for metric, name in AUCS]
        found += [_auc_reference(models, rooms), _privleak(models, rooms)]
    if "before" in models and "reference" in models and models["before"].margin_f:
        found.append(_recovery(models, rooms))
    return tuple(found)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rooms:
    """The resamplings, one a group of items; groups about the same people share their draws."""

    items: Items
    resamples: int
    seed: int

    def of(self, group: str) -> Resampling:
        units = [item.unit for item in getattr(self.items, group)]
        people = "retain" if group.startswith("retain") else "holdout" if group.startswith("holdout") else "forget"
        return resampling(units, resamples=self.resamples, seed=derive(self.seed, "resample", people))


def _mean(metric: str, name: str, group: str, models: Models, rooms: _Rooms) -> Finding:
    room = rooms.of(group)
    samples = {role: _sample(np.asarray(getattr(m, name), dtype=np.float64), room) for role, m in models.items()}
    return finding(metric, samples, room.n, span=FRACTION)


def _sample(values: Floats, room: Resampling) -> Sample:
    return Sample(value=float(values.mean()), draws=room.means(values))


def _forget_loss(models: Models, rooms: _Rooms) -> Finding:
    room = rooms.of("forget_texts")
    samples = {role: _sample(-np.asarray(m.forget_log_prob), room) for role, m in models.items()}
    return finding("forget_loss", samples, room.n)


def _auc(metric: str, name: str, models: Models, rooms: _Rooms) -> Finding:
    return finding(metric, _auc_samples(name, models, rooms), rooms.of("forget_texts").n, span=FRACTION)


def _auc_samples(name: str, models: Models, rooms: _Rooms) -> dict[str, Sample]:
    return {
        role: _auc_sample(np.asarray(getattr(m, f"forget_{name}")), np.asarray(getattr(m, f"holdout_{name}")), rooms)
        for role, m in models.items()
    }


def _auc_sample(low: Floats, high: Floats, rooms: _Rooms) -> Sample:
    draws = auc_draws(low, high, rooms.of("forget_texts"), rooms.of("holdout_texts"))
    return Sample(value=auc(low, high), draws=draws)


def _auc_reference(models: Models, rooms: _Rooms) -> Finding:
    """Membership by what a text's log-probability gains over the reference; the reference itself gains nothing."""
    if "reference" not in models:
        return Finding(metric="auc_reference")
    reference = models["reference"]
    samples = {
        role: _auc_sample(
            gain(m.forget_log_prob, reference.forget_log_prob),
            gain(m.holdout_log_prob, reference.holdout_log_prob),
            rooms,
        )
        for role, m in models.items()
        if role != "reference"
    }
    return finding("auc_reference", samples, rooms.of("forget_texts").n, span=FRACTION)


def _privleak(models: Models, rooms: _Rooms) -> Finding:
    """Against the reference, whose own PrivLeak is 0 by definition; so the difference is the value itself."""
    if "reference" not in models:
        return Finding(metric="privleak")
    aucs = _auc_samples("min_k", models, rooms)
    n, reference = rooms.of("forget_texts").n, aucs["reference"]
    made: dict[str, Estimate | None] = {}
    for role, sample in aucs.items():
        value = float(privleak(sample.value, reference.value))
        made[role] = estimate(value, privleak(sample.draws, reference.draws), n)
    return Finding(
        metric="privleak",
        before=made.get("before"),
        after=made.get("after"),
        reference=made["reference"],
        difference=made.get("after"),
    )


def _recovery(models: Models, rooms: _Rooms) -> Finding:
    """(m_after - m_before) / (m_reference - m_before): 0 nothing restored, 1 as the model that never saw the data."""
    room = rooms.of("forget_questions")
    margins = {role: _sample(np.asarray(m.margin_f), room) for role, m in models.items()}
    before, reference = margins["before"], margins["reference"]
    if not _keeps_its_sign(reference.value - before.value, reference.draws - before.draws):
        return Finding(metric="recovery")
    samples = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for role, sample in margins.items():
            draws = (sample.draws - before.draws) / (reference.draws - before.draws)
            whole = np.float64(sample.value - before.value) / np.float64(reference.value - before.value)
            samples[role] = Sample(value=float(whole), draws=draws)
    return finding("recovery", samples, room.n)


def _keeps_its_sign(value: float, draws: Floats) -> bool:
    """Whether a denominator is far enough from 0 for its ratio to have an interval."""
    return value != 0 and float((np.sign(draws) == np.sign(value)).mean()) >= LEVEL


def finding(metric: str, samples: Mapping[str, Sample], n: int, *, span: tuple[float, float] = EVERYTHING) -> Finding:
    """One metric with the intervals of every model, and of after minus reference where both are there."""
    made = {role: estimate(sample.value, sample.draws, n, span=span) for role, sample in samples.items()}
    difference = None
    if "after" in samples and "reference" in samples:
        after, reference = samples["after"], samples["reference"]
        draws, width = after.draws - reference.draws, span[1] - span[0]
        difference = estimate(after.value - reference.value, draws, n, span=(-width, width))
    return Finding(
        metric=metric,
        before=made.get("before"),
        after=made.get("after"),
        reference=made.get("reference"),
        difference=difference,
    )


def by_metric(found: Sequence[Finding]) -> dict[str, Finding]:
    """Findings by name."""
    return {one.metric: one for one in found}
