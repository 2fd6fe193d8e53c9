"""Records on disk: equal records are equal bytes, and what is broken is named by its line and never quoted."""

import json
from pathlib import Path

import pytest

from engine.corpus import Record, by_unit, digest, passages, questions, read_records, write_records
from engine.errors import EngineError
from tests.engine.tiny import records

SECRET = "Zoe Quine"
GOOD = json.dumps({"record_id": "r1", "unit": "u1", "text": SECRET})
RECORDS = (
    Record(record_id="r1", unit="u1", text="Zoë was here.\nAnd there."),
    Record(record_id="r2", unit="u2", question="Who?", answer="Zoë"),
)


def complaint(path: Path) -> str:
    """The sentence about a broken file."""
    with pytest.raises(EngineError) as caught:
        read_records(path)
    assert caught.value.code == "bad_data"
    return caught.value.message


def test_records_come_back_as_they_went(tmp_path: Path) -> None:
    """Passages and questions survive the file, line breaks and accents included."""
    write_records(tmp_path / "a.jsonl", RECORDS)
    assert read_records(tmp_path / "a.jsonl") == RECORDS
    assert (tmp_path / "a.jsonl").read_bytes().count(b"\n") == 2


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    """Keys in another order and blank lines do not change what is written or its digest."""
    lines = [json.dumps(dict(reversed(record.to_mapping().items()))) for record in RECORDS]
    (tmp_path / "a.jsonl").write_text("\n" + "\n\n".join(lines), encoding="utf-8")
    write_records(tmp_path / "b.jsonl", read_records(tmp_path / "a.jsonl"))
    write_records(tmp_path / "c.jsonl", RECORDS)
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "c.jsonl").read_bytes()


def test_the_digest_is_the_documented_one() -> None:
    """SHA-256 over canonical lines, for ever the same; order counts."""
    assert digest(()) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest(RECORDS) == "22d6358585b69d91ea46bf835bb86fb60b2f9f7573e095a5fbc7f2790148ef99"
    assert digest(RECORDS[::-1]) != digest(RECORDS)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{" + SECRET, "is not valid JSON"),
        (json.dumps([SECRET]), "is not a JSON object"),
        ("[" * 100_000, "is not valid JSON"),
        (json.dumps({"unit": "u", "text": SECRET}), "needs a record_id"),
        (json.dumps({"record_id": "r", "text": SECRET}), "needs a unit"),
        (json.dumps({"record_id": "r", "unit": "", "text": SECRET}), "needs a unit"),
        (json.dumps({"record_id": "r", "unit": "u"}), "either text, or question and answer"),
        (json.dumps({"record_id": "r", "unit": "u", "question": SECRET}), "either text, or question and answer"),
        (
            json.dumps({"record_id": "r", "unit": "u", "text": SECRET, "question": "q", "answer": "a"}),
            "either text, or question and answer",
        ),
        (json.dumps({"record_id": "r", "unit": "u", "text": SECRET, "name": SECRET}), "none of: answer, domain, file"),
        (json.dumps({"record_id": "r", "unit": "u", SECRET: "x", "text": SECRET}), "none of: answer, domain, file"),
        (json.dumps({"record_id": "r", "unit": "u", "text": [SECRET]}), "is not a text"),
    ],
)
def test_a_broken_line_is_named_and_not_quoted(tmp_path: Path, line: str, sentence: str) -> None:
    """One sentence with the line's number, and nobody's data in it."""
    path = tmp_path / "people.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n", encoding="utf-8")
    message = complaint(path)
    assert message.startswith("people.jsonl line 3")
    assert sentence in message
    assert "Zoe" not in message
    assert "\n" not in message


def test_two_records_with_one_id_are_refused(tmp_path: Path) -> None:
    """A record id stands for one record."""
    (tmp_path / "people.jsonl").write_text(f"{GOOD}\n{GOOD}\n", encoding="utf-8")
    message = complaint(tmp_path / "people.jsonl")
    assert "same record_id" in message
    assert "Zoe" not in message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """Broken UTF-8 is refused without a byte of it."""
    (tmp_path / "people.jsonl").write_bytes(GOOD.encode() + b"\xff\xfe")
    assert complaint(tmp_path / "people.jsonl") == "people.jsonl is not valid UTF-8"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing file is bad data, named without the folders above it."""
    assert complaint(tmp_path / "none.jsonl") == "none.jsonl cannot be read"


def test_records_are_sorted_out_by_unit_and_kind() -> None:
    """Everything of one data subject stands together, in order of first appearance."""
    mixed = (*records([1]), *records([0]))
    assert list(by_unit(mixed)) == ["unit-1", "unit-0"]
    assert [len(group) for group in by_unit(mixed).values()] == [2, 2]
    assert len(passages(mixed)) == 2
    assert len(questions(mixed)) == 2
