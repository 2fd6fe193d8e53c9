"""Where groups of pictures lie in a model, before and after: an ellipse a group, and no point of anyone.

A group has the centre and the covariance of what arrives at the last layer, in the two directions in which the
features of the model before vary most over the retain set; one is the standard deviation along the first. How much of
a model's own variance lies in these directions is said beside it: of a model that was trained anew it is little, and
its ellipses then mean little. A group of fewer than `FEWEST` data subjects has none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from engine.digests import config_digest
from engine.verification.aggregates import FEWEST
from engine.verification.statistics import Floats, Ints

ROLES = ("before", "after", "reference")
SETS = ("forget", "retain")
AXES = 2
CELLS = 6  # numbers of a group's moments
PLACES = 4  # of a coordinate in a report


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """One set: features (rows x width), if the model has any, and the group of each row."""

    values: Floats | None
    groups: Ints


@dataclass(frozen=True, kw_only=True, slots=True)
class Basis:
    """Two directions: `mean` (width,), `axes` (2 x width) in units of the spread along the first."""

    mean: Floats
    axes: Floats

    @classmethod
    def of(cls, features: Floats) -> "Basis | None":
        """The first two principal components of features (rows x width); None where they vary in fewer directions."""
        if len(features) <= AXES or features.shape[1] < AXES or not np.isfinite(features).all():
            return None
        centred = features - features.mean(0)
        width = features.shape[1]
        covariance = centred.T @ centred / len(features)
        values, vectors = scipy.linalg.eigh(covariance, subset_by_index=[width - AXES, width - 1])
        if values[0] <= 1e-9 * max(values[-1], 1e-300):
            return None
        axes = vectors.T[::-1]
        axes = axes * np.sign(axes[np.arange(AXES), np.abs(axes).argmax(1)])[:, None]  # a sign of its own has no axis
        return cls(mean=features.mean(0), axes=axes / np.sqrt(values[-1]))

    def share(self, features: Floats) -> float:
        """How much of the features' variance lies in the two directions, from 0 to 1."""
        centred = features - features.mean(0)
        total = float((centred**2).sum())
        lengths = np.linalg.norm(self.axes, axis=1, keepdims=True)
        return min(float(((centred @ (self.axes / lengths).T) ** 2).sum()) / total, 1.0) if total > 0 else 0.0

    def points(self, features: Floats) -> Floats:
        """Coordinates (rows x 2)."""
        return (features - self.mean) @ self.axes.T


def moments(points: Floats, groups: Ints, total: int) -> Floats:
    """Pictures, centre (x, y) and covariance (xx, xy, yy) of each group (total x CELLS); zeros where it is empty."""
    made = np.zeros((total, CELLS))
    for group in np.unique(groups):
        own = points[groups == group]
        apart = own - own.mean(0)
        xx, xy, yy = ((apart[:, i] * apart[:, j]).mean() for i, j in ((0, 0), (0, 1), (1, 1)))
        made[group] = (len(own), *own.mean(0), xx, xy, yy)
    return made


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """How a model's features are looked at: along its own directions, along another model's, or not at all."""

    own: bool
    basis: Basis | None

    @property
    def digest(self) -> str:
        """Of the directions: what a model says about groups depends on them."""
        basis = None if self.basis is None else [self.basis.mean.tolist(), self.basis.axes.tolist()]
        return config_digest({"own": self.own, "basis": basis})

    def numbers(self, sets: Mapping[str, Features], total: int) -> dict[str, list[float]]:
        """Directions, and moments of `total` groups, flat; nothing where features are missing or of another width."""
        if any(one.values is None or not np.isfinite(one.values).all() for one in sets.values()):
            return {}
        stayed = sets["retain"].values
        basis = self.basis if not self.own else None if stayed is None else Basis.of(stayed)
        if basis is None or stayed is None or stayed.shape[1] != len(basis.mean):
            return {}
        told = {"basis_mean": basis.mean, "basis_axes": basis.axes.ravel(), "share": np.array([basis.share(stayed)])}
        for name, one in sets.items():
            if one.values is not None:
                told[f"{name}_moments"] = moments(basis.points(one.values), one.groups, total).ravel()
        return {name: [float(one) for one in values] for name, values in told.items()}


def view_of(role: str, before: Mapping[str, Sequence[float]] | None) -> View:
    """The model before has the directions; the reference was trained anew, and its features lie elsewhere."""
    if role == "before":
        return View(own=True, basis=None)
    if role == "reference" or before is None or "basis_mean" not in before:
        return View(own=False, basis=None)
    mean = np.asarray(before["basis_mean"])
    return View(own=False, basis=Basis(mean=mean, axes=np.asarray(before["basis_axes"]).reshape(AXES, -1)))


def representation(
    kind: str, models: Mapping[str, Mapping[str, Floats]], people: Mapping[str, Ints], numbers: Sequence[int]
) -> dict[str, Any] | None:
    """The part of evidence about features: of the groups `numbers` that have enough `people` (total,) in a set.

    None where no model has directions, or no group is large enough.
    """
    seen = {role: models[role] for role in ROLES if "share" in models.get(role, {})}
    explained = [{"model": role, "share": round(float(told["share"][0]), PLACES)} for role, told in seen.items()]
    groups = [one for role, told in seen.items() for one in _ellipses(role, told, people, numbers)]
    return {"of": kind, "explained": explained, "groups": groups} if groups else None


def _ellipses(
    role: str, told: Mapping[str, Floats], people: Mapping[str, Ints], numbers: Sequence[int]
) -> Iterator[dict[str, Any]]:
    for name in SETS:
        made = told[f"{name}_moments"].reshape(-1, CELLS)
        for number in numbers:
            if people[name][number] >= FEWEST:
                count, *values = made[number]
                centre, spread = _rounded(values[:AXES]), _rounded(values[AXES:])
                told_of = {"model": role, "set": name, "group": number + 1, "pictures": int(count)}
                yield {**told_of, "centre": centre, "spread": spread}


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), PLACES) for value in values]
