"""Data sets: what is read, what is kept of it, and what may not come back."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance import registry
from compliance.errors import ComplianceError, ConflictError, InvalidInputError
from compliance.wiring import Services
from tests.compliance.builders import add_dataset, log_size, person, rows, write_lines
from tests.compliance.conftest import both_databases

GOOD = {"subject": "a@example.test", "text": "A ticket."}
NAMES = st.text(st.characters(codec="utf-8"), max_size=12)


def _data_files(desk: Services) -> list[Path]:
    return sorted((desk.store.root / "datasets").glob("*"))


def _forget(desk: Services, record_ids: list[str]) -> None:
    with desk.transaction() as ledger:
        ledger.forget_records(dataset_id="d1", record_ids=record_ids, digest="0" * 64, batch_id="b1", now=desk.clock())


def test_records_are_read_in_both_forms(tmp_path: Path) -> None:
    """A line is a passage, or a question with its answer; a line without an id is called by its number."""
    pair = {"subject": "b", "record_id": "mine", "question": "Who?", "answer": "B."}
    path = write_lines(tmp_path / "data.jsonl", [GOOD, pair])

    first, second = registry.read_lines(path, subject_field="subject")

    assert (first.record.record_id, first.record.text, first.subject) == ("line-1", "A ticket.", "a@example.test")
    assert (second.record.record_id, second.record.question, second.record.answer) == ("mine", "Who?", "B.")


def test_data_set_without_subjects_can_be_read(tmp_path: Path) -> None:
    """Public data have no subject field, and need none."""
    (line,) = registry.read_lines(write_lines(tmp_path / "public.jsonl", [{"text": "x"}]), subject_field="")

    assert line.subject is None


@pytest.mark.parametrize(
    ("second", "code", "sentence"),
    [
        ('{"subject": "sEcReT", "text": ', "not-json", "line 2 is not valid JSON"),
        ('"sEcReT"', "not-an-object", "line 2 is not a JSON object"),
        ("[" * 100_000, "not-json", "line 2 is not valid JSON"),
        ('{"text": "sEcReT"}', "missing-field", "line 2 has no 'subject'"),
        ('{"subject": 5, "text": "sEcReT"}', "missing-field", "line 2 has no 'subject'"),
        ('{"subject": " ", "text": "sEcReT"}', "missing-field", "line 2 has no 'subject'"),
        ('{"subject": "sEcReT"}', "missing-field", "line 2 needs 'text', or 'question' and 'answer'"),
        ('{"subject": "b", "question": "sEcReT"}', "missing-field", "line 2 needs"),
        ('{"subject": "b", "text": "sEcReT", "answer": "x"}', "missing-field", "line 2 needs"),
        ('{"subject": "b", "text": ["sEcReT"]}', "missing-field", "line 2 needs"),
        ('{"subject": "b", "text": "sEcReT", "record_id": 7}', "missing-field", "line 2 needs"),
        ('{"subject": "b", "text": "sEcReT", "record_id": ""}', "missing-field", "line 2 needs"),
        ('{"subject": "b", "text": "sEcReT", "record_id": "line-1"}', "duplicate-record-id", "lines 1 and 2"),
        ('{"subject": "b", "text": "sEcReT \\ud800"}', "bad-character", "line 2 has a character"),
        ('{"subject": "b", "text": "sEcReT \\u0000"}', "bad-character", "line 2 has a character"),
        ('{"subject": "b", "text": "sEcReT", "record_id": "%s"}' % ("r" * 201), "long-record-id", "on line 2 has more"),
    ],
)  # fmt: skip
def test_bad_line_gets_one_sentence(tmp_path: Path, second: str, code: str, sentence: str) -> None:
    """The sentence names the line and the fault and shows nothing of the content."""
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + second + "\n")

    with pytest.raises(InvalidInputError, match=sentence) as caught:
        registry.read_lines(path, subject_field="subject")

    assert caught.value.code == code
    assert "sEcReT" not in str(caught.value)


def test_broken_utf8_is_found_on_its_line(tmp_path: Path) -> None:
    """A byte that is no UTF-8 is named by its line, and the file is not guessed at."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b'\n{"subject": "b", "text": "caf\xe9"}\n')

    with pytest.raises(InvalidInputError, match=r"line 2 of data\.jsonl is not valid UTF-8"):
        registry.read_lines(path, subject_field="subject")


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "empty-data-set"), (b"\n \n", "empty-data-set"), (None, "unreadable")]
)
def test_file_with_nothing_in_it_is_refused(tmp_path: Path, content: bytes | None, code: str) -> None:
    """An empty file, blank lines or no file at all make no data set."""
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidInputError) as caught:
        registry.read_lines(path, subject_field="subject")

    assert caught.value.code == code


@given(
    content=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
)
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever a file holds, the answer is records or one sentence."""
    path = tmp_path_factory.mktemp("fuzz") / "data.jsonl"
    path.write_bytes(content)

    try:
        assert registry.read_lines(path, subject_field="")
    except InvalidInputError as error:
        assert "\n" not in str(error)


@given(name=NAMES)
def test_one_person_has_one_spelling(name: str) -> None:
    """Case, Unicode form and white space don't make another person of somebody."""
    expected = registry.normalise(name)

    assert registry.normalise(expected) == expected
    assert registry.normalise(f"  {unicodedata.normalize('NFD', name)}\t") == expected
    assert registry.normalise(name.casefold()) == expected


def test_every_character_has_one_spelling() -> None:
    """Normalising twice is normalising once, for each character there is, alone and capitalised."""
    everything = (chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    ambiguous = "\u0131\u017f"  # dotless i and long s: capitalised they are I and S, and those are other letters

    odd = [
        character
        for character in everything
        for once in [registry.normalise(character)]
        if registry.normalise(once) != once
        or (character not in ambiguous and registry.normalise(character.upper()) != once)
    ]

    assert not odd


def test_same_content_is_recognised_under_another_id(services: Services) -> None:
    """A record is what it says: its id, its case and its spaces don't disguise it."""
    people = [person(1)]
    add_dataset(services, rows(people))
    first, *_ = services.store.records("d1")

    shouted = type(first)(record_id="other", unit="x", text=f"  {(first.text or '').upper()} ")

    assert registry.content_tag(services.vault, first) == registry.content_tag(services.vault, shouted)


@both_databases
def test_what_is_stored_names_nobody(services: Services) -> None:
    """The subject field is kept as a keyed tag: neither the file nor the ledger has it in clear."""
    add_dataset(services, rows([person(1), person(2)]))

    with services.read() as ledger:
        view = ledger.dataset("d1")
        tags = {
            record.subject_tag
            for record in ledger.records_named(dataset_id="d1", record_ids=[f"line-{n}" for n in range(1, 5)])
        }
        entries = b"".join(ledger.entries(0, ledger.head().size))
    assert (view.records, view.forgotten) == (4, 0)
    assert tags == {registry.subject_tag(services.vault, person(n).email.upper()) for n in (1, 2)}
    assert {record.unit for record in services.store.records("d1")} == tags
    assert b"example.test" not in entries


@both_databases
def test_forgotten_record_may_not_come_back(services: Services) -> None:
    """A line with a forgotten record's content is refused by its number, whoever it is said to be about."""
    add_dataset(services, rows([person(1)]))
    _forget(services, ["line-1"])
    disguised = {"subject": "somebody@example.test", "text": "A TICKET about  Marvellous Person1."}
    before = log_size(services)

    with pytest.raises(InvalidInputError, match=r"1 records were erased on request.*lines 2") as caught:
        add_dataset(services, [GOOD, disguised], dataset_id="d2")

    assert caught.value.code == "suppressed-record"
    assert before == log_size(services)
    assert [path.name for path in _data_files(services)] == ["d1.jsonl"]


@both_databases
def test_forgotten_person_may_not_come_back(services: Services) -> None:
    """After an erasure every record with the person's subject field is refused, whatever it says."""
    with services.transaction() as ledger:
        tag = registry.subject_tag(services.vault, person(1).email)
        ledger.suppress("subject", tag=tag, request_id="r1", now=services.clock())

    with pytest.raises(InvalidInputError, match="may not come back"):
        add_dataset(services, [GOOD, {"subject": "  PERSON1@example.test", "text": "Something new."}])


def test_long_list_of_forgotten_lines_is_cut(services: Services) -> None:
    """The sentence stays a sentence when hundreds of lines come back."""
    values = [{"subject": f"p{n}@example.test", "text": f"Ticket {n}."} for n in range(700)]
    add_dataset(services, values)
    _forget(services, [f"line-{n}" for n in range(1, 701)])

    with pytest.raises(InvalidInputError) as caught:
        add_dataset(services, values, dataset_id="d2")

    assert "700 records" in str(caught.value)
    assert len(str(caught.value)) < 200


@both_databases
@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "n" * 65, "naïve"])
def test_name_must_fit_into_a_path(services: Services, name: str) -> None:
    """A name that could leave its folder or break a report is refused."""
    with pytest.raises(InvalidInputError, match="1 to 64 letters"), services.transaction() as ledger:
        registry.add_dataset(
            ledger, services.store, services.vault,
            dataset_id="d1", name=name, lines=[], subject_field="", now=services.clock(),
        )  # fmt: skip


@both_databases
def test_refused_data_set_leaves_nothing(services: Services) -> None:
    """A taken name changes nothing: no entry, no row, and no file with people's data."""
    add_dataset(services, rows([person(1)]))
    before = log_size(services)

    with pytest.raises(ConflictError, match="'d1' exists"), services.transaction() as ledger:
        registry.add_dataset(
            ledger, services.store, services.vault,
            dataset_id="d2", name="d1", lines=[], subject_field="", now=services.clock(),
        )  # fmt: skip

    assert before == log_size(services)
    assert [path.name for path in _data_files(services)] == ["d1.jsonl"]


@both_databases
def test_data_set_of_a_failed_transaction_leaves_no_file(services: Services, tmp_path: Path) -> None:
    """When the transaction fails after the data set was added, its file goes with it."""
    lines = registry.read_lines(write_lines(tmp_path / "x.jsonl", rows([person(1)])), subject_field="subject")

    with pytest.raises(ComplianceError, match="no such model"), services.transaction() as ledger:
        registry.add_dataset(
            ledger, services.store, services.vault,
            dataset_id="d1", name="d1", lines=lines, subject_field="subject", now=services.clock(),
        )  # fmt: skip
        ledger.model("unknown")

    assert not _data_files(services)
    with services.read() as ledger:
        assert not ledger.datasets()
