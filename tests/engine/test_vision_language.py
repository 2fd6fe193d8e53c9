"""CLIP as a family of models: folders of ours and of the library, captions, and training on them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from engine import checkpoints
from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import Record, read_records, write_records
from engine.errors import EngineError
from engine.methods.domains_fit import Captioned, loss
from engine.run import run
from engine.tasks.vision_language import (
    Reader,
    class_names,
    domain_names,
    image_features,
    labelled,
    logits,
    prompts,
    text_features,
)
from tests.engine import painted, styled, tiny


def job(folder: Path, kind: Kind, **fields: Any) -> Evidence:  # noqa: ANN401 - any field of a job
    """One job about a CLIP."""
    return run(Job(version=VERSION, kind=kind, seed=3, task="vision-language", **fields), folder, tiny.quiet)


def library_folder(folder: Path) -> Path:
    """A CLIP with its processor, each made and saved by the library alone."""
    letters = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz.", *(f"{x}</w>" for x in "adeglnoprt.")]
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(letters)}, merges=[])
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}
    marks = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    text = {**tower, **marks, "vocab_size": len(letters), "max_position_embeddings": 40}
    vision = {**tower, "image_size": 12, "patch_size": 4}
    torch.manual_seed(1)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    images = CLIPImageProcessorPil(size={"shortest_edge": 12}, crop_size={"height": 12, "width": 12})
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def test_a_clip_of_the_library_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    """Pictures of another shape are scaled and cropped alike, and class logits are the library's own."""
    model, reader = styled.loaded(library_folder(tmp_path / "clip"))
    picture = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    record = Record(record_id="a", unit="a", image=painted.png(picture), label="dog")
    texts = prompts(["dog", "rat"])
    processor = CLIPProcessor.from_pretrained(tmp_path / "clip")

    read = labelled([record], reader, ["dog", "rat"], [])
    with torch.no_grad():
        ours = logits(model, image_features(model, reader, read.images), text_features(model, reader, texts))
        given = processor(text=texts, images=[Image.fromarray(picture)], return_tensors="pt", padding=True)
        theirs = model(**given).logits_per_image

    assert checkpoints.task(tmp_path / "clip") == "vision-language"
    assert read.images.shape == (1, 3, 12, 12)
    assert torch.allclose(reader.normalised(read.images), given["pixel_values"], atol=1e-5)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_a_folder_that_names_no_classes_has_those_of_the_records() -> None:
    """The library's placeholders are no names; a folder of ours has its own, in its own order."""
    records = styled.records(range(4))
    ours, _ = styled.network()
    plain = CLIPModel(CLIPConfig.from_dict({**ours.config.to_dict(), "id2label": {0: "LABEL_0", 1: "LABEL_1"}}))

    assert class_names(ours, []) == painted.LABELS
    assert class_names(plain, records) == tuple(sorted(painted.LABELS))
    assert prompts(["Alarm_Clock"]) == ["a photo of a Alarm Clock."]


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    """Weights, words and pixels come back; equal weights give equal bytes, and the library reads the folder."""
    model, reader = styled.network()
    for name in ("one", "two"):
        checkpoints.save(tmp_path / name, model, reader)
    again, read = styled.loaded(tmp_path / "one")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())

    assert isinstance(read, Reader)
    assert {name: getattr(read, name) for name in ("channels", "height", "width", "mean", "deviation", "cropped")} == {
        "channels": 3, "height": 12, "width": 12, "mean": (0.5,) * 3, "deviation": (0.5,) * 3, "cropped": False,
    }  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    assert CLIPModel.from_pretrained(tmp_path / "one").config.id2label == dict(enumerate(painted.LABELS))


def test_the_loss_shares_a_caption_evenly() -> None:
    """With one caption for all pictures it is ln(rows) / 2: nothing to choose one way, an even spread the other."""
    model, reader = styled.network()
    images = torch.zeros(4, 3, 12, 12, dtype=torch.uint8)
    same = Captioned(images=images, captions=("a photo of a top.",), owners=torch.zeros(4, dtype=torch.long))

    assert loss(model, reader, same).item() == pytest.approx(np.log(4) / 2, rel=1e-5)


def test_a_clip_learns_captions_and_is_the_same_for_one_seed(tmp_path: Path) -> None:
    """From an empty start, by the job for it: the loss falls, and one seed gives equal bytes."""
    write_records(tmp_path / "all.jsonl", styled.records(range(8)))
    job(tmp_path, Kind.INITIALISE, out="start", options=styled.SHAPE)
    training = {"epochs": 4, "batch": 24, "learning_rate": 5e-3, "domains": "off"}
    made = [job(tmp_path, Kind.TRAIN, model="start", train="all.jsonl", out=name, options=training) for name in "ab"]
    one, two = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    told = made[0].training or {}

    assert told["last_loss"] < told["first_loss"]
    assert one == two != (tmp_path / "start" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": ["top"]}, "options.labels must name at least two classes, each once"),
        ({"patch": 5}, "options.size must be a multiple of patch, and width of heads"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    """Before anything is drawn."""
    with pytest.raises(EngineError, match=sentence):
        job(tmp_path, Kind.INITIALISE, out="start", options={**styled.SHAPE, **change})


def test_a_folder_without_sizes_is_refused(tmp_path: Path) -> None:
    """Neither file of the library is there, or it says nothing."""
    folder = library_folder(tmp_path / "clip")
    (folder / "processor_config.json").unlink(missing_ok=True)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 12}))

    with pytest.raises(EngineError, match=r"has no preprocessor_config\.json that says size, image_mean and image_std"):
        checkpoints.load(folder)


def test_domains_are_read_from_folders_and_lines(tmp_path: Path) -> None:
    """DOMAIN/CLASS/*.png, as Office-Home has it; lines keep the domain, and two depths at once are refused."""
    for domain, label in (("Art", "Alarm_Clock"), ("Clipart", "Bike")):
        (tmp_path / "home" / domain / label).mkdir(parents=True)
        Image.fromarray(styled.drawn("top", "photo", 0)).save(tmp_path / "home" / domain / label / "00001.png")
    records = read_records(tmp_path / "home")
    write_records(tmp_path / "lines.jsonl", records)

    assert [(one.domain, one.label, one.unit) for one in records] == [
        ("Art", "Alarm_Clock", "Art/Alarm_Clock/00001.png"),
        ("Clipart", "Bike", "Clipart/Bike/00001.png"),
    ]
    assert read_records(tmp_path / "lines.jsonl") == records
    assert domain_names(records) == ("Art", "Clipart")
    Image.fromarray(styled.drawn("top", "photo", 0)).save(tmp_path / "home" / "Art" / "stray.png")
    with pytest.raises(EngineError, match="home holds pictures at two depths"):
        read_records(tmp_path / "home")


def test_a_domain_belongs_to_a_picture() -> None:
    """A text with a domain is no record, and what asks for domains refuses a picture without one."""
    with pytest.raises(EngineError, match="a record needs either text"):
        Record(record_id="a", unit="a", text="words", domain="photo")
    with pytest.raises(EngineError, match="record 1 has no domain"):
        domain_names([Record(record_id="a", unit="a", image="x", label="top")])
