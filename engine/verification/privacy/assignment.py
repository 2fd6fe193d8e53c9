"""Who is asked about in a per-example audit, and which shadow model held whom. No torch.

    members     the forget set: in the model before, and in a shadow by the coins
    outsiders   people of the holdout set whom the coins put into shadows too; no audited model held them
    strangers   the rest of the holdout set, in no model at all (RMIA's population)
    what stays  the training set without the forget set: in every shadow, as in every audited model

So the attacker is one who knows everything but whether an example was in: the strongest there is, and its shadows are
of the size of what they stand for. Members and outsiders are the *targets*; their units are tossed, and a shadow's
coins are drawn before anything is trained. Outsiders are by default as many units as make a shadow's unlearned third
as large as the request, and never more than half of the holdout set (of pictures, of those with its labels).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.corpus import Record, by_unit, digest, refuse_overlap
from engine.digests import config_digest
from engine.errors import EngineError
from engine.seeds import stream
from engine.verification.privacy.shadows import IN, OUT, PAIR, TRIPLE, UNLEARNT, Bools, Roles, keep_matrix, three_ways

Records = tuple[Record, ...]

FEWEST_SHADOWS = 4
FEWEST_UNITS = 2  # on each side of a comparison, and in the population


@dataclass(frozen=True, kw_only=True, slots=True)
class Casting:
    """The people of an audit, and the role of each target (members, then outsiders) in each shadow."""

    members: Records
    outsiders: Records
    strangers: Records
    stays: Records
    roles: Roles

    @property
    def targets(self) -> Records:
        """Everybody whose membership is guessed, in the order of the columns of `roles`."""
        return self.members + self.outsiders

    @property
    def asked(self) -> Records:
        """Everybody a model is asked about: targets, then strangers."""
        return self.targets + self.strangers

    @property
    def inside(self) -> Bools:
        """Which targets are members (targets,)."""
        return np.arange(len(self.targets)) < len(self.members)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of who is asked about, in which part."""
        parts = {name: digest(getattr(self, name)) for name in ("members", "outsiders", "strangers")}
        return config_digest(parts)

    def having(self, shadow: int, *roles: int) -> Records:
        """The targets that have one of these roles in a shadow."""
        return tuple(r for r, role in zip(self.targets, self.roles[shadow], strict=True) if role in roles)

    def trained(self, shadow: int) -> Records:
        """What a shadow is trained on."""
        return self.stays + self.having(shadow, IN, UNLEARNT)


def assign(
    *,
    train: Sequence[Record],
    forget: Sequence[Record],
    holdout: Sequence[Record],
    shadows: int,
    unlearning: bool,
    outsiders: int,
    seed: int,
) -> Casting:
    """Draw the outsiders and toss the coins; `outsiders` is a number of units, 0 the default above.

    Raises:
        EngineError: `bad_options` or `bad_data`, with what an audit would need.
    """
    if shadows < FEWEST_SHADOWS:
        message = f"an audit needs at least {FEWEST_SHADOWS} shadow models, and {shadows} were asked for"
        raise EngineError("bad_options", message)
    _check(train, forget, holdout)
    drawn, strangers = _split(forget, holdout, outsiders, seed)
    gone = {record.record_id for record in forget}
    targets = (*forget, *drawn)
    casting = Casting(
        members=tuple(forget),
        outsiders=drawn,
        strangers=strangers,
        stays=tuple(record for record in train if record.record_id not in gone),
        roles=_roles(targets, shadows=shadows, unlearning=unlearning, seed=seed),
    )
    _refuse_one_sided(casting)
    return casting


def group(*, unlearning: bool) -> int:
    """How many shadows toss together: pairs of opposite coins, or threes."""
    return TRIPLE if unlearning else PAIR


def _roles(targets: Sequence[Record], *, shadows: int, unlearning: bool, seed: int) -> Roles:
    units = [record.unit for record in targets]
    if unlearning:
        return three_ways(units, shadows=shadows, seed=seed)
    return np.where(keep_matrix(units, shadows=shadows, seed=seed), IN, OUT).astype(np.int8)


def _check(train: Sequence[Record], forget: Sequence[Record], holdout: Sequence[Record]) -> None:
    known = {record.record_id: record for record in train}
    if any(known.get(record.record_id) != record for record in forget):
        raise EngineError("bad_data", "the forget set is not within the training set; every record of it must be there")
    refuse_overlap({"train": train, "holdout": holdout})
    if {record.unit for record in train} & {record.unit for record in holdout}:
        raise EngineError("bad_data", "the train and holdout sets share a unit; whoever is in one must not be in both")
    for name, records, fewest in (("forget", forget, FEWEST_UNITS), ("holdout", holdout, 2 * FEWEST_UNITS)):
        if len(by_unit(records)) < fewest:
            raise EngineError("bad_data", f"an audit needs at least {fewest} units in the {name} set")
    labels = {record.label for record in train}
    if labels != {None} and len(labels) == 1:
        raise EngineError("bad_data", "all pictures of the training set have one label; an audit needs two classes")


def _split(forget: Sequence[Record], holdout: Sequence[Record], wanted: int, seed: int) -> tuple[Records, Records]:
    """Outsiders and strangers, whole units each; only people with the forget set's labels can be outsiders.

    Otherwise an attack could tell members by their class, and would call that membership.
    """
    people = by_unit(holdout)
    labels = {record.label for record in forget}
    alike = [unit for unit, records in people.items() if all(record.label in labels for record in records)]
    stream(seed, "outsiders").shuffle(alike)
    half = len(alike) // 2
    count = wanted or min(half, (TRIPLE - 1) * len(by_unit(forget)))
    if not FEWEST_UNITS <= count <= half:
        message = (
            f"{count} outsiders cannot be had: at least {FEWEST_UNITS}, and at most half of the units of the holdout "
            f"set with labels of the forget set alone, which are {len(alike)} of {len(people)}"
        )
        raise EngineError("bad_data", message)
    chosen = set(alike[:count])
    return tuple(r for r in holdout if r.unit in chosen), tuple(r for r in holdout if r.unit not in chosen)


def _refuse_one_sided(casting: Casting) -> None:
    """The first shadow chooses RMIA's slope: with nobody on one side of it the audit would end in nothing."""
    held = casting.roles[0] != OUT
    if held.all() or not held.any():
        raise EngineError("bad_data", "the coins put all targets on one side; take another seed, or more units")
