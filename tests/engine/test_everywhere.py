"""Every method that trains does so on adapters as on weights, in bfloat16 as in float32, on a GPU as on a CPU."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from engine.catalogue import METHODS, method
from engine.checkpoints import load_model
from engine.contract import Guarantee, MethodSpec
from engine.options import ComputeOptions
from tests.engine import tiny
from tests.engine.jobs import do

SMALL = {
    "steps": 2,
    "epochs": 1,
    "forget_batch": 2,
    "retain_batch": 3,
    "context_pairs": 1,
    "learning_rate": 1e-2,
    "shards": 2,
    "sigma": 1e-3,
    "noisy_steps": 2,
}
TRAINED = [
    spec for spec in METHODS if issubclass(spec.options, ComputeOptions) and spec.guarantee is not Guarantee.SUPPRESSION
]
# Noisy steps take no adapters (`engine.options.NoisyOptions`), and their noise is fresh in every run.
REPEATABLE = [spec for spec in TRAINED if spec.name != "noisy-ft"]
FORGET, RETAIN = tiny.records(range(2)), tiny.records(range(2, 6))


def told(spec: MethodSpec, folder: Path) -> dict[str, Any]:
    """A job of this method on the tiny model."""
    (folder / "dictionary.json").write_text(json.dumps({"Ada Berg": "Someone", "Malmö": "a town"}), encoding="utf-8")
    others = {record.record_id: "a town" for record in FORGET}
    (folder / "alternatives.json").write_text(json.dumps(others), encoding="utf-8")
    names = {field.name for field in dataclasses.fields(spec.options)}
    return {
        "method": spec.name,
        "base": tiny.folder(folder / "base"),
        "model": tiny.folder(folder / "model", seed=3),
        "forget": FORGET,
        "retain": RETAIN,
        "dictionary": "dictionary.json",
        "alternatives": "alternatives.json",
        "options": {name: value for name, value in SMALL.items() if name in names},
    }


def state(folder: Path) -> dict[str, Tensor]:
    """The weights of a folder."""
    return dict(load_model(folder).state_dict())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", REPEATABLE, ids=lambda spec: spec.name)
def test_every_method_trains_adapters(tmp_path: Path, spec: MethodSpec, precision: str) -> None:
    """The saved model is a plain one in float32, changed in the matrices of its blocks and nowhere else."""
    fields = told(spec, tmp_path)
    options = {**fields.pop("options"), "lora_rank": 2, "precision": precision}
    evidence = do(tmp_path, "unlearn", out="out", options=options, **fields)
    start, made = state(tmp_path / ("base" if "base" in spec.needs else "model")), state(tmp_path / "out")
    moved = {name for name in start if not torch.equal(start[name], made[name])}
    assert made.keys() == start.keys()
    assert {value.dtype for value in made.values()} == {torch.float32}
    assert moved
    assert all("proj" in name for name in moved)
    assert evidence.parameters["lora_rank"] == 2


@pytest.mark.parametrize("spec", TRAINED, ids=lambda spec: spec.name)
def test_every_method_trains_in_bfloat16(tmp_path: Path, spec: MethodSpec) -> None:
    """Weights stay float32 and move about as far as in float32."""
    lengths = []
    for precision in ("float32", "bfloat16"):
        place = tmp_path / precision
        place.mkdir()
        fields = told(spec, place)
        options = {**fields.pop("options"), "precision": precision}
        do(place, "unlearn", out="out", options=options, **fields)
        start, made = state(place / ("base" if "base" in spec.needs else "model")), state(place / "out")
        assert {value.dtype for value in made.values()} == {torch.float32}
        lengths.append(sum(float((made[name] - start[name]).square().sum()) for name in start) ** 0.5)
    assert lengths[0] > 0
    assert lengths[1] == pytest.approx(lengths[0], rel=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_a_gpu_follows_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora_rank: int) -> None:
    """The same steps on the device that accelerate finds and on the CPU end within a hundredth of how far they went."""
    options = {**{name: SMALL[name] for name in SMALL.keys() - {"epochs", "shards"}}, "lora_rank": lora_rank}
    made = []
    for device in ("cuda", "cpu"):
        monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", device)
        AcceleratorState._reset_state(reset_partial_state=True)
        fields = {**told(method("npo"), tmp_path), "options": {**options, "retain_term": "kl"}}
        do(tmp_path, "unlearn", out=device, **fields)
        made.append(state(tmp_path / device))
    AcceleratorState._reset_state(reset_partial_state=True)
    start = state(tmp_path / "model")
    far = sum(float((made[1][name] - start[name]).square().sum()) for name in start) ** 0.5
    apart = sum(float((made[0][name] - made[1][name]).square().sum()) for name in start) ** 0.5
    assert apart < 0.01 * far
