"""Unlearners of classifiers as jobs: from folders and files to a new folder, and evidence that says what was done."""

from pathlib import Path
from typing import Any

import pytest

from engine import checkpoints
from engine.contract import VERSION, Evidence, Guarantee, Job, Kind
from engine.corpus import write_records
from engine.errors import EngineError
from engine.methods.sparsity import remaining
from engine.run import run
from tests.engine import painted, tiny
from tests.engine.classifiers import EVERYTHING, GONE, KEPT

SETS = {"forget": "forget.jsonl", "retain": "retain.jsonl"}


def job(folder: Path, kind: Kind, **fields: Any) -> Evidence:  # noqa: ANN401 - any field of a job
    """One job about pictures."""
    return run(Job(version=VERSION, kind=kind, seed=3, task="image", **fields), folder, tiny.quiet)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start, a classifier that was trained sparse, and a whole class to be forgotten."""
    folder = tmp_path_factory.mktemp("sparse")
    for name, chosen in {"all": EVERYTHING, "forget": GONE, "retain": KEPT}.items():
        write_records(folder / f"{name}.jsonl", chosen)
    job(folder, Kind.INITIALISE, out="start", options={"labels": list(painted.LABELS), "size": 12, "width": 4})
    asked = {"sparsity": 0.5, "epochs": 3, "batch": 8}
    evidence = job(folder, Kind.TRAIN, model="start", train="all.jsonl", out="before", options=asked)
    assert evidence.training is not None
    assert evidence.training["remaining"]["convolutions"] == pytest.approx(0.5, abs=1e-2)
    assert evidence.parameters["pruning"] == "one-shot"
    return folder


@pytest.mark.parametrize(
    ("method", "options", "variant"),
    [
        ("l1-sparse", {"epochs": 1}, ""),
        ("ga", {"epochs": 1}, ""),
        ("fisher", {"samples": 4, "variant": "published"}, "fisher, published"),
        ("influence", {"samples": 4}, "influence"),
    ],
)
def test_a_sparse_model_is_unlearned_and_saved_as_sparse(
    place: Path, tmp_path: Path, method: str, options: dict[str, Any], variant: str
) -> None:
    """The class is `empirical`, the folder has the zeros that the evidence tells of, and the variant has its name."""
    evidence = job(place, Kind.UNLEARN, model="before", method=method, out=str(tmp_path / "m"), options=options, **SETS)
    model, _ = checkpoints.load(tmp_path / "m")

    assert evidence.guarantee is Guarantee.EMPIRICAL
    assert evidence.variant == variant
    assert evidence.training is not None
    assert evidence.training["remaining"] == remaining(model)
    assert evidence.training["remaining"]["convolutions"] == pytest.approx(0.5, abs=1e-2)


def test_a_reference_is_retrained_as_sparse_and_exact(place: Path, tmp_path: Path) -> None:
    """Pruned on what stays, from a start that saw nothing: the guarantee is that of retraining."""
    asked = {"sparsity": 0.5, "pruning": "synflow", "epochs": 1, "batch": 8}
    evidence = job(place, Kind.UNLEARN, base="start", method="retrain", out=str(tmp_path / "m"), options=asked, **SETS)

    assert evidence.guarantee is Guarantee.EXACT
    assert evidence.training is not None
    assert evidence.training["remaining"]["convolutions"] == pytest.approx(0.5, abs=1e-2)


def test_what_is_refused_leaves_nothing_behind(place: Path, tmp_path: Path) -> None:
    """Bad options, and ways to prune that do not exist."""
    for options in ({"sparsity": 1.5}, {"pruning": "random"}, {"pruned_layers": "all"}, {"optimiser": "adam"}):
        with pytest.raises(EngineError) as caught:
            job(
                place, Kind.UNLEARN, model="before", method="finetune", out=str(tmp_path / "m"), options=options, **SETS
            )
        assert caught.value.code == "bad_options"
    assert not list(tmp_path.iterdir())
