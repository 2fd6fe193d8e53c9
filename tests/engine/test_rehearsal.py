"""The rehearsal of DP training: it passes what is honest, stops what is not, and leaves nothing behind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audits import canaries as bounds
from engine import checkpoints
from engine.catalogue import check_options
from engine.errors import EngineError
from engine.guarantees.mechanism import Mechanism
from engine.methods import Setting, private, rehearsal
from engine.training import Gradient
from tests.engine import painted, tiny

SECRET = bytes(range(32))
TOLD = {"sigma": 1.0, "sample_rate": 0.5, "steps": 6, "clip": 0.3, "learning_rate": 0.02, "canaries": 24}


def pictures(place: Path, **options: Any) -> Setting[Any]:  # noqa: ANN401 - any option
    """A small classifier in a folder, to be trained under DP on forty pictures."""
    model, pixels = painted.network()
    checkpoints.save(place / "start", model, pixels)
    return Setting(
        model=model,
        reader=pixels,
        forget=(),
        retain=painted.records(range(40)),
        options=check_options("dp_base", None, {**TOLD, "unit": "record", **options}, "image"),
        seed=1,
        progress=tiny.quiet,
        folder=place / "start",
        digest="x",
        cache=place,
        secret=SECRET,
    )


def texts(place: Path) -> Setting[Any]:
    """The same for a language model and eight people."""
    options = check_options("dp_base", None, {**TOLD, "clip": 0.05})
    return tiny.setting(place, options, forget=(), retain=tiny.records(range(6)), secret=SECRET)


def trained(setting: Setting[Any]) -> private.PrivateOutcome:
    """A base with a rehearsal before it."""
    pictures_given = setting.retain[0].image is not None
    holdout = painted.records(range(50, 58)) if pictures_given else tiny.records(range(6, 8))
    return private.train_base(setting, holdout=holdout, secret=SECRET)


@pytest.mark.parametrize("make", [pictures, texts])
def test_an_honest_base_passes_and_reports_its_counts(make: Callable[[Path], Setting[Any]], tmp_path: Path) -> None:
    """Six guesses in, six out; the bound that they give is below their own ceiling and hides no canary."""
    told = trained(make(tmp_path)).to_mapping()

    assert told["probe"]["passed"]
    assert (told["audit"]["canaries"], told["audit"]["guesses"]) == (24, 12)
    counts: dict[str, Any] = {"canaries": 24, "guesses": 12, "delta": 1e-5}
    found = bounds.lower_bound(correct=told["audit"]["correct"], **counts)
    assert found <= bounds.ceiling(**counts)
    assert told["mechanism"] == "poisson_subsampled_gaussian"


def weights(setting: Setting[Any]) -> Tensor:
    """All parameters as one vector."""
    return torch.cat([p.detach().flatten() for p in setting.model.parameters()])


def test_a_rehearsal_does_not_change_the_base(tmp_path: Path) -> None:
    """The same secret gives the same base with and without it: the canaries are in no base that is kept."""
    made = []
    for canaries in (0, 24):
        setting = pictures(tmp_path / str(canaries), canaries=canaries)
        assert trained(setting).mechanism.units == 40
        made.append(weights(setting))

    assert torch.equal(made[0], made[1])


def test_both_ways_of_clipping_are_probed(tmp_path: Path) -> None:
    """The probe runs what the training will run."""
    told = trained(pictures(tmp_path, clipper="book-keeping")).to_mapping()

    assert told["probe"]["passed"]


def unclipped(material: Any, *, mechanism: Mechanism, **rest: Any) -> Gradient[int]:  # noqa: ANN401 - any family's
    """The step of a mechanism that clips at a million, and divides and noises as if it clipped at its norm."""
    wide = replace(mechanism, clip=1e6, noise_multiplier=mechanism.noise_multiplier * mechanism.clip / 1e6)
    return private.private_gradient(material, mechanism=wide, **rest)


def half_the_noise(material: Any, *, mechanism: Mechanism, **rest: Any) -> Gradient[int]:  # noqa: ANN401 - any family's
    """The step of a mechanism that says it adds twice what it adds."""
    real = private.private_gradient(material, mechanism=mechanism, **rest)
    nobody = private.private_gradient(material.among([]), mechanism=mechanism, **rest)

    def gradient(accelerator: Any, round_: int) -> float:  # noqa: ANN401 - untyped library
        nobody(accelerator, round_)
        noise = [p.grad.clone() for p in material.model.parameters()]
        real(accelerator, round_)
        for p, z in zip(material.model.parameters(), noise, strict=True):
            p.grad -= z / 2
        return 0.0

    return gradient


@pytest.mark.parametrize(("broken", "check"), [(unclipped, "norm"), (half_the_noise, "noise_deviation")])
def test_a_broken_mechanism_ends_the_job_before_a_base_is_made(
    broken: Callable[..., Gradient[int]], check: str, tmp_path: Path
) -> None:
    """Without clipping, or with half the noise, the probe says which number was wrong, and nothing was trained."""
    setting = pictures(tmp_path)
    material = private._material(setting, painted.records(range(50, 58)))
    mechanism = Mechanism(sample_rate=0.5, noise_multiplier=1.0, steps=6, clip=0.3, units=40, unit="record")
    before = weights(setting)

    with pytest.raises(EngineError, match=f"failed its probe: .*{check}"):
        rehearsal.rehearse(setting, material, mechanism, fit=never, gradient=broken)
    assert torch.equal(before, weights(setting))


def never(*_: object) -> None:
    """A training that must not begin."""
    pytest.fail("a base was trained by a mechanism that had failed its probe")


def test_without_noise_the_audit_sees_its_canaries(tmp_path: Path) -> None:
    """Where a base may learn everything, guesses about its canaries are mostly right: the audit has teeth."""
    setting = pictures(tmp_path, sigma=0.01, steps=60, clip=5.0, learning_rate=0.01, sample_rate=1.0, canaries=40)
    counts = trained(setting).to_mapping()["audit"]

    assert counts["correct"] >= 0.9 * counts["guesses"]


def test_too_few_canaries_are_refused(tmp_path: Path) -> None:
    """A probe needs some of them, and an audit guesses a quarter each way."""
    with pytest.raises(EngineError, match="at least 8"):
        trained(pictures(tmp_path, canaries=5))


def test_secrets_of_a_rehearsal_are_its_own() -> None:
    """No stream of the base is used twice."""
    assert len({SECRET, *(rehearsal._derived(SECRET, name) for name in (b"audit", b"probe"))}) == 3
