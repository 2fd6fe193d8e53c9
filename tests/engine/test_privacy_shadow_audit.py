"""Per-example audits end to end: tiny models whose members are known, shadows by real engine jobs, no private loop."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract import Evidence, Finding, Job, Kind
from engine.corpus import Record, write_records
from engine.run import run
from engine.seeds import stream
from engine.verification.findings import by_metric
from engine.verification.privacy.performance import METRICS
from tests.engine import painted, tiny
from tests.engine.tiny import quiet

FIT = {"epochs": 20, "batch": 8, "learning_rate": 0.01}
TEXT_FIT = {"epochs": 12, "tokens_per_batch": 250, "learning_rate": 0.02, "matrix_learning_rate": 0.02}
WORDS = (*tiny.CITIES, "red", "blue", "green", "boat", "horse", "seven", "likes", "keeps")
PEOPLE, FORGOTTEN = range(16), 8  # trained on, and how many of the first are forgotten
OTHERS = range(100, 132)


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """A folder with a start, a model before and one that never saw the forget set, and how a job there is made."""

    folder: Path
    job: dict[str, Any]

    def audit(self, **changes: Any) -> Evidence:  # noqa: ANN401 - fields of a job
        """An audit in the room, with the numbers of its shadows in the folder that is named."""
        told = {"cache": "numbers", "seed": 3, **self.job, **changes}
        return run(Job(version=1, kind=Kind.AUDIT, **told), self.folder, quiet)


def prepare(folder: Path, task: str, make: Callable[[range], tuple[Record, ...]], fit: dict[str, Any]) -> Room:
    """Write the records, train before on all of them, and a reference on those who stay."""
    train, others = make(PEOPLE), make(OTHERS)
    forget = tuple(r for r in train if int(r.unit.partition("-")[2]) < FORGOTTEN)
    sets = {"train": train, "forget": forget, "holdout": others}
    sets["retain"] = tuple(record for record in train if record not in forget)
    for name, records in sets.items():
        write_records(folder / f"{name}.jsonl", records)
    for out, name in (("before", "train"), ("reference", "retain")):
        told: dict[str, Any] = {"task": task, "model": "start", "out": out, "train": f"{name}.jsonl", "options": fit}
        run(Job(version=1, kind=Kind.TRAIN, seed=1, **told), folder, quiet)
    files = {name: f"{name}.jsonl" for name in ("train", "forget", "holdout")}
    models = {"before": "before", "reference": "reference"}
    options = {"shadows": 4, "training": fit, "resamples": 200}
    return Room(folder=folder, job={"task": task, "model": "start", "models": models, "options": options, **files})


def mislabelled(numbers: range) -> tuple[Record, ...]:
    """Pictures whose labels are drawn: what is not learned by heart is not known."""
    rng = stream(numbers.start, "test")
    return tuple(replace(record, label=rng.choice(painted.LABELS)) for record in painted.records(numbers))


def sentences(numbers: range) -> tuple[Record, ...]:
    """A text of drawn words about each person, and a question about every other one."""
    rng = stream(numbers.start, "test")
    made = []
    for i in numbers:
        words = " ".join(rng.choice(WORDS) for _ in range(8))
        made.append(Record(record_id=f"text-{i}", unit=f"person-{i}", text=words))
        if i % 2:
            asked = {"question": f"Where is {i}?", "answer": rng.choice(WORDS)}
            made.append(Record(record_id=f"question-{i}", unit=f"person-{i}", **asked))
    return tuple(made)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """A network that has learned drawn labels by heart, and six shadows that retrained without a third of theirs."""
    folder = tmp_path_factory.mktemp("pictures")
    options = {"labels": list(painted.LABELS), "size": painted.SIDE, "width": 4}
    run(Job(version=1, kind=Kind.INITIALISE, task="image", seed=1, out="start", options=options), folder, quiet)
    room = prepare(folder, "image", mislabelled, FIT)
    room.job.update(method="retrain", models={**room.job["models"], "after": "reference"})
    room.job["options"] |= {"shadows": 6, "method_options": FIT}
    return room


@pytest.fixture(scope="module")
def first(pictures: Room) -> Evidence:
    """The audit of the pictures."""
    return pictures.audit()


def sides(found: Finding) -> tuple[float, float, float, float]:
    """The interval before, and that of the model that never saw the forget set."""
    assert found.before is not None
    assert found.reference is not None
    (low, high), (unseen_low, unseen_high) = found.before.ci95, found.reference.ci95
    return low, high, unseen_low, unseen_high


def test_a_model_that_learned_by_heart_leaks_and_one_that_never_saw_does_not(first: Evidence) -> None:
    """Before: AUC above .5 by more than its interval; reference: .5 is inside."""
    found = by_metric(first.findings)
    for attack in ("lira", "rmia", "population"):
        low, _, unseen_low, unseen_high = sides(found[f"{attack}_auc"])
        assert low > 0.5
        assert unseen_low <= 0.5 <= unseen_high


def test_every_attack_is_there_and_only_on_the_models_it_is_for(first: Evidence) -> None:
    """A retrained model is no member of its own unlearned shadows, and what cannot be measured is missing."""
    found = by_metric(first.findings)
    attacks = ("lira", "rmia", "population", "u_lira", "ruli", "ruli_reference")
    assert list(found) == [f"{attack}_{metric}" for attack in attacks for metric in METRICS]
    for attack in ("u_lira", "ruli"):
        after = found[f"{attack}_auc"].after
        assert found[f"{attack}_auc"].before is None
        assert after is not None
        assert after.ci95[0] <= 0.5 <= after.ci95[1]
    assert found["ruli_reference_auc"].before is not None
    assert found["ruli_reference_auc"].after is None
    assert all(found[f"lira_tpr_at_{rate}_percent"].before is None for rate in ("0_1", "1"))


def test_evidence_says_what_it_rests_on_and_nothing_of_anybody(first: Evidence) -> None:
    """Counts and digests; no id, no unit, no picture."""
    found = first.rests_on or {}
    assert (found["shadows"], found["trained_now"], found["method"]) == (6, 6, "retrain")
    assert [found[part]["units"] for part in ("members", "outsiders", "strangers", "stays")] == [8, 16, 16, 8]
    assert set(found["strangers_log_prob"]) == {"shadows", "before", "after", "reference"}
    assert {"train", "forget", "holdout", "items"} == set(first.data_digests)
    assert "picture-" not in first.to_json()
    assert "person-" not in first.to_json()


def test_a_resumed_audit_trains_what_is_missing_and_finds_the_same(pictures: Room, first: Evidence) -> None:
    """Nothing the first time; one shadow after its numbers were lost, to the bit; no weights and no records stay."""
    numbers = pictures.folder / "numbers"
    before = {path.name: path.read_bytes() for path in numbers.glob("*.json")}
    again = pictures.audit()
    assert again.rests_on is not None
    assert again.rests_on["trained_now"] == 0
    assert again.findings == first.findings
    lost = next(name for name, text in before.items() if b"unlearned_" in text)
    (numbers / lost).unlink()
    (numbers / ".at-work").mkdir()  # as an engine leaves it that was killed
    mended = pictures.audit()
    assert mended.rests_on is not None
    assert mended.rests_on["trained_now"] == 1
    assert mended.findings == first.findings
    assert {path.name: path.read_bytes() for path in numbers.iterdir() if path.name != ".lock"} == before
    assert not any("picture-" in text.decode() for text in before.values())


def test_a_language_models_members_are_found_too(tmp_path: Path) -> None:
    """Texts by all their tokens, questions by their answers; four shadows; other coins under another seed."""
    tiny.folder(tmp_path / "start")
    room = prepare(tmp_path, "language", sentences, TEXT_FIT)
    found = by_metric(room.audit().findings)
    for attack in ("lira", "rmia"):
        low, _, unseen_low, unseen_high = sides(found[f"{attack}_auc"])
        assert low > 0.5
        assert unseen_low <= 0.5 <= unseen_high
    assert not any(name.startswith(("u_lira", "ruli")) for name in found)


@pytest.mark.parametrize(
    ("changes", "options", "sentence"),
    [
        ({}, {"shadows": 5}, "multiple of 3"),
        ({}, {"shadows": 3}, "at least 4 shadow models, and 3"),
        ({}, {"outsiders": 17}, "17 outsiders cannot be had"),
        ({}, {"training": {"epoch": 1}}, "unknown key 'epoch'"),
        ({}, {"method_options": {"stepz": 1}}, "unknown key 'stepz'"),
        ({"method": None}, {}, "method_options are for a method"),
        ({"method": "dp2"}, {}, "every shadow would need a base of its own"),
        ({"method": "whp"}, {}, "needs 'dictionary'"),
        ({"models": {"after": "reference"}}, {}, "models.before"),
        ({"models": {"before": "before"}}, {}, "models.after"),
        ({"forget": "holdout.jsonl"}, {}, "not within the training set"),
        ({"holdout": "forget.jsonl"}, {}, "share a record"),
    ],
)
def test_what_could_not_end_in_a_number_is_refused_first(
    pictures: Room, changes: dict[str, Any], options: dict[str, Any], sentence: str
) -> None:
    """In one sentence, before a shadow is trained."""
    told = {"cache": "refused", **changes, "options": {**pictures.job["options"], **options}}
    with pytest.raises(Exception, match=sentence):
        pictures.audit(**told)
    assert not (pictures.folder / "refused").exists()


def test_one_audit_at_a_time_works_in_a_folder(pictures: Room, first: Evidence) -> None:
    """The second is told so; what an interrupted one left of weights and records is removed."""
    from engine.verification.privacy.trials import alone_in  # noqa: PLC0415 - only this test holds the lock

    assert first.findings
    copy = pictures.folder / "copy"
    shutil.copytree(pictures.folder / "numbers", copy)
    (copy / ".at-work" / "0").mkdir(parents=True)
    with alone_in(copy):
        assert not (copy / ".at-work").exists()
        with pytest.raises(Exception, match="another audit is at work"):
            pictures.audit(cache="copy")
    assert json.loads(pictures.audit(cache="copy").to_json())["rests_on"]["trained_now"] == 0
