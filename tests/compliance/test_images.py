"""Pictures at the desk: what is read, what is kept, what may not come back, and what a model is told of them."""

import base64
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance import policy as policies
from compliance import registry
from compliance.errors import InvalidInputError
from compliance.ledger.vault import Vault
from compliance.ledger.views import Subject
from compliance.matching import unowned
from compliance.wiring import Services
from engine.corpus import Record
from tests.compliance.builders import add_base, add_model, approved_request, log_size, plan, write_lines
from tests.compliance.conftest import both_databases
from tests.compliance.terminal import answer, at, refusal
from tests.engine.painted import LABELS, bar, png

PICTURE = base64.b64decode(png(bar("top", 1)))
OTHER = base64.b64decode(png(bar("left", 2)))
GATE = '[[gate]]\nmetric = "{metric}"\ndirection = "at_least"\n'
HEAD = 'name = "pictures"\ntask = "image"\nladder = ["dp2", "retrain"]\n'
BASE = "[base]\nepsilon = 1.0\nsample_rate = 0.5\nsteps = 4\n"


def _shown(raw: bytes, label: str = "top", **more: str) -> dict[str, str]:
    return {"image": base64.b64encode(raw).decode(), "label": label, **more}


def _folder(place: Path, files: Mapping[str, bytes]) -> Path:
    for name, raw in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(raw)
    return place


def _arrays(path: Path, **changes: Any) -> Path:  # noqa: ANN401 - any array
    arrays = {
        "images": np.stack([bar(label, i) for i, label in enumerate(LABELS)]),
        "labels": np.array(LABELS),
        "units": np.array(["ann@example.test", "bob@example.test", "ann@example.test", "cyd@example.test"]),
    }
    np.savez(path, **{name: value for name, value in {**arrays, **changes}.items() if value is not None})
    return path


def _add(desk: Services, path: Path, *, subject_field: str = "", name: str = "d1") -> None:
    lines = registry.read_lines(path, subject_field=subject_field)
    with desk.transaction() as ledger:
        registry.add_dataset(
            ledger, desk.store, desk.vault,
            dataset_id=name, name=name, lines=lines, subject_field=subject_field, now=desk.clock(),
        )  # fmt: skip


def _forget(desk: Services, record_ids: list[str]) -> None:
    with desk.transaction() as ledger:
        ledger.forget_records(dataset_id="d1", record_ids=record_ids, digest="0" * 64, batch_id="b1", now=desk.clock())


def test_a_manifest_brings_pictures_as_files_and_in_base64(tmp_path: Path) -> None:
    """A line names a file below the manifest or holds it; either way the record holds its bytes."""
    _folder(tmp_path, {"scans/a.png": PICTURE})
    rows = [
        {"who": "ann", "file": "scans/a.png", "label": "top"},
        {"who": "bob", "record_id": "b", **_shown(OTHER, "left")},
    ]
    first, second = registry.read_lines(write_lines(tmp_path / "m.jsonl", rows), subject_field="who")

    assert (first.record.record_id, first.record.label, first.subject) == ("line-1", "top", "ann")
    assert [base64.b64decode(line.record.image or "") for line in (first, second)] == [PICTURE, OTHER]
    assert (second.record.record_id, second.record.text) == ("b", None)


def test_a_folder_of_classes_is_a_data_set_without_subjects(tmp_path: Path) -> None:
    """The subfolder is the label, the path is the record's id, and nobody is said to own it."""
    folder = _folder(tmp_path / "animals", {"cats/1.png": PICTURE, "dogs/1.png": OTHER, "dogs/notes.txt": b"hello"})

    lines = registry.read_lines(folder, subject_field="")

    assert [(line.record.record_id, line.record.label, line.subject) for line in lines] == [
        ("cats/1.png", "cats", None),
        ("dogs/1.png", "dogs", None),
    ]


def test_arrays_bring_their_subjects(tmp_path: Path) -> None:
    """The array `units` of an .npz file is its subject field; without it each picture is its own."""
    lines = registry.read_lines(_arrays(tmp_path / "bars.npz"), subject_field="units")
    alone = registry.read_lines(_arrays(tmp_path / "alone.npz", units=None), subject_field="")

    assert [line.subject for line in lines[:3]] == ["ann@example.test", "bob@example.test", "ann@example.test"]
    assert [line.record.label for line in lines] == list(LABELS)
    assert {line.subject for line in alone} == {None}


@both_databases
def test_what_is_stored_holds_the_picture_and_names_nobody(services: Services, tmp_path: Path) -> None:
    """The data set lives on when the user's files are gone, under tags in the place of addresses."""
    file = _arrays(tmp_path / "bars.npz")
    _add(services, file, subject_field="units")
    file.unlink()

    records = services.store.records("d1")

    assert services.store.task("d1") == "image"
    assert [record.unit for record in records] == [
        registry.subject_tag(services.vault, who) for who in ("ANN@example.test", "bob@example.test")
    ] + [records[0].unit, registry.subject_tag(services.vault, "cyd@example.test")]
    assert all(record.image and record.label for record in records)
    assert b"example.test" not in services.store.dataset_path("d1").read_bytes()


@both_databases
def test_a_forgotten_picture_may_not_come_back_in_any_form(services: Services, tmp_path: Path) -> None:
    """The same bytes are refused from a folder, as base64 and under another label; another picture is not."""
    _add(services, _folder(tmp_path / "first", {"top/1.png": PICTURE}))
    _forget(services, ["top/1.png"])
    before = log_size(services)
    folder = _folder(tmp_path / "second", {"top/1.png": OTHER, "top/2.png": PICTURE})
    manifest = write_lines(tmp_path / "again.jsonl", [_shown(OTHER), _shown(PICTURE, "left")])

    for path, place in ((folder, r"top/2\.png"), (manifest, "lines 2")):
        with pytest.raises(InvalidInputError, match=rf"1 records were erased on request.*\({place}\)") as caught:
            _add(services, path, name="d2")
        assert caught.value.code == "suppressed-record"

    assert log_size(services) == before
    _add(services, _folder(tmp_path / "third", {"left/1.png": OTHER}), name="d3")


@given(image=st.binary(min_size=1, max_size=40), other=st.binary(min_size=1, max_size=40))
def test_a_picture_is_recognised_by_its_bytes(image: bytes, other: bytes) -> None:
    """Equal bytes have equal tags and other bytes others: upper and lower case of base64 are not the same."""
    vault = Vault(master_key=bytes(32), matching_key=bytes(32), secrets=bytes)
    tags = [
        registry.content_tag(
            vault,
            Record(record_id=name, unit=name, image=base64.b64encode(raw).decode(), label=name),
        )
        for name, raw in (("a", image), ("b", image), ("c", other))
    ]

    assert tags[0] == tags[1]
    assert (tags[0] == tags[2]) == (image == other)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([_shown(PICTURE), {"text": "x"}], "line 1 is a picture and line 2 a text"),
        ([{"text": "x"}, _shown(PICTURE)], "line 1 is a text and line 2 a picture"),
        ([_shown(PICTURE, "")], "line 1 has no 'label'"),
        ([{"image": "aGk=", "label": "top"}], "line 1 is no picture"),
        ([{"image": "not base64!", "label": "top"}], "'image' of line 1 is not base64"),
        ([{"image": 5, "label": "top"}], "'image' of line 1 is not base64"),
        ([{"file": 5, "label": "top"}], "'file' of line 1 is no file"),
        ([{"file": "absent.png", "label": "top"}], "'file' of line 1 is no file"),
        ([{"file": "../../etc/passwd", "label": "top"}], "'file' of line 1 is no file below"),
        ([{"file": "\0", "label": "top"}], "'file' of line 1"),
        ([_shown(PICTURE, file="a.png")], "'file' or 'image', one of them"),
        ([_shown(PICTURE, text="and words")], "no text beside it"),
        ([_shown(PICTURE, record_id="r" * 201)], "record_id on line 1 has more"),
        ([_shown(PICTURE, "\ud800")], "line 1 has a character"),
        ([{"label": "top", "text": "x"}, {"label": "top"}], "line 2 needs 'text'"),
    ],
)
def test_a_bad_picture_is_one_sentence_that_names_its_line(
    services: Services, tmp_path: Path, rows: list[dict[str, Any]], sentence: str
) -> None:
    """Exit 2, one line, and nothing was stored."""
    file = write_lines(tmp_path / "broken.jsonl", rows)
    before = log_size(services)

    assert sentence in refusal(at(services, "dataset", "add", "broken", file))
    assert log_size(services) == before
    assert not list((services.store.root / "datasets").glob("*"))


def _no_folder(place: Path) -> Path:
    return _folder(place / "empty", {"notes.txt": b"x"})


def _text_in_a_folder(place: Path) -> Path:
    return _folder(place / "animals", {"cats/1.png": PICTURE, "cats/2.png": b"no picture"})


def _broken_zip(place: Path) -> Path:
    return _folder(place, {"bars.npz": b"PK\x03\x04 and nothing"}) / "bars.npz"


def _other_zip(place: Path) -> Path:
    with zipfile.ZipFile(place / "bars.npz", "w") as file:
        file.writestr("images.npy", b"\x93NUMPY\x01\0\0\0")
    return place / "bars.npz"


def _objects(place: Path) -> Path:
    return _arrays(place / "bars.npz", labels=np.array([None] * 4), units=None)


@pytest.mark.parametrize(
    ("make", "field", "sentence"),
    [
        (_no_folder, "", "empty holds no pictures"),
        (_text_in_a_folder, "", "cats/2.png is no picture"),
        (_text_in_a_folder, "email", "has no 'email'"),
        (_broken_zip, "", "bars.npz is not an .npz file"),
        (_other_zip, "", "bars.npz is not an .npz file"),
        (_objects, "", "bars.npz is not an .npz file"),
        (lambda place: _arrays(place / "bars.npz"), "", "add --subject-field units"),
        (lambda place: _arrays(place / "bars.npz"), "email", "bars.npz has no 'email'"),
        (lambda place: _arrays(place / "bars.npz", units=None), "units", "has no array 'units'"),
        (lambda place: _arrays(place / "bars.npz", units=np.array(["a", " ", "b", "c"])), "units", "picture 2 has no"),
        (lambda place: _arrays(place / "bars.npz", labels=np.array(["a"])), "units", "different lengths"),
        (lambda place: _arrays(place / "bars.npz", record_ids=np.array(["a", "a", "b", "c"])), "units", "same record"),
    ],
)  # fmt: skip
def test_a_bad_folder_or_file_of_arrays_is_one_sentence(
    services: Services, tmp_path: Path, make: Callable[[Path], Path], field: str, sentence: str
) -> None:
    """It names the file, or the picture's place in it, and leaves nothing behind."""
    line = refusal(at(services, "dataset", "add", "broken", make(tmp_path), "--subject-field", field))

    assert sentence in line
    assert answer(services, "dataset", "list") == []


@given(content=st.binary(max_size=80), suffix=st.sampled_from([".npz", ".jsonl"]))
def test_no_bytes_break_the_readers(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    """Whatever a file holds, the answer is records or one sentence."""
    path = tmp_path_factory.mktemp("fuzz") / f"data{suffix}"
    path.write_bytes(content)

    try:
        assert registry.read_lines(path, subject_field="")
    except InvalidInputError as error:
        assert "\n" not in str(error)


@given(changed=st.dictionaries(st.integers(0, 600), st.integers(0, 255), max_size=6))
def test_no_damage_to_arrays_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, changed: dict[int, int]
) -> None:
    """An .npz file with flipped bytes gives records or one sentence."""
    whole = io.BytesIO()
    np.savez(whole, images=np.stack([bar("top", 1)]), labels=np.array(["top"]))
    raw = bytearray(whole.getvalue())
    for place, value in changed.items():
        raw[place % len(raw)] = value
    path = tmp_path_factory.mktemp("fuzz") / "data.npz"
    path.write_bytes(bytes(raw))

    try:
        assert registry.read_lines(path, subject_field="")
    except InvalidInputError as error:
        assert "\n" not in str(error)


def test_a_data_set_shows_what_it_is_for(services: Services, tmp_path: Path) -> None:
    """Text is for language models, pictures are for image models, and the list says which."""
    words = write_lines(tmp_path / "words.jsonl", [{"text": "x"}])
    bars = _folder(tmp_path / "bars", {"top/1.png": PICTURE})

    for name, file in (("words", words), ("bars", bars)):
        answer(services, "dataset", "add", name, file)

    assert {one["name"]: one["task"] for one in answer(services, "dataset", "list")} == {
        "bars": "image",
        "words": "language",
    }


@both_databases
@pytest.mark.parametrize(("unit", "charge"), [("data subject", 1), ("record", 2)])
def test_a_base_is_charged_in_its_own_unit(services: Services, tmp_path: Path, unit: str, charge: int) -> None:
    """A contributor with two pictures costs a base one unit or two, by what the base was trained with."""
    _add(services, _arrays(tmp_path / "bars.npz"), subject_field="units")
    add_model(services, policy=HEAD + BASE + GATE.format(metric="ta"))
    add_base(services, unit=unit)
    approved_request(services, Subject(name="Ann Other", email="ann@example.test"))

    batch = plan(services)

    assert batch is not None
    assert (batch.plan["subjects"], batch.plan["records"], batch.plan["units"]) == (1, 2, charge)
    assert batch.plan["suite"] == "image"


def test_a_picture_of_nobody_is_found_by_its_id(services: Services, tmp_path: Path) -> None:
    """Whoever names a picture of a folder finds it, whatever the case; a picture with a subject is not found so."""
    _add(services, _folder(tmp_path / "animals", {"cats/1.png": PICTURE, "cats/2.png": OTHER}))
    _add(services, _arrays(tmp_path / "bars.npz"), subject_field="units", name="d2")
    named = Subject(name="Ann Other", email="x@example.test", identifiers=("Cats/1.PNG", "0"))

    found = {name: [*unowned(services.store.records(name), named)] for name in ("d1", "d2")}

    assert found == {"d1": [("cats/1.png", "record-id")], "d2": []}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEAD + BASE + GATE.format(metric="verbmem_f"), "'verbmem_f' is unknown"),
        (HEAD.replace("dp2", "npo") + GATE.format(metric="ta"), "'npo' is unknown"),
        (HEAD.replace("image", "sound") + GATE.format(metric="ta"), "task 'sound' is unknown"),
        (HEAD + BASE + "answer_weight = 2.0\n" + GATE.format(metric="ta"), "[base]"),
        (HEAD + BASE + "margin = 0\n" + GATE.format(metric="ta"), "margin must be above 0"),
        (HEAD + BASE + GATE.format(metric="mia_auc") + "minimum_n = 3\n", "at least 10"),
        ('name = "t"\nladder = ["retrain"]\n' + GATE.format(metric="ta"), "'ta' is unknown"),
    ],
)
def test_an_image_policy_knows_what_belongs_to_images(text: str, sentence: str) -> None:
    """Metrics, methods and settings of the other family are refused by name."""
    with pytest.raises(InvalidInputError) as caught:
        policies.parse(text)

    assert sentence in str(caught.value)


def test_an_image_policy_says_so_in_plans_and_reports() -> None:
    """Its gates have the margins of accuracies and AUCs, and its settings are those of classifiers."""
    gates = GATE.format(metric="ta") + GATE.format(metric="mia_auc")
    policy = policies.parse(HEAD + BASE + "[training]\nbatch = 32\n" + gates)

    assert policy.to_json()["task"] == "image"
    assert [(gate.margin, gate.minimum_n) for gate in policy.gates] == [(0.05, 1), (0.15, 10)]
    assert json.dumps(policy.to_json())
