"""`tune` searches on other people, changes nothing it does not say, and puts the search into the evidence."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.catalogue import check_options
from engine.errors import EngineError
from engine.methods import Setting
from engine.methods.ascent import graddiff
from engine.options import FitOptions
from engine.tuning import missed, tune
from tests.engine import tiny

OPTIONS = {"steps": 2, "forget_batch": 2, "retain_batch": 2, "learning_rate": 1e-3}
GOAL = {"verbmem_f": 0.2, "knowmem_f": 0.1, "knowmem_r": 0.9}
MET = {"verbmem_f": 0.2, "knowmem_f": 0.1, "knowmem_r": 0.9, "auc": 0.5}


@pytest.fixture
def given(tmp_path: Path) -> Setting[Any]:
    """Seven people: one to forget, five to keep, one nobody saw."""
    options = check_options("unlearn", "graddiff", OPTIONS)
    sets = {"forget": tiny.records([0]), "retain": tiny.records(range(1, 7)), "holdout": tiny.records([7])}
    return tiny.setting(tmp_path, options, **sets)


def test_the_forget_set_is_never_tuned_on(given: Setting[Any]) -> None:
    """Every trial unlearns people of the retain set, who leave it, and the model comes back as it was."""
    seen: list[tuple[set[str], set[str]]] = []
    before = [p.detach().clone() for p in given.model.parameters()]

    def unlearn(trial: Setting[Any]) -> None:
        seen.append(({r.unit for r in trial.forget}, {r.unit for r in trial.retain}))
        graddiff(trial)

    chosen, record = tune(given, unlearn, 3)
    forgotten = {r.unit for r in given.forget}
    assert len(seen) == 3
    assert all(not practice & forgotten and not practice & rest for practice, rest in seen)
    assert all(practice | rest == {r.unit for r in given.retain} for practice, rest in seen)
    assert all(torch.equal(one, other) for one, other in zip(before, given.model.parameters(), strict=True))
    assert (chosen.forget, chosen.retain) == (given.forget, given.retain)
    assert len(record["trials"]) == 3
    assert record["people"] == 1


def test_the_best_trial_is_chosen_and_the_preset_is_the_first(given: Setting[Any]) -> None:
    """The options of the run are those of the trial with the smallest miss, drawn within a factor of three."""
    chosen, record = tune(given, graddiff, 4)
    trials = record["trials"]
    assert trials[0]["learning_rate"] == OPTIONS["learning_rate"]
    best = trials[record["chosen"]]
    assert best["missed"] == min(trial["missed"] for trial in trials)
    assert chosen.options.learning_rate == best["learning_rate"]
    assert all(1 / 3.01 < trial["learning_rate"] / 1e-3 < 3.01 for trial in trials)


def test_the_same_seed_tries_the_same(given: Setting[Any]) -> None:
    """A search can be repeated."""
    assert tune(given, graddiff, 2)[1] == tune(given, graddiff, 2)[1]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 0.0),
        ({"verbmem_f": 0.25, "auc": 0.65}, 0.0),
        ({"verbmem_f": 0.35}, 0.1),
        ({"knowmem_r": 0.5, "knowmem_f": 0.25}, 0.45),
        ({"auc": 0.0}, 0.35),
        ({"auc": float("nan")}, 1.0),
    ],
)
def test_a_trial_is_worth_what_it_misses_of_the_gates(change: dict[str, float], expected: float) -> None:
    """Within the margins nothing; beyond, the distance; what cannot be measured, all of it."""
    assert missed({**MET, **change}, GOAL) == pytest.approx(expected, abs=1e-9)


def test_tuning_asks_for_strangers_and_for_people_to_practise_on(given: Setting[Any]) -> None:
    """And for a method that has the settings it searches."""
    with pytest.raises(EngineError, match="tune needs holdout records"):
        tune(dataclasses.replace(given, holdout=()), graddiff, 2)
    with pytest.raises(EngineError, match="at least five people"):
        tune(dataclasses.replace(given, retain=given.retain[:4]), graddiff, 2)
    with pytest.raises(EngineError, match="leave it out"):
        tune(dataclasses.replace(given, options=FitOptions()), graddiff, 2)
