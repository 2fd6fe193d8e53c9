"""Noisy clipped fine-tuning: clipped, noised, projected as the theorem asks, and refused where it does not hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.catalogue import check_options
from engine.errors import EngineError
from engine.methods import Setting, noisy, secret
from tests.engine import painted, tiny

SECRET = bytes(range(32))
OPTIONS = {"sigma": 0.01, "start_radius": 0.5, "noisy_steps": 3, "noisy_rate": 0.1, "weight_decay": 1.0, "epochs": 1}


def flat(model: nn.Module) -> Tensor:
    """All parameters as one vector, in double precision."""
    parts: list[Tensor] = [p.detach().double().flatten() for p in model.parameters()]
    return torch.cat(parts)


def pictures_setting(**options: Any) -> Setting[Any]:  # noqa: ANN401 - any option
    """An image classifier that is asked to keep twelve pictures."""
    model, pixels = painted.network()
    checked = check_options("unlearn", "noisy-ft", {**OPTIONS, "batch": 6, **options}, "image")
    return Setting(
        model=model,
        reader=pixels,
        forget=(),
        retain=painted.records(range(12)),
        options=checked,
        seed=1,
        progress=tiny.quiet,
        folder=Path("x"),
        digest="x",
        cache=Path("x"),
        secret=SECRET,
    )


def walked(setting: Setting[Any], loss: Any = None) -> Tensor:  # noqa: ANN401 - a function of the model
    """The weights after the noisy steps, whose gradient is that of `loss`."""
    settings = noisy._settings(setting.options)
    pieces = [[lambda: (loss or zero)(setting.model)] for _ in range(settings.steps)]
    noisy.take_steps(setting.model, pieces, settings, setting)
    return flat(setting.model)


def zero(model: nn.Module) -> Tensor:
    """A loss whose gradient is nothing."""
    return torch.stack([p.sum() * 0.0 for p in model.parameters()]).sum()


def steep(model: nn.Module) -> Tensor:
    """A loss whose gradient is far above any clip: one million in every direction."""
    return torch.stack([p.sum() * 1e6 for p in model.parameters()]).sum()


def expected(start: Tensor, direction: Tensor, options: dict[str, Any], *, projected: bool = False) -> Tensor:
    """The same walk, written down as in the paper."""
    radius, rate = options["start_radius"], options["noisy_rate"]
    state: Tensor = start * min(1.0, radius / float(start.norm()))
    for number in range(options["noisy_steps"]):
        z = torch.from_numpy(secret.gaussians(SECRET, round_=number, count=len(start)))
        state = (1 - rate * options["weight_decay"]) * state - rate * direction + options["sigma"] * z
        if projected:
            state = state * min(1.0, radius / float(state.norm()))
    return state


def test_steps_without_a_gradient_shrink_and_add_noise() -> None:
    """Clipped start, decay, fresh noise from the secret: nothing else."""
    setting = pictures_setting()
    start = flat(setting.model)

    assert torch.allclose(walked(setting), expected(start, torch.zeros_like(start), OPTIONS), atol=1e-6)


@pytest.mark.parametrize("projected", [False, True])
def test_a_gradient_is_clipped_over_all_parameters_together(projected: bool) -> None:  # noqa: FBT001 - a parameter
    """A million in every direction moves the model by rate times clip."""
    setting = pictures_setting(projected=projected, noisy_clip=0.7)
    start = flat(setting.model)
    direction = torch.full_like(start, 0.7 / len(start) ** 0.5)

    assert torch.allclose(walked(setting, steep), expected(start, direction, OPTIONS, projected=projected), atol=2e-6)


def test_a_projected_walk_never_leaves_the_ball() -> None:
    """Also after the noise of its last step, also in float32."""
    setting = pictures_setting(projected=True, sigma=1.0, start_radius=0.5)

    assert float(walked(setting, steep).norm()) <= 0.5


def test_the_forget_set_is_never_read_and_the_evidence_holds_the_mechanism(tmp_path: Path) -> None:
    """Whatever stands in the forget set, the weights are the same; the record is what the accountant needs."""
    made = []
    for forget in ((), tiny.records(range(2))):
        options = check_options("unlearn", "noisy-ft", {**OPTIONS, "learning_rate": 0.01})
        setting = tiny.setting(tmp_path / str(len(forget)), options, forget=forget, secret=SECRET)
        fitted = noisy.noisy_ft(setting)
        made.append(flat(setting.model))

    assert torch.equal(made[0], made[1])
    assert fitted.accountant is not None
    assert fitted.accountant["mechanism"] == "noisy_clipped_steps"
    assert (fitted.accountant["noise"], fitted.accountant["steps"]) == (0.01, 3)
    assert fitted.seed_commitment == secret.commitment(SECRET)


def test_another_secret_gives_other_noise() -> None:
    """And the same one the same."""
    walks = []
    for hidden in (SECRET, SECRET, bytes(32)):
        setting = pictures_setting()
        object.__setattr__(setting, "secret", hidden)
        walks.append(walked(setting))

    assert torch.equal(walks[0], walks[1])
    assert not torch.allclose(walks[0], walks[2])


def test_enough_noise_forgets_where_a_model_came_from() -> None:
    """Two models as far apart as the ball allows end at nearly the same place under the same noise and strong decay."""
    ends = []
    for sign in (1.0, -1.0):
        setting = pictures_setting(noisy_steps=12, weight_decay=5.0)
        with torch.no_grad():
            for p in setting.model.parameters():
                p.fill_(sign)
        ends.append(walked(setting))

    assert float((ends[0] - ends[1]).norm()) == pytest.approx(1.0 * 0.5**12, rel=0.01)


def test_a_model_that_carries_more_than_parameters_is_refused() -> None:
    """The running statistics of a batch normalisation would escape the noise."""
    setting = pictures_setting()
    setting.model.add_module("norm", nn.BatchNorm2d(3))

    with pytest.raises(EngineError, match="beside its parameters"):
        noisy.noisy_ft(setting)


def test_a_gradient_that_is_not_finite_ends_the_walk() -> None:
    """Before its step."""

    def broken(model: nn.Module) -> Tensor:
        return zero(model) + torch.tensor(np.nan)

    setting = pictures_setting()
    with pytest.raises(EngineError, match="not finite"):
        walked(setting, broken)
    assert torch.isfinite(flat(setting.model)).all()


def test_weights_that_would_change_sign_are_refused() -> None:
    """The theorem needs rho above 0."""
    with pytest.raises(EngineError, match="must stay below 1"):
        noisy.noisy_ft(pictures_setting(noisy_rate=1.0, weight_decay=1.0))


def test_adapters_cannot_be_asked_for() -> None:
    """Frozen weights beside them would be read back as they were, with all that they know."""
    with pytest.raises(EngineError, match=r"lora_rank must be one of: 0"):
        check_options("unlearn", "noisy-ft", {**OPTIONS, "lora_rank": 4})


def test_the_whole_method_trains_on_what_is_left() -> None:
    """After the noise, ordinary training is free."""
    setting = pictures_setting(epochs=30, learning_rate=0.01)
    fitted = noisy.noisy_ft(setting)

    assert fitted.steps == 60
    assert fitted.last_loss < fitted.first_loss / 2
