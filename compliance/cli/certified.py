"""The numbers of a certified method on the command line: noise from a bound, and the bound of what ran.

The bound is for whoever runs the method by hand; a certificate needs the desk, which checks and signs it.
"""

from collections.abc import Mapping
from typing import Any

from audits import mechanisms
from compliance.errors import InvalidInputError
from compliance.policy import NOISED, noise_of
from engine.contract import Evidence


def with_noise(
    method: str, options: Mapping[str, Any], *, task: str, epsilon: float | None, delta: float
) -> dict[str, Any]:
    """The options with the least noise that keeps `epsilon` at `delta`; unchanged where none is asked for."""
    if method not in NOISED:
        if epsilon is not None:
            known = ", ".join(NOISED)
            raise InvalidInputError(f"--epsilon is for {known}; '{method}' has no such bound", code="no-bound")
        return dict(options)
    if (epsilon is None) == ("sigma" not in options):
        raise InvalidInputError(f"{method} needs either --epsilon or --set sigma=NUMBER", code="no-noise")
    if epsilon is None:
        return dict(options)
    return {**options, "sigma": noise_of(method, options, epsilon=epsilon, delta=delta, task=task)}


def bound(evidence: Evidence, *, delta: float) -> dict[str, float]:
    """Epsilon and delta of a run that has a mechanism, by the verifier's own accountant; nothing for others."""
    if evidence.accountant is None:
        return {}
    return {"epsilon": mechanisms.epsilon(evidence.accountant, delta=delta, group=1), "delta": delta}
