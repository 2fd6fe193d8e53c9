"""Refuters of convex heads: the methods of the catalogue, and the published algorithms of the library.

Most of them publish a point with noise, which is reached once and published many times.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from audits import convex, gaussian, mechanisms
from engine.catalogue import check_options
from engine.guarantees.convex import kept, measured, walked
from engine.heads import descent, langevin, steps
from engine.heads.rows import Rows, Vector
from engine.heads.stacked import Stack
from engine.heads.weights import Internal, Noise, noised
from engine.methods.secret import gaussians
from tests.engine import heads
from tests.engine.refuting import Found, audited, promise, repeated

CHAINS, DRAWS = 400, 1500  # runs a world
World = Callable[[Noise], Vector]


def source(secret: bytes, quiet: float) -> Noise:
    """The engine's own noise; with `quiet` below 1 less of it than is claimed."""
    return lambda *, round_, count: gaussians(secret, round_=round_, count=count) * quiet


def silence(*, round_: int, count: int) -> Vector:
    """A source without noise."""
    del round_
    return np.zeros(count)


def compared(worlds: Sequence[World], quiet: float, **told: Any) -> Found:  # noqa: ANN401 - of `audited`
    """Many runs of both, seen along the line between where they end without noise; all promise a Gaussian curve."""
    ends = [world(silence).ravel() for world in worlds]
    line, middle = ends[0] - ends[1], (ends[0] + ends[1]) / 2
    line /= max(float(np.linalg.norm(line)), 1e-300)

    def run(world: World, secret: bytes) -> float:
        return float((world(source(secret, quiet)).ravel() - middle) @ line)

    runs, seed = told.pop("runs"), told.pop("seed")
    found = [repeated(partial(run, world), runs=runs, seed=seed + 99 * i) for i, world in enumerate(worlds)]
    return audited(*found, curve=True, **told)


def newton_noise(seed: int, quiet: float = 1.0) -> Found:
    """Two starts on either side of the minimum where the measured gradient is as long as it may be: none is moved."""
    rng = np.random.default_rng([seed, 2])
    problem = stack(rng, length=float(rng.uniform(0.02, 0.4)), lam=float(rng.uniform(0.1, 0.5)))
    best = steps.newton(problem, np.zeros(problem.shape), residual=1e-9, limit=50).unnoised
    given = {"penalty": problem.lam, "residual": float(rng.uniform(0.01, 0.5))}
    options, told = promised("newton-noise", given, rng, low=0.5, high=8.0)
    line = np.zeros(problem.shape)
    line[0] = np.linalg.svd(problem.x)[2][-1]

    def found(sign: float) -> Internal:
        start = farthest(problem, best, sign * line, options.residual)
        return steps.newton(problem, start, residual=measured(options).residual, limit=options.head_steps)

    worlds = [partial(shown, found(sign), options.sigma) for sign in (1.0, -1.0)]
    return compared(worlds, quiet, runs=DRAWS, seed=seed, **told)


def shown(found: Internal, sigma: float, noise: Noise) -> Vector:
    """Published as the methods do it: the heads are one vector, and there is one round."""
    return noised(Internal(found.unnoised.ravel()), sigma=sigma, noise=noise, round_=0).weights


def descent_noise(seed: int, quiet: float = 1.0) -> Found:
    """Two starts far outside the ball, on opposite sides; steps on the same data; noise once."""
    rng = np.random.default_rng([seed, 3])
    problem = stack(rng, length=float(rng.uniform(0.02, 0.2)), lam=float(rng.uniform(0.05, 0.3)))
    options, told = promised("descent-noise", ball(problem, rng), rng, low=0.5, high=8.0)

    found = [steps.descend(problem, sign * 9 * np.ones(problem.shape), walked(options)) for sign in (1.0, -1.0)]
    worlds = [partial(shown, one, options.sigma) for one in found]
    return compared(worlds, quiet, runs=DRAWS, seed=seed, **told)


def langevin_noise(seed: int, quiet: float = 1.0) -> Found:
    """The same with noise in every step."""
    rng = np.random.default_rng([seed, 4])
    problem = stack(rng, length=float(rng.uniform(0.02, 0.2)), lam=float(rng.uniform(0.1, 0.5)))
    options, told = promised("langevin", ball(problem, rng), rng, low=0.5, high=8.0)

    def world(sign: float, noise: Noise) -> Vector:
        return steps.walk(problem, sign * 9 * np.ones(problem.shape), walked(options), noise).weights

    return compared([partial(world, 1.0), partial(world, -1.0)], quiet, runs=CHAINS, seed=seed, **told)


def kept_descent(seed: int, quiet: float = 1.0) -> Found:
    """Two states as far from the minimum as the theorem allows before a removal, on opposite sides; steps; noise."""
    rng = np.random.default_rng([seed, 7])
    problem = stack(rng, length=float(rng.uniform(0.02, 0.1)), lam=float(rng.uniform(0.1, 0.3)))
    given = {"penalty": problem.lam, "classes": 2, "points": 40, "head_steps": int(rng.integers(1, 4))}
    options, told = promised("descent-to-delete", given, rng, low=0.5, high=8.0)
    steps_of = kept(options)
    best = steps.newton(problem, np.zeros(problem.shape), residual=1e-9, limit=50).unnoised
    line = np.zeros(problem.shape)
    line[0] = np.linalg.svd(problem.x)[2][-1]
    far = steps_of.allowed * np.exp(-options.head_steps * np.log(steps_of.contraction))

    def found(sign: float) -> Internal:
        start = Internal(best + sign * far * line)
        return steps.onward(problem, start, steps_of, steps=options.head_steps)

    worlds = [partial(shown, found(sign), options.sigma) for sign in (1.0, -1.0)]
    return compared(worlds, quiet, runs=DRAWS, seed=seed, **told)


def promised(
    name: str, given: Mapping[str, Any], rng: np.random.Generator, *, low: float, high: float
) -> tuple[Any, dict[str, float]]:
    """A method's options with the noise of a random promise, and what the certificate then says."""
    delta, wanted = promise(rng, low=low, high=high)
    records: dict[str, Callable[[Any], Any]] = {"newton-noise": measured, "descent-to-delete": kept}
    record = records.get(name, walked)
    loud = record(check_options("unlearn", name, {**given, "sigma": 1.0}, "image")).to_mapping()
    sigma = mechanisms.noise_for(loud, epsilon=wanted, delta=delta)
    options: Any = check_options("unlearn", name, {**given, "sigma": sigma}, "image")
    certified = mechanisms.epsilon(record(options).to_mapping(), delta=delta, group=1)
    return options, {"delta": delta, "certified": certified}


def stack(rng: np.random.Generator, *, length: float, lam: float) -> Stack:
    """Twenty rows of three features of this norm, for two heads."""
    x = heads.features(20, 3, int(rng.integers(10**6))) * length
    return Stack(x=x, signs=np.where(rng.random((20, 2)) < 0.5, 1.0, -1.0), lam=lam)


def ball(problem: Stack, rng: np.random.Generator) -> dict[str, Any]:
    """A radius, and few enough steps that something is left of it."""
    return {
        "penalty": problem.lam,
        "start_radius": float(rng.uniform(0.1, 2.0)),
        "head_steps": int(rng.integers(1, 4)),
    }


def farthest(problem: Stack, best: Vector, line: Vector, residual: float) -> Vector:
    """The last point along a line at which the measured norm of the gradient is at most `residual`."""
    low, high = 0.0, 1e3
    for _ in range(50):
        middle = (low + high) / 2
        v = best + middle * line
        low, high = (middle, high) if problem.norm(v, problem.gradient(v)) <= residual else (low, middle)
    place: Vector = best + low * line
    return place


def descent_to_delete(seed: int, quiet: float = 1.0) -> Found:
    """A head that forgot its only long rows, one after the other, and one that never held them."""
    rng = np.random.default_rng([seed, 5])
    rows = Rows(x=heads.features(8, 3, seed), y=np.array([1.0, -1.0, 1.0, 1.0, 1.0, -1.0, -1.0, 1.0]))
    x = rows.x * np.array([0.01, 0.01, 1.0, 1.0, 0.01, 0.01, 0.01, 0.01])[:, None]
    x[3] = x[2]
    rows, gone = Rows(x=x, y=rows.y), [2, 3][: int(rng.integers(1, 3))]
    terms = descent.Terms(lam=float(rng.uniform(0.1, 0.4)), sigma=1.0, steps=int(rng.integers(1, 4)))
    kept = descent.learn(rows, terms)
    for one in gone:
        kept, _ = descent.delete(kept, [one])
    fresh = descent.learn(rows.without(np.array(gone)), terms)
    delta, wanted = promise(rng, low=0.5, high=8.0)
    loud = replace(terms, sigma=kept.gap / gaussian.mu_for(epsilon=wanted, delta=delta))

    def world(state: descent.Kept, noise: Noise) -> Vector:
        return descent.publish(replace(state, terms=loud), noise).weights

    certified = gaussian.epsilon(delta=delta, mu=kept.gap / loud.sigma)
    told = {"runs": DRAWS, "seed": seed, "certified": certified, "delta": delta}
    return compared([partial(world, kept), partial(world, fresh)], quiet, **told)


def langevin_chains(seed: int, quiet: float = 1.0) -> Found:
    """A chain that learned on everything and forgot, and one that took all of its steps on what stays."""
    rng = np.random.default_rng([seed, 6])
    rows, gone, taken = heads.made(8, 3, seed=seed), [2, 3], int(rng.integers(1, 3))
    lam, (delta, wanted) = float(rng.uniform(0.2, 0.8)), promise(rng, low=0.5, high=8.0)
    loud = langevin.Settings(
        lam=lam,
        clip=float(rng.uniform(0.2, 1.0)),
        rate=float(rng.uniform(0.3, 1.0)) / (lam + 0.26),
        sigma=1.0,
        radius=1.0,
        burn_in=int(rng.integers(1, 4)),
    )
    sigma = chain_mu(loud, taken, rows=rows.count, gone=2) / gaussian.mu_for(epsilon=wanted, delta=delta)
    s = replace(loud, sigma=sigma)

    def forgot(noise: Noise) -> Vector:
        return langevin.unlearn(langevin.learn(rows, s, noise), gone, steps=taken, noise=noise)[0].published.weights

    def never(noise: Noise) -> Vector:
        left = rows.without(np.array(gone))
        return langevin.learn(left, replace(s, burn_in=s.burn_in + taken), noise).published.weights

    certified = gaussian.epsilon(delta=delta, mu=chain_mu(s, taken, rows=rows.count, gone=2))
    told = {"runs": CHAINS, "seed": seed, "certified": certified, "delta": delta}
    return compared([forgot, never], quiet, **told)


def chain_mu(s: langevin.Settings, taken: int, *, rows: int, gone: int) -> float:
    """Learning on `rows` rows and forgetting some of them, by section 11."""
    run = convex.Langevin(
        curvature=s.convexity,
        smoothness=s.smoothness,
        slope=s.clip,
        points=rows - gone,
        learning_rate=s.rate,
        noise=s.sigma,
    )
    stretches = [convex.Stretch(steps=s.burn_in, removed=gone), convex.Stretch(steps=taken, removed=0)]
    return convex.langevin_mu(run, stretches=stretches, distance=0.0)
