"""The suite `domain`: is a class still recognised in the domains that stay, and no longer in those to be forgotten?

    mem             accuracy on the holdout pictures of the domains that stay
    for             1 - accuracy on those of the domains to be forgotten
    h               2 mem for / (mem + for), 0 where both are 0 (Kawamura et al. 2025, arXiv 2510.08132)
    domain_probe    accuracy of a linear classifier of domains, fitted on features of the forget and retain sets and
                    asked about the holdout set: 1 / domains where the features say nothing of them

Which domains those are, the forget and the retain set say; accuracy is zero-shot, by the caption of each class. The
published figures average over every choice of the domains to be forgotten, which is the caller's part. Intervals are
over units, which are single records where nobody says whose they are, and hold the fitted probe as given.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from engine.contract import Finding
from engine.corpus import Record, digest
from engine.digests import config_digest
from engine.errors import EngineError
from engine.seeds import derive
from engine.tasks.vision_language import (
    Reader,
    all_features,
    class_names,
    clip_of,
    domain_names,
    labelled,
    logits,
    prompts,
    reader_of,
    shuffled,
    text_features,
)
from engine.verification import domain_groups
from engine.verification.evaluation import Ask, Evaluation, Found, Numbers, Records
from engine.verification.findings import FRACTION, Sample, finding
from engine.verification.representations import ROLES, Features, View, view_of
from engine.verification.statistics import Floats, Resampling, resampling

SETS = ("forget", "retain", "holdout")
RIDGE = 1e-3  # of the probe's squared weights, a picture


def evaluate(asked: Evaluation, records: Records) -> Found:
    """Measure every model on the holdout set's domains and compare them."""
    sets = {name: _drawn(records(name), name, asked) for name in SETS}
    leaving = forgotten_rows(sets)
    item_digest = config_digest({name: digest(chosen) for name, chosen in sets.items()})
    told = _told(asked, sets, item_digest)
    seed = derive(asked.seed, "resample", "holdout")
    room = resampling([one.unit for one in sets["holdout"]], resamples=asked.options.resamples, seed=seed)
    domains = domain_names([one for chosen in sets.values() for one in chosen])
    arrays = {role: {name: np.asarray(values) for name, values in one.items()} for role, one in told.items()}
    groups = domain_groups.aggregates(arrays, sets, domains)
    return Found(findings=findings(told, leaving, room), items_digest=item_digest, aggregates=groups)


def forgotten_rows(sets: Mapping[str, Sequence[Record]]) -> NDArray[np.bool_]:
    """Which holdout pictures are of a domain to be forgotten (rows,).

    Raises:
        EngineError: `bad_data` for a record without a domain, for one domain in both sets or in neither, and where
            the holdout set lacks pictures of either kind.
    """
    for name, chosen in sets.items():
        if not chosen:
            raise EngineError("bad_data", f"the suite 'domain' needs pictures in the {name} set, and it is empty")
    leave, stay, held = (domain_names(sets[name]) for name in SETS)
    if set(leave) & set(stay):
        both = min(set(leave) & set(stay))
        raise EngineError("bad_data", f"the domain {both!r} is in the forget and the retain set; forget all of it")
    strange = sorted(set(held) - set(leave) - set(stay))
    if strange:
        raise EngineError("bad_data", f"the domain {strange[0]!r} of the holdout set is in no other set")
    if not set(held) & set(leave) or not set(held) & set(stay):
        raise EngineError(
            "bad_data", "the holdout set needs pictures of domains that stay and of those to be forgotten"
        )
    return np.array([one.domain in leave for one in sets["holdout"]])


def findings(models: Mapping[str, Numbers], leaving: NDArray[np.bool_], room: Resampling) -> tuple[Finding, ...]:
    """All metrics of the models, in a fixed order; `leaving` are the holdout pictures of forgotten domains."""
    samples: dict[str, dict[str, Sample]] = {metric: {} for metric in ("mem", "for", "h", "domain_probe")}
    for role, told in models.items():
        hits, probed = np.asarray(told["hits"]), np.asarray(told["probe_hits"])
        mem, lost = _share(hits, ~leaving, room), _share(1.0 - hits, leaving, room)
        h = Sample(
            value=float(harmonic(np.array(mem.value), np.array(lost.value))), draws=harmonic(mem.draws, lost.draws)
        )
        everywhere = np.ones_like(leaving)
        for metric, one in zip(samples, (mem, lost, h, _share(probed, everywhere, room)), strict=True):
            samples[metric][role] = one
    return tuple(finding(metric, one, room.n, span=FRACTION) for metric, one in samples.items())


def harmonic(mem: Floats, lost: Floats) -> Floats:
    """2 a b / (a + b), 0 where both are 0; NaN stays NaN."""
    total = mem + lost
    both: Floats = np.where(total == 0, 0.0, 2 * mem * lost / np.where(total == 0, 1.0, total))
    return both


def probe(known: Floats, labels: NDArray[np.int64], asked: Floats) -> NDArray[np.int64]:
    """Labels of `asked` (rows x width), by ridge regression on the one-hot labels of `known`; classes weigh alike."""
    classes, owners = np.unique(labels, return_inverse=True)
    weight = (1.0 / np.bincount(owners))[owners][:, None]
    ones = np.eye(len(classes))[owners]
    wide = np.hstack([known, np.ones((len(known), 1))])
    penalty = RIDGE * weight.sum() * np.eye(wide.shape[1])
    solved = np.linalg.solve(wide.T @ (weight * wide) + penalty, wide.T @ (weight * ones))
    answer: NDArray[np.int64] = classes[(np.hstack([asked, np.ones((len(asked), 1))]) @ solved).argmax(1)]
    return answer


def _share(values: Floats, rows: NDArray[np.bool_], room: Resampling) -> Sample:
    """The mean of values over some rows; every draw of units resamples both kinds of rows together."""
    counted = rows.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = (room.counts @ room.sums(values * counted)) / (room.counts @ room.sums(counted))
    return Sample(value=float(values[rows].mean()), draws=draws)


def _told(asked: Evaluation, sets: Mapping[str, Sequence[Record]], item_digest: str) -> dict[str, Numbers]:
    """What each model says; the directions in which features are looked at are those of the model before."""
    told: dict[str, Numbers] = {}
    rows = asked.options.rows_per_pass
    for role in sorted(asked.folders, key=ROLES.index):
        view = view_of(role, told.get("before"))
        key = config_digest({"items": item_digest, "view": view.digest})
        told[role] = asked.numbers(role, key, _ask(sets, rows, view))
    return told


def _ask(sets: Mapping[str, Sequence[Record]], rows: int, view: View) -> Ask:
    def ask(model: PreTrainedModel, reader: Reader, report: Callable[[float], None]) -> dict[str, list[float]]:
        clip, everything = clip_of(model), [one for name in SETS for one in sets[name]]
        classes, domains = class_names(clip, everything), domain_names(everything)
        told: list[tuple[Tensor, Tensor, Tensor]] = []
        for i, chosen in enumerate(([*sets["forget"], *sets["retain"]], sets["holdout"])):
            read = labelled(chosen, reader_of(reader), classes, domains)
            told.append((all_features(clip, reader, read.images, rows_per_pass=rows), read.classes, read.domains))
            report((i + 1) / 2)
        with torch.no_grad():
            scores = logits(clip, told[1][0], text_features(clip, reader, prompts(classes)).cpu())
        found = probe(told[0][0].double().numpy(), told[0][2].numpy(), told[1][0].double().numpy())
        hits = (scores.argmax(1) == told[1][1]).double()
        known, cut = told[0][0].double().numpy(), len(sets["forget"])
        features = {
            name: Features(values=known[part], groups=told[0][2].numpy()[part])
            for name, part in (("forget", np.s_[:cut]), ("retain", np.s_[cut:]))
        }
        return {
            "hits": hits.tolist(),
            "probe_hits": (found == told[1][2].numpy()).astype(float).tolist(),
            "classes": told[1][1].double().tolist(),
            "total": [float(len(classes))],
            **view.numbers(features, len(domains)),
        }

    return ask


def _drawn(chosen: Sequence[Record], name: str, asked: Evaluation) -> list[Record]:
    """All of the holdout set, and as many of the others as were asked for, which only the probe reads."""
    wanted = asked.options.pictures
    if name == "holdout" or not wanted or wanted >= len(chosen):
        return list(chosen)
    return [chosen[i] for i in sorted(shuffled(len(chosen), asked.seed, "pictures", name)[:wanted])]
