"""`unlearn`, `evaluate` and `model add` on published layouts, by the command line, and bad pictures refused whole."""

import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compliance.wiring import Services
from engine import checkpoints
from engine.contract import VERSION, Job, Kind
from engine.corpus import digest, read_records, write_records
from engine.errors import EngineError
from engine.run import run as engine_run
from tests.compliance.terminal import answer, at, refusal, run
from tests.engine import painted, released, tiny
from tests.engine.test_clip_folders import hub_folder

POLICY = """
name = "domains"
task = "vision-language"
ladder = ["retrain"]

[[gate]]
metric = "for"
direction = "at_least"
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of CIFAR-10's classes that was trained on nothing, and a release of it in three sets."""
    folder = tmp_path_factory.mktemp("cifar")
    checkpoints.save(folder / "model", *painted.network(labels=released.TEN, size=32, channels=3))
    whole = released.cifar_10(folder / "published")
    for name in ("retain", "holdout"):
        shutil.copytree(whole, folder / "data" / name)
    shutil.copy(whole / "batches.meta.txt", folder / "data")
    (folder / "data" / "retain" / "data_batch_1.bin").rename(folder / "data" / "forget.bin")
    return folder


def _unlearning(room: Path, retain: Path, out: Path) -> Job:
    files = {"forget": str(room / "data" / "forget.bin"), "retain": str(retain), "out": str(out)}
    told: dict[str, Any] = {"model": str(room / "model"), "options": {"epochs": 1}, "seed": 1, "task": "image", **files}
    return Job(version=VERSION, kind=Kind.UNLEARN, method="finetune", **told)


def test_a_classifier_forgets_a_batch_of_cifar(room: Path, tmp_path: Path) -> None:
    """From the release alone: of a folder that has both parts a retain set is 'train'."""
    data = room / "data"
    evidence = engine_run(_unlearning(room, data / "retain", tmp_path / "new"), tmp_path, tiny.quiet)

    assert evidence.data_digests == {
        "forget": digest(read_records(data / "forget.bin")),
        "retain": digest(read_records(data / "retain", split="train")),
    }


def test_a_class_that_the_model_does_not_have_is_refused(room: Path, tmp_path: Path) -> None:
    """By the place of the picture, before anything is made."""
    whole = read_records(room / "data" / "retain", split="train")
    write_records(tmp_path / "other.jsonl", [*whole, replace(whole[0], record_id="a", label="zebra")])

    with pytest.raises(EngineError, match="the label of record 5 is none of the 10 that the model has"):
        engine_run(_unlearning(room, tmp_path / "other.jsonl", tmp_path / "new"), tmp_path, tiny.quiet)

    assert [path.name for path in tmp_path.iterdir()] == ["other.jsonl"]


@pytest.mark.slow
def test_a_release_is_measured(room: Path) -> None:
    """The holdout set is 'test' of the release, less what no retain picture is of; the forget set is one file of it."""
    data = room / "data"
    measured = run("evaluate", "image", "--model", room / "model", "--data", data, "--json")
    staying = {one.label for one in read_records(data / "retain", split="train")}

    assert (measured.code, measured.err) == (0, "")
    assert {"ua", "ra", "ta"} <= set(measured.value["metrics"])
    strangers = [one for one in read_records(data / "holdout", split="test") if one.label in staying]
    assert measured.value["metrics"]["ta"]["n"] == len(strangers) > 0


@pytest.mark.slow
def test_a_broken_picture_leaves_no_half_a_model(room: Path, tmp_path: Path) -> None:
    """A picture that is cut short: one sentence, exit 2, and no folder begun."""
    whole = read_records(room / "data" / "retain", split="train")
    image = base64.b64encode(base64.b64decode(whole[0].image or "")[:400]).decode()
    write_records(tmp_path / "cut.jsonl", [*whole, replace(whole[0], record_id="a", image=image)])
    files = ("--forget", room / "data" / "forget.bin", "--retain", tmp_path / "cut.jsonl", "--out", tmp_path / "new")

    line = refusal(run("unlearn", "finetune", "--model", room / "model", *files))

    assert "the image of record 5 cannot be decoded; save it as PNG or JPEG" in line
    assert [path.name for path in tmp_path.iterdir()] == ["cut.jsonl"]


def test_a_downloaded_clip_is_registered_with_a_data_set_of_domains(services: Services, tmp_path: Path) -> None:
    """The files of the hub and Office-Home's folders; the stored version has every file of the folder."""
    clip = hub_folder(tmp_path / "clip")
    (tmp_path / "policy.toml").write_text(POLICY)
    answer(services, "dataset", "add", "home", released.office_home(tmp_path))
    answer(services, "dataset", "add", "strangers", released.office_home(tmp_path / "others"))
    answer(services, "dataset", "add", "plain", released.class_folders(tmp_path), "--split", "train")
    said = (clip, "--start", clip, "--policy", tmp_path / "policy.toml", "--holdout", "strangers")

    value = answer(services, "model", "add", "eyes", *said, "--dataset", "home")
    [version] = answer(services, "model", "versions", "eyes")

    assert (value["task"], value["dataset"], value["version"]) == ("vision-language", "home", 1)
    assert {path.name for path in Path(version["path"]).iterdir()} == {path.name for path in clip.iterdir()}
    assert json.loads((Path(version["path"]) / "config.json").read_text())["architectures"] == ["CLIPModel"]
    plain = refusal(at(services, "model", "add", "two", *said, "--dataset", "plain"))
    assert "'plain' is for models of the task image, and the policy is for vision-language" in plain
    (clip / "pytorch_model.bin").write_bytes(b"\x80\x02")
    assert "'pytorch_model.bin' is a pickle" in refusal(at(services, "model", "add", "two", *said, "--dataset", "home"))
