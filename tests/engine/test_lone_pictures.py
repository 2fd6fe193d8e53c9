"""A class of one picture is a class: every method of pictures forgets it or beside it, and the suite measures it."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from engine import checkpoints
from engine.contract import VERSION, Evidence, Job, Kind
from engine.corpus import write_records
from engine.entries.images import IMAGE_METHODS
from engine.entries.label_agnostic import LAF_METHODS
from engine.run import run
from tests.engine import painted, tiny

METHODS = (*IMAGE_METHODS, *LAF_METHODS)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture of a class leaves, one picture of another stays among those of two full ones."""
    folder, drawn = tmp_path_factory.mktemp("lone"), painted.records(range(40))
    stays = [one for one in drawn[:16] if one.label in ("bottom", "left")]
    lone = [next(one for one in drawn if one.label == label) for label in ("top", "right")]
    for name, records in (("forget", lone[:1]), ("retain", [*stays, lone[1]]), ("holdout", drawn[28:])):
        write_records(folder / f"{name}.jsonl", records)
    checkpoints.save(folder / "model", *painted.network())
    return folder


def _job(room: Path, kind: Kind, **told: Any) -> Evidence:  # noqa: ANN401 - any field of a job
    told |= {name: f"{name}.jsonl" for name in ("forget", "retain")}
    return run(Job(version=VERSION, kind=kind, seed=1, task="image", **told), room, tiny.quiet)


@pytest.mark.parametrize("spec", METHODS, ids=lambda spec: spec.name)
def test_a_lone_picture_can_leave_and_stay(room: Path, spec: Any) -> None:  # noqa: ANN401 - an entry of the catalogue
    """One pass of each method makes a model whose weights are numbers."""
    known = {field.name for field in fields(spec.form("image").options)}
    options = {"epochs": 1} if "epochs" in known else {}
    _job(room, Kind.UNLEARN, method=spec.name, model="model", out=f"new-{spec.name}", options=options)
    model, _ = checkpoints.load(room / f"new-{spec.name}")

    assert all(bool(value.isfinite().all()) for value in model.state_dict().values() if value.is_floating_point())


def test_a_lone_picture_is_measured(room: Path) -> None:
    """Its class counts as forgotten whole, and no value is anything but a number."""
    told: dict[str, Any] = {"models": {"after": "model"}, "options": {"suite": "image", "resamples": 100}}
    found = _job(room, Kind.EVALUATE, holdout="holdout.jsonl", **told)
    values = {one.metric: one.after.value for one in found.findings if one.after is not None}

    assert {"ua", "ra", "ta"} <= set(values)
    assert all(value == value for value in values.values())  # noqa: PLR0124 - not NaN
