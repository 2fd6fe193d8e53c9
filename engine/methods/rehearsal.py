"""A rehearsal of DP training that tries to refute what it claims: a probe of the running mechanism, and an audit.

Before the base is trained, the same code runs twice on the same weights. The probe measures the noise, the clipping and
the sampling of single rounds with made-up units, because half the noise can hide below any audit's ceiling
(`engine.verification.privacy.probe`). The audit trains a throw-away base with canaries, each of which is in by a fair
coin, and counts how many are guessed right (`...privacy.canaries`); the bound that follows is the verifier's business.

Both use secrets of their own, derived by a one-way function, and canaries that nobody's data hold. The weights of the
rehearsal are discarded and those of the folder restored. A probe that fails ends the job: no base is made.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from engine.errors import EngineError
from engine.guarantees.mechanism import Mechanism
from engine.methods import Setting
from engine.options import DpOptions
from engine.training import Gradient
from engine.verification.privacy.canaries import Counts, Plan, count, draw
from engine.verification.privacy.checks import Check
from engine.verification.privacy.probe import Claim, Probe, probe
from engine.verification.privacy.running import running
from engine.weights import originals

PROBED = 4  # made-up units
SIGNIFICANCE = 1e-6  # of the probe: a false alarm costs a job
NUMBERS = 2e7  # of noise that a probe draws at most
MOST, FEWEST = 64, 8  # rounds


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsed:
    """What may be told of it."""

    probe: Probe
    counts: Counts

    def to_mapping(self) -> dict[str, Any]:
        """The JSON objects that stand beside the mechanism in evidence."""
        return {"probe": self.probe.to_mapping(), "audit": self.counts.to_mapping()}


def rehearse(
    setting: Setting[DpOptions],
    material: Any,  # noqa: ANN401 - any family's
    mechanism: Mechanism,
    *,
    fit: Callable[..., Any],
    gradient: Callable[..., Gradient[int]],
) -> Rehearsed:
    """Probe `gradient`, the mechanism's own, and audit `fit(material, mechanism, secret)`; the model ends as it began.

    Raises:
        EngineError: `internal` with the first check that failed.
    """
    options, hidden = setting.options, _derived(setting.secret, b"audit")
    if options.canaries < 2 * PROBED:
        raise EngineError("bad_options", f"options.canaries must be 0, or at least {2 * PROBED}")
    planted = material.canaries(options.canaries, setting.seed)
    found = probed(setting, material, planted, mechanism, gradient)
    if found.failed:
        raise EngineError("internal", f"the DP mechanism failed its probe: {_said(found)}; no base was made")
    quarter = max(1, options.canaries // 4)
    plan, coins = (
        Plan(canaries=options.canaries, guess_in=quarter, guess_out=quarter),
        draw(hidden, canaries=options.canaries),
    )
    before = material.unit_scores(planted)
    joined = [unit for unit, included in zip(planted, coins.included, strict=True) if included]
    fit(material.among([*material.units, *joined]), replace(mechanism, units=len(material.units) + len(joined)), hidden)
    counts = count(plan, material.unit_scores(planted) - before, coins)
    with torch.no_grad():
        for parameter, value in originals(setting.model, setting.folder):
            parameter.copy_(value)
    return Rehearsed(probe=found, counts=counts)


def probed(
    setting: Setting[DpOptions],
    material: Any,  # noqa: ANN401 - any family's
    planted: Sequence[Any],
    mechanism: Mechanism,
    gradient: Callable[..., Gradient[int]],
) -> Probe:
    """Single rounds of the running code on made-up units, at the weights as they are."""
    from engine.methods.private import clipping  # noqa: PLC0415 - which is built on this module

    hidden, rows = _derived(setting.secret, b"probe"), setting.options.rows_per_pass
    parameters = [p for p in setting.model.parameters() if p.requires_grad]
    setting.model.train()
    with clipping(setting) as book:

        def make(members: Sequence[Any], sample_rate: float | None) -> Gradient[int]:
            told = mechanism if sample_rate is None else replace(mechanism, sample_rate=sample_rate)
            own = material.among(members)
            return gradient(own, mechanism=told, secret=hidden, rows_per_pass=rows, book=book)

        under = running(parameters, make, units=planted[: PROBED - 1], huge=planted[PROBED - 1])
        rounds = int(np.clip(NUMBERS / sum(p.numel() for p in parameters), FEWEST, MOST))
        found = probe(under, Claim.of(mechanism), seed=setting.seed, rounds=rounds, significance=SIGNIFICANCE)
    setting.model.zero_grad(set_to_none=True)
    setting.model.eval()
    return found


def _said(found: Probe) -> str:
    check: Check = next(check for check in found.checks if not check.passed)
    return f"{check.name} was {check.measured:.4g} where {check.low:.4g} to {check.high:.4g} was to be expected"


def _derived(secret: bytes, purpose: bytes) -> bytes:
    """256 bits that say nothing about the secret they come from."""
    return hashlib.sha256(b"rehearsal\x00" + purpose + b"\x00" + secret).digest()
