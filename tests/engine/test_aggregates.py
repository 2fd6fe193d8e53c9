"""Counts and shapes of groups: golden numbers, what is withheld, and that no cell speaks of a few people."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import checkpoints
from engine.contract import VERSION, Job, Kind
from engine.corpus import write_records
from engine.run import run
from engine.verification.aggregates import FEWEST, LARGEST, Shown, confusion, withheld
from engine.verification.domain_groups import aggregates as by_domain
from engine.verification.representations import Basis, Features, View, moments, representation, view_of
from tests.engine import painted, styled, tiny

NOBODY: tuple[str, ...] = ()
THREE = Shown(total=3, own=(0, 1, 2))


def people(count: int) -> list[str]:
    """As many people."""
    return [f"person-{i}" for i in range(count)]


def test_counts_by_hand() -> None:
    """Rows are what a picture shows, columns what it was read as; later classes share the last row."""
    true, said = np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 3, 0])

    assert confusion(true, said, Shown(total=4, own=(0, 1))) == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


def test_a_cell_of_few_people_is_withheld_and_takes_another_along() -> None:
    """Four people, or none, in one cell: with the row's total known, they would be counted by what is left."""
    true = np.zeros(25, dtype=np.int64)
    said = np.array([0] * 12 + [1] * 9 + [2] * 4)

    assert withheld(true, said, people(25), THREE)[0] == [12, None, None]
    assert withheld(true[:21], said[:21], people(21), THREE)[0] == [12, None, None]
    assert confusion(true, said, THREE)[0] == [12, 9, 4]


def test_pictures_of_one_person_are_one_person() -> None:
    """However many there are."""
    true = np.zeros(40, dtype=np.int64)

    assert withheld(true, true, ["one"] * 40, THREE)[0] == [None, None, None]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 9)), max_size=80))
def test_no_shown_cell_is_of_few_people(pictures: list[tuple[int, int, int]]) -> None:
    """Whatever is shown is the true count of enough people, and no row hides exactly one cell."""
    true, said = (np.array([one[i] for one in pictures], dtype=np.int64) for i in (0, 1))
    units = [str(one[2]) for one in pictures]
    shown, whole = withheld(true, said, units, THREE), confusion(true, said, THREE)

    for i, row in enumerate(shown):
        assert row.count(None) != 1
        for j, count in enumerate(row):
            if count is not None:
                assert count == whole[i][j]
                assert len({unit for a, b, unit in zip(true, said, units, strict=True) if (a, b) == (i, j)}) >= FEWEST


def test_of_many_classes_those_of_the_forget_set_have_rows() -> None:
    """Unless only a few people are in them, whose class a row would name."""
    shown = Shown.of(100, np.array([70] * 6 + [80] * 4), people(10))

    assert shown.own == (*range(LARGEST - 2), 70)
    assert shown.rows == LARGEST
    assert shown.mapping()["others"] == 100 - LARGEST + 1
    assert Shown.of(LARGEST, np.array([0]), people(1)).mapping() == {"shown": list(range(1, LARGEST + 1)), "others": 0}


def test_directions_of_a_flat_cloud() -> None:
    """Two of five coordinates vary, the fourth three times as much as the second: they are the axes, in its spreads."""
    grid = np.array([[x, y] for x in (-1.0, 1.0) for y in (-1.0, 1.0)])
    features = np.zeros((4, 5))
    features[:, 3], features[:, 1] = 3 * grid[:, 0], grid[:, 1]
    basis = Basis.of(features)

    assert basis is not None
    assert basis.share(features) == pytest.approx(1.0)
    assert np.abs(basis.points(features)).max(0) == pytest.approx([1.0, 1 / 3])
    assert moments(basis.points(features), np.zeros(4, dtype=np.int64), 2) == pytest.approx(
        np.array([[4, 0, 0, 1, 0, 1 / 9], [0] * 6])
    )
    assert basis.share(np.eye(5)) < 0.6
    assert Basis.of(np.ones((9, 4))) is None


def test_only_the_model_before_has_directions_of_its_own() -> None:
    """The model after is looked at along them, the reference not at all, nor a model of another width."""
    features = np.random.default_rng(0).normal(size=(30, 4))
    sets = {name: Features(values=features, groups=np.arange(30) % 2) for name in ("forget", "retain")}
    before = view_of("before", None).numbers(sets, 2)
    after = view_of("after", before)
    wider = {name: Features(values=np.ones((30, 5)), groups=one.groups) for name, one in sets.items()}
    none = {name: Features(values=None, groups=one.groups) for name, one in sets.items()}

    assert after.numbers(sets, 2) == before
    assert view_of("reference", before).numbers(sets, 2) == {}
    assert after.numbers(wider, 2) == after.numbers(none, 2) == {}
    assert len({view.digest for view in (after, view_of("before", None), View(own=False, basis=None))}) == 3


def test_a_group_of_few_people_has_no_ellipse() -> None:
    """And without groups there is no picture."""
    made = np.tile([7.0, 0.5, 0.0, 1.0, 0.0, 1.0], (2, 1)).ravel()
    told = {"before": {"share": np.array([0.75]), "forget_moments": made, "retain_moments": made}}
    few = {"forget": np.array([FEWEST - 1, 0]), "retain": np.array([FEWEST, 0])}
    shape = representation("classes", told, few, (0, 1))

    assert shape is not None
    assert [(one["set"], one["group"]) for one in shape["groups"]] == [("retain", 1)]
    assert shape["explained"] == [{"model": "before", "share": 0.75}]
    assert representation("classes", told, {name: np.zeros(2, dtype=np.int64) for name in few}, (0, 1)) is None
    assert representation("classes", {}, few, (0, 1)) is None


def job(folder: Path, task: str, suite: str) -> dict[str, Any]:
    """What a job's evidence says of groups."""
    sets: dict[str, Any] = {name: f"{name}.jsonl" for name in ("forget", "retain", "holdout")}
    models = {"before": "before", "after": "after", "reference": "after"}
    options = {"suite": suite, "resamples": 100}
    asked = Job(version=VERSION, kind=Kind.EVALUATE, seed=3, task=task, models=models, options=options, **sets)
    found = run(asked, folder, tiny.quiet).aggregates
    assert found is not None
    return found


def test_classifiers_are_counted_by_class(tmp_path: Path) -> None:
    """Three models and two sets; strangers are all there, and ellipses are of the models before and after alone."""
    for name, seed in {"before": 0, "after": 1}.items():
        checkpoints.save(tmp_path / name, *painted.network(seed))
    for name, numbers in {"forget": range(40), "retain": range(40, 100), "holdout": range(100, 140)}.items():
        write_records(tmp_path / f"{name}.jsonl", painted.records(numbers))
    found = job(tmp_path, "image", "image")

    assert [(one["model"], one["set"]) for one in found["confusions"]] == [
        (model, name) for model in ("before", "after", "reference") for name in ("forget", "holdout")
    ]
    assert [sum(row) for row in found["confusions"][1]["counts"]] == [10] * 4
    assert {one["model"] for one in found["representation"]["groups"]} == {"before", "after"}
    assert found["domains"] is None
    assert not any(label in str(found) for label in painted.LABELS)


def test_domains_are_counted_by_class_and_domain(tmp_path: Path) -> None:
    """By number, with which of them are to be forgotten, and no name."""
    for name, seed in {"before": 0, "after": 1}.items():
        checkpoints.save(tmp_path / name, *styled.network(seed))
    write_records(tmp_path / "forget.jsonl", styled.records(domains=("negative",)))
    write_records(tmp_path / "retain.jsonl", styled.records(domains=("photo", "tinted")))
    write_records(tmp_path / "holdout.jsonl", styled.records(range(100, 120)))
    found = job(tmp_path, "vision-language", "domain")

    assert found["domains"]["shown"] == [{"number": i, "forgotten": i == 1} for i in (1, 2, 3)]
    assert found["domains"]["pictures"] == [[5, 5, 5]] * 4
    assert [one["model"] for one in found["domains"]["right"]] == ["before", "after", "reference"]
    assert {(one["set"], one["group"]) for one in found["representation"]["groups"]} == {
        ("forget", 1), ("retain", 2), ("retain", 3)
    }  # fmt: skip
    assert "negative" not in str(found)


def test_models_that_number_classes_differently_are_not_counted_together() -> None:
    """A cell of one would be another cell of the other."""
    models: Any = {
        role: {"classes": np.array([i]), "total": np.array([2])} for i, role in enumerate(("before", "after"))
    }

    assert by_domain(models, {"forget": NOBODY, "retain": NOBODY, "holdout": NOBODY}, ()) is None  # type: ignore[dict-item]
