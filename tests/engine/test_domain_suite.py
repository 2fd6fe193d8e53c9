"""The suite `domain`: golden numbers, intervals, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import checkpoints
from engine.contract import VERSION, Job, Kind
from engine.corpus import write_records
from engine.errors import EngineError
from engine.run import run
from engine.verification.domain_suite import findings, forgotten_rows, harmonic, probe
from engine.verification.statistics import resampling
from tests.engine import styled, tiny

LEAVES = "negative"
STAY = ("photo", "tinted")


def rooms(rows: int) -> Any:  # noqa: ANN401 - a resampling
    """Every picture a unit of its own."""
    return resampling([str(i) for i in range(rows)], resamples=300, seed=1)


def test_golden_numbers() -> None:
    """Three of four that stay are right, one of four that leave: 3/4, 3/4 and their harmonic mean."""
    told: dict[str, tuple[float, ...]] = {
        "hits": (1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        "probe_hits": (1.0,) * 6 + (0.0,) * 2,
    }
    found = {one.metric: one.after for one in findings({"after": told}, np.arange(8) >= 4, rooms(8))}
    values = {name: None if one is None else one.value for name, one in found.items()}

    assert values == pytest.approx({"mem": 0.75, "for": 0.75, "h": 0.75, "domain_probe": 0.75})
    assert all(one is not None and 0.0 <= one.ci95[0] < one.value < one.ci95[1] <= 1.0 for one in found.values())
    assert all(one is not None and one.n == 8 for one in found.values())


def test_published_figures_fit_together() -> None:
    """Office-Home with one domain forgotten: Mem 77.93 and For 64.34 give 70.49, of averages not the average 69.96."""
    assert float(harmonic(np.array(0.7793), np.array(0.6434))) == pytest.approx(0.7049, abs=1e-4)
    assert float(harmonic(np.array(0.0), np.array(0.0))) == 0.0


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_harmonic_mean_keeps_its_bounds(mem: float, lost: float) -> None:
    """Between the smaller and twice the smaller, and the same either way round."""
    value = float(harmonic(np.array(mem), np.array(lost)))

    assert min(mem, lost) - 1e-9 <= value <= 2 * min(mem, lost) + 1e-9
    assert value == pytest.approx(float(harmonic(np.array(lost), np.array(mem))))


def test_a_probe_reads_what_is_there_and_nothing_else() -> None:
    """Domains a constant apart are told apart; from features that say nothing it knows no more than chance."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    far = np.eye(4)[labels] + 0.1 * rng.normal(size=(400, 4))
    noise = rng.normal(size=(400, 4))

    assert (probe(far[:200], labels[:200], far[200:]) == labels[200:]).mean() == 1.0
    assert abs((probe(noise[:200], labels[:200], noise[200:]) == labels[200:]).mean() - 0.25) < 0.1


def test_the_suite_measures_a_folder(tmp_path: Path) -> None:
    """By the job for it: all four, paired with a reference that is the same model and so differs in nothing."""
    checkpoints.save(tmp_path / "model", *styled.network())
    write_records(tmp_path / "forget.jsonl", styled.records(domains=(LEAVES,)))
    write_records(tmp_path / "retain.jsonl", styled.records(domains=STAY))
    write_records(tmp_path / "holdout.jsonl", styled.records(range(100, 120)))
    sets: dict[str, Any] = {name: f"{name}.jsonl" for name in ("forget", "retain", "holdout")}
    options = {"suite": "domain", "resamples": 200, "pictures": 8}
    models = {"after": "model", "reference": "model"}
    job = Job(
        version=VERSION, kind=Kind.EVALUATE, seed=3, task="vision-language", models=models, options=options, **sets
    )
    found = {one.metric: one for one in run(job, tmp_path, tiny.quiet).findings}

    assert list(found) == ["mem", "for", "h", "domain_probe"]
    assert found["domain_probe"].after is not None
    assert found["domain_probe"].after.value > 0.5
    assert all(one.difference is not None and one.difference.ci95 == (0.0, 0.0) for one in found.values())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"forget": ()}, "needs pictures in the forget set, and it is empty"),
        ({"retain": styled.records()}, "the domain 'negative' is in the forget and the retain set"),
        ({"holdout": styled.records(domains=STAY)}, "needs pictures of domains that stay and of those to be forgotten"),
        ({"retain": styled.records(domains=("photo",))}, "the domain 'tinted' of the holdout set is in no other set"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(change: dict[str, Any], sentence: str) -> None:
    """One sentence each."""
    sets = {
        "forget": styled.records(domains=(LEAVES,)),
        "retain": styled.records(domains=STAY),
        "holdout": styled.records(range(20, 24)),
    }
    with pytest.raises(EngineError, match=sentence):
        forgotten_rows({**sets, **change})


def test_rows_are_those_of_the_forgotten_domain() -> None:
    """In the holdout set's own order."""
    held = styled.records(range(4))[::-1]
    sets = {"forget": styled.records(domains=(LEAVES,)), "retain": styled.records(domains=STAY), "holdout": held}

    assert forgotten_rows(sets).tolist() == [one.domain == LEAVES for one in held]
