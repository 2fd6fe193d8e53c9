"""Where a run of a convex method that keeps its state starts, and how it ends: in the model, the state, the evidence.

A model that has no state, one that cannot go on, and one whose conditions no longer hold are trained anew on what stays
under a fresh secret; the evidence says so and why (`state`, `because`). No weights without noise, key or residual is
told. What is told of a run follows from counts and options, but for whether a Newton budget sufficed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from engine.errors import EngineError
from engine.guarantees.convex import record
from engine.heads.rows import Vector
from engine.heads.stacked import Stack
from engine.heads.weights import Internal, Noise, Published, noised
from engine.methods import Setting, convex, secret
from engine.methods.convex_state import Found, State, find, keep, tags
from engine.training import Fitted


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """Where a run starts: a state, or nothing and why; and the key of all that is random in it."""

    found: Found | None
    because: str
    settings: Mapping[str, Any]
    key: bytes = field(repr=False)

    @property
    def noise(self) -> Noise:
        """Standard normal numbers under the key."""
        return partial(secret.gaussians, self.key)

    def anew(self, setting: Setting[Any], because: str) -> "Begun":
        """The same without its state, under the run's own secret."""
        return replace(self, found=None, because=because, key=setting.secret)


def begin(setting: Setting[Any], method: str, *names: str) -> tuple[Stack, Begun]:
    """The problem of who stays, and a state that was made with the same settings."""
    problem, _ = convex.posed(setting)
    options, classes = setting.options, problem.shape[0]
    if options.classes != classes:
        message = f"the noise was computed for {options.classes} classes, and the model has {classes}"
        raise EngineError("bad_options", message)
    settings = {name: getattr(options, name) for name in names}
    found = find(setting, method, settings)
    if isinstance(found, str):
        return problem, Begun(found=None, because=found, settings=settings, key=setting.secret)
    return problem, Begun(found=found, because="", settings=settings, key=found.key)


def noised_once(setting: Setting[Any], ended: Internal, begun: Begun) -> Published:
    """The stack is one vector to the noise, and one round is all that is ever drawn under a key."""
    flat = Internal(ended.unnoised.reshape(-1))
    made = noised(flat, sigma=setting.options.sigma, noise=begun.noise, round_=0)
    return Published(weights=made.weights.reshape(ended.unnoised.shape))


def keep_heads(
    setting: Setting[Any],
    method: str,
    begun: Begun,
    made: Published,
    numbers: Mapping[str, Vector],
    about: Mapping[str, Any],
) -> None:
    """Put the heads into the model, and write the state under that model's digest."""
    convex.put(convex.refused(setting.model, setting.options), made.weights)
    told = {"settings": begun.settings, **about}
    state = State(key=begun.key, tags=tags(begun.key, setting.retain), numbers=numbers, about=told)
    keep(setting, method, state)


def told_of(setting: Setting[Any], problem: Stack, made: Published, begun: Begun, *, steps: int) -> Fitted:
    """What may be said: where the run started, and the losses of heads that know nothing and of the published ones."""
    setting.progress("train", 1.0, 0.0)
    anew = {"state": "anew", "because": begun.because}
    goes_on = {"state": "kept", "removed": len(begun.found.gone) if begun.found else 0}
    return Fitted(
        steps=steps,
        first_loss=problem.value(np.zeros(problem.shape)),
        last_loss=problem.value(made.weights),
        details=anew if begun.found is None else goes_on,
        accountant=record(setting.options),
        seed_commitment=secret.commitment(begun.key),
    )
