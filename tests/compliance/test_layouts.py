"""`dataset add` on published data sets of pictures as they are unpacked, and what it says to those out of order."""

from collections.abc import Callable
from pathlib import Path

from compliance.wiring import Services
from tests.compliance.builders import write_lines
from tests.compliance.terminal import answer, at, refusal
from tests.engine import released

Make = Callable[[Path], Path]


RELEASES: tuple[tuple[Make, str | None, int, str], ...] = (
    (released.cifar_10, "train", 8, "image"),
    (lambda place: released.cifar_10(place, each=3) / "data_batch_2.bin", None, 3, "image"),
    (released.cifar_100, "test", 4, "image"),
    (released.svhn, None, 5, "image"),
    (lambda place: released.svhn(place).parent, "train", 5, "image"),
    (released.tiny_imagenet, "val", 4, "image"),
    (lambda place: released.tiny_imagenet(place) / "train", None, 4, "image"),
    (released.office_home, None, 8, "vision-language"),
    (released.class_folders, "train", 4, "image"),
)


def test_a_release_becomes_a_data_set(services: Services, tmp_path: Path) -> None:
    """As it was unpacked, one part of it; what is shown afterwards is what was counted."""
    for number, (make, split, records, task) in enumerate(RELEASES):
        place, name = tmp_path / str(number), f"data-{number}"
        place.mkdir()
        added = answer(services, "dataset", "add", name, make(place), *(["--split", split] if split else []))
        shown = answer(services, "dataset", "show", name)

        assert (shown["records"], shown["task"], shown["subject_field"]) == (records, task, None)
        assert shown == added
        assert len(services.store.records(added["id"])) == records


def test_a_forgotten_picture_of_a_release_may_not_come_back(services: Services, tmp_path: Path) -> None:
    """The tag is of its pixels as a file of ours: the same release is refused, and the place of the picture is told."""
    folder = released.cifar_10(tmp_path)
    added = answer(services, "dataset", "add", "first", folder, "--split", "test")
    with services.transaction() as ledger:
        ledger.forget_records(
            dataset_id=added["id"],
            record_ids=["test_batch/00002"],
            digest="0" * 64,
            batch_id="b1",
            now=services.clock(),
        )

    line = refusal(at(services, "dataset", "add", "again", folder / "test_batch.bin"))

    assert "1 records were erased on request and may not come back (picture 3)" in line
    answer(services, "dataset", "add", "again", folder, "--split", "train")


def _pickled(place: Path) -> Path:
    return released.written(
        place / "cifar-10-batches-py", {"data_batch_1": b"\x80\x02}q", "batches.meta": b"\x80\x02}"}
    )


def _cut(place: Path) -> Path:
    folder = released.cifar_10(place)
    (folder / "test_batch.bin").write_bytes((folder / "test_batch.bin").read_bytes()[:-100])
    return folder


def _no_picture(place: Path) -> Path:
    return released.written(place / "pets", {"cats/1.png": released.file(form="PNG"), "dogs/1.png": b"words"})


def _cut_picture(form: str, *, keep: int) -> Make:
    def make(place: Path) -> Path:
        raw = released.file(form=form, side=32)
        return released.written(place / "pets", {"cats/1.png": raw, "dogs/1.png": raw[: len(raw) - keep]})

    return make


def _linked(place: Path) -> Path:
    folder = released.written(place / "pets", {"cats/1.png": released.file(form="PNG"), "dogs/1.png": b"words"})
    (folder / "dogs" / "1.png").unlink()
    (folder / "dogs" / "1.png").symlink_to("/etc/hostname")
    return folder


def _emptied(place: Path) -> Path:
    folder = released.written(place / "pets", {"cats/1.png": released.file(form="PNG")})
    (folder / "dogs").mkdir()
    return folder


def _twins(place: Path) -> Path:
    shown = released.file(form="PNG")
    return released.written(place / "pets", {"cats/1.png": shown, "cats/1.PNG": shown})


def _archive(place: Path) -> Path:
    return released.written(place, {"cifar-10-binary.tar.gz": b"\x1f\x8b"}) / "cifar-10-binary.tar.gz"


OUT_OF_ORDER: tuple[tuple[Make, list[str], str], ...] = (
    (released.cifar_10, [], "cifar-10-batches-bin has several parts; add --split with one of: train, test"),
    (released.cifar_10, ["--split", "val"], "has no part 'val' with labels; it has: train, test"),
    (released.office_home, ["--split", "test"], "has no part 'test' with labels; it has no parts"),
    (lambda place: write_lines(place / "a.jsonl", [{"text": "x"}]), ["--split", "test"], "a.jsonl has no parts"),
    (released.svhn, ["--subject-field", "who"], "is a published file and has no 'who'"),
    (_cut, ["--split", "test"], "test_batch.bin is cut short or of another kind"),
    (lambda place: released.svhn(place, [1, 11]), [], "the label of picture 2 of train_32x32.mat is outside"),
    (lambda place: released.svhn(place, [1], X="no"), [], "train_32x32.mat is no MATLAB 5 file with X and y"),
    (_pickled, [], "batches.meta is a Python pickle, which can run code when read; take the binary release"),
    (lambda place: _pickled(place) / "data_batch_1", [], "data_batch_1 is a Python pickle"),
    (_archive, [], "cifar-10-binary.tar.gz is an archive; unpack it"),
    (_no_picture, [], "dogs/1.png is no picture"),
    (_cut_picture("PNG", keep=40), [], "dogs/1.png is cut short or damaged; save it anew"),
    (_cut_picture("JPEG", keep=2), [], "dogs/1.png is cut short or damaged; save it anew"),
    (_cut_picture("WEBP", keep=1), [], "dogs/1.png is cut short or damaged; save it anew"),
    (_linked, [], "1.png is a link out of pets"),
    (_emptied, [], "dogs holds no picture"),
    (_twins, [], "are two pictures of one name"),
)


def test_a_release_out_of_order_is_one_sentence(services: Services, tmp_path: Path) -> None:
    """Exit 2, one line, and nothing was stored."""
    for number, (make, more, sentence) in enumerate(OUT_OF_ORDER):
        place = tmp_path / str(number)
        place.mkdir()

        assert sentence in refusal(at(services, "dataset", "add", "known", make(place), *more))

    assert answer(services, "dataset", "list") == []
    assert not list((services.store.root / "datasets").glob("*"))


def test_a_class_of_one_picture_is_a_class(services: Services, tmp_path: Path) -> None:
    """A data set shrinks as people leave it, so one picture is enough to be kept and counted."""
    one = released.written(tmp_path / "pets", {"cats/1.png": released.file(form="PNG")})

    assert answer(services, "dataset", "add", "pets", one)["records"] == 1
