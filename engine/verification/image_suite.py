"""The suite `image`: accuracy on pictures that were to be forgotten, that stay, and that nobody saw, and membership.

    ua              1 - accuracy on the forget set
    ra, ta          accuracy on the retain set and on strangers' pictures (the holdout set)
    ta_forgotten    accuracy on strangers' pictures of the classes that were forgotten as a whole
    mia_...         the share of the forget set that a fitted attack takes for strangers' (`image_attacks`);
                    `mia_efficacy` is the one by confidence
    mia_auc         how often a forgotten picture is likelier to the model than a stranger's: .5 where nothing leaks
    forget_loss     nats a picture
    gap             mean of |after - reference| over ua, mia_efficacy, ra and ta (Jia et al. 2023, arXiv 2304.04934,
                    "Disparity Average"): its interval lies above 0 even where two models differ by chance alone

A class that is in the forget set and not in the retain set was forgotten as a whole. Its strangers' pictures then
count for `ta_forgotten` alone: `ta` and the fitted attacks leave out every class of which no picture stays, as
published, and `excluded` says how many those are. Where all of the forget set is of such classes, `mia_auc` compares
it with strangers' pictures of the same classes, since a model that never saw a class tells it from any other; without
such pictures it is not measured. Intervals are over units, paired between models; those of fitted attacks take the
attack as given.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from engine.contract import Finding
from engine.corpus import Record, digest
from engine.digests import config_digest
from engine.errors import EngineError
from engine.seeds import derive, stream
from engine.tasks.image import classes_of
from engine.tasks.pixels import Pixels, pictures
from engine.verification import image_groups
from engine.verification.evaluation import Ask, Evaluation, Found, Numbers, Records
from engine.verification.findings import FRACTION, Sample, finding
from engine.verification.image_answers import answers, read
from engine.verification.image_attacks import METRICS, taken_for_strangers
from engine.verification.representations import ROLES, Features, View, view_of
from engine.verification.representations import SETS as SEEN
from engine.verification.statistics import Floats, Ints, Resampling, auc, auc_draws, resampling

SETS = ("forget", "retain", "holdout")
OF_THE_GAP = ("ua", "mia_efficacy", "ra", "ta")

Told = Mapping[str, Floats]
Samples = dict[str, Sample]


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """Some rows of one set and their units, resampled."""

    rows: Ints
    units: Resampling

    def mean(self, values: Floats) -> Sample:
        """Of the values of these rows, out of those of the whole set."""
        own = values[self.rows]
        return Sample(value=float(own.mean()), draws=self.units.means(own))


def evaluate(asked: Evaluation, records: Records) -> Found:
    """Measure every model on the three sets and compare them."""
    whole = {name: records(name) for name in SETS}
    for name, chosen in whole.items():
        if not chosen:
            raise EngineError("bad_data", f"the suite 'image' needs pictures in the {name} set, and it is empty")
    stay = frozenset(one.label for one in whole["retain"])
    gone = {one.label for name in ("forget", "holdout") for one in whole[name]} - stay
    sets = {name: _drawn(chosen, name, asked) for name, chosen in whole.items()}
    item_digest = config_digest({name: digest(chosen) for name, chosen in sets.items()})
    told = _told(asked, sets, item_digest)
    rooms = _rooms(sets, stay, asked)
    return Found(
        findings=findings(told, rooms, seed=asked.seed),
        items_digest=item_digest,
        aggregates=image_groups.aggregates(told, sets, excluded=len(gone)),
    )


def findings(models: Mapping[str, Told], rooms: Mapping[str, Room], *, seed: int) -> tuple[Finding, ...]:
    """All metrics of the models, in a fixed order; `rooms` are those of `_rooms`."""

    def means(name: str, kind: str, sign: float = 1.0, shift: float = 0.0, *, room: str | None = None) -> Samples:
        chosen = rooms[room or name]
        return {role: chosen.mean(shift + sign * told[f"{name}_{kind}"]) for role, told in models.items()}

    n = {name: room.units.n for name, room in rooms.items()}
    fractions = {
        "ua": (means("forget", "hits", -1.0, 1.0), n["forget"]),
        "ra": (means("retain", "hits"), n["retain"]),
        "ta": (means("holdout", "hits"), n["holdout"]),
    }
    if "leaving" in rooms:
        fractions["ta_forgotten"] = (means("holdout", "hits", room="leaving"), n["leaving"])
    fractions |= {metric: (_attacked(metric, models, rooms, seed), n["forget"]) for metric in METRICS}
    leaks = {role: _leak(told, rooms["forget"], rooms["alike"]) for role, told in models.items() if "alike" in rooms}
    fractions["mia_auc"] = (leaks, min(n["forget"], n.get("alike", 0)))
    return (
        *(finding(metric, samples, size, span=FRACTION) for metric, (samples, size) in fractions.items()),
        finding("forget_loss", means("forget", "log_probs", -1.0), n["forget"]),
        gap({metric: fractions[metric][0] for metric in OF_THE_GAP}, min(n[name] for name in SETS)),
    )


def gap(samples: Mapping[str, Samples], n: int) -> Finding:
    """How far each model is from the reference, whose own gap is 0 by definition; nulls without a reference."""
    roles = [role for role in next(iter(samples.values())) if all(role in one for one in samples.values())]
    if "reference" not in roles:
        return Finding(metric="gap")
    apart = {
        role: Sample(
            value=float(np.mean([abs(one[role].value - one["reference"].value) for one in samples.values()])),
            draws=np.mean([abs(one[role].draws - one["reference"].draws) for one in samples.values()], axis=0),
        )
        for role in roles
    }
    return finding("gap", apart, n, span=FRACTION)


def _attacked(metric: str, models: Mapping[str, Told], rooms: Mapping[str, Room], seed: int) -> Samples:
    """The share of the forget set that one attack takes for strangers'; no sample where its feature was not kept."""
    made = {}
    for role, told in models.items():
        taken = taken_for_strangers(metric, told, rooms["holdout"].rows, seed=seed)
        if taken is not None:
            made[role] = rooms["forget"].mean(taken)
    return made


def _leak(told: Told, forgotten: Room, strangers: Room) -> Sample:
    low, high = told["holdout_log_probs"][strangers.rows], told["forget_log_probs"][forgotten.rows]
    return Sample(value=auc(low, high), draws=auc_draws(low, high, strangers.units, forgotten.units))


def _told(asked: Evaluation, sets: Mapping[str, Sequence[Record]], item_digest: str) -> dict[str, Told]:
    """What each model says; the directions in which features are looked at are those of the model before."""
    told: dict[str, Numbers] = {}
    rows = asked.options.rows_per_pass
    for role in sorted(asked.folders, key=ROLES.index):
        view = view_of(role, told.get("before"))
        key = config_digest({"items": item_digest, "view": view.digest})
        told[role] = asked.numbers(role, key, _ask(sets, rows, view))
    return {role: {name: np.asarray(values) for name, values in told[role].items()} for role in asked.folders}


def _ask(sets: Mapping[str, Sequence[Record]], rows: int, view: View) -> Ask:
    def ask(model: PreTrainedModel, pixels: Pixels, report: Callable[[float], None]) -> dict[str, list[float]]:
        classes = classes_of(model)
        decoded = {name: partial(pictures, chosen, pixels, classes) for name, chosen in sets.items()}
        made = read(model, pixels, decoded, rows, report)
        known: dict[str, Any] = {f"{name}_classes": one.classes.astype(float).tolist() for name, one in made.items()}
        features = {name: Features(values=made[name].features, groups=made[name].classes) for name in SEEN}
        return answers(made) | known | {"classes": [float(len(classes))]} | view.numbers(features, len(classes))

    return ask


def _rooms(sets: Mapping[str, Sequence[Record]], stay: frozenset[str | None], asked: Evaluation) -> dict[str, Room]:
    """Rows of forget, retain and holdout, of the last without classes that are gone.

    Where there are any, `leaving` are strangers of the classes that are now forgotten whole, and `alike` strangers of
    the kind that the forget set is.
    """
    stays = np.array([one.label in stay for one in sets["holdout"]])
    if not stays.any():
        raise EngineError("bad_data", "all pictures of the holdout set are of forgotten classes; add some that stay")
    rooms = {name: _room(sets[name], np.arange(len(sets[name])), name, asked) for name in ("forget", "retain")}
    rooms["holdout"] = _room(sets["holdout"], np.flatnonzero(stays), "holdout", asked)
    whole = {one.label for one in sets["forget"]} - stay
    leaving = np.flatnonzero([one.label in whole for one in sets["holdout"]])
    if len(leaving):
        rooms["leaving"] = _room(sets["holdout"], leaving, "leaving", asked)
    if any(one.label in stay for one in sets["forget"]):
        rooms["alike"] = rooms["holdout"]
    elif len(leaving):
        rooms["alike"] = rooms["leaving"]
    return rooms


def _drawn(chosen: Sequence[Record], name: str, asked: Evaluation) -> list[Record]:
    """All of the forget set, and as many of the others as were asked for."""
    wanted = asked.options.pictures
    if name == "forget" or not wanted or wanted >= len(chosen):
        return list(chosen)
    rng: random.Random = stream(asked.seed, "pictures", name)
    return [chosen[i] for i in sorted(rng.sample(range(len(chosen)), wanted))]


def _room(chosen: Sequence[Record], rows: Ints, name: str, asked: Evaluation) -> Room:
    seed = derive(asked.seed, "resample", name)
    units = [chosen[i].unit for i in rows]
    return Room(rows=rows, units=resampling(units, resamples=asked.options.resamples, seed=seed))
