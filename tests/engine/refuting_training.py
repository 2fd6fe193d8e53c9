"""One-run audits of DP training (Steinke, Nasr and Jagielski 2023): one run, many canaries, a fair coin for each.

`canaries` runs the engine's own rounds on units whose gradients are one-hot: each has a coordinate to itself, so that
the sum of a coordinate over all rounds is the best guess there is. `networks` takes the audit that the engine itself
holds before a base (`engine.methods.rehearsal`), on tiny classifiers and language models.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from audits import accountant, mechanisms
from audits import canaries as one_run
from engine import checkpoints
from engine.catalogue import check_options
from engine.guarantees.mechanism import Mechanism
from engine.methods import Setting
from engine.methods.bookkeeping import BookKeeping
from engine.methods.private import hooked, private_gradient, train_base
from engine.training import Gradient
from engine.verification.privacy.canaries import Plan, count, draw
from tests.engine import painted, tiny
from tests.engine.refuting import LEVEL, Floats, Found, audited, repeated

Unit = Sequence[int]
DELTA = 1e-10  # of networks
REPEATS = 200  # runs a world
Rounds = Callable[..., Gradient[int]]  # `private_gradient`, or something broken of the same form


class OneHot(nn.Module):
    """A linear layer without bias: the gradient of a one-hot row is that row."""

    def __init__(self, size: int) -> None:
        """All weights 0."""
        super().__init__()
        self.layer = nn.Linear(size, 1, bias=False)
        self.device = torch.device("cpu")

    def forward(self, rows: Tensor) -> Tensor:
        """One number a row."""
        made: Tensor = self.layer(rows)
        return made


class Diracs:
    """Units that each push one coordinate, by `steepness`, in as many rows as they have."""

    def __init__(self, model: OneHot, units: Sequence[Unit], steepness: float) -> None:
        """A unit is the coordinates of its rows."""
        self.model, self.units, self._steepness = model, units, steepness

    def among(self, units: Sequence[Unit]) -> "Diracs":
        """The same with other units."""
        return Diracs(self.model, units, self._steepness)

    def backward(self, accelerator: Accelerator, rows: Sequence[int], owners: Tensor) -> None:
        """Per-row gradients: `steepness` in the row's coordinate."""
        del owners
        size = self.model.layer.in_features
        x = nn.functional.one_hot(torch.tensor(rows), size).float()
        accelerator.backward(self.model(x).sum() * self._steepness)


@dataclass(frozen=True, kw_only=True, slots=True)
class Play:
    """An audit to be played: so many coordinates, units and rows for each, whether by book-keeping, how steep."""

    size: int
    group: int
    rows: int
    book: bool
    steepness: float = 3.0

    @property
    def guesses(self) -> int:
        """A sixth each way, fixed in advance."""
        return 2 * (self.size // 6)


def correct(mechanism: Mechanism, play: Play, secret: bytes, rounds: Rounds = private_gradient) -> int:
    """How many guesses are right about the coins of one run of `rounds`, the engine's own or broken ones."""
    coins = draw(secret, canaries=play.size)
    plan = Plan(canaries=play.size, guess_in=play.guesses // 2, guess_out=play.guesses // 2)
    units = [(i,) * play.rows for i in np.flatnonzero(coins.included).tolist() for _ in range(play.group)]
    material = Diracs(OneHot(play.size), units, play.steepness)
    return count(plan, left_over(mechanism, material, secret, rounds, book=play.book), coins).correct


def left_over(mechanism: Mechanism, material: Diracs, secret: bytes, rounds: Rounds, *, book: bool = True) -> Floats:
    """The sum over all rounds of what they leave on the weights, which is all that anybody could see of them."""
    total: Floats = np.zeros(material.model.layer.in_features)
    accelerator = Accelerator()  # of this call: a job in between takes the state from an older one
    with clipping(material.model, book=book) as by_the_book:
        gradient = rounds(material, mechanism=mechanism, secret=secret, rows_per_pass=256, book=by_the_book)
        for round_ in range(mechanism.steps):
            gradient(accelerator, round_)
            left = material.model.layer.weight.grad
            total += 0.0 if left is None else left.detach().double().numpy()[0]
    return total


def canaries(seed: int, quiet: float = 1.0) -> Found:
    """Record or subject as unit, hooks or book-keeping, one unit a canary or a group: the certificate of that group."""
    rng = np.random.default_rng([seed, 5])
    play = Play(
        size=int(rng.integers(800, 1200)), group=int(rng.choice([1, 1, 2, 4])), rows=1 + seed % 3, book=seed % 2 == 1
    )
    delta = float(10 ** rng.uniform(-12, -9))  # the slack of so many canaries must stay below the level
    mechanism = promised(seed, rng, group=play.group, delta=delta, most=6)
    return found(mechanism, play, correct(mechanism, play, rng.bytes(32), quieter(quiet)), delta=delta)


def promised(seed: int, rng: np.random.Generator, *, group: int, delta: float, most: int) -> Mechanism:
    """A random mechanism of at most so many steps whose epsilon for the group is from 0.7 to 1.8."""
    told = {
        "sample_rate": float(rng.uniform(0.2, 0.8)) if seed % 3 else 1.0,
        "steps": int(rng.integers(1, most + 1)),
    }
    noise = accountant.noise_multiplier_for(
        target_epsilon=float(rng.uniform(0.7, 1.8)),
        delta=delta,
        group=group,
        **told,  # type: ignore[arg-type]
    )
    return Mechanism(noise_multiplier=noise, clip=float(rng.uniform(0.1, 2.0)), units=1, **told)  # type: ignore[arg-type]


def quieter(share: float) -> Rounds:
    """The engine's rounds with so much of the noise taken away that `share` of it is left."""

    def rounds(material: Any, *, mechanism: Mechanism, **rest: Any) -> Gradient[int]:  # noqa: ANN401 - any family's
        real = private_gradient(material, mechanism=mechanism, **rest)
        nobody = private_gradient(material.among([]), mechanism=mechanism, **rest)
        parameters = list(material.model.parameters())

        def gradient(accelerator: Accelerator, round_: int) -> float:
            nobody(accelerator, round_)
            noise = [p.grad.clone() for p in parameters]
            real(accelerator, round_)
            for p, z in zip(parameters, noise, strict=True):
                p.grad -= (1 - share) * z
            return 0.0

        return gradient

    return private_gradient if share == 1 else rounds


def single_unit(seed: int, quiet: float = 1.0) -> Found:
    """A whole training on two coordinates, with a unit or a group of which everybody knows all, or without."""
    rng = np.random.default_rng([seed, 7])
    group, delta = int(rng.choice([1, 1, 3])), float(np.exp(rng.uniform(np.log(1e-3), np.log(0.02))))
    mechanism = promised(seed, rng, group=group, delta=delta, most=2)
    half = mechanism.steps * mechanism.sample_rate * group / (2 * mechanism.noise_multiplier)

    def end(units: Sequence[Unit], secret: bytes) -> float:
        return float(left_over(mechanism, Diracs(OneHot(2), units, 5.0), secret, quieter(quiet))[0]) - half

    told = {"runs": REPEATS, "seed": seed}
    outside = repeated(partial(end, []), **told)
    inside = repeated(partial(end, [(0,)] * group), **told | {"seed": seed + 50})
    certified = mechanisms.epsilon(mechanism.to_mapping(), delta=delta, group=group)
    return audited(inside, outside, certified=certified, delta=delta, curve=False)


def found(mechanism: Mechanism, play: Play, right: int, *, delta: float) -> Found:
    """What the guesses say about the certificate of this mechanism."""
    told: dict[str, Any] = {"canaries": play.size, "guesses": play.guesses, "delta": delta, "significance": LEVEL}
    return Found(
        certified=mechanisms.epsilon(mechanism.to_mapping(), delta=delta, group=play.group),
        lower=one_run.lower_bound(correct=right, **told),
        ceiling=one_run.ceiling(**told),
    )


def networks(seed: int, quiet: float = 1.0) -> Found:
    """The engine's own audit before a base: pictures by record, texts by subject, clipped with hooks or by the book."""
    rng = np.random.default_rng([seed, 6])
    told = promised(seed, rng, group=1, delta=DELTA, most=3)
    options = {
        "sigma": told.noise_multiplier * quiet,
        "sample_rate": told.sample_rate,
        "steps": told.steps,
        "clip": 0.04 * told.clip,  # a language model this small has no gradient that is larger than 0.2
        "learning_rate": 0.02,
        "canaries": 176,
        "clipper": ("hooks", "book-keeping")[seed // 2 % 2],
    }
    with tempfile.TemporaryDirectory() as place:
        setting = (_texts if seed % 2 else _pictures)(Path(place), options, rng.bytes(32))
        holdout = tiny.records(range(6, 8)) if seed % 2 else painted.records(range(50, 54))
        outcome = train_base(setting, holdout=holdout, secret=setting.secret)
    audit = outcome.to_mapping()["audit"]
    counts = {"canaries": audit["canaries"], "guesses": audit["guesses"], "delta": DELTA, "significance": LEVEL}
    return Found(
        certified=mechanisms.epsilon(told.to_mapping(), delta=DELTA, group=1),
        lower=one_run.lower_bound(correct=audit["correct"], **counts),
        ceiling=one_run.ceiling(**counts),
    )


def _pictures(place: Path, options: dict[str, Any], secret: bytes) -> Setting[Any]:
    model, pixels = painted.network()
    checkpoints.save(place / "start", model, pixels)
    return Setting(
        model=model,
        reader=pixels,
        forget=(),
        retain=painted.records(range(16)),
        options=check_options("dp_base", None, {**options, "unit": "record"}, "image"),
        seed=1,
        progress=tiny.quiet,
        folder=place / "start",
        digest="x",
        cache=place,
        secret=secret,
    )


def _texts(place: Path, options: dict[str, Any], secret: bytes) -> Setting[Any]:
    checked = check_options("dp_base", None, options)
    return tiny.setting(place, checked, forget=(), retain=tiny.records(range(6)), secret=secret)


@contextmanager
def clipping(model: nn.Module, *, book: bool) -> Iterator[BookKeeping | None]:
    """As `private.clipping`, for a model that came from no folder."""
    if book:
        yield BookKeeping(model)
        return
    with hooked(model):  # type: ignore[arg-type]
        yield None
