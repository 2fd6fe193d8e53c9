"""Which records a request concerns: found by tag and by text, proposed with a reason, never removed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.errors import ConflictError, NotFoundError
from compliance.ledger.lifecycle import ItemState, RequestState
from compliance.ledger.views import Subject
from compliance.matching import scan
from compliance.wiring import Services
from engine.corpus import Record
from tests.compliance.builders import add_dataset, add_model, person, rows
from tests.compliance.conftest import both_databases, file_request, verified_request

WORDS = st.text(alphabet="abcdeé", min_size=5, max_size=8)
SOMEBODY = Subject(name="Quillon Vandermeer", email="q.vandermeer+news@example.test", identifiers=("C-10-778", "Ren"))


def _passage(text: str) -> Record:
    return Record(record_id="x", unit="u", text=text)


def _reasons(text: str, subject: Subject = SOMEBODY) -> list[str]:
    return [reason for _, reason in scan([_passage(text)], subject)]


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("Ticket of Quillon Vandermeer, open.", ["text:name"]),
        ("ticket of QUILLON\n  vandermeer", ["text:name"]),
        ("Quillon Vandermeers Laden", []),
        ("McQuillon Vandermeer", []),
        ("Vandermeer, Quillon", []),
        ("write to Q.Vandermeer+news@example.test.", ["text:email"]),
        ("write to q.vandermeer@example.test", []),
        ("qXvandermeer+news@example.test", []),
        ("customer C-10-778 called", ["text:identifier"]),
        ("customer C-10-7789 called", []),
        ("Ren asked Ren and Ren", []),
        ("Quillon Vandermeer <q.vandermeer+news@example.test>", ["text:name", "text:email"]),
    ],
)
def test_text_is_searched_for_whole_identifiers(text: str, reasons: list[str]) -> None:
    """Names and addresses are found whole, in any case and spacing; a name too short to mean one person is not."""
    assert _reasons(text) == reasons


def test_questions_and_answers_are_searched_too() -> None:
    """A person named only in an answer is found."""
    record = Record(record_id="x", unit="u", question="Who called?", answer="It was Quillon Vandermeer.")

    assert [*scan([record], SOMEBODY)] == [("x", "text:name")]


@given(name=WORDS, before=st.text(alphabet="a \n.,-(", max_size=3), after=st.text(alphabet="a \n.,-)", max_size=3))
def test_a_name_is_found_exactly_where_it_stands_alone(name: str, before: str, after: str) -> None:
    """A name counts when no letter touches it, whatever else is around."""
    alone = not before.endswith("a") and not after.startswith("a")

    found = _reasons(f"x {before}{name}{after} x", Subject(name=name.upper(), email="nobody@example.test"))

    assert found == (["text:name"] if alone else [])


@both_databases
def test_subject_field_finds_records_that_do_not_name_the_person(services: Services) -> None:
    """A match by the keyed tag and one by the text each say so, and the next person's records stay out."""
    people = [person(1), person(2)]
    add_dataset(services, rows(people))
    add_model(services)
    verified_request(services, subject=people[0])

    services.verified("r1")

    with services.read() as ledger:
        assert ledger.request("r1").state is RequestState.MATCHED
        assert [(match.record_id, match.reason) for match in ledger.matches("r1")] == [
            ("line-1", "subject-field"),
            ("line-1", "text:name"),
            ("line-2", "subject-field"),
        ]
        assert [item.state for item in ledger.items("r1")] == [ItemState.PROPOSED]


def test_an_identifier_may_be_the_subject_field(services: Services) -> None:
    """A customer number in the request finds the records filed under it."""
    add_dataset(services, [{"subject": "C-10-778", "text": "A ticket."}, {"subject": "C-10-779", "text": "Another."}])
    add_model(services)
    verified_request(services, subject=SOMEBODY)

    services.verified("r1")

    with services.read() as ledger:
        assert [match.record_id for match in ledger.matches("r1")] == ["line-1"]


@both_databases
def test_each_model_gets_its_item(services: Services) -> None:
    """Two models on one data set make two items; a data set without a model makes none."""
    add_dataset(services, rows([person(1)]))
    add_model(services, model_id="m1")
    add_model(services, model_id="m2")
    add_dataset(services, [{"subject": person(1).email, "text": "Nobody learns this."}], dataset_id="d2")
    verified_request(services, subject=person(1))

    services.verified("r1")

    with services.read() as ledger:
        assert sorted(item.model_id for item in ledger.items("r1")) == ["m1", "m2"]
        assert {match.dataset_id for match in ledger.matches("r1")} == {"d1"}


@both_databases
def test_nothing_found_ends_the_request_and_is_told(services: Services) -> None:
    """Without a record there is nothing to approve: the request is `no_match`, closed, and the person hears of it."""
    add_dataset(services, rows([person(1)]))
    add_model(services)
    verified_request(services, subject=person(2))

    services.verified("r1")

    with services.read() as ledger:
        request = ledger.request("r1")
        assert (request.state, request.closed_at) == (RequestState.NO_MATCH, services.clock())
        assert not ledger.items("r1")
        assert [notice.kind for notice in ledger.pending_notices()] == ["no_match"]


def test_forgotten_records_are_not_found_again(services: Services) -> None:
    """What has left the data set concerns nobody any more."""
    add_dataset(services, rows([person(1)]))
    add_model(services)
    with services.transaction() as ledger:
        ledger.forget_records(
            dataset_id="d1", record_ids=["line-1", "line-2"], digest="0" * 64, batch_id="b1", now=services.clock()
        )
    services.store.write_dataset("d1", [])
    verified_request(services, subject=person(1))

    services.verified("r1")

    with services.read() as ledger:
        assert ledger.request("r1").state is RequestState.NO_MATCH


def test_matching_removes_nothing(services: Services) -> None:
    """Records, data set and digest are as they were."""
    add_dataset(services, rows([person(1)]))
    add_model(services)
    with services.read() as ledger:
        before = (ledger.dataset("d1"), services.store.records("d1"))
    verified_request(services, subject=person(1))

    services.verified("r1")

    with services.read() as ledger:
        assert before == (ledger.dataset("d1"), services.store.records("d1"))


@both_databases
def test_only_a_verified_request_is_matched(services: Services) -> None:
    """Matching before the proof of identity, or twice, is refused and leaves nothing behind."""
    add_dataset(services, rows([person(1)]))
    add_model(services)
    file_request(services, subject=person(1))

    with pytest.raises(ConflictError, match="'received' cannot become 'matched'"):
        services.verified("r1")
    with services.read() as ledger:
        assert not ledger.matches("r1")
        assert not ledger.items("r1")


def test_erased_request_cannot_be_matched(services: Services) -> None:
    """After the key is gone nobody knows whom to look for."""
    verified_request(services)
    with services.transaction() as ledger:
        ledger.erase_personal_data(request_id="r1", now=services.clock())

    with pytest.raises(NotFoundError):
        services.verified("r1")
