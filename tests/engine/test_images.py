"""Image classifiers from a job to evidence: trained, trained under DP, retrained, measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from engine import checkpoints
from engine.catalogue import check_options
from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import write_records
from engine.errors import EngineError
from engine.methods import Setting, images, private
from engine.run import run
from engine.tasks.image import classes_of, scores
from engine.tasks.image_models import GaborMagnitudes, gabor_filters
from engine.tasks.pixels import Pixels, pictures
from engine.verification.image_attacks import METRICS
from tests.engine import painted, tiny

DP = {"sigma": 0.3, "sample_rate": 0.8, "steps": 40, "learning_rate": 0.02, "margin": 0.1}
SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start, a model trained on forty pictures, one retrained without eight, and the records."""
    folder = tmp_path_factory.mktemp("images")
    everything = painted.records(range(40))
    for name, chosen in {"all": everything, "forget": everything[:8], "retain": everything[8:]}.items():
        write_records(folder / f"{name}.jsonl", chosen)
    write_records(folder / "holdout.jsonl", painted.records(range(100, 120)))
    job(folder, Kind.INITIALISE, out="start", options={"labels": list(painted.LABELS), "size": 12, "width": 4})
    fit = {"epochs": 12, "batch": 8}
    job(folder, Kind.TRAIN, model="start", train="all.jsonl", out="before", options=fit)
    without = {"forget": "forget.jsonl", "retain": "retain.jsonl"}
    job(folder, Kind.UNLEARN, method="retrain", base="start", out="reference", options=fit, **without)
    return folder


def job(folder: Path, kind: Kind, **fields: Any) -> Evidence:  # noqa: ANN401 - any field of a job
    """One job about pictures."""
    return run(Job(version=VERSION, kind=kind, seed=3, task="image", **fields), folder, tiny.quiet)


def measured(folder: Path, **models: str) -> dict[str, Any]:
    """The suite's findings by metric."""
    sets = {name: f"{name}.jsonl" for name in ("forget", "retain", "holdout")}
    found = job(folder, Kind.EVALUATE, models=models, options={"suite": "image", "resamples": 200}, **sets)
    return {one.metric: one for one in found.findings}


def test_a_classifier_learns_and_the_suite_says_so(place: Path) -> None:
    """Accuracy on what it was trained on, on strangers, and nothing to forget in one that never saw it."""
    found = measured(place, after="before", reference="reference")

    assert found["ra"].after.value == 1.0
    assert found["ta"].after.value >= 0.9
    assert found["ua"].after.value == 0.0
    assert found["ua"].difference.value == found["ua"].after.value - found["ua"].reference.value
    assert set(found) == {"ua", "ra", "ta", *METRICS, "mia_auc", "forget_loss", "gap"}
    assert found["ta"].after.n == 20


def test_a_model_compared_with_itself_differs_in_nothing(place: Path) -> None:
    """Differences are paired."""
    for one in measured(place, after="before", reference="before").values():
        assert one.difference.value == 0.0
        assert one.difference.ci95 == (0.0, 0.0)


def test_a_start_is_the_same_for_one_seed(place: Path) -> None:
    """And it is a folder that the library's own loader understands."""
    evidence = job(
        place, Kind.INITIALISE, out="again", options={"labels": list(painted.LABELS), "size": 12, "width": 4}
    )

    assert (place / "again" / "model.safetensors").read_bytes() == (place / "start" / "model.safetensors").read_bytes()
    assert "preprocessor_config.json" in evidence.model_files


def test_a_dp_base_learns_with_little_noise_and_says_which_unit(place: Path) -> None:
    """The evidence holds the mechanism and no loss of training."""
    told = {"model": "start", "train": "all.jsonl", "holdout": "holdout.jsonl"}
    evidence = job(place, Kind.DP_BASE, out="base", options={**DP, "unit": "record"}, **told)

    assert evidence.learned is not None
    assert evidence.learned["learned"]
    assert evidence.accountant is not None
    assert (evidence.accountant["unit"], evidence.accountant["units"]) == ("record", 40)
    assert evidence.training is None
    assert evidence.seed_commitment is not None


def setting(model: torch.nn.Module, pixels: Pixels, options: dict[str, Any], **changes: Any) -> Setting[Any]:  # noqa: ANN401 - any field
    """A model asked to learn twelve pictures."""
    given: dict[str, Any] = {"retain": painted.records(range(12), a_unit=3), "forget": (), **changes}
    checked = check_options("dp_base" if "sigma" in options else "train", None, options, "image")
    rest = {"seed": 1, "progress": tiny.quiet, "folder": Path("x"), "digest": "x", "cache": Path("x")}
    return Setting(model=model, reader=pixels, options=checked, **given, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(("unit", "units"), [("data subject", 4), ("record", 12)])
def test_a_unit_is_a_person_or_a_picture(unit: str, units: int) -> None:
    """As the policy promises."""
    model, pixels = painted.network()
    given = setting(model, pixels, {**DP, "steps": 1, "unit": unit})
    outcome = private.train_base(given, holdout=painted.records(range(50, 54)), secret=SECRET)

    assert (outcome.mechanism.unit, outcome.mechanism.units) == (unit, units)


@pytest.mark.parametrize("architecture", ["cnn", "gabor", "gabor-cnn", "resnet18"])
def test_every_architecture_gives_per_unit_gradients(architecture: str) -> None:
    """The clipped sum is that of each unit's own gradient, by an ordinary backward pass."""
    model, pixels = painted.network(architecture=architecture, width=2)
    given = setting(model, pixels, {**DP, "steps": 1, "clip": 0.05})
    units = given.retain[:6]
    outcome = []
    for chosen in (units, units[:3], units[3:]):
        material = private_images_of(model, pixels, chosen)
        model.train()
        with private.hooked(model):
            outcome.append(private.clipped_sum(material, accelerator(), material.units, 0.05, 64))
    for both, one, other in zip(*outcome, strict=True):
        assert torch.allclose(both, one + other, atol=1e-5)
    assert sum(float(g.square().sum()) for g in outcome[1]) ** 0.5 == pytest.approx(0.05, rel=1e-3)


def private_images_of(model: Any, pixels: Pixels, records: Any) -> Any:  # noqa: ANN401 - for one test
    """The material of some pictures, three to a person."""
    from engine.methods.private_images import Images  # noqa: PLC0415 - opacus, for this test alone

    known = pictures(records, pixels, classes_of(model))
    return Images(model, pixels, known, [range(i, i + 3) for i in range(0, len(known), 3)], known)


def accelerator() -> Any:  # noqa: ANN401 - untyped library
    """Plain float32."""
    from engine.training import accelerator_for  # noqa: PLC0415 - for this test alone

    return accelerator_for("float32")


def test_batch_normalisation_is_refused_under_dp() -> None:
    """With the theorem's condition."""
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1])
    config.id2label = dict(enumerate(painted.LABELS))
    _, pixels = painted.network()
    given = setting(ResNetForImageClassification(config), pixels, DP)

    with pytest.raises(EngineError, match="batch normalisation, which mixes people"):
        private.train_base(given, holdout=painted.records(range(50, 54)), secret=SECRET)


def test_a_classifier_of_the_library_is_trained_and_measured_alike(tmp_path: Path) -> None:
    """A ViT folder goes through the same jobs."""
    names = dict(enumerate(painted.LABELS))
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=12,
        patch_size=4,
        num_channels=1,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )
    _, pixels = painted.network()
    checkpoints.save(tmp_path / "start", ViTForImageClassification(config), pixels)
    write_records(tmp_path / "all.jsonl", painted.records())
    fit = {"epochs": 20, "batch": 8, "learning_rate": 0.01}
    evidence = job(tmp_path, Kind.TRAIN, model="start", train="all.jsonl", out="made", options=fit)
    model, reader = checkpoints.load(tmp_path / "made")
    assert isinstance(reader, Pixels)
    told = scores(model, reader, pictures(painted.records(), reader, classes_of(model)), rows_per_pass=7)

    assert evidence.steps == 100
    assert told.hits.mean() > 0.9
    assert np.allclose(told.logits, told.log_probs - np.log1p(-np.exp(told.log_probs)))


def test_steps_can_be_said_in_the_place_of_epochs() -> None:
    """A cost in steps needs them exact."""
    model, pixels = painted.network()

    assert images.refit(setting(model, pixels, {"steps": 7, "batch": 5})).steps == 7


def test_passes_do_not_change_a_step() -> None:
    """Memory is bounded by them, and nothing else."""
    gradients = []
    for rows in (2, 512):
        model, pixels = painted.network()
        given = setting(model, pixels, {"steps": 1, "batch": 8, "rows_per_pass": rows})
        for share in images.plan(given)[0]:
            share.loss(model, pixels).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))

    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


def test_methods_for_text_refuse_pictures(place: Path) -> None:
    """And the job must say what its model is."""
    told = {"model": "before", "forget": "forget.jsonl", "retain": "retain.jsonl", "out": "no"}
    with pytest.raises(EngineError, match="is for language models, and this is image"):
        job(place, Kind.UNLEARN, method="npo", **told)
    with pytest.raises(EngineError, match="is of the task 'image'"):
        run(Job(version=VERSION, kind=Kind.UNLEARN, seed=1, method="npo", **told), place, tiny.quiet)  # type: ignore[arg-type]
    assert not (place / "no").exists()


def test_the_gabor_filters_are_fixed_and_blind_to_brightness() -> None:
    """What was never fitted can leak nothing."""
    filters = gabor_filters()

    assert torch.allclose(filters.sum((1, 2, 3)), torch.zeros(len(filters)), atol=1e-6)
    assert torch.allclose(filters.abs().sum((1, 2, 3)), torch.ones(len(filters)))
    assert not list(GaborMagnitudes(1).parameters())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"labels": ["one"]}, "at least two classes"),
        ({"labels": ["one", "one"]}, "each once"),
        ({"labels": ["one", "two"], "size": 30}, "multiple of 4"),
        ({"labels": ["one", "two"], "architecture": "transformer"}, "must be one of"),
        ({"labels": ["one", "two"], "mean": 0.1}, "unknown key"),
        ({"labels": ["one", "two"], "channels": 2}, "must be one of: 1, 3"),
    ],
)
def test_a_start_that_cannot_be_made_is_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    """In one sentence, and nothing is left behind."""
    with pytest.raises(EngineError, match=sentence):
        job(tmp_path, Kind.INITIALISE, out="start", options=options)
    assert not (tmp_path / "start").exists()
