"""`forget-set worst-case`: two files out of one, what is printed about them, and what is refused."""

from pathlib import Path

import pytest
from rich.table import Table

from compliance.cli import forget_sets
from engine.checkpoints import save
from engine.contract import Evidence
from engine.corpus import digest, read_records, write_records
from tests.compliance.terminal import Ran, refusal, run
from tests.engine import painted, tiny

KEYS = {"out", "forget_records", "retain_records", "overlap", "by_chance", "loss_chosen", "loss_all", "evidence"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier, pictures, and a language model."""
    folder = tmp_path_factory.mktemp("worst-case")
    write_records(folder / "all.jsonl", painted.records(range(24)))
    save(folder / "m", *painted.network())
    tiny.folder(folder / "text")
    return folder


def select(room: Path, *more: object, model: str = "m") -> Ran:
    """A short search in the room; what is said again replaces what stands here."""
    brief = ("--set", "rounds=2", "--set", "epochs=1", "--seed", "3")
    files = ("--model", room / model, "--data", room / "all.jsonl")
    return run("forget-set", "worst-case", *files, "--count", "6", *brief, *more)


@pytest.mark.slow
def test_a_forget_set_is_written_with_what_stays(room: Path, tmp_path: Path) -> None:
    """The files are whole, the evidence has their digests, and nothing printed names a record."""
    ran = select(room, "--out", tmp_path / "worst", "--json")

    assert (ran.code, ran.err) == (0, "")
    value = ran.value
    assert set(value) == KEYS
    assert (value["forget_records"], value["retain_records"], value["by_chance"]) == (6, 18, 0.25)
    sets = {name: read_records(tmp_path / "worst" / f"{name}.jsonl") for name in ("forget", "retain")}
    assert {r.record_id for one in sets.values() for r in one} == {r.record_id for r in painted.records(range(24))}
    evidence = Evidence.from_mapping(value["evidence"])
    assert evidence.data_digests["forget"] == digest(sets["forget"])
    assert (evidence.parameters["seed"], evidence.parameters["count"]) == (3, 6)
    assert "picture-" not in ran.out
    assert [type(one) for one in forget_sets._people(value)] == [Table]


@pytest.mark.parametrize(
    ("more", "model", "sentence"),
    [
        (("--by", "person"), "m", "options.by must be one of: record, unit, class"),
        (("--set", "by=class"), "m", "--set by has an option of its own"),
        (("--set", "momentum=1"), "m", "unknown key 'momentum'"),
        (("--set", "rate=-1"), "m", "options.rate must be above 0"),
        ((), "text", "for image classifiers; this is none"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(
    room: Path, tmp_path: Path, more: tuple[str, ...], model: str, sentence: str
) -> None:
    """In one line, before an engine is started."""
    assert sentence in refusal(select(room, "--out", tmp_path / "no", *more, model=model))
    assert not (tmp_path / "no").exists()
