"""The measures of the suite `image`: golden values by hand, what chance gives, whole classes, and the gap."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import checkpoints
from engine.contract import VERSION, Evidence, Finding, Job, Kind
from engine.corpus import Record, write_records
from engine.errors import EngineError
from engine.run import run
from engine.verification.image_answers import entropy, log_probabilities, modified_entropy
from engine.verification.image_attacks import METRICS, taken_for_strangers
from engine.verification.image_suite import Room, findings, gap
from engine.verification.statistics import Floats, resampling
from tests.engine import painted, tiny

BY_HAND = np.log([[0.7, 0.2, 0.1]])
WHOLE, PEOPLE = painted.LABELS[0], 24


@pytest.mark.parametrize(("label", "value"), [(0, 0.162167), (1, 2.140868), (2, 2.959737)])
def test_modified_entropy_by_hand(label: int, value: float) -> None:
    """-(1 - p_y) ln p_y - sum of p_i ln(1 - p_i): for (.7, .2, .1) and each of its labels."""
    assert modified_entropy(BY_HAND, np.array([label]))[0] == pytest.approx(value, abs=1e-6)
    assert entropy(BY_HAND)[0] == pytest.approx(0.801819, abs=1e-6)


@given(st.lists(st.floats(-40, 40), min_size=3, max_size=3, unique=True))
def test_modified_entropy_knows_the_label(values: list[float]) -> None:
    """Another label gives another value, and the likelier a label is, the smaller; the entropy has no label."""
    rows = log_probabilities(np.array([sorted(values)] * 3))
    told = modified_entropy(rows, np.arange(3))

    assert np.isfinite(told).all()
    assert (np.diff(told) <= 1e-9).all()
    assert told[2] >= 0
    assert len(set(entropy(rows))) == 1


def test_a_certain_classifier_has_finite_numbers() -> None:
    """A p that is 1 in floating point: no surprise where it is right, and 1000 nats where it is not."""
    rows = log_probabilities(np.array([[1000.0, 0.0], [1000.0, 0.0]]))

    assert modified_entropy(rows, np.array([0, 1])).tolist() == pytest.approx([0.0, 2000.0])


def told(rng: np.random.Generator, sizes: Mapping[str, int], lift: Mapping[str, float] | None = None) -> dict[str, Any]:
    """What a classifier of four classes says of sets of pictures, `lift` added to the logit of their class."""
    made: dict[str, Floats] = {}
    for name, size in sizes.items():
        classes = np.arange(size) % 4
        logits = rng.normal(size=(size, 4)) + (lift or {}).get(name, 0.0) * np.eye(4)[classes]
        rows = log_probabilities(logits)
        own = rows[np.arange(size), classes]
        made |= {f"{name}_log_probs": own, f"{name}_hits": (rows.argmax(1) == classes).astype(float)}
        made |= {f"{name}_entropy": entropy(rows), f"{name}_m_entropy": modified_entropy(rows, classes)}
        made[f"{name}_probs"] = np.exp(rows).ravel()
    return made


@pytest.mark.parametrize("metric", METRICS)
def test_every_attack_guesses_where_there_is_nothing_to_find(metric: str) -> None:
    """Whom it calls a stranger among pictures like those who stayed and like strangers is half of them, or nearly."""
    rng, shares = np.random.default_rng(0), []
    for seed in range(8):
        sizes = {"forget": 400, "retain": 500, "holdout": 300}
        taken = taken_for_strangers(metric, told(rng, sizes), np.arange(300), seed=seed)
        assert taken is not None
        shares.append(taken.mean())

    assert abs(float(np.mean(shares)) - 0.5) < 0.1


@pytest.mark.parametrize("metric", ["mia_efficacy", "mia_entropy", "mia_m_entropy", "mia_prob"])
def test_every_attack_finds_what_is_there(metric: str) -> None:
    """Pictures that the model is as sure of as of those who stayed are no strangers; those it is unsure of are."""
    sizes, found = {"forget": 200, "retain": 200, "holdout": 200}, []
    for forgotten in (6.0, 0.0):
        said = told(np.random.default_rng(1), sizes, {"retain": 6.0, "forget": forgotten})
        taken = taken_for_strangers(metric, said, np.arange(200), seed=1)
        assert taken is not None
        found.append(taken.mean())

    assert found[0] < 0.3
    assert found[1] > 0.7


def test_an_attack_without_its_feature_is_no_number() -> None:
    """Vectors that were too many to keep, and a model that says nothing finite: no value, never a default."""
    said = told(np.random.default_rng(0), {"forget": 8, "retain": 8, "holdout": 8})
    without = {
        name: values[:0] if name.endswith("probs") and "log" not in name else values for name, values in said.items()
    }
    broken = {**said, "forget_entropy": np.full(8, np.nan)}

    assert taken_for_strangers("mia_prob", without, np.arange(8), seed=0) is None
    assert taken_for_strangers("mia_entropy", broken, np.arange(8), seed=0) is None


def rooms(sizes: Mapping[str, int]) -> dict[str, Room]:
    """Every picture a unit of its own."""
    made = {
        name: Room(rows=np.arange(size), units=resampling([str(i) for i in range(size)], resamples=300, seed=size))
        for name, size in sizes.items()
    }
    return {**made, "alike": made["holdout"]}


def test_the_gap_is_the_mean_of_four_differences() -> None:
    """By hand from the findings beside it; the reference is at no distance from itself."""
    sizes, rng = {"forget": 40, "retain": 60, "holdout": 50}, np.random.default_rng(3)
    models = {
        role: told(rng, sizes, {"retain": 3.0, "forget": lift}) for role, lift in (("after", 2.0), ("reference", 0.0))
    }
    found = {one.metric: one for one in findings(models, rooms(sizes), seed=1)}
    apart = [abs(difference_of(found[metric])) for metric in ("ua", "mia_efficacy", "ra", "ta")]
    whole, none = found["gap"].after, found["gap"].reference

    assert whole is not None
    assert whole.value == pytest.approx(np.mean(apart))
    assert whole.ci95[0] <= whole.value <= whole.ci95[1]
    assert whole.n == 40
    assert none is not None
    assert (none.value, none.ci95) == (0.0, (0.0, 0.0))
    assert difference_of(found["gap"]) == whole.value


def test_membership_is_chance_where_there_is_nothing_to_find() -> None:
    """The AUC of pictures of one kind is .5, within its interval."""
    sizes = {"forget": 400, "retain": 40, "holdout": 400}
    found = {
        one.metric: one.after
        for one in findings({"after": told(np.random.default_rng(5), sizes)}, rooms(sizes), seed=1)
    }
    leak = found["mia_auc"]

    assert leak is not None
    assert leak.ci95[0] < 0.5 < leak.ci95[1]
    assert abs(leak.value - 0.5) < 0.05


def difference_of(one: Finding) -> float:
    """After minus reference."""
    assert one.difference is not None
    return one.difference.value


def test_without_a_reference_there_is_no_gap() -> None:
    """Nulls, so that a gate on it fails."""
    sizes = {"forget": 8, "retain": 8, "holdout": 8}
    said = told(np.random.default_rng(0), sizes)

    assert findings({"after": said}, rooms(sizes), seed=1)[-1] == Finding(metric="gap")
    assert gap({"ua": {}}, 8) == Finding(metric="gap")


def records(numbers: range, *, without: str | None = None) -> tuple[Record, ...]:
    """Painted bars, one a person."""
    return tuple(one for one in painted.records(numbers) if one.label != without)


def measured(folder: Path, sets: Mapping[str, tuple[Record, ...]]) -> Evidence:
    """A network with random weights before and after, and another one for the reference."""
    for name, seed in {"before": 0, "after": 1, "reference": 2}.items():
        if not (folder / name).exists():
            checkpoints.save(folder / name, *painted.network(seed))
    for name, chosen in sets.items():
        write_records(folder / f"{name}.jsonl", chosen)
    files = {name: f"{name}.jsonl" for name in sets}
    models = {role: role for role in ("before", "after", "reference")}
    options = {"suite": "image", "resamples": 100}
    job = Job(version=VERSION, kind=Kind.EVALUATE, seed=3, task="image", models=models, options=options, **files)  # type: ignore[arg-type]
    return run(job, folder, tiny.quiet)


def test_a_class_that_is_forgotten_whole_is_left_out_of_strangers(tmp_path: Path) -> None:
    """`ta` loses its pictures, `ta_forgotten` has them, and the evidence counts one class that was left out."""
    everything, strangers = records(range(2 * PEOPLE)), records(range(100, 100 + PEOPLE))
    forget = tuple(one for one in everything if one.label == WHOLE)
    stay = tuple(one for one in everything if one.label != WHOLE)
    evidence = measured(tmp_path, {"forget": forget, "retain": stay, "holdout": strangers})
    sizes = {one.metric: one.after.n for one in evidence.findings if one.after is not None}

    assert (sizes["ta"], sizes["ta_forgotten"]) == (PEOPLE * 3 // 4, PEOPLE // 4)
    assert (sizes["ua"], sizes["mia_auc"]) == (PEOPLE // 2, PEOPLE // 4)
    assert evidence.aggregates is not None
    assert evidence.aggregates["excluded"] == 1


def test_a_class_of_which_one_picture_stays_is_not_whole(tmp_path: Path) -> None:
    """It counts as every other."""
    everything, strangers = records(range(PEOPLE)), records(range(100, 100 + PEOPLE))
    forget = tuple(one for one in everything if one.label == WHOLE)[1:]
    stay = tuple(one for one in everything if one not in forget)
    evidence = measured(tmp_path, {"forget": forget, "retain": stay, "holdout": strangers})
    found = {one.metric: one for one in evidence.findings}

    assert found["ta"].after is not None
    assert found["ta"].after.n == PEOPLE
    assert "ta_forgotten" not in found
    assert evidence.aggregates is not None
    assert evidence.aggregates["excluded"] == 0


def test_without_strangers_of_its_class_membership_is_not_measured(tmp_path: Path) -> None:
    """Strangers of other classes would be told apart by any model; strangers of that class alone leave no `ta`."""
    everything = records(range(PEOPLE))
    forget = tuple(one for one in everything if one.label == WHOLE)
    stay, strangers = records(range(PEOPLE), without=WHOLE), records(range(100, 100 + PEOPLE))
    sets = {"forget": forget, "retain": stay, "holdout": records(range(100, 100 + PEOPLE), without=WHOLE)}
    found = {one.metric: one for one in measured(tmp_path, sets).findings}

    assert found["mia_auc"] == Finding(metric="mia_auc")
    assert found["ta"].after is not None
    with pytest.raises(EngineError, match="all pictures of the holdout set are of forgotten classes"):
        measured(tmp_path, {**sets, "holdout": tuple(one for one in strangers if one.label == WHOLE)})
