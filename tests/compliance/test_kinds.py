"""Requests for a class or a domain of pictures: what they match, what a plan makes of them, what may not come back."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance import registry
from compliance.errors import InvalidInputError
from compliance.execution.training import register_model
from compliance.forecast import forecast_of
from compliance.ledger.lifecycle import RequestState
from compliance.ledger.views import Subject
from compliance.matching import kinds, of_kind
from compliance.planning import NOTHING_LEFT, refusal
from compliance.policy import Policy, parse
from compliance.wiring import Services
from engine.corpus import Record
from engine.pictures import picture
from tests.compliance.builders import add_base, add_dataset, add_model, approved_request, log_size, plan
from tests.compliance.conftest import both_databases, verified_request

LABELS, DOMAINS = ("top", "bottom", "left", "right"), ("photo", "sketch")
LADDER = """
name = "pictures"
task = "image"
ladder = ["dp2", "noisy-ft", "retrain"]
[base]
epsilon = 1.0
sample_rate = 0.5
steps = 4
[methods.noisy-ft]
noisy_steps = 3
noisy_rate = 0.1
weight_decay = 1.0
[[gate]]
metric = "ra"
direction = "at_least"
"""


def _asks(target: str, *, name: str = "Quillon Vandermeer") -> Subject:
    return Subject(name=name, email="quillon@example.test", target=target)


def _picture(number: int) -> str:
    """A picture of four pixels of its own."""
    return picture(number.to_bytes(4), (2, 2))


def _row(number: int, **changes: str) -> dict[str, str]:
    label = LABELS[number % len(LABELS)]
    told = {"subject": f"p{number // 3}@example.test", "image": _picture(number), "label": label}
    return {**told, "domain": DOMAINS[number % 2], **changes}


def rows_of(labels: Sequence[str]) -> list[dict[str, str]]:
    """A picture of each of these classes, in no domain."""
    return [{"subject": f"p{n}@example.test", "image": _picture(n), "label": name} for n, name in enumerate(labels)]


def _desk(desk: Services, *, pictures: int = 12, policy: str = LADDER) -> None:
    """Pictures of four classes in two domains, three pictures a person and each of another class, and their model."""
    add_dataset(desk, [_row(number) for number in range(pictures)])
    add_model(desk, policy=policy)


def _matched(desk: Services, target: str, scope: str) -> tuple[RequestState, list[tuple[str, str]]]:
    verified_request(desk, subject=_asks(target), scope=scope)
    desk.verified("r1")
    with desk.read() as ledger:
        return ledger.request("r1").state, [(one.record_id, one.reason) for one in ledger.matches("r1")]


@both_databases
@pytest.mark.parametrize(
    ("scope", "target", "lines"),
    [
        ("class", " TOP ", ["line-1", "line-5", "line-9"]),
        ("domain", "Photo", ["line-1", "line-11", "line-3", "line-5", "line-7", "line-9"]),
    ],
)
def test_a_kind_of_picture_is_found_whosever_they_are(
    services: Services, scope: str, target: str, lines: list[str]
) -> None:
    """Every record of the class or domain, by the name in any spelling, and each match says which it was."""
    _desk(services)

    state, found = _matched(services, target, scope)

    assert (state, found) == (RequestState.MATCHED, [(line, scope) for line in lines])


@pytest.mark.parametrize(("scope", "target"), [("class", "photo"), ("domain", "top"), ("class", "to"), ("class", "t")])
def test_another_kind_is_not_found(services: Services, scope: str, target: str) -> None:
    """A class is no domain, and a part of a name is no name: nothing is proposed, and the person hears so."""
    _desk(services)

    state, found = _matched(services, target, scope)

    with services.read() as ledger:
        assert (state, found, [one.kind for one in ledger.pending_notices()]) == (
            RequestState.NO_MATCH,
            [],
            ["no_match"],
        )


def test_a_request_for_a_class_takes_none_of_the_persons_own_records(services: Services) -> None:
    """Scopes are not mixed: what is filed under the person stays, unless it is of the class."""
    add_dataset(services, [_row(0, subject="quillon@example.test"), _row(1, subject="quillon@example.test"), _row(2)])
    add_model(services, policy=LADDER)

    assert _matched(services, "bottom", "class")[1] == [("line-2", "class")]


@given(name=st.text(min_size=1, max_size=12), other=st.text(min_size=1, max_size=12))
def test_a_name_finds_its_own_class_and_those_spelled_the_same(name: str, other: str) -> None:
    """Two names meet exactly where they have one normal form; a record without a domain is of no domain."""
    records = [Record(record_id=label, unit="u", image="aGk=", label=label) for label in {name, other}]

    found = {record_id for record_id, _ in of_kind(records, scope="class", target=name)}

    assert found == {one for one in (name, other) if registry.normalise(one) == registry.normalise(name)}
    assert not list(of_kind(records, scope="domain", target=name))


def test_the_operator_can_list_what_may_be_named(services: Services) -> None:
    """Classes and domains of the data sets that a model learned from, with their records; no other data set."""
    _desk(services)
    add_dataset(services, [_row(0, label="unseen")], dataset_id="d2")

    with services.read() as ledger:
        classes, domains = (kinds(ledger, services.store, scope=scope) for scope in ("class", "domain"))

    assert classes == [("d1", label, 3) for label in sorted(LABELS)]
    assert domains == [("d1", "photo", 6), ("d1", "sketch", 6)]


def test_the_name_of_a_class_is_in_the_vault_and_in_no_log_entry(services: Services) -> None:
    """It is opened with the subject, goes with the key, and the log tells the scope alone."""
    _desk(services)
    approved_request(services, _asks("left"), scope="class")
    batch = plan(services)

    assert batch is not None
    with services.read() as ledger:
        assert ledger.open_subject("r1").target == "left"
        entries = b"".join(ledger.entries(0, ledger.head().size))
    assert b'"scope":"class"' in entries
    assert b"left" not in entries + json.dumps(batch.plan).encode()


def test_a_subject_without_a_target_is_committed_to_as_ever() -> None:
    """Commitments of requests for records are over the same bytes as before there were targets."""
    plain = Subject(name="A", email="a@example.test")

    assert plain.canonical() == b'{"email": "a@example.test", "identifiers": [], "name": "A", "statement": ""}'
    assert Subject.parse(plain.canonical()) == plain
    assert Subject.parse(_asks("top").canonical()) == _asks("top")


def test_a_plan_refuses_what_does_not_serve_the_scope(services: Services) -> None:
    """The plan names its scopes; dp2 serves no class, the others do; units that leave in part are counted twice."""
    _desk(services)
    add_base(services, units=4)
    approved_request(services, _asks("top"), scope="class")

    batch = plan(services)

    assert batch is not None
    refused = {rung["rung"]: rung["refused"] for rung in batch.plan["rungs"]}
    assert (batch.plan["scopes"], batch.plan["records"]) == (["class"], 3)
    assert (batch.plan["subjects"], batch.plan["units"]) == (3, 6)  # of 4 in the base: more than it could ever pay
    assert refused == {
        "dp2": "the method dp2 does not serve requests of the scope class",
        "noisy-ft": None,
        "retrain": None,
    }


def test_a_class_can_cost_more_than_the_base_has(services: Services) -> None:
    """Another rung that publishes is charged for all its units; nothing is left, and dp2 is refused as ever."""
    _desk(services)
    add_base(services, units=4)
    approved_request(services, _asks("top"), scope="class")
    batch = plan(services)
    assert batch is not None

    with services.transaction() as ledger:
        base = ledger.base("m1")
        assert base is not None
        base = ledger.spend_budget(base_id=base.id, units=batch.plan["units"], batch_id=batch.id, now=services.clock())
        told = forecast_of(ledger, services.store, ledger.model("m1"), now=services.clock())
    why = refusal("dp2", policy=parse(LADDER), base=base, units=1, charge=1, scopes=["records"])

    assert (base.units, base.units_deleted) == (4, 6)
    assert told is not None
    assert told.says.startswith("Nothing is left")
    assert why == "the batch would delete every unit the DP base was trained on"


def test_one_request_for_a_class_binds_the_whole_batch(services: Services) -> None:
    """A batch has the scopes of all of its requests, and a rung must serve each."""
    _desk(services)
    add_base(services, units=4)
    approved_request(services, _asks("top"), scope="class")
    approved_request(services, Subject(name="Somebody Else", email="p1@example.test"), request_id="r2")

    batch = plan(services)

    assert batch is not None
    assert batch.plan["scopes"] == ["class", "records"]
    assert "does not serve requests of the scope class" in batch.plan["rungs"][0]["refused"]


def test_nothing_is_trained_on_nothing(services: Services) -> None:
    """Where a domain is all there is, every rung is refused in the plan, retraining too."""
    _desk(services, policy=LADDER)
    services.store.write_dataset("d1", [one for one in services.store.records("d1") if one.domain == "photo"])
    approved_request(services, _asks("photo"), scope="domain")

    batch = plan(services)

    assert batch is not None
    assert {rung["refused"] for rung in batch.plan["rungs"]} == {NOTHING_LEFT}


def _forget(desk: Services, scope: str, target: str) -> None:
    with desk.transaction() as ledger:
        tag = registry.kind_tag(desk.vault, scope, target)
        ledger.suppress(scope, tag=tag, request_id="r1", now=desk.clock())


@both_databases
@pytest.mark.parametrize(("scope", "target"), [("class", "LEFT"), ("domain", "sketch ")])
def test_new_pictures_of_a_forgotten_kind_are_refused(services: Services, scope: str, target: str) -> None:
    """Pictures that nobody forgot one by one are refused for their class or domain, and others are taken."""
    _forget(services, scope, target)
    before = log_size(services)

    with pytest.raises(
        InvalidInputError,
        match=r"2 records were erased on request, or are of a class or domain that was, .*\(lines 2, 4\)",
    ) as caught:
        add_dataset(
            services, [_row(0), _row(2, domain="sketch", label="left"), _row(4), _row(6, domain="sketch", label="left")]
        )

    assert (caught.value.code, log_size(services)) == ("suppressed-record", before)
    add_dataset(services, [_row(0), _row(4)], dataset_id="d2")


def test_a_class_is_no_domain_when_it_comes_back(services: Services) -> None:
    """A forgotten class `photo` leaves the domain `photo` alone."""
    _forget(services, "class", "photo")

    add_dataset(services, [_row(0), _row(1)])


def _registers(desk: Services, dataset_id: str, policy: Policy) -> None:
    with desk.read() as ledger:
        data = ledger.dataset(dataset_id)
    folder = desk.settings.workdir / "absent"
    register_model(desk, name="m2", folder=folder, start=folder, dataset=data, holdout=data, policy=policy)


@pytest.mark.parametrize("kind", ["subject", "class", "domain", "record"])
def test_no_new_model_learns_what_was_erased_elsewhere(services: Services, kind: str) -> None:
    """A data set that had no model when the request came may not be trained on afterwards; before, it may."""
    _desk(services)
    policy = parse(LADDER.replace('"dp2", "noisy-ft", ', ""))
    with pytest.raises(InvalidInputError, match="the model folder does not exist"):
        _registers(services, "d1", policy)  # all that is wrong now is the folder
    with services.transaction() as ledger:
        now = services.clock()
        if kind == "record":  # forgotten by one model, and in the file for another that has still to forget it
            ledger.forget_records(dataset_id="d1", record_ids=["line-1"], digest="0" * 64, batch_id="b", now=now)
        elif kind == "subject":
            tag = registry.subject_tag(services.vault, "p0@example.test")
            ledger.suppress("subject", tag=tag, request_id="r1", now=now)
    if kind in {"class", "domain"}:
        _forget(services, kind, {"class": "top", "domain": "photo"}[kind])

    with pytest.raises(InvalidInputError, match="no new model may learn from them") as caught:
        _registers(services, "d1", policy)

    number = {"subject": 3, "class": 3, "domain": 6, "record": 1}[kind]
    assert str(caught.value).startswith(f"{number} records of the data set 'd1'")
