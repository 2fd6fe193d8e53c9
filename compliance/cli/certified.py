"""The numbers of a certified method on the command line: noise from a bound, and the bound of what ran.

The bound is for whoever runs the method by hand; a certificate needs the desk, which checks and signs it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audits import mechanisms
from compliance.errors import InvalidInputError
from compliance.policy import NOISED, noise_of
from engine import catalogue
from engine.corpus import read_set


def told_of(method: str, options: Mapping[str, Any], *, model: Path | None, retain: Path | None) -> dict[str, Any]:
    """The options with what the noise depends on and files can say: the model's classes, and how many records stay."""
    told: dict[str, Any] = dict(options)
    if method not in catalogue.KEEPING or model is None or retain is None:
        return told
    if "classes" not in told:
        told["classes"] = _classes(model)
    if method == "descent-to-delete" and "points" not in told:
        told["points"] = _count(retain)
    return told


def refuse_delta(method: str, retain: Path | None, *, delta: float) -> None:
    """InvalidInputError where delta reaches one in the number of people: a bound that may give one away whole."""
    if method not in NOISED or retain is None:
        return
    units = len({record.unit for record in read_set(retain, training=True)})
    if not delta * units < 1:
        raise InvalidInputError(
            f"the guarantee needs a delta below 1/N, and with the {units} people of the retain set {delta:g} is not; "
            f"give --delta below {1 / max(units, 1):.2g}",
            code="delta-too-large",
        )


def _classes(model: Path) -> int:
    try:
        return len(json.loads((model / "config.json").read_text(encoding="utf-8"))["id2label"])
    except (OSError, ValueError, KeyError, TypeError):
        message = "the config.json of the model folder does not name its classes; give --set classes=NUMBER"
        raise InvalidInputError(message, code="no-classes") from None


def _count(retain: Path) -> int:
    return len(read_set(retain, training=True))


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


def bound(record: Mapping[str, Any] | None, *, delta: float) -> dict[str, float | None]:
    """Epsilon and delta of a run with the record of a mechanism, by the verifier's own accountant; nothing for others.

    Epsilon is None where the noise is too small for any number to be computed.
    """
    if record is None:
        return {}
    try:
        return {"epsilon": mechanisms.epsilon(record, delta=delta, group=1), "delta": delta}
    except ValueError:
        return {"epsilon": None, "delta": delta}
