"""`newton-removal` (Guo et al. 2020): heads that were trained under a perturbation, and Newton steps within a budget.

The state is the heads, the key that their perturbations were drawn with, and an inverse Hessian for each. After a
removal steps go on until the residual of every head, the norm of the gradient on all that stay with the perturbation,
is within the budget; where one is not, all heads are trained anew under perturbations from the key of the job.
docs/guarantees.md, section 9. The steps are those of `engine.heads.newton`.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from engine.errors import EngineError
from engine.heads import newton
from engine.heads.inverse import Inverse
from engine.heads.one_vs_rest import Lane, train_all
from engine.heads.rows import Indices, Rows, Vector
from engine.heads.stacked import Stack
from engine.heads.weights import Published, normals
from engine.methods import Setting, convex, secret
from engine.methods.convex_begun import Begun, begin, keep_heads, told_of
from engine.methods.convex_state import among
from engine.options import NewtonRemovalOptions
from engine.training import Fitted

NAME = "newton-removal"
SPENT = "the budget of the residual did not suffice, so fresh perturbations were drawn"
_SHORT = 8  # training ends at this part of the budget


def newton_removal(setting: Setting[NewtonRemovalOptions]) -> Fitted:
    """Newton steps from the kept heads until every residual is within the budget; anew where one is not."""
    problem, begun = begin(setting, NAME, "penalty", "sigma", "residual", "classes", "features")
    heads = None if begun.found is None else _removed(setting, problem, begun)
    if heads is None:
        begun = begun if begun.found is None else replace(begun, found=None, because=SPENT)
        heads = train_all(_each(problem.x, problem.signs), _terms(setting.options), begun.noise)
    elif begun.found is not None:
        begun = replace(begun, key=begun.found.state.key)
    made = Published(weights=np.stack([head.weights for head in heads]))
    keep_heads(setting, NAME, begun, made, _newton_state(heads, len(problem.x)), {})
    return told_of(setting, problem, made, begun, steps=setting.options.head_steps)


def _terms(options: NewtonRemovalOptions) -> newton.Terms:
    return newton.Terms(
        lam=options.penalty,
        sigma=options.sigma,
        budget=options.residual,
        limit=options.head_steps,
        tolerance=options.residual / _SHORT,
    )


def _each(x: Vector, signs: Vector) -> tuple[Rows, ...]:
    """The rows of each head; a class against the rest needs somebody on both sides."""
    return tuple(Rows(x=x, y=np.ascontiguousarray(signs[:, k])) for k in range(signs.shape[1]))


def _removed(setting: Setting[NewtonRemovalOptions], problem: Stack, begun: Begun) -> tuple[newton.Head, ...] | None:
    """The heads after the removal; None where one of them would exceed its budget."""
    before, after, places = _rows(setting, problem, begun)
    gone = np.arange(len(problem.x), len(after[0].y), dtype=np.intp)
    done = [
        newton.settle(_head(setting.options, begun, k, rows, places), left, gone, repeated=0)
        for k, (rows, left) in enumerate(zip(before, after, strict=True))
    ]
    return None if any(outcome.retrained for _, outcome in done) else tuple(head for head, _ in done)


def _rows(
    setting: Setting[NewtonRemovalOptions], problem: Stack, begun: Begun
) -> tuple[tuple[Rows, ...], tuple[Rows, ...], Indices]:
    """Rows of each head with who left at the end, the same without them, and where each is in the state.

    Who left has to be among the forget set for that; otherwise the kept inverse is used as it is, and steers worse.
    """
    found = begun.found
    records = () if found is None else among(found, setting.forget) or ()
    stay = () if found is None else found.stay
    if found is None or not records:
        rows = _each(problem.x, problem.signs)
        return rows, rows, np.array(stay, dtype=np.intp)
    x, labels = convex.rows(setting, records)
    signs = np.where(labels[:, None] == np.arange(problem.shape[0]), 1.0, -1.0)
    both = _each(np.concatenate([problem.x, x]), np.concatenate([problem.signs, signs]))
    zeros = np.concatenate([problem.x, np.zeros(x.shape)])
    left = _each(zeros, np.concatenate([problem.signs, np.zeros(signs.shape)]))
    return both, left, np.array([*stay, *found.gone], dtype=np.intp)


def _head(options: NewtonRemovalOptions, begun: Begun, k: int, rows: Rows, places: Indices) -> newton.Head:
    """One head as it was kept; what it would draw anew comes from the key of this job."""
    if begun.found is None:
        raise EngineError("internal", "there is no state to take a head from")
    state, terms = begun.found.state, _terms(options)
    lane = Lane(noise=partial(secret.gaussians, state.key), lane=k, lanes=options.classes)
    inverse = Inverse(
        matrix=state.numbers["inverse"][k],
        added=np.empty((rows.features, 0)),
        curvatures=state.numbers["curvatures"][k][places],
        lam=terms.lam,
        rows=int(state.numbers["rows"][k]),
    )
    return newton.Head(
        rows=rows,
        terms=terms,
        weights=state.numbers["heads"][k],
        b=terms.sigma * normals(lane, round_=0, count=rows.features),
        noise=Lane(noise=begun.noise, lane=k, lanes=options.classes),
        inverse=inverse,
        residual=0.0,
        removed=0,
        perturbations=0,
    )


def _newton_state(heads: Sequence[newton.Head], present: int) -> dict[str, Vector]:
    """What a later removal goes on from; the perturbation follows from the key."""
    inverses = [head.inverse for head in heads]
    return {
        "heads": np.stack([head.weights for head in heads]),
        "inverse": np.stack([one.matrix + one.added @ one.added.T for one in inverses]),
        "curvatures": np.stack([one.curvatures[:present] for one in inverses]),
        "rows": np.array([float(one.rows) for one in inverses]),
    }
