"""Label-agnostic forgetting: its losses by hand, that it reads no label, and that a class goes while the rest stays."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from engine import catalogue, checkpoints
from engine.catalogue import check_options
from engine.contract import VERSION, Evidence, Guarantee, Job, Kind
from engine.corpus import Record, write_records
from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.label_agnostic import laf, laf_r
from engine.methods.label_agnostic_losses import alignment, strangeness, turned
from engine.methods.label_agnostic_network import Network
from engine.methods.label_agnostic_records import pictures_alone
from engine.methods.label_agnostic_vae import Autoencoder, Plan, trained
from engine.run import run
from engine.tasks.image import classes_of, scores
from engine.tasks.pixels import Pixels, pictures
from tests.engine import painted, tiny

QUICK: dict[str, Any] = {"epochs": 1, "vae_epochs": 1, "batch": 8}
ROWS = arrays(np.float32, (3, 4), elements=st.floats(-1e3, 1e3, width=32))


@given(ROWS, ROWS)
def test_strangeness_lies_between_one_and_e(one: Any, other: Any) -> None:  # noqa: ANN401 - an array
    """A number a picture: 1 where it was reconstructed, below e however far off it was."""
    found = strangeness(torch.from_numpy(one), torch.from_numpy(other))

    assert found.shape == (3,)
    assert (found >= 1).all()
    assert (found <= math.e + 1e-6).all()


def test_strangeness_by_hand() -> None:
    """Errors 0, 1 and 3 give exp(0), exp(1/2) and exp(3/4)."""
    given_rows = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    made = given_rows + torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, math.sqrt(2)]])

    assert strangeness(made, given_rows).tolist() == pytest.approx([1.0, math.exp(0.5), math.exp(0.75)])


def test_alignment_by_hand() -> None:
    """Two who stay at distances 0 and 1, two forgotten at 1 and 2, tau = 2: ln(e^0 / s) + ln(e^1 / s), s = e^.5 + e."""
    before = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    kept = turned(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), before)
    gone = turned(torch.tensor([[0.0, 5.0], [-1.0, 0.0]]), before)

    assert (kept.tolist(), gone.tolist()) == ([0.0, 1.0], [1.0, 2.0])
    assert float(alignment(kept, gone, 2.0)) == pytest.approx(1.0 - 2.0 * math.log(math.exp(0.5) + math.e))


def test_alignment_holds_who_stays_and_drives_away_who_goes() -> None:
    """Its gradient is positive in every distance of the first and negative in every distance of the second."""
    kept = torch.tensor([0.1, 0.2], requires_grad=True)
    gone = torch.tensor([0.1, 0.4, 0.2], requires_grad=True)
    alignment(kept, gone, 20.0).backward()

    assert kept.grad is not None
    assert gone.grad is not None
    assert kept.grad.tolist() == [1.0, 1.0]
    assert (gone.grad < 0).all()
    assert float(gone.grad.sum()) == pytest.approx(-2 / 20.0)


def representations() -> torch.Tensor:
    """A hundred representations that lie near a plane, far from the unit cube, and one coordinate that is flat."""
    rng = torch.Generator().manual_seed(0)
    plane = torch.randn(100, 2, generator=rng) @ torch.randn(2, 12, generator=rng) * 5.0 + 3.0
    plane[:, 4] = 0.0
    return plane


@pytest.mark.parametrize("faithful", [False, True])
def test_the_published_decoder_cannot_reconstruct_and_the_fixed_one_can(*, faithful: bool) -> None:
    """A sigmoid cannot give back what is above 1: the loss hardly moves, where a linear output loses most of it."""
    plan = Plan(latent=4, faithful=faithful, epochs=6, batch=16, rate=3e-3, kl=0.025, seed=1)
    made, fitted = trained(representations(), plan, name="all", progress=tiny.quiet)
    left = fitted.last_loss / fitted.first_loss

    assert (left > 0.5) if faithful else (left < 0.4)
    assert not any(p.requires_grad for p in made.parameters())


def test_an_autoencoder_is_that_of_the_paper_and_of_its_seed() -> None:
    """Layers of 128 and 32, the sigmoid where it is published, the same weights again for the same seed alone."""
    seen = representations()
    made = Autoencoder(seen, latent=8, faithful=True)
    widths = [layer.out_features for layer in made.modules() if isinstance(layer, torch.nn.Linear)]
    plan = Plan(latent=2, faithful=False, epochs=1, batch=64, rate=1e-3, kl=0.025, seed=1)
    weights = [
        trained(seen, replace(plan, seed=seed), name="all", progress=tiny.quiet)[0].state_dict() for seed in (1, 1, 2)
    ]

    assert widths == [128, 32, 8, 8, 32, 128, 12]
    assert isinstance(made.decoder[-1], torch.nn.Sigmoid)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["decoder.4.weight"], weights[2]["decoder.4.weight"])


def setting(
    model: Any,  # noqa: ANN401 - any classifier
    pixels: Pixels,
    forget: Any,  # noqa: ANN401 - records
    retain: Any,  # noqa: ANN401 - records
    method: str = "laf",
    **options: Any,  # noqa: ANN401 - any option
) -> Setting[Any]:
    """What a method is given."""
    checked = check_options("unlearn", method, options, "image")
    rest: dict[str, Any] = {"seed": 1, "progress": tiny.quiet, "folder": Path("x"), "digest": "x", "cache": Path("x")}
    return Setting(model=model, reader=pixels, options=checked, forget=forget, retain=retain, **rest)


def weights(model: torch.nn.Module) -> torch.Tensor:
    """All parameters and buffers in a row."""
    return torch.cat([value.flatten().float() for value in model.state_dict().values()])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that has learned forty pictures, and one of its four classes as the forget set."""
    folder = tmp_path_factory.mktemp("label-agnostic")
    everything = painted.records()
    for name, top in {"forget": True, "retain": False}.items():
        write_records(folder / f"{name}.jsonl", [r for r in everything if (r.label == "top") is top])
    write_records(folder / "all.jsonl", everything)
    labels = {"labels": list(painted.LABELS), "size": painted.SIDE, "width": 4}
    job(folder, Kind.INITIALISE, out="start", options=labels)
    job(folder, Kind.TRAIN, model="start", train="all.jsonl", out="m", options={"epochs": 12, "batch": 8})
    return folder


def job(folder: Path, kind: Kind, **fields: Any) -> Evidence:  # noqa: ANN401 - any field of a job
    """One job about pictures."""
    return run(Job(version=VERSION, kind=kind, seed=3, task="image", **fields), folder, tiny.quiet)


def unlearned(folder: Path, out: str, method: str = "laf", **fields: Any) -> Evidence:  # noqa: ANN401 - any field
    """A job that forgets the class."""
    told = {"model": "m", "forget": "forget.jsonl", "retain": "retain.jsonl", **fields}
    return job(folder, Kind.UNLEARN, method=method, out=out, **told)


def accuracies(folder: Path, name: str) -> tuple[float, float]:
    """Of strangers' pictures of the forgotten class and of the other classes."""
    model, pixels = checkpoints.load(folder / name)
    assert isinstance(pixels, Pixels)
    records = painted.records(range(100, 180))
    hits = scores(model, pixels, pictures(records, pixels, classes_of(model)), rows_per_pass=80).hits
    gone = np.array([record.label == "top" for record in records])
    return float(hits[gone].mean()), float(hits[~gone].mean())


def test_a_class_is_forgotten_without_labels_and_the_rest_is_not(place: Path) -> None:
    """Accuracy on the class falls by more than 70 points, on the others by less than 5."""
    rates = {"extractor_rate": 5e-4, "alignment_rate": 1e-3}
    evidence = unlearned(place, "new", options={"batch": 8, "epochs": 15, "vae_epochs": 3, **rates})
    before, after = accuracies(place, "m"), accuracies(place, "new")
    told = evidence.training or {}

    assert before[0] - after[0] > 0.7
    assert before[1] - after[1] < 0.05
    assert evidence.guarantee is Guarantee.EMPIRICAL
    assert evidence.steps == 2 * 15 * 2
    assert {f"vae_{name}_{end}_loss" for name in ("all", "forget") for end in ("first", "last")} <= set(told)


def test_labels_cannot_change_what_is_forgotten(place: Path) -> None:
    """With every label another one, or none at all, the weights are the same bit for bit."""
    rng = np.random.default_rng(0)
    made = set()
    for name in ("told", "shuffled", "absent"):
        for role in ("forget", "retain"):
            records = [Record(**one.to_mapping()) for one in painted.records(range(80))]
            chosen = [r for r in records if (r.label == "top") is (role == "forget")]
            labels = {"told": None, "shuffled": rng.choice(painted.LABELS, len(chosen)), "absent": [""] * len(chosen)}[
                name
            ]
            if labels is not None:
                chosen = [replace(r, label=str(label)) for r, label in zip(chosen, labels, strict=True)]
            write_records(place / f"{name}-{role}.jsonl", chosen)
        files = {role: f"{name}-{role}.jsonl" for role in ("forget", "retain")}
        made.add(unlearned(place, f"out-{name}", options=QUICK, **files).model_files["model.safetensors"].sha256)

    assert len(made) == 1


def test_a_method_without_labels_is_given_none() -> None:
    """Neither label nor id nor unit arrives, for the id of a picture from a folder begins with its class."""
    [one] = pictures_alone([Record(record_id="top/1.png", unit="top/1.png", image="aaaa", label="top")])

    assert one == Record(record_id="0", unit="0", image="aaaa", label="")
    assert catalogue.method("laf").blind == ("forget", "retain", "holdout")
    assert "retain" not in catalogue.method("laf-r").blind


def test_the_head_is_left_alone_and_everything_repeats() -> None:
    """Only what lies below the head changes, by one seed in one way; the network ends in evaluation mode."""
    found = []
    for _ in range(2):
        model, pixels = painted.network()
        before, below = model.classifier.weight.clone(), weights(model.body)
        laf(setting(model, pixels, painted.records(range(8)), painted.records(range(8, 24)), **QUICK))
        assert torch.equal(model.classifier.weight, before)
        assert not torch.equal(weights(model.body), below)
        assert not model.training
        found.append(weights(model))

    assert torch.equal(*found)


def test_repair_steps_the_head_alone() -> None:
    """LAF+R ends with the body of LAF and another head, and all parameters can learn again."""
    bodies, heads = [], []
    for method, function in (("laf", laf), ("laf-r", laf_r)):
        model, pixels = painted.network()
        sets = painted.records(range(8)), painted.records(range(8, 24))
        function(setting(model, pixels, *sets, method=method, **QUICK))
        bodies.append(weights(model.body))
        heads.append(model.classifier.weight.detach())
        assert all(p.requires_grad for p in model.parameters())

    assert torch.equal(*bodies)
    assert not torch.equal(*heads)


def test_repair_is_told_in_the_evidence(place: Path) -> None:
    """Its labels come from the retain set: the steps it took, and the loss of who stays."""
    evidence = unlearned(place, "repaired", "laf-r", options={**QUICK, "repair_epochs": 3})
    told = evidence.training or {}

    assert told["repair_last_loss"] < 3 * told["repair_first_loss"]
    assert evidence.steps == 2 * 2 + 3 * 2


def classifiers() -> list[Any]:
    """Two networks of the library, one with batch normalisation."""
    names = dict(enumerate(painted.LABELS))
    common: dict[str, Any] = {"num_channels": 1, "id2label": names, "label2id": {name: i for i, name in names.items()}}
    vit = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=12, patch_size=4,
        **common,
    )  # fmt: skip
    resnet = ResNetConfig(embedding_size=4, hidden_sizes=[8], depths=[1], **common)
    return [ViTForImageClassification(vit), ResNetForImageClassification(resnet)]


@pytest.mark.parametrize("which", [0, 1])
def test_a_classifier_of_the_library_is_taken_apart_as_well(which: int) -> None:
    """The head is found by its shape, and statistics of a batch normalisation do not move."""
    model, (_, pixels) = classifiers()[which].eval(), painted.network()
    statistics = [value.clone() for name, value in model.state_dict().items() if "running" in name]
    before = weights(model)
    laf(setting(model, pixels, painted.records(range(8)), painted.records(range(8, 24)), **QUICK))
    after = [value for name, value in model.state_dict().items() if "running" in name]

    assert not torch.equal(weights(model), before)
    assert bool(statistics) is bool(which)
    assert all(torch.equal(one, other) for one, other in zip(statistics, after, strict=True))


def test_what_cannot_forget_is_refused() -> None:
    """Fixed filters cannot change; an empty set has nothing to forget; what is not finite takes no step."""
    fixed, pixels = painted.network(architecture="gabor")
    sets = painted.records(range(8)), painted.records(range(8, 24))
    with pytest.raises(EngineError, match="nothing below the model's last layer can learn"):
        laf(setting(fixed, pixels, *sets, **QUICK))
    model, _ = painted.network()
    with pytest.raises(EngineError, match="pictures to forget and pictures to keep"):
        laf(setting(model, pixels, (), sets[1], **QUICK))
    with pytest.raises(EngineError, match="not finite"):
        laf(setting(model, pixels, *sets, epochs=1, vae_epochs=1, batch=8, vae_rate=1.0, vae_kl=1e38))
    model.classifier = torch.nn.Linear(16, 9)
    with pytest.raises(EngineError, match="does not end in a linear layer"):
        Network.of(model, pixels)
