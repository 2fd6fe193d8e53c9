"""Gates and model digests: pure functions that the desk and the verifier share."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import gates, model
from audits.errors import VerificationError
from audits.gates import Direction, Gate, GuaranteeClass, Outcome
from tests.audits.bundles import MODEL_FILES, file_digests, write

finite = st.floats(-2, 2)


def gate(direction: Direction, margin: float = 0.05, minimum_n: int = 10) -> Gate:
    """A gate on a metric."""
    return Gate(metric="m", direction=direction, margin=margin, minimum_n=minimum_n)


def finding(low: float, high: float, n: int = 10) -> dict[str, Any]:
    """A finding with this interval of its difference."""
    return {"metric": "m", "difference": {"value": (low + high) / 2, "ci95": [low, high], "n": n}}


@pytest.mark.parametrize(
    ("direction", "low", "high", "outcome"),
    [
        ("at_most", -0.5, 0.05, "held"),
        ("at_most", 0.0, 0.051, "underpowered"),
        ("at_most", 0.051, 0.2, "contradicted"),
        ("at_most", 0.05, 0.2, "underpowered"),
        ("at_least", -0.05, 0.5, "held"),
        ("at_least", -0.051, 0.0, "underpowered"),
        ("at_least", -0.2, -0.051, "contradicted"),
        ("at_least", -0.2, -0.05, "underpowered"),
        ("within", -0.05, 0.05, "held"),
        ("within", -0.051, 0.05, "underpowered"),
        ("within", -0.05, 0.051, "underpowered"),
        ("within", 0.06, 0.07, "contradicted"),
        ("within", -0.07, -0.06, "contradicted"),
        ("within", -0.5, 0.5, "underpowered"),
    ],
)
def test_a_gate_looks_at_the_whole_interval(direction: Direction, low: float, high: float, outcome: Outcome) -> None:
    """The edges of an interval against the margin decide, the margin itself included."""
    assert gates.judge(gate(direction), finding(low, high)).outcome == outcome


@given(st.sampled_from(["at_most", "at_least", "within"]), finite, finite, st.floats(0, 1))
def test_within_is_both(direction: Direction, one: float, other: float, margin: float) -> None:
    """A two-sided gate holds exactly when both one-sided gates do, and is contradicted when either is."""
    found = finding(min(one, other), max(one, other))
    above, below, both = (gates.judge(gate(kind, margin), found).outcome for kind in ("at_most", "at_least", "within"))

    assert (both == "held") == (above == below == "held")
    assert (both == "contradicted") == ("contradicted" in (above, below))
    assert gates.judge(gate(direction, margin), found | {"difference": None}).outcome == "missing"


def test_too_few_units_settle_nothing() -> None:
    """Below the minimum n even a perfect or a terrible interval is underpowered."""
    assert gates.judge(gate("at_most"), finding(-1, -1, n=9)).outcome == "underpowered"
    assert gates.judge(gate("at_most"), finding(1, 1, n=9)).outcome == "underpowered"


@pytest.mark.parametrize(
    "difference",
    [
        None,
        7,
        {},
        {"ci95": None, "n": 10},
        {"ci95": [0.0], "n": 10},
        {"ci95": [0.0, math.nan], "n": 10},
        {"ci95": [math.nan, 0.0], "n": 10},
        {"ci95": [0.0, math.inf], "n": 10},
        {"ci95": [-math.inf, 0.0], "n": 10},
        {"ci95": [0.1, 0.0], "n": 10},
        {"ci95": ["0", "0"], "n": 10},
        {"ci95": [True, True], "n": 10},
        {"ci95": [0.0, 0.0]},
        {"ci95": [0.0, 0.0], "n": None},
        {"ci95": [0.0, 0.0], "n": True},
        {"ci95": [0.0, 0.0], "n": 10.0},
    ],
)
def test_unusable_evidence_is_missing_evidence(difference: object) -> None:
    """What is absent, not finite or not a number never passes."""
    assert gates.judge(gate("at_most"), {"metric": "m", "difference": difference}).outcome == "missing"


def test_a_metric_that_is_measured_twice_is_not_measured() -> None:
    """Nobody may pick the better of two findings."""
    twice = [finding(0, 0), finding(0, 0)]

    assert [one.outcome for one in gates.judge_all([gate("at_most")], twice[:1])] == ["held"]
    assert [one.outcome for one in gates.judge_all([gate("at_most")], twice)] == ["missing"]
    assert [one.outcome for one in gates.judge_all([gate("at_most")], [])] == ["missing"]


@pytest.mark.parametrize("guarantee", gates.CLASSES)
def test_what_blocks_a_publication(guarantee: GuaranteeClass) -> None:
    """Evidence alone must hold; behind a construction or a theorem, only evidence against it and none at all block."""
    outcomes: list[Outcome] = ["held", "contradicted", "underpowered", "missing"]
    blocking = {one for one in outcomes if gates.blocks(guarantee, one)}

    backed = guarantee in ("exact", "certified")
    assert blocking == ({"contradicted", "missing"} if backed else {"contradicted", "missing", "underpowered"})


def test_a_gate_that_can_not_fail_is_refused() -> None:
    """Margins that are negative or not finite, no units and unknown directions are mistakes."""
    for changes in ({"margin": -0.1}, {"margin": math.inf}, {"margin": math.nan}, {"minimumN": 0}, {"direction": "up"}):
        with pytest.raises(ValueError, match="gate"):
            Gate.from_json(gate("at_most").to_json() | changes)


def test_a_model_is_all_its_files(tmp_path: Path) -> None:
    """The files of a folder are found with names, sizes and digests, and give one model digest."""
    folder = write(tmp_path / "model", MODEL_FILES)

    assert model.files(folder) == file_digests(MODEL_FILES)
    assert model.digest_folder(folder) == model.digest(file_digests(MODEL_FILES))
    assert model.digest_folder(folder) == "54be2f34599b894354b9b0033c9811cd1af09123f04b60b99fe9a6b24f958894"


@pytest.mark.parametrize(
    "changes",
    [
        {"config.json": b"changed"},
        {".git/config": b"hidden"},
        {"tokenizer/extra.txt": b""},
    ],
)
def test_any_change_changes_the_digest(tmp_path: Path, changes: dict[str, bytes]) -> None:
    """A changed file, a hidden file and an empty file all count."""
    before = model.digest_folder(write(tmp_path / "model", MODEL_FILES))

    assert model.digest_folder(write(tmp_path / "model", changes)) != before


def test_swapped_files_are_another_model(tmp_path: Path) -> None:
    """Names are part of the digest, so two files can't be exchanged."""
    one = write(tmp_path / "one", {"a.bin": b"A", "b.bin": b"B"})
    other = write(tmp_path / "other", {"a.bin": b"B", "b.bin": b"A"})

    assert model.digest_folder(one) != model.digest_folder(other)


def test_a_model_folder_holds_files_only(tmp_path: Path) -> None:
    """Links to files and folders, nothing at all, and a missing folder are refused."""
    folder = write(tmp_path / "model", {"a.bin": b"A"})
    (tmp_path / "empty").mkdir()
    for link, target in ((folder / "link", folder / "a.bin"), (folder / "dir", tmp_path / "empty")):
        link.symlink_to(target)
        with pytest.raises(VerificationError, match="symbolic link"):
            model.files(folder)
        link.unlink()

    for absent in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(VerificationError):
            model.files(absent)
