"""The suite `image`: accuracy on pictures that were to be forgotten, that stay, and that nobody saw, and membership.

    ua              1 - accuracy on the forget set
    ra, ta          accuracy on the retain set and on strangers' pictures (the holdout set)
    mia_efficacy    the share of the forget set that a classifier of confidence takes for strangers' (Jia et al. 2023,
                    arXiv 2304.04934; an SVC with C = 3 on the probability of the label, as its authors confirmed)
    mia_auc         how often a forgotten picture is likelier to the model than a stranger's: .5 where nothing leaks
    forget_loss     nats a picture

Intervals are over units, paired between models; those of `mia_efficacy` take the fitted attack as given.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.svm import SVC
from transformers import PreTrainedModel

from engine.contract import Finding
from engine.corpus import Record, digest
from engine.digests import config_digest
from engine.errors import EngineError
from engine.seeds import derive, stream
from engine.tasks.image import Scores, classes_of, scores
from engine.tasks.pixels import Pixels, pictures
from engine.verification.evaluation import Ask, Evaluation, Found, Numbers, Records
from engine.verification.findings import FRACTION, Sample, finding
from engine.verification.statistics import Floats, Resampling, auc, auc_draws, resampling

SETS = ("forget", "retain", "holdout")
PENALTY = 3.0  # of the published attack


@dataclass(frozen=True, kw_only=True, slots=True)
class _Room:
    """One set's units, resampled."""

    units: Resampling

    def mean(self, values: Floats) -> Sample:
        return Sample(value=float(values.mean()), draws=self.units.means(values))


def evaluate(asked: Evaluation, records: Records) -> Found:
    """Measure every model on the three sets and compare them."""
    sets = {name: _drawn(records(name), name, asked) for name in SETS}
    for name, chosen in sets.items():
        if not chosen:
            raise EngineError("bad_data", f"the suite 'image' needs pictures in the {name} set, and it is empty")
    item_digest = config_digest({name: digest(chosen) for name, chosen in sets.items()})
    told = {role: asked.numbers(role, item_digest, _ask(sets, asked.options.rows_per_pass)) for role in asked.folders}
    rooms = {name: _Room(units=_resampled(chosen, name, asked)) for name, chosen in sets.items()}
    return Found(findings=findings(told, rooms, seed=asked.seed), items_digest=item_digest)


def findings(models: Mapping[str, Numbers], rooms: Mapping[str, _Room], *, seed: int) -> tuple[Finding, ...]:
    """All metrics of the models, in a fixed order."""
    arrays = {role: {name: np.asarray(values) for name, values in told.items()} for role, told in models.items()}
    n = rooms["forget"].units.n

    def means(metric: str, name: str, kind: str, sign: float, shift: float) -> Finding:
        room = rooms[name]
        samples = {role: room.mean(shift + sign * told[f"{name}_{kind}"]) for role, told in arrays.items()}
        span = {"span": FRACTION} if kind == "hits" else {}
        return finding(metric, samples, room.units.n, **span)

    efficacy = {role: rooms["forget"].mean(_taken_for_strangers(told, seed)) for role, told in arrays.items()}
    leaks = {role: _leak(told, rooms) for role, told in arrays.items()}
    return (
        means("ua", "forget", "hits", -1.0, 1.0),
        means("ra", "retain", "hits", 1.0, 0.0),
        means("ta", "holdout", "hits", 1.0, 0.0),
        finding("mia_efficacy", efficacy, n, span=FRACTION),
        finding("mia_auc", leaks, n, span=FRACTION),
        means("forget_loss", "forget", "log_probs", -1.0, 0.0),
    )


def _ask(sets: Mapping[str, Sequence[Record]], rows: int) -> Ask:
    def ask(model: PreTrainedModel, pixels: Pixels, report: Callable[[float], None]) -> dict[str, list[float]]:
        told: dict[str, list[float]] = {}
        for i, (name, chosen) in enumerate(sets.items()):
            said = scores(model, pixels, pictures(chosen, pixels, classes_of(model)), rows_per_pass=rows)
            told |= _named(name, said)
            report((i + 1) / len(sets))
        return told

    return ask


def _named(name: str, said: Scores) -> dict[str, list[float]]:
    return {f"{name}_log_probs": said.log_probs.tolist(), f"{name}_hits": said.hits.tolist()}


def _drawn(chosen: Sequence[Record], name: str, asked: Evaluation) -> list[Record]:
    """All of the forget set, and as many of the others as were asked for."""
    wanted = asked.options.pictures
    if name == "forget" or not wanted or wanted >= len(chosen):
        return list(chosen)
    rng: random.Random = stream(asked.seed, "pictures", name)
    return [chosen[i] for i in sorted(rng.sample(range(len(chosen)), wanted))]


def _resampled(chosen: Sequence[Record], name: str, asked: Evaluation) -> Resampling:
    seed = derive(asked.seed, "resample", name)
    return resampling([record.unit for record in chosen], resamples=asked.options.resamples, seed=seed)


def _taken_for_strangers(told: Mapping[str, Floats], seed: int) -> Floats:
    """Per forgotten picture 1 where the attack, fitted on as many who stayed as strangers, says it was not trained on.

    A model that is equally sure of everything gives the attack one point to learn from, and its answer for all.
    """
    stayed, strangers = np.exp(told["retain_log_probs"]), np.exp(told["holdout_log_probs"])
    size = min(len(stayed), len(strangers))
    rng = np.random.default_rng(derive(seed, "mia"))
    known = np.concatenate([rng.choice(stayed, size, replace=False), rng.choice(strangers, size, replace=False)])
    attack = SVC(C=PENALTY, gamma="auto").fit(known[:, None], np.repeat([1, 0], size))
    taken: Floats = (attack.predict(np.exp(told["forget_log_probs"])[:, None]) == 0).astype(np.float64)
    return taken


def _leak(told: Mapping[str, Floats], rooms: Mapping[str, _Room]) -> Sample:
    strangers, forgotten = told["holdout_log_probs"], told["forget_log_probs"]
    draws = auc_draws(strangers, forgotten, rooms["holdout"].units, rooms["forget"].units)
    return Sample(value=auc(strangers, forgotten), draws=draws)
