"""Published data sets of pictures, read as they are unpacked: pixels, classes, domains, parts, and what is refused."""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.corpus import Record, is_whole, read_records, read_set, splits, write_records
from engine.errors import EngineError
from engine.pictures import picture
from tests.engine import released

FORMS = ("PNG", "JPEG", "WEBP")


def pixels(records: tuple[Record, ...]) -> released.Pixels:
    """The pictures of records, decoded by the library."""
    decoded = [Image.open(io.BytesIO(base64.b64decode(record.image or ""))) for record in records]
    return np.stack([np.asarray(image.convert("RGB")) for image in decoded])


def labels(records: tuple[Record, ...]) -> list[str | None]:
    """Their classes."""
    return [record.label for record in records]


def test_cifar_10_is_read_by_part_and_by_name(tmp_path: Path) -> None:
    """Every byte is where it was, the batches follow one another, and each picture is a unit of its own."""
    folder = released.cifar_10(tmp_path)
    train = read_records(folder, split="train")
    test = read_records(folder / "test_batch.bin")

    assert splits(folder) == ("train", "test")
    assert np.array_equal(pixels(train), np.concatenate([released.pictures(4, seed=i) for i in (0, 1)]))
    assert labels(train) == [*released.TEN[:4], *released.TEN[1:5]]
    assert [one.record_id for one in train[3:5]] == ["data_batch_1/00003", "data_batch_2/00000"]
    assert {one.unit for one in train} == {one.record_id for one in train}
    assert test == read_records(folder, split="test") == read_set(folder, training=False)
    assert read_set(folder, training=True) == train


def test_the_class_of_cifar_100_is_the_fine_label(tmp_path: Path) -> None:
    """The coarse label stands before it and is left out."""
    folder = released.cifar_100(tmp_path)
    train = read_records(folder, split="train")

    assert labels(train) == [released.HUNDRED[11 * i] for i in range(4)]
    assert np.array_equal(pixels(train), released.pictures(4, seed=10))
    assert np.array_equal(pixels(read_records(folder, split="test")), released.pictures(4, seed=11))


@pytest.mark.parametrize("packed", [True, False])
def test_svhn_is_read_as_the_library_wrote_it(tmp_path: Path, *, packed: bool) -> None:
    """Packed or not, with other variables before and behind; ten is nought, and one digit is a digit too."""
    others: dict[str, Any] = {"A_before": np.arange(3.0), "words": "text", "z": np.array([[1 + 2j]])}
    file = released.svhn(tmp_path, packed=packed, **others)
    read = read_records(file)

    assert np.array_equal(pixels(read), released.pictures(5, seed=20))
    assert labels(read) == ["0", "1", "9", "0", "5"]
    assert read == read_records(tmp_path)
    assert labels(read_records(released.svhn(tmp_path / "one", [3], packed=packed))) == ["3"]
    wide = np.array([[10.0, 2.0]])
    assert labels(read_records(released.svhn(tmp_path / "wide", [1, 2], packed=packed, y=wide))) == ["0", "2"]


def test_a_large_stretch_is_unpacked_in_pieces(tmp_path: Path) -> None:
    """More than one look at the file, and more output than input: nothing is lost between two."""
    flat = np.zeros((32, 32, 3, 400), dtype=np.uint8)
    flat[..., 399] = released.pictures(1, seed=3)[0]
    noise = released.pictures(300, seed=4).transpose(1, 2, 3, 0)
    for name, images in (("flat", flat), ("noise", noise)):
        count = images.shape[-1]
        read = read_records(released.svhn(tmp_path / name, [1 + i % 10 for i in range(count)], X=images))
        assert np.array_equal(pixels(read[-5:]), images.transpose(3, 0, 1, 2)[-5:])
        assert len(read) == count


def test_tiny_imagenet_has_two_parts_with_labels(tmp_path: Path) -> None:
    """The classes of training are folders, those of validation lines of a file; a part may be named by its folder."""
    folder = released.tiny_imagenet(tmp_path)
    train, val = read_records(folder, split="train"), read_records(folder, split="val")

    assert splits(folder) == ("train", "val")
    assert labels(train) == labels(val) == ["n01443537"] * 2 + ["n01629819"] * 2
    assert train[0].record_id == "train/n01443537/images/n01443537_0.JPEG"
    assert [one.image for one in read_records(folder / "train")] == [one.image for one in train]
    assert read_records(folder / "val")[0].record_id == "images/val_0.JPEG"
    assert read_set(folder, training=False) == val
    with pytest.raises(EngineError, match="has no part 'test' with labels; it has: train, val"):
        read_records(folder, split="test")


def test_office_home_keeps_its_domains(tmp_path: Path) -> None:
    """Two levels of folders are domains with classes; what lies beside them is passed over."""
    read = read_records(released.office_home(tmp_path))

    assert splits(tmp_path / "OfficeHomeDataset_10072016") == ()
    assert [(one.domain, one.label) for one in read[::2]] == [
        ("Art", "Alarm_Clock"), ("Art", "Bike"), ("Real World", "Alarm_Clock"), ("Real World", "Bike"),
    ]  # fmt: skip
    assert read[4].record_id == "Real World/Alarm_Clock/00001.jpg"
    write_records(tmp_path / "lines.jsonl", read)
    assert read_records(tmp_path / "lines.jsonl") == read


def test_train_and_test_are_parts_and_no_domains(tmp_path: Path) -> None:
    """Folders of these names hold data sets; a class may still be called train."""
    folder = released.class_folders(tmp_path)
    read = read_records(folder, split="test")
    deep = released.written(
        tmp_path / "deep", {f"{part}/Art/Bike/1.png": released.file(form="PNG") for part in ("train", "val")}
    )
    vehicles = released.written(
        tmp_path / "vehicles", {f"{name}/1.png": released.file(form="PNG") for name in ("train", "test")}
    )

    assert splits(folder) == ("test", "train")
    assert {(one.label, one.domain) for one in read} == {("airplane", None), ("automobile", None)}
    assert read[0].record_id == "test/airplane/0001.png"
    assert {(one.domain, one.label) for one in read_set(deep, training=False)} == {("Art", "Bike")}
    assert labels(read_records(vehicles)) == ["test", "train"]


def test_what_is_hidden_is_passed_over(tmp_path: Path) -> None:
    """What some systems leave beside pictures is neither a picture nor a class."""
    shown = released.file(form="PNG")
    files = {"cats/1.png": shown, "cats/._1.png": b"x", ".git/a/1.png": shown, "cats/.DS_Store": b"x"}

    assert [one.record_id for one in read_records(released.written(tmp_path / "a", files))] == ["cats/1.png"]


def _linked(place: Path) -> Path:
    released.written(place, {"outside/1.png": released.file(form="PNG"), "in/cats/1.png": released.file(form="PNG")})
    (place / "in" / "cats" / "2.png").symlink_to(place / "outside" / "1.png")
    return place / "in"


def _linked_folder(place: Path) -> Path:
    _linked(place)
    (place / "in" / "cats" / "2.png").unlink()
    (place / "in" / "dogs").symlink_to(place / "in" / "cats")
    return place / "in"


def _linked_batch(place: Path) -> Path:
    folder = released.cifar_10(place)
    (folder / "test_batch.bin").rename(place / "elsewhere.bin")
    (folder / "test_batch.bin").symlink_to(place / "elsewhere.bin")
    (folder / "data_batch_1.bin").unlink()
    (folder / "data_batch_2.bin").unlink()
    return folder


def _annotated(text: str) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        folder = released.tiny_imagenet(place, each=1)
        (folder / "val" / "val_annotations.txt").write_text(text)
        return folder / "val"

    return make


def _files(*names: str) -> Callable[[Path], Path]:
    return lambda place: released.written(place / "data", {name: released.file(form="PNG") for name in names})


def _empty_class(place: Path) -> Path:
    folder = _files("Art/Bike/1.png", "Photo/Bike/1.png")(place)
    (folder / "Art" / "Clock").mkdir()
    return folder


def _empty_wnid(place: Path) -> Path:
    folder = released.tiny_imagenet(place)
    (folder / "train" / "n09999999" / "images").mkdir(parents=True)
    return folder / "train"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_linked, "2.png is a link out of in"),
        (_linked_folder, "dogs is a link to a folder"),
        (_linked_batch, "test_batch.bin is a link out of"),
        (_files("cats/1.png", "cats/1.PNG"), "cats/1.PNG and cats/1.png are two pictures of one name"),
        (_files("cats/1.png", "Cats/1.png"), "are two pictures of one name"),
        (_files("cats/1.png", "dogs/a/b/c.png"), "data holds pictures at two depths"),
        (_files("1.png"), "data holds pictures that are in no class"),
        (_files("a/b/c/1.png"), "in no class, or too deep"),
        (_empty_class, "Art/Clock holds no picture; fill the folder or remove it"),
        (_empty_wnid, "n09999999 holds no picture"),
        (_annotated("val_0.JPEG\tn01443537\n"), "val_1.JPEG is in images and has no line in val_annotations.txt"),
        (_annotated("val_0.JPEG\tn01443537\nval_1.JPEG\tn01443537\nval_9.JPEG\tn1\n"), "val_9.JPEG has a line and is"),
        (_annotated("val_0.JPEG\tn01443537\n" * 2), "names a picture twice"),
        (_annotated("val_0.JPEG n01443537\n"), "a file and its class, with a tab between"),
        (_annotated(""), "with a tab between them"),
        (released.cifar_10, "has several parts; say which one to read, of: train, test"),
    ],
)
def test_a_folder_that_is_not_in_order_is_one_sentence(
    tmp_path: Path, make: Callable[[Path], Path], sentence: str
) -> None:
    """It names the file or folder, and nothing is guessed."""
    with pytest.raises(EngineError, match=sentence) as refused:
        read_records(make(tmp_path))

    assert refused.value.code == "bad_data"


def _cifar(changed: Callable[[Path], object], which: str = "") -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        folder = released.cifar_10(place, each=2)
        changed(folder)
        return folder / which

    return make


def _grown(name: str, more: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + more)


def _hundred(row: bytes) -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        folder = released.cifar_100(place)
        (folder / "test.bin").write_bytes(row + bytes(3072))
        return folder / "test.bin"

    return make


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (_cifar(_grown("test_batch.bin", b"x"), "test_batch.bin"), "test_batch.bin is cut short or of another kind"),
        (
            _cifar(_grown("data_batch_2.bin", b"\x0a" + bytes(3072)), "data_batch_2.bin"),
            "picture 3 has a label outside",
        ),
        (_cifar(lambda folder: (folder / "test_batch.bin").write_bytes(b""), "test_batch.bin"), "its 0 bytes"),
        (
            _cifar(lambda folder: (folder / "batches.meta.txt").unlink(), "test_batch.bin"),
            "needs one of the two beside",
        ),
        (
            _cifar(lambda folder: (folder / "fine_label_names.txt").write_text("a"), ""),
            "cifar-10-batches-bin needs one of the two",
        ),
        (_cifar(lambda folder: (folder / "batches.meta.txt").write_bytes(b"\xff"), "test_batch.bin"), "read as text"),
        (_cifar(lambda folder: (folder / "batches.meta.txt").write_text("a\na"), "test_batch.bin"), "each once"),
        (_hundred(bytes([3, 100])), "test.bin picture 1 has a label outside the range"),
        (_hundred(bytes([20, 5])), "fine_label_names.txt has 100 classes"),
        (_cifar(_grown("readme.html", b""), "readme.html"), "line 1 is not valid JSON"),
        (_cifar(lambda folder: (folder / "batches.meta").write_bytes(b"x")), "batches.meta is a Python pickle"),
        (_cifar(lambda folder: (folder / "data_batch_1").write_bytes(b"\x80\x02}"), "data_batch_1"), "binary release"),
        (_cifar(lambda folder: (folder / "cifar.tar.gz").write_bytes(b"x"), "cifar.tar.gz"), "is an archive; unpack"),
        (lambda place: released.svhn(place, [1, 11]), "picture 2 of train_32x32.mat is outside the range 1 to 10"),
        (lambda place: released.svhn(place, [0]), "outside the range 1 to 10, where 10 is a 0"),
        (lambda place: released.svhn(place, [1, 2], y=np.array([1.5, 2])), "picture 1 of train_32x32.mat is outside"),
        (lambda place: released.svhn(place, [1, 2], y=np.array([[np.nan, 2]])), "outside the range"),
        (lambda place: released.svhn(place, [1, 2], y=np.array([[1]])), "train_32x32.mat is no MATLAB 5 file"),
        (lambda place: released.svhn(place, [1], X=np.zeros((4, 4, 1, 1), np.uint8)), "is no MATLAB 5 file with X"),
        (lambda place: released.svhn(place, [1], X=np.zeros((4, 4, 3, 1))), "take the cropped digits"),
        (lambda place: released.svhn(place, [1], X="words"), "as they are published"),
    ],
)
def test_a_file_that_is_not_in_order_is_one_sentence(
    tmp_path: Path, make: Callable[[Path], Path], sentence: str
) -> None:
    """Cut short, labels out of range, no names, pickles and archives, other arrays."""
    with pytest.raises(EngineError, match=sentence) as refused:
        read_records(make(tmp_path))

    assert "\n" not in refused.value.message


def test_no_file_makes_the_reader_take_more_than_it_holds(tmp_path: Path) -> None:
    """Arrays that say they are of many gigabytes are refused before a byte of them is asked for."""
    said = struct.pack("<II", 6, 8) + struct.pack("<II", 9, 0) + struct.pack("<IIii", 5, 8, 2**30, 1)
    body = said + struct.pack("<HHc3x", 1, 1, b"y") + struct.pack("<II", 9, 2**31)
    packed = zlib.compress(struct.pack("<II", 14, len(body)) + body)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "a.mat").write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)

    with pytest.raises(EngineError, match=r"a\.mat is no MATLAB 5 file"):
        read_records(tmp_path / "a.mat")


@given(changed=st.dictionaries(st.integers(0, 4000), st.integers(0, 255), max_size=6), packed=st.booleans())
def test_no_damage_to_a_matlab_file_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, changed: dict[int, int], *, packed: bool
) -> None:
    """Flipped bytes give records or one sentence, never another error."""
    place = tmp_path_factory.mktemp("fuzz")
    path = released.svhn(place, [1], packed=packed, X=np.zeros((4, 4, 3, 1), np.uint8))
    raw = bytearray(path.read_bytes())
    for where, value in changed.items():
        raw[where % len(raw)] = value
    path.write_bytes(bytes(raw))

    try:
        assert read_records(path)
    except EngineError as error:
        assert "\n" not in error.message


@given(content=st.binary(max_size=200), suffix=st.sampled_from([".bin", ".mat"]), begun=st.booleans())
def test_no_bytes_break_the_readers(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str, *, begun: bool
) -> None:
    """Whatever a file holds, with and without the beginning of one that could be right."""
    place = tmp_path_factory.mktemp("fuzz")
    (place / "batches.meta.txt").write_text("a\nb\n")
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" if begun else b""
    (place / f"data{suffix}").write_bytes(head + content)

    with pytest.raises(EngineError, match="data"):
        read_records(place / f"data{suffix}")


@given(cut=st.integers(0, 3500), place=st.integers(0, 3500), value=st.integers(0, 255), form=st.sampled_from(FORMS))
def test_no_picture_that_can_be_decoded_is_called_damaged(cut: int, place: int, value: int, form: str) -> None:
    """What is refused for its form, the library refuses too, but for a JPEG or WebP that lacks no more than its end."""
    raw = bytearray(released.file(3, side=32, form=form))
    raw = raw[: len(raw) - cut % len(raw)]
    raw[place % len(raw)] = value
    begun = bytes(raw).startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF"))

    if begun and not is_whole(bytes(raw)) and form == "PNG":
        with pytest.raises((OSError, SyntaxError, ValueError)):
            Image.open(io.BytesIO(bytes(raw))).load()


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_picture_is_whole(form: str) -> None:
    """As the library writes it, with something behind its end, and in colours of a table."""
    raw = released.file(5, side=16, form=form)
    table = io.BytesIO()
    Image.fromarray(released.pictures(1, side=8)[0]).convert("P").save(table, format="PNG")

    assert is_whole(raw)
    assert is_whole(raw + b"more")
    assert is_whole(table.getvalue())
    assert is_whole(base64.b64decode(read_of_ours()))
    assert not is_whole(raw[:-20])


def read_of_ours() -> str:
    """A picture as arrays become one."""
    return picture(released.pictures(1)[0].tobytes(), (32, 32, 3))
