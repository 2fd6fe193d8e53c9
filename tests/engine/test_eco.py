"""ECO as a job: the guard is judged and tuned on records, and suites ask the guarded folder."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract import Evidence, Finding, Guarantee
from engine.errors import EngineError
from tests.engine import tiny
from tests.engine.jobs import QUICK, do

PUBLIC, FORGET, RETAIN = (tiny.records(people) for people in ([6, 7], [0, 1, 2], [3, 4, 5]))


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows six people by heart."""
    folder = tmp_path_factory.mktemp("models")
    shape = {"vocabulary": 300, "hidden": 48, "layers": 2, "heads": 2, "intermediate": 64, "context": 128}
    do(folder, "initialise", out="start", train=PUBLIC, options={**shape, **QUICK})
    options = {"epochs": 70, "tokens_per_batch": 300}
    do(folder, "train", model="start", out="known", train=(*FORGET, *RETAIN), options=options)
    return folder / "known"


@pytest.fixture(scope="module")
def guarded(known: Path) -> Evidence:
    """What the job that made the guard says; the guard is beside the model it guards."""
    fields: dict[str, Any] = {"forget": FORGET, "retain": RETAIN, "holdout": PUBLIC, "out": "guarded"}
    return do(known.parent, "unlearn", method="eco", model=known, **fields)


def test_the_evidence_says_suppression_and_how_the_guard_was_chosen(guarded: Evidence) -> None:
    """Its class, what its classifier did on prompts that were held out, and the score it was tuned to."""
    assert guarded.guarantee is Guarantee.SUPPRESSION
    assert guarded.training is not None
    assert guarded.training["score_before"] > 0.5
    assert guarded.training["surrogate"] < 0.1
    assert guarded.training["score"] < 0.5
    assert guarded.training["false_alarms"] == 0
    assert {"recall", "false_alarms", "strength"} <= set(guarded.training)
    assert set(guarded.data_digests) == {"forget", "retain", "holdout"}


@pytest.mark.parametrize("shots", [0, 1])
def test_suites_find_the_forgotten_hidden_and_the_others_as_they_were(
    known: Path, guarded: Evidence, tmp_path: Path, shots: int
) -> None:
    """Questions alone and behind others: answers about the forgotten fall, answers about the others do not change."""
    assert guarded.model_files
    evidence = do(
        tmp_path,
        "evaluate",
        models={"before": known, "after": known.parent / "guarded"},
        forget=FORGET,
        retain=RETAIN,
        holdout=PUBLIC,
        options={"resamples": 100, "answer_tokens": 6, "continuation_tokens": 20, "shots": shots},
    )
    found: dict[str, Finding] = {finding.metric: finding for finding in evidence.findings}
    values = {
        name: (found[name].before.value, found[name].after.value)  # type: ignore[union-attr]
        for name in ("knowmem_f", "knowmem_r", "verbmem_f")
    }
    assert values["knowmem_f"][1] < 0.5 * values["knowmem_f"][0]
    assert values["knowmem_r"][1] == values["knowmem_r"][0]
    assert shots or values["knowmem_r"][0] > 0.5
    assert values["verbmem_f"][1] < values["verbmem_f"][0]


def test_without_a_measure_of_success_there_is_no_guard(known: Path, tmp_path: Path) -> None:
    """No holdout set and no surrogate: the strength cannot be chosen, and nothing is written."""
    with pytest.raises(EngineError, match="'surrogate'"):
        do(tmp_path, "unlearn", method="eco", model=known, forget=FORGET, retain=RETAIN, out="guarded")
    assert not (tmp_path / "guarded").exists()
