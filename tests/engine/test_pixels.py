"""Pictures in, arrays out: every form gives the same records, and what is no picture is refused by its place."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.corpus import Record, read_records
from engine.errors import EngineError
from engine.tasks.pixels import Pixels, pictures, read_pixels
from tests.engine import painted

GREY = Pixels(channels=1, height=painted.SIDE, width=painted.SIDE, mean=(0.0,), deviation=(1.0,))
CLASSES = {name: i for i, name in enumerate(painted.LABELS)}


def save(path: Path, label: str, seed: int) -> None:
    """One picture as a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(painted.bar(label, seed)).save(path)


def test_a_picture_survives_being_a_record() -> None:
    """PNG loses nothing, and the class is the label's number."""
    batch = pictures(painted.records(range(4)), GREY, CLASSES)

    assert batch.classes.tolist() == [0, 1, 2, 3]
    assert np.array_equal(batch.images[2, 0].numpy(), painted.bar("left", 2))


def test_a_folder_an_array_file_and_a_manifest_say_the_same(tmp_path: Path) -> None:
    """Three forms, one content: only ids differ."""
    labels = ["left", "top"]
    for i, label in enumerate(labels):
        save(tmp_path / "folder" / label / f"{i}.png", label, i)
    lines = [
        {"record_id": f"r{i}", "unit": f"u{i}", "file": f"folder/{label}/{i}.png", "label": label}
        for i, label in enumerate(labels)
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    images = np.stack([painted.bar(label, i) for i, label in enumerate(labels)])
    np.savez(tmp_path / "arrays.npz", images=images, labels=np.array(labels))

    read = [read_records(tmp_path / name) for name in ("folder", "arrays.npz", "manifest.jsonl")]
    decoded = [pictures(records, GREY, CLASSES) for records in read]

    assert [record.record_id for record in read[0]] == ["left/0.png", "top/1.png"]
    assert [record.unit for record in read[2]] == ["u0", "u1"]
    for one in decoded[1:]:
        assert np.array_equal(one.images.numpy(), decoded[0].images.numpy())


def test_colour_is_made_grey_and_size_is_made_the_models() -> None:
    """What a model takes is its folder's business."""
    colour = np.zeros((20, 30, 3), dtype=np.uint8)
    colour[..., 1] = 200
    record = Record(record_id="r", unit="u", image=painted.png(colour), label="top")

    assert pictures([record], GREY, CLASSES).images.shape == (1, 1, painted.SIDE, painted.SIDE)


def test_scaling_is_saved_as_the_library_writes_it(tmp_path: Path) -> None:
    """And read back."""
    told = Pixels(channels=3, height=8, width=9, mean=(0.5, 0.4, 0.3), deviation=(0.1, 0.2, 0.3))
    told.save_pretrained(tmp_path)

    assert read_pixels(tmp_path, channels=3) == told


def test_a_folder_that_does_not_say_how_it_scales_is_refused(tmp_path: Path) -> None:
    """A guess would be another model."""
    with pytest.raises(EngineError, match="image_mean"):
        read_pixels(tmp_path, channels=3)


def faulty(**fields: str) -> list[Record]:
    """A good record, and one with a fault."""
    good = painted.records(range(1))[0]
    return [good, Record(record_id="x", unit="x", **fields)]


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        (faulty(image="not base64!", label="top"), "image of record 2 cannot be decoded"),
        (faulty(image=base64.b64encode(b"no picture").decode(), label="top"), "image of record 2 cannot be decoded"),
        (faulty(image=painted.png(painted.bar("top", 1)), label="sideways"), "label of record 2 is none of the 4"),
        (faulty(text="words"), "record 2 is no picture"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_place(records: list[Record], sentence: str) -> None:
    """One sentence, which holds nothing of the record."""
    with pytest.raises(EngineError, match=sentence) as refused:
        pictures(records, GREY, CLASSES)

    assert "sideways" not in refused.value.message


def test_sixteen_bits_are_refused() -> None:
    """A silent conversion would clip them."""
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(file, format="PNG")

    with pytest.raises(EngineError, match="8 bits"):
        pictures(faulty(image=base64.b64encode(file.getvalue()).decode(), label="top"), GREY, CLASSES)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"file": "../outside.png"}, "outside the manifest"),
        ({"file": "missing.png"}, "cannot be read"),
        ({"file": "in/a.png", "image": "AA=="}, "not both"),
    ],
)
def test_a_manifest_reaches_its_own_folder_only(tmp_path: Path, line: dict[str, str], sentence: str) -> None:
    """Also with a path that climbs out of it."""
    save(tmp_path / "outside.png", "top", 1)
    save(tmp_path / "m" / "in" / "a.png", "top", 1)
    (tmp_path / "m" / "list.jsonl").write_text(json.dumps({"record_id": "r", "unit": "u", "label": "top", **line}))

    with pytest.raises(EngineError, match=f"line 1: .*{sentence}"):
        read_records(tmp_path / "m" / "list.jsonl")


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros((2, 4, 4))},
        {"images": np.zeros((2, 4, 4), np.uint8)},
        {"images": np.zeros((2, 4, 4), np.uint8), "labels": np.zeros(3)},
        {"images": np.array([{"a": 1}, None]), "labels": np.zeros(2)},
    ],
)
def test_arrays_that_are_no_pictures_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    """Wrong type, no labels, other lengths, and pickled objects, which are never loaded."""
    np.savez(tmp_path / "arrays.npz", **arrays)

    with pytest.raises(EngineError, match=r"arrays\.npz"):
        read_records(tmp_path / "arrays.npz")


@pytest.mark.parametrize("shape", [(5, 7), (6, 4, 3)])
def test_our_png_is_what_the_library_reads(shape: tuple[int, ...]) -> None:
    """Byte for byte, grey and coloured."""
    image = np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)
    file = base64.b64decode(painted.png(image))

    assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), image)


@pytest.mark.parametrize("kind", ["<i8", ">i4", "|u1", "<U3", ">U2", "<i2"])
def test_arrays_are_read_as_numpy_writes_them(tmp_path: Path, kind: str) -> None:
    """Labels of any whole number or text."""
    values = np.array([1, 0, 12]).astype(kind)
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((3, 4, 4), np.uint8), labels=values, units=values)

    assert [record.label for record in read_records(tmp_path / "a.npz")] == ["1", "0", "12"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """With what it needs."""
    with pytest.raises(EngineError, match="one subfolder a class"):
        read_records(tmp_path)
