"""The probe against a mechanism that does what its record says, and against every way of not doing it."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator
from transformers import LlamaForCausalLM

from engine.errors import EngineError
from engine.guarantees.mechanism import Mechanism
from engine.methods.private import hooked, private_gradient
from engine.methods.private_text import Rows, Text
from engine.methods.secret import gaussians, joins
from engine.tasks.sequences import Tokens
from engine.training import Gradient
from engine.verification.privacy import checks
from engine.verification.privacy.canaries import sequences
from engine.verification.privacy.probe import Claim, Probe, Running, probe
from engine.verification.privacy.running import running
from engine.verification.statistics import Floats
from tests.engine import tiny

SIZE = 400
SETTINGS = Mechanism(sample_rate=0.4, noise_multiplier=1.5, steps=64, clip=0.7, units=6)
CLAIM = Claim(noise=1.5 * 0.7, clip=0.7, sample_rate=0.4)
UNITS = (0, 1, 2, 3, 4, 5)
HUGE = 99


@dataclass(frozen=True, kw_only=True, slots=True)
class Simulated:
    """The subsampled Gaussian mechanism on made-up gradients; each field is a way in which code goes wrong."""

    secret: bytes
    clip: Callable[[Floats], Floats] = lambda g: g * min(1.0, 0.7 / float(np.linalg.norm(g)))
    clip_sum: bool = False
    shrink: float = 1.0
    shift: float = 0.0
    silent: Sequence[int] = ()
    period: int = 10**6
    mirrored: bool = False
    uniform: bool = False
    skip_empty: bool = False
    skip_nobody: bool = False
    average: bool = False
    normalise: bool = False
    coins: str = "poisson"
    rate: float = 0.4

    def __call__(self, units: Sequence[int], round_: int, sample_rate: float | None) -> Floats:
        """One round."""
        mask = self._joined(len(units), round_, self.rate if sample_rate is None else sample_rate)
        rows = [gradient(unit) for unit, joined in zip(units, mask, strict=True) if joined]
        if (self.skip_empty and not units) or (self.skip_nobody and units and not rows):
            return np.zeros(SIZE)
        if self.normalise and rows:
            rows = [row - np.mean(rows, axis=0) / 2 for row in rows]  # what one adds depends on the others
        total: Floats = np.sum(rows if self.clip_sum else [self.clip(row) for row in rows], axis=0) + np.zeros(SIZE)
        total = self.clip(total) if self.clip_sum and rows else total
        return total / (max(1, len(rows)) if self.average else 1) + self._noise(round_)

    def _noise(self, round_: int) -> Floats:
        z = gaussians(self.secret, round_=round_ % self.period, count=SIZE)
        if self.uniform:
            z = np.random.default_rng(round_).uniform(-math.sqrt(3), math.sqrt(3), SIZE)
        if self.mirrored:
            z[SIZE // 2 :] = z[: SIZE // 2]
        z[list(self.silent)] = 0
        return z * CLAIM.noise * self.shrink + self.shift

    def _joined(self, count: int, round_: int, sample_rate: float) -> Sequence[bool]:
        if self.coins == "poisson" or sample_rate in {1.0, checks.NEVER}:
            return list(joins(self.secret, round_=round_, units=count, sample_rate=sample_rate))
        if self.coins == "together":
            return [bool(joins(self.secret, round_=round_, units=1, sample_rate=sample_rate)[0])] * count
        if self.coins == "always":
            return list(joins(self.secret, round_=0, units=count, sample_rate=sample_rate))
        chosen = set(np.random.default_rng(round_).permutation(count)[: round(count * sample_rate)].tolist())
        return [i in chosen for i in range(count)]


def gradient(unit: int) -> Floats:
    """A unit's own gradient: of norm about 2, and of 20,000 for the huge one."""
    made: Floats = np.random.default_rng(unit).normal(size=SIZE) / 10
    return made * 10_000 if unit == HUGE else made


def secret(seed: int) -> bytes:
    """256 bits that follow from a number."""
    return hashlib.sha256(str(seed).encode()).digest()


def probed(claim: Claim = CLAIM, **broken: Any) -> Probe:  # noqa: ANN401 - any field
    """A probe of a mechanism that is broken like this."""
    made = Simulated(**{"secret": secret(1), **broken})
    return probe(Running(gradient=made, units=UNITS, huge=HUGE), claim, seed=0)


@pytest.mark.parametrize("start", [0, 10, 20, 30, 40])
def test_the_mechanism_as_it_should_be_passes(start: int) -> None:
    """For fifty secrets, at a false alarm rate of one in a thousand for all checks together."""
    assert [probed(secret=secret(seed)).failed for seed in range(start, start + 10)] == [()] * 10


def test_false_alarms_are_not_more_often_than_stated() -> None:
    """With one in two as the significance, fewer than three fifths of forty probes fail, and some do."""
    failed = 0
    for seed in range(40):
        made = Simulated(secret=secret(1000 + seed))
        running_ = Running(gradient=made, units=UNITS[:3], huge=HUGE)
        failed += not probe(running_, CLAIM, seed=0, rounds=16, significance=0.5).passed
    assert 2 <= failed <= 24


BROKEN: dict[str, tuple[dict[str, Any], set[str]]] = {
    "no clipping": ({"clip": lambda g: g}, {"unit_norm", "huge_unit_norm"}),
    "clipping that forgets the huge": (
        {"clip": lambda g: g * (0.7 / np.linalg.norm(g) if np.linalg.norm(g) < 100 else 1.0)},
        {"huge_unit_norm"},
    ),
    "clipping by coordinate": ({"clip": lambda g: np.clip(g, -0.7, 0.7)}, {"unit_norm", "huge_unit_norm"}),
    "the sum clipped, not its parts": ({"clip_sum": True}, {"units_add", "units_explain_round"}),
    "units seen by each other, as in batch normalisation": ({"normalise": True}, {"units_add"}),
    "an average over those who joined": ({"average": True}, {"units_add", "shares_are_whole"}),
    "half the noise": ({"shrink": 0.5}, {"noise_deviation", "noise_shape"}),
    "noise short by three per cent": ({"shrink": 0.97}, {"noise_deviation"}),
    "noise with a mean": ({"shift": 0.05}, {"noise_mean"}),
    "a layer without noise": ({"silent": (17, 18)}, {"noise_quietest"}),
    "noise of another shape": ({"uniform": True}, {"noise_shape"}),
    "one noise for every round": ({"period": 1}, {"noise_between_rounds"}),
    "noise reused after thirty rounds": ({"period": 30}, {"noise_between_rounds"}),
    "one noise for two halves": ({"mirrored": True}, {"noise_between_halves"}),
    "an empty round skipped": ({"skip_empty": True}, {"empty_round_moves", "noise_deviation"}),
    "a round skipped that nobody joined": ({"skip_nobody": True}, {"empty_round_is_noise"}),
    "another sampling rate": ({"rate": 0.8}, {"join_rate"}),
    "batches of fixed size": ({"coins": "fixed"}, {"join_spread"}),
    "one coin for everybody": ({"coins": "together"}, {"join_spread"}),
    "one batch for every round": ({"coins": "always"}, {"join_fresh"}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_mechanism_is_caught_by_the_check_made_for_it(name: str) -> None:
    """Whatever else fails with it."""
    broken, caught_by = BROKEN[name]
    found = probed(**broken)
    assert not found.passed
    assert caught_by <= set(found.failed)


@pytest.mark.parametrize(
    ("claim", "caught_by"),
    [
        (replace(CLAIM, sample_rate=0.2), "join_rate"),
        (replace(CLAIM, noise=1.1), "noise_deviation"),
        (replace(CLAIM, clip=0.6), "unit_norm"),
        (replace(CLAIM, clip=0.8), "huge_unit_norm"),
    ],
)
def test_a_record_that_says_something_else_is_caught(claim: Claim, caught_by: str) -> None:
    """The code is as it was, and the record promises another rate, noise or clip."""
    assert caught_by in probed(claim=claim).failed


def test_what_is_not_a_number_passes_nothing() -> None:
    """A gradient of NaN fails every check that looks at it, and its record is still JSON."""
    found = probed(shift=math.nan)
    assert {"noise_deviation", "noise_mean", "noise_shape", "unit_norm", "join_rate"} <= set(found.failed)
    assert json.loads(json.dumps(found.to_mapping(), allow_nan=False))["passed"] is False


def test_noise_that_cannot_be_repeated_hides_what_a_unit_adds() -> None:
    """Two runs of one round must agree, or a difference of runs measures nothing."""
    generator = np.random.default_rng(0)
    fresh = Running(gradient=lambda *_: generator.normal(size=SIZE), units=UNITS, huge=HUGE)
    assert {"same_round_twice", "unit_norm", "empty_round_is_noise"} <= set(probe(fresh, CLAIM, seed=0).failed)


def test_units_that_cannot_be_told_apart_are_no_evidence_of_sampling() -> None:
    """Two units with the same gradient leave open which of them joined."""
    same = Running(gradient=Simulated(secret=secret(1)), units=(0, 0), huge=HUGE)
    assert "shares_are_whole" in probe(same, CLAIM, seed=0, rounds=4).failed


def test_the_record_says_what_was_expected_measured_and_allowed() -> None:
    """Every check has all of them, under a name of its own, and the whole its significance."""
    found = probed().to_mapping()
    assert found["passed"] is True
    assert (found["noise"], found["clip"], found["sampleRate"]) == (CLAIM.noise, CLAIM.clip, CLAIM.sample_rate)
    assert (found["significance"], found["rounds"], found["coordinates"]) == (1e-3, 64, SIZE)
    assert len({check["name"] for check in found["checks"]}) == len(found["checks"]) == 18
    assert {key for check in found["checks"] for key in check} == {
        "name", "expected", "measured", "low", "high", "passed"
    }  # fmt: skip


def test_the_region_of_the_deviation_is_that_of_chi_square() -> None:
    """Golden: 100 numbers, two-sided at 5 %, from the tables of chi-square (74.222 and 129.561)."""
    check = checks.deviation(1.0, sigma=2.0, count=100, level=0.05)
    assert check.low == pytest.approx(2 * math.sqrt(0.74222), rel=1e-5)
    assert check.high == pytest.approx(2 * math.sqrt(1.29561), rel=1e-5)
    assert not check.passed


def test_regions_of_coins_hold_their_level() -> None:
    """Over all outcomes of ten coins the chance of a false alarm is at most the level."""
    for level in (0.01, 0.05, 0.3):
        check = checks._binomial("x", 5, 10, 0.3, level)
        outside = [k for k in range(11) if not check.low <= k / 10 <= check.high]
        assert sum(math.comb(10, k) * 0.3**k * 0.7 ** (10 - k) for k in outside) <= level


@pytest.mark.parametrize(
    "changes", [{"noise": 0.0}, {"noise": math.nan}, {"clip": math.inf}, {"sample_rate": 0.0}, {"sample_rate": 1.1}]
)
def test_a_claim_that_cannot_be_measured_is_refused(changes: dict[str, float]) -> None:
    """No noise, no clip, no sampling."""
    with pytest.raises(EngineError):
        replace(CLAIM, **changes)


def test_a_probe_of_too_little_is_refused() -> None:
    """One unit, one round, or a gradient of a few numbers."""
    made = Simulated(secret=secret(1))
    with pytest.raises(EngineError, match="two units"):
        probe(Running(gradient=made, units=(0,), huge=HUGE), CLAIM, seed=0)
    with pytest.raises(EngineError, match="two rounds"):
        probe(Running(gradient=made, units=UNITS, huge=HUGE), CLAIM, seed=0, rounds=1)
    with pytest.raises(EngineError, match="at least 16"):
        probe(Running(gradient=lambda *_: np.zeros(3), units=UNITS, huge=HUGE), CLAIM, seed=0)
    with pytest.raises(EngineError, match="another length"):
        probe(Running(gradient=lambda _u, round_, _q: np.zeros(20 + round_), units=UNITS, huge=HUGE), CLAIM, seed=0)


REAL = Mechanism(sample_rate=0.5, noise_multiplier=1.5, steps=4, clip=0.05, units=3)


def llama(change: Callable[[LlamaForCausalLM, Gradient[int]], Gradient[int]] | None = None) -> Probe:
    """A probe of the engine's own DP step on a tiny model and random tokens, unless it is changed."""
    model = tiny.model()
    ids = sequences(4, length=12, vocabulary=250, seed=3).tolist()
    rows: list[Rows] = [(Tokens(ids=tuple(one), weights=(0.0,) + (1.0,) * 11),) for one in ids]

    def make(members: Sequence[Rows], sample_rate: float | None) -> Gradient[int]:
        settings = replace(REAL, sample_rate=REAL.sample_rate if sample_rate is None else sample_rate)
        real = private_gradient(Text(model, members), mechanism=settings, secret=secret(5), rows_per_pass=8)
        return change(model, real) if change else real

    model.train()
    with hooked(model):
        made = running(list(model.parameters()), make, units=rows[:3], huge=rows[3])
        return probe(made, Claim.of(REAL), seed=0, rounds=20)


def test_the_engines_own_mechanism_passes() -> None:
    """The gradient of DP training itself, at the rate, noise and clip of its record."""
    found = llama()
    assert found.failed == ()
    assert found.coordinates == sum(p.numel() for p in tiny.model().parameters())


def test_a_layer_that_lost_its_noise_is_found_in_the_engines_mechanism() -> None:
    """One normalisation's gradient is overwritten after the round, as a hook would."""

    def silenced(model: LlamaForCausalLM, real: Gradient[int]) -> Gradient[int]:
        def gradient_(accelerator: Accelerator, round_: int) -> float:
            loss = real(accelerator, round_)
            model.model.norm.weight.grad = None
            return loss

        return gradient_

    assert "noise_quietest" in llama(silenced).failed
