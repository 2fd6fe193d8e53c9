"""CLIP folders as people download them: the older files of the hub, sizes apart, and weights that are not all there."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPVisionModel

from engine import checkpoints
from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import Record, write_records
from engine.errors import EngineError
from engine.run import run
from engine.tasks.vision_language import eyes, image_features, labelled, logits, prompts, text_features
from tests.engine import painted, styled, tiny

MEAN, DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
PREPROCESSOR: dict[str, Any] = {
    "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": MEAN, "image_std": DEVIATION,
    "resample": 3, "size": 224,
}  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz."
MERGES = (("o", "p</w>"), ("t", "op</w>"), ("p", "h"), ("ph", "o"), ("pho", "t"), ("phot", "o</w>"))


def hub_folder(folder: Path) -> Path:
    """A CLIP of few weights in the files of the hub: words and merges apart, one number a size, no tokenizer.json."""
    merged = ["".join(pair) for pair in MERGES]
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *merged, "<|startoftext|>", "<|endoftext|>"]
    marks = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    tower = {"num_attention_heads": 2, "num_hidden_layers": 1}
    text = {**tower, **marks, "hidden_size": 24, "intermediate_size": 16, "vocab_size": len(words)}
    vision = {**tower, "hidden_size": 16, "intermediate_size": 32, "image_size": 224, "patch_size": 56}
    torch.manual_seed(1)
    config = CLIPConfig(text_config={**text, "max_position_embeddings": 77}, vision_config=vision, projection_dim=12)
    CLIPModel(config).save_pretrained(folder)
    files: dict[str, Any] = {
        "preprocessor_config.json": PREPROCESSOR,
        "vocab.json": {word: i for i, word in enumerate(words)},
        "special_tokens_map.json": {"bos_token": words[-2], "eos_token": words[-1], "pad_token": words[-1]},
        "tokenizer_config.json": {
            "tokenizer_class": "CLIPTokenizer", "bos_token": words[-2], "eos_token": words[-1], "pad_token": words[-1],
            "unk_token": words[-1], "do_lower_case": True, "model_max_length": 77,
        },
    }  # fmt: skip
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES))
    return folder


def _job(folder: Path, kind: Kind, **fields: Any) -> Evidence:  # noqa: ANN401 - any field of a job
    return run(Job(version=VERSION, kind=kind, seed=3, task="vision-language", **fields), folder, tiny.quiet)


def _records(count: int) -> list[Record]:
    return [
        Record(
            record_id=f"{domain}-{i}",
            unit=f"{domain}-{i}",
            image=painted.png(styled.drawn(painted.LABELS[i % 4], domain, i)),
            label=painted.LABELS[i % 4],
            domain=domain,
        )
        for domain in ("photo", "negative")
        for i in range(count)
    ]


@pytest.mark.parametrize("edge", [224, 256])
def test_a_folder_of_the_hub_is_read_as_the_library_reads_it(tmp_path: Path, edge: int) -> None:
    """224 pixels of a scaled picture's middle, words of merges, towers of different widths: the library's logits."""
    folder = hub_folder(tmp_path / "clip")
    (folder / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSOR, "size": edge}))
    picture = np.random.default_rng(0).integers(0, 256, (250, 310, 3), dtype=np.uint8)
    record = Record(record_id="a", unit="a", image=painted.png(picture), label="top")
    texts = prompts(["top", "photo"])
    model, reader = styled.loaded(folder)
    processor = CLIPProcessor.from_pretrained(folder)

    read = labelled([record], reader, ["top", "photo"], [])
    with torch.no_grad():
        ours = logits(model, image_features(model, reader, read.images), text_features(model, reader, texts))
        given = processor(text=texts, images=[Image.fromarray(picture)], return_tensors="pt", padding=True)
        theirs = model(**given).logits_per_image

    assert reader.tokenizer(texts)["input_ids"] == given["input_ids"].tolist()
    assert torch.allclose(reader.normalised(read.images), given["pixel_values"], atol=1e-5)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_domains_of_a_downloaded_clip_are_forgotten_and_measured(tmp_path: Path) -> None:
    """By the jobs for it, in pictures of another size than the model's; the weights are the same bytes afterwards."""
    folder, drawn = hub_folder(tmp_path / "clip"), _records(4)
    sets = {"forget": drawn[:3], "retain": drawn[4:7], "holdout": [drawn[3], drawn[7]]}
    for name, records in sets.items():
        write_records(tmp_path / f"{name}.jsonl", records)
    files = {name: f"{name}.jsonl" for name in ("forget", "retain")}
    options = {"epochs": 1, "prompts": 2, "depth": 1, "block": 0, "shots": 2}
    _job(tmp_path, Kind.UNLEARN, method="adu", model="clip", out="new", options=options, **files)
    told = {"models": {"after": "new", "before": "clip"}, "options": {"suite": "domain", "resamples": 100}}
    found = _job(tmp_path, Kind.EVALUATE, holdout="holdout.jsonl", **told, **files)

    assert {one.metric for one in found.findings} >= {"mem", "for", "h"}
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("clip", "new"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size": {"height": 224, "width": 224}}, "says size, image_mean and image_std"),
        ({"size": 200}, "for another number of channels or no size"),
        ({"image_mean": [0.5]}, "for another number of channels or no size"),
    ],
)
def test_sizes_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    """A crop larger than the picture, a picture squeezed and then cropped, and grey means for colours."""
    folder = hub_folder(tmp_path / "clip")
    (folder / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSOR, **change}))

    with pytest.raises(EngineError, match=sentence):
        checkpoints.load(folder)


def test_a_head_that_is_missing_is_not_drawn_at_random(tmp_path: Path) -> None:
    """The library would go on with random numbers; here the sentence names what is not there, for both kinds."""
    hub_folder(tmp_path / "clip")
    checkpoints.save(tmp_path / "classifier", *painted.network())
    for name, part in (("clip", "visual_projection"), ("classifier", "classifier")):
        file = tmp_path / name / "model.safetensors"
        kept = {key: value for key, value in load_file(file).items() if part not in key}
        save_file(kept, file, metadata={"format": "pt"})
        with pytest.raises(EngineError, match=rf"{name}' \(.*\) lacks weights \({part}\.") as refused:
            checkpoints.load(tmp_path / name)
        assert refused.value.code == "bad_model"


@pytest.mark.parametrize(
    ("name", "suite", "sentence"),
    [
        ("eyes", "domain", r"the suite 'domain' measures CLIPs, and 'eyes' \(CLIPVisionModel\) is none"),
        ("eyes", "image", r"measures image classifiers, and 'eyes' \(CLIPVisionModel\) is none"),
        ("clip", "image", r"measures image classifiers, and 'clip' \(CLIPModel\) is none"),
        ("classifier", "domain", r"measures CLIPs, and 'classifier' \(ImageModel\) is none"),
        ("classifier", "membership", r"measures language models, and 'classifier' \(ImageModel\) is none"),
    ],
)
def test_a_suite_says_which_models_it_measures(tmp_path: Path, name: str, suite: str, sentence: str) -> None:
    """A model without the head that a suite asks is refused by its name, before a record is read."""
    if name == "classifier":
        checkpoints.save(tmp_path / name, *painted.network())
    else:
        model, reader = styled.network()
        checkpoints.save(tmp_path / "clip", model, reader)
        CLIPVisionModel(eyes(model)).save_pretrained(tmp_path / "eyes")
    task = checkpoints.task(tmp_path / name)
    told: dict[str, Any] = {"models": {"after": name}, "options": {"suite": suite}}

    with pytest.raises(EngineError, match=sentence):
        run(Job(version=VERSION, kind=Kind.EVALUATE, seed=1, task=task, **told), tmp_path, tiny.quiet)
