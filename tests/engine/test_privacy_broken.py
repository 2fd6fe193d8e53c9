"""Mechanisms that were broken on purpose, and by what each is caught: probe, audit, conditions check or verifier."""

import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from torch import nn

from audits import canaries as one_run
from engine import run as engine
from engine.contract import Evidence, Job, Kind
from engine.corpus import write_records
from engine.errors import EngineError
from engine.guarantees.mechanism import Mechanism
from engine.methods import Setting, noisy, refit, secret
from engine.methods.private import private_gradient
from engine.tasks.image import refuse_batch_norm
from engine.training import Fitted, Gradient
from engine.verification.privacy.checks import NEVER
from engine.verification.privacy.probe import Claim, probe
from engine.verification.privacy.running import running
from tests.audits.bundles import Desk, write
from tests.audits.test_cheats import CERTIFICATE, Edit, audit, noise, put, reported
from tests.audits.test_verify import failed_step
from tests.engine import painted, tiny
from tests.engine.refuters import REFUTERS
from tests.engine.refuting_training import Diracs, OneHot, Play, Rounds, Unit, clipping, correct, found, quieter

PROBE, AUDIT, CONDITIONS, VERIFIER = "probe", "audit", "conditions check", "verifier"
TOLD = Mechanism(sample_rate=0.4, noise_multiplier=1.5, steps=8, clip=0.7, units=3, unit="record")
SECRET = bytes(range(32))
Caught = Callable[[Path], str]  # by what, and its word for what was wrong; empty where nothing was seen


def unclipped(material: Any, *, mechanism: Mechanism, **rest: Any) -> Gradient[int]:  # noqa: ANN401 - any family's
    """Rounds that clip at a million, and divide and noise as if they clipped at their norm."""
    wide = replace(mechanism, clip=1e6, noise_multiplier=mechanism.noise_multiplier * mechanism.clip / 1e6)
    return private_gradient(material, mechanism=wide, **rest)


def oversampled(material: Any, *, mechanism: Mechanism, **rest: Any) -> Gradient[int]:  # noqa: ANN401 - any family's
    """Rounds that units join twice as often as is said."""
    asked = mechanism.sample_rate in {1.0, NEVER}
    rate = mechanism.sample_rate if asked else 2 * mechanism.sample_rate
    return private_gradient(material, mechanism=replace(mechanism, sample_rate=rate), **rest)


def skipping(material: Any, *, mechanism: Mechanism, **rest: Any) -> Gradient[int]:  # noqa: ANN401 - any family's
    """Rounds that leave nothing, not even noise, where nobody joined."""
    real = private_gradient(material, mechanism=mechanism, **rest)

    def gradient(accelerator: Accelerator, round_: int) -> float:
        units, rate = len(material.units), mechanism.sample_rate
        if not secret.joins(rest["secret"], round_=round_, units=units, sample_rate=rate).any():
            return 0.0
        return real(accelerator, round_)

    return gradient


def repeating(material: Any, *, mechanism: Mechanism, **rest: Any) -> Gradient[int]:  # noqa: ANN401 - any family's
    """Rounds that all add the noise of the first."""
    silent = quieter(0.0)(material, mechanism=mechanism, **rest)
    first = private_gradient(material.among([]), mechanism=mechanism, **rest)

    def gradient(accelerator: Accelerator, round_: int) -> float:
        first(accelerator, 0)
        kept = [p.grad.clone() for p in material.model.parameters()]
        silent(accelerator, round_)
        for p, z in zip(material.model.parameters(), kept, strict=True):
            p.grad += z
        return 0.0

    return gradient


def probed(rounds: Rounds, _: Path) -> str:
    """The first checks that fail when single rounds are measured."""
    model, units = OneHot(256), [(0,), (1,), (2,)]

    def make(members: Sequence[Unit], sample_rate: float | None) -> Gradient[int]:
        told = TOLD if sample_rate is None else replace(TOLD, sample_rate=sample_rate)
        return rounds(Diracs(model, members, 3.0), mechanism=told, secret=SECRET, rows_per_pass=64, book=book)

    with clipping(model, book=True) as book:
        under = running(list(model.parameters()), make, units=units, huge=(3,) * 50)
        told = probe(under, Claim.of(TOLD), seed=0, rounds=48)
    return " ".join((PROBE, *told.failed)) if told.failed else ""


def audited(rounds: Rounds, _: Path) -> str:
    """Whether canaries refute the certificate."""
    play = Play(size=1000, group=1, rows=1, book=True, steepness=20.0)
    told = replace(TOLD, steps=2, noise_multiplier=8.0)
    seen = found(told, play, correct(told, play, SECRET, rounds), delta=1e-10)
    return f"{AUDIT} {seen.told()}" if seen.refuted else ""


def repeatedly(name: str, seed: int, share: float, _: Path) -> str:
    """Whether many runs refute it, when only a share of the noise is added."""
    seen = REFUTERS[name][0](seed, share)
    return f"{AUDIT} {seen.told()}" if seen.refuted else ""


def verified(edit: Edit, place: Path) -> str:
    """The step of the verifier at which a report with this edit fails."""
    step = failed_step(write(place, reported(edit, certified=True)), Desk().policy())
    return f"{VERIFIER} step {step}" if step else ""


def refused(act: Callable[[Path], object], place: Path) -> str:
    """The sentence with which the engine refuses."""
    try:
        act(place)
    except EngineError as error:
        return f"{CONDITIONS} {error.message}"
    return ""


@dataclass
class Telling:
    """A maker that trains as it should and tells its secret in some way."""

    way: str

    def __call__(self, work: engine.Work) -> engine.Made:
        """The engine's own job, and one line more."""
        setting = work.setting("model", work.options, train="train")
        made = engine.Made(model=setting.model, reader=setting.reader, fitted=refit.refit(setting))
        hidden = setting.secret
        if self.way == "print":
            print("seed", hidden.hex(), file=sys.stderr)  # noqa: T201 - that is the fault
        if self.way == "log":
            logging.getLogger("broken").warning("secret is %r", hidden)
        if self.way == "progress":
            work.progress(f"seed {int.from_bytes(hidden, 'big')}", 1.0, None)
        if self.way == "evidence":
            return replace(made, accountant={"seed": list(hidden)})
        if self.way == "model":
            setting.model.config.seed = hidden.hex()
        return made


def training(place: Path, way: str) -> Evidence:
    """A job that tells its secret in this way, and would leave a model."""
    job = Job(version=1, kind=Kind.TRAIN, seed=1, out="new", model="start", train="all.jsonl", options={"epochs": 1})
    return engine.run(_placed(job, place), place, tiny.quiet, makers={Kind.TRAIN: Telling(way)})


def curious(setting: Setting[Any]) -> Fitted:
    """Retraining that looks whom it is to forget."""
    setting.progress(f"{len(list(setting.forget))} to go", 0.0, None)
    return refit.dp2(setting)


def unlearning(place: Path, method: Callable[[Setting[Any]], Fitted] | None) -> Evidence:
    """The method `dp2`, of which the job names a forget set, by this function or its own."""
    job = Job(
        version=1,
        kind=Kind.UNLEARN,
        method="dp2",
        seed=1,
        out="new",
        base="start",
        forget="forget.jsonl",
        retain="retain.jsonl",
        options={"epochs": 1},
    )
    makers = {Kind.UNLEARN: partial(engine._unlearn, method=method)}
    return engine.run(_placed(job, place), place, tiny.quiet, makers=makers)


def _placed(job: Job, place: Path) -> Job:
    """The job, with what it reads written down."""
    tiny.folder(place / "start")
    for name, people in (("all", range(6)), ("forget", range(2)), ("retain", range(2, 6))):
        write_records(place / f"{name}.jsonl", tiny.records(people))
    return job


def normalised() -> nn.Module:
    """A classifier with a layer that mixes people."""
    model, _ = painted.network()
    model.add_module("mixing", nn.BatchNorm2d(3))
    return model


BROKEN: dict[str, tuple[str, Caught]] = {
    "no clipping, by the probe": (f"{PROBE} .*unit_norm", partial(probed, unclipped)),
    "no clipping, by the audit": (AUDIT, partial(audited, unclipped)),
    "half the noise, by the probe": (f"{PROBE} .*noise_deviation", partial(probed, quieter(0.5))),
    "half the noise, by repeated runs": (AUDIT, partial(repeatedly, "newton-noise", 5, 0.5)),
    "an empty round skipped": (f"{PROBE} .*empty_round", partial(probed, skipping)),
    "noise reused": (f"{PROBE} .*noise_between_rounds", partial(probed, repeating)),
    "another sampling rate": (f"{PROBE} .*join_rate", partial(probed, oversampled)),
    **{
        f"seed told: {way}": (
            f"{CONDITIONS} the secret of the noise was about to be written to {where}",
            partial(refused, partial(training, way=way)),
        )
        for way, where in (
            ("print", "standard output or error"),
            ("log", "the log"),
            ("progress", "the progress"),
            ("evidence", "the evidence"),
            ("model", "the model's folder"),
        )
    },
    "forget set touched": (
        f"{CONDITIONS} .*touched the forget set",
        partial(refused, partial(unlearning, method=curious)),
    ),
    "batch norm under DP training": (
        f"{CONDITIONS} .*mixes people",
        partial(refused, lambda _: refuse_batch_norm(normalised())),
    ),
    "batch norm under noisy steps": (
        f"{CONDITIONS} .*beside its parameters",
        partial(refused, lambda _: noisy.refuse_state(normalised())),
    ),
    "an epsilon understated": (f"{VERIFIER} step 12", partial(verified, put(*CERTIFICATE, "epsilon", to=2.78))),
    "less noise in the certificate's record alone": (f"{VERIFIER} step 8", partial(verified, noise(3.9))),
    "an audit that refutes, published all the same": (
        f"{VERIFIER} step 12",
        partial(verified, put(*CERTIFICATE, "audit", to=audit())),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_caught(name: str, tmp_path: Path) -> None:
    """And by what: the first words say which of the four, and the rest what it saw."""
    by, caught = BROKEN[name]
    seen = caught(tmp_path)

    assert re.match(by, seen), seen or "nothing saw it"
    assert not (tmp_path / "new").exists()


def test_what_is_whole_is_not_caught(tmp_path: Path) -> None:
    """The same checks of the engine as it is: no probe fails, no audit refutes, both jobs leave their model."""
    assert not probed(private_gradient, tmp_path)
    assert not audited(private_gradient, tmp_path)
    assert not refused(partial(training, way="not at all"), tmp_path / "one")
    assert not refused(partial(unlearning, method=None), tmp_path / "two")
    assert (tmp_path / "one" / "new").exists()
    assert (tmp_path / "two" / "new").exists()


def test_half_the_noise_is_below_what_canaries_can_see(tmp_path: Path) -> None:
    """Which is why the probe is there: the one-run audit does not notice, and its ceiling says that it could not."""
    assert not audited(quieter(0.5), tmp_path)
    assert one_run.ceiling(canaries=1000, guesses=332, delta=1e-10) < 6
