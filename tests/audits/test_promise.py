"""Was the promise kept? Copies of a log by an operator with every key, honest or not, against one receipt."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audits import log, opening, receipt, register, statement, tiles, witness
from tests.audits import story
from tests.audits.bundles import ORIGIN, Desk, hex_digest, signing_key, write

FILED = "2026-11-20T15:04:05Z"
PROMISED = "2026-11-21T15:04:05Z"
ANSWER = "2026-12-20"
NEXT_DAY = "2026-11-22T09:00:00Z"
KEY = bytes(range(32))
PERSON = {"name": "Zoë Čapek", "email": "zoe@example.test", "identifiers": ["A-17", '"quoted"\n'], "statement": ""}
DESK = Desk()
WITNESSED = Desk(witnessed=True)


def entry(kind: str, at: str, **data: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """A log entry."""
    return log.entry(type=kind, at=at, salt=f"{len(kind):032x}", data=data)


def received(**changes: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """The request's own entry."""
    at = changes.pop("at", FILED)
    data = {
        "requestId": "request-01",
        "commitment": opening.commitment(KEY, opening.canonical(PERSON)),
        "regime": "gdpr",
        "scope": "records",
        "door": "web",
        "respondBy": ANSWER,
        "test": False,
    }
    return entry("request.received", at, **(data | changes))


def moved(state: str, at: str, request_id: str = "request-01") -> bytes:
    """A change of the request's state."""
    return entry("request.state", at, requestId=request_id, state=state)


@dataclass(kw_only=True)
class Operator:
    """An honest one: three keys' entries, then the request, then whatever the test adds."""

    desk: Desk = field(default_factory=Desk)
    start: Sequence[bytes] = field(default_factory=lambda: DESK.entries()[:3])
    after: Sequence[bytes] = field(default_factory=lambda: [received()])

    def whole(self) -> list[bytes]:
        """All entries."""
        return [*self.start, *self.after]

    def signed(self, entries: Sequence[bytes], time: int | None = None) -> str:
        """A checkpoint, cosigned at `time` (POSIX seconds) when given."""
        text = log.checkpoint_of(entries, origin=ORIGIN, signer=self.desk.log_key)
        if time is not None:
            line = witness.cosign(text, name="witness.example/w1", signer=self.desk.witness_key, time=time)
            text = witness.add(text, line)
        return text

    def receipt(self, **changes: str) -> str:
        """The receipt as it was given at filing."""
        checkpoint = self.signed(self.start, seconds(FILED) if self.desk.witnessed else None)
        fields = {
            "request_id": "request-01",
            "commitment": opening.commitment(KEY, opening.canonical(PERSON)),
            "regime": "gdpr",
            "scope": "records",
            "received_at": FILED,
            "respond_by": f"{ANSWER}T23:59:59Z",
            "checkpoint": checkpoint,
            "include_by": PROMISED,
        }
        return receipt.issue(
            receipt.build(**(fields | changes)),
            signer=self.desk.receipt_key,
            key_entry=self.start[1],
            key_proof=log.proof_of(self.start, 1, checkpoint),
        )

    def mirror(self, folder: Path, time: int | None = None) -> Path:
        """A copy of the log."""
        entries = self.whole()
        if self.desk.witnessed and time is None:
            time = seconds(FILED) + 60
        tiles.write_tiles(folder, entries, self.signed(entries, time))
        return folder

    def proof(self, time: int | None = None) -> str:
        """The proof file of the status page."""
        index, entries = len(self.start), self.whole()
        if self.desk.witnessed and time is None:
            time = seconds(FILED) + 60
        checkpoint = self.signed(entries, time)
        value = {"index": index, "entry": entries[index].decode(), "proof": log.proof_of(entries, index, checkpoint)}
        return json.dumps(value)


def seconds(time: str) -> int:
    """POSIX seconds."""
    return int(log.parse_time(time).timestamp())


def opened(**changes: Any) -> str:  # noqa: ANN401 - any JSON value
    """The person's opening."""
    return opening.build(**({"request_id": "request-01", "key": KEY, "identifiers": PERSON} | changes))


def step(operator: Operator, text: str | None = None, policy: str | None = None, **given: Any) -> str:  # noqa: ANN401
    """The name of the first step that failed, or an empty text."""
    found = receipt.verify(text or operator.receipt(), policy or operator.desk.policy(), **given)
    assert found.ok == all(one.ok for one in found.steps)
    return next((one.name for one in found.steps if not one.ok), "")


def why(name: str, operator: Operator, text: str | None = None, **given: Any) -> str:  # noqa: ANN401 - what `verify` takes
    """What a step says."""
    found = receipt.verify(text or operator.receipt(), operator.desk.policy(), **given)
    return next(one.why for one in found.steps if one.name == name)


def test_a_kept_promise_is_shown_in_numbered_steps(tmp_path: Path) -> None:
    """Included in time before witnesses, accounted for by the log's own entries, answered in time."""
    after = [received(), moved("verified", NEXT_DAY), moved("fulfilled", "2026-12-01T00:00:00Z")]
    operator = Operator(desk=WITNESSED, after=after)

    found = receipt.verify(
        operator.receipt(),
        WITNESSED.policy(),
        log=operator.mirror(tmp_path),
        opening=opened(),
        proof=operator.proof(),
        at="2026-11-20T15:04:30Z",
    )

    assert [one.name for one in found.steps[7:]] == [
        "date", "opening", "proof", "log", "key validity", "included", "accounted", "answered",
    ]  # fmt: skip
    assert (found.ok, found.trust, [one.n for one in found.steps]) == (True, "witnessed", list(range(1, 16)))
    assert "before 2026-11-21T15:04:05Z, as promised" in found.steps[12].why
    assert "fulfilled 2026-12-01T00:00:00Z" in found.steps[13].why
    assert "in time for 2026-12-20" in found.steps[14].why


def test_a_dropped_request_is_a_broken_promise_once_it_is_due(tmp_path: Path) -> None:
    """While the copy ends before the promised time it says "not yet due"; after it, the step fails and says so."""
    young = Operator(after=[moved("verified", "2026-11-20T18:00:00Z", "request-02")])
    old = Operator(after=[moved("verified", NEXT_DAY, "request-02")])

    assert step(young, log=young.mirror(tmp_path / "young")) == ""
    assert why("included", young, log=tmp_path / "young").startswith("not yet due")
    assert step(old, log=old.mirror(tmp_path / "old")) == "included"
    assert why("included", old, log=tmp_path / "old").startswith("The promise was broken")


def test_a_quiet_log_is_past_the_promise_by_its_witnesses_clock(tmp_path: Path) -> None:
    """An operator who stops logging does not stop the witness's time."""
    operator = Operator(desk=WITNESSED, after=[])

    assert step(operator, log=operator.mirror(tmp_path, time=seconds(NEXT_DAY))) == "included"


@pytest.mark.parametrize(
    "changes",
    [
        {"commitment": hex_digest("somebody else")},
        {"regime": "ccpa"},
        {"scope": "class"},
        {"respondBy": "2027-01-20"},
        {"at": "2026-11-20T15:04:06Z"},
        {"at": "2026-11-21T15:04:06Z"},
    ],
)
def test_a_log_that_says_something_else_is_noticed(tmp_path: Path, changes: dict[str, str]) -> None:
    """Another commitment, law, scope, day of answer or time than the receipt's: in the log and in a proof."""
    operator = Operator(after=[received(**changes)])

    assert step(operator, log=operator.mirror(tmp_path)) == "included"
    assert step(operator, proof=operator.proof()) == "proof"


def test_a_request_that_is_logged_twice_is_noticed(tmp_path: Path) -> None:
    """Which of them was dealt with would be the operator's choice."""
    operator = Operator(after=[received(), received()])

    assert step(operator, log=operator.mirror(tmp_path)) == "included"


def test_a_forked_log_is_noticed(tmp_path: Path) -> None:
    """A second history, rewritten before the receipt's checkpoint and signed anew, does not extend it."""
    honest = Operator()
    fork = Operator(start=[*honest.start[:2], moved("verified", FILED, "request-00")])

    assert step(honest, log=fork.mirror(tmp_path)) == "log"
    assert "forked" in why("log", honest, log=tmp_path)


def test_an_older_or_another_log_is_no_copy(tmp_path: Path) -> None:
    """Fewer entries than the receipt's checkpoint, another signer, or a changed tile."""
    operator = Operator()
    short = Operator(start=operator.start[:2], after=[])
    stranger = Operator(desk=Desk(log_key=signing_key("log", 9)))

    assert step(operator, log=short.mirror(tmp_path / "short")) == "log"
    assert step(operator, log=stranger.mirror(tmp_path / "stranger")) == "log"
    assert step(operator, log=tmp_path) == "log"
    (tile,) = (one for one in (operator.mirror(tmp_path / "own") / "tile/entries").rglob("*") if one.is_file())
    tile.write_bytes(tile.read_bytes().replace(b"gdpr", b"ccpa"))
    assert step(operator, log=tmp_path / "own") == "log"


def test_a_post_dated_receipt_is_noticed(tmp_path: Path) -> None:
    """By the person's own time, by the witness, by the entries after it, and by the checkpoint in the receipt."""
    late = "2026-11-20T18:00:00Z"
    honest = Operator()
    dated = honest.receipt(received_at=late)
    witnessed = Operator(desk=WITNESSED, after=[received(at=late)])
    followed = Operator(after=[received(at=late), moved("verified", FILED, "request-02")])
    newer = Operator(start=[*honest.start, received()], after=[])

    assert step(honest, dated, at="2026-11-20T15:30:00Z") == "date"
    assert step(honest, at="2026-11-20T15:30:00Z") == ""
    assert step(honest, at="yesterday") == "date"
    assert step(witnessed, witnessed.receipt(received_at=late), log=witnessed.mirror(tmp_path / "w")) == "included"
    assert step(followed, dated, log=followed.mirror(tmp_path / "f")) == "included"
    assert step(newer, log=newer.mirror(tmp_path / "n")) == "included"


def test_a_revoked_receipt_key_is_noticed(tmp_path: Path) -> None:
    """A key revoked before the receipt's checkpoint signs no receipt; one revoked later leaves it good."""
    gone = entry(
        "key.revoked",
        FILED,
        **register.revocation(key_id=DESK.receipt_key.key_id, role="receipt", reason="compromised"),
    )
    before = Operator(start=[*DESK.entries()[:3], gone])
    after = Operator(after=[received(), gone])

    assert step(before, log=before.mirror(tmp_path / "before")) == "key validity"
    assert step(after, log=after.mirror(tmp_path / "after")) == ""


def test_the_answer_has_a_day(tmp_path: Path) -> None:
    """Late or missing fails; an extension moves the day once, and only when it was logged before."""
    ends = [moved("fulfilled", "2027-01-05T00:00:00Z")]
    extension = entry("request.extended", NEXT_DAY, requestId="request-01", code="complex", respondBy="2027-01-20")
    too_late = entry(
        "request.extended", "2026-12-21T00:00:00Z", requestId="request-01", code="x", respondBy="2027-01-20"
    )
    cases = {
        "late": [received(), *ends],
        "silent": [received(), moved("verified", "2026-12-21T00:00:00Z", "request-02")],
        "extended": [received(), extension, *ends],
        "afterwards": [received(), too_late, *ends],
        "open": [received()],
    }
    found = {name: Operator(after=after) for name, after in cases.items()}
    failed = {name: step(one, log=one.mirror(tmp_path / name)) for name, one in found.items()}

    assert failed == {"late": "answered", "silent": "answered", "extended": "", "afterwards": "answered", "open": ""}
    assert why("answered", found["open"], log=tmp_path / "open").startswith("not yet due")


def test_reports_say_what_became_of_the_request(tmp_path: Path) -> None:
    """A verified report that is in the log accounts for it; a forged one, or one that is not logged, fails."""
    bundle = write(tmp_path / "bundle", DESK.files())
    made = [*DESK.entries(), DESK.logged(DESK.predicate(), _payload())]
    logged, unlogged = Operator(after=made[3:]), Operator()
    text = logged.receipt(
        commitment=story.commitment("request-01"),
        received_at=story.FILED,
        include_by="2026-11-19T09:00:00Z",
        respond_by="2026-12-18T23:59:59Z",
    )

    mirror = logged.mirror(tmp_path / "log")
    assert step(logged, text, log=mirror, bundles=[bundle]) == ""
    assert "accounts for it as approved" in why("accounted", logged, text, log=mirror, bundles=[bundle])
    assert "accounts for it as approved" in why("accounted", logged, text, bundles=[bundle])
    assert step(unlogged, log=unlogged.mirror(tmp_path / "other"), bundles=[bundle]) == "accounted"
    evidence = bundle / "evidence.json"
    evidence.write_bytes(evidence.read_bytes().replace(b"0.213", b"0.113"))
    assert step(logged, text, bundles=[bundle]) == "accounted"


def test_a_report_that_leaves_the_request_out_is_noticed(tmp_path: Path) -> None:
    """Its ledger range covers the request's entry, and it says nothing of it."""
    predicate = DESK.predicate()
    predicate["requestBatch"]["ledgerRange"] = {"from": 0, "to": 9}
    bundle = write(tmp_path / "bundle", DESK.files(predicate))
    made = [*DESK.entries(), DESK.logged(predicate, _payload(predicate))]
    dropped = received(requestId="request-09")
    operator = Operator(after=[*made[3:], dropped])
    text = operator.receipt(request_id="request-09")

    assert step(operator, text, log=operator.mirror(tmp_path / "log"), bundles=[bundle]) == "accounted"


def _payload(predicate: Any = None) -> bytes:  # noqa: ANN401 - a predicate
    return statement.build(predicate or DESK.predicate())


@pytest.mark.parametrize(
    "text",
    [
        opened(key=bytes(32)),
        opened(identifiers=PERSON | {"name": "Zoe Capek"}),
        opened(identifiers=PERSON | {"target": ""}),
        opened(request_id="request-02"),
        opened().replace('"key":"', '"key":"A'),
        opened().replace('"identifiers":{', '"identifiers":{"more":"",'),
        "{}",
        "",
    ],
)
def test_only_the_persons_own_data_open_the_commitment(text: str) -> None:
    """Another key, one changed letter, another request or another form: none of them opens it."""
    assert step(Operator(), opening=text) == "opening"


def test_the_opening_says_nothing_of_what_it_holds() -> None:
    """Neither a name nor the key is in any sentence, whether it opens the commitment or not."""
    for text in (opened(), opened(key=bytes(32)), opened(identifiers=PERSON | {"email": "x"})):
        shown = json.dumps(receipt.verify(Operator().receipt(), DESK.policy(), opening=text).to_json())
        assert "Zo" not in shown
        assert "zoe@example.test" not in shown


@pytest.mark.parametrize("change", ["index", "extra", "checkpoint", "more"])
def test_a_changed_proof_is_refused(change: str) -> None:
    """Another index, extra data, another log's checkpoint or another form."""
    operator = Operator()
    value = json.loads(operator.proof())
    if change == "index":
        value["index"] -= 1
    if change == "extra":
        value["proof"] = value["proof"].replace("\nindex", "\nextra AAAA\nindex", 1)
    if change == "checkpoint":
        value = json.loads(Operator(desk=Desk(log_key=signing_key("log", 9))).proof())
    if change == "more":
        value["more"] = 1

    assert step(operator, proof=json.dumps(value)) == "proof"


def test_an_earlier_proof_without_witnesses_is_refused() -> None:
    """The quorum holds for every checkpoint that something rests on."""
    operator, bare = (
        Operator(desk=WITNESSED),
        Operator(desk=Desk(witness_key=signing_key("witness", 8), witnessed=True)),
    )

    assert step(operator, proof=operator.proof()) == ""
    assert step(operator, proof=bare.proof()) == "proof"


def test_a_proof_is_as_early_as_its_cosignature() -> None:
    """Cosigned before the promised time, or only afterwards; and never before the entry is dated."""
    operator = Operator(desk=WITNESSED)
    late = Operator(desk=WITNESSED, after=[received(at="2026-11-20T18:00:00Z")])

    assert "2026-11-20T15:05:05Z, before 2026-11-21T15:04:05Z, as promised" in why(
        "proof", operator, proof=operator.proof()
    )
    later = operator.proof(time=seconds(NEXT_DAY))
    assert "the earliest cosignature at hand is of 2026-11-22T09:00:00Z" in why("proof", operator, proof=later)
    dated = late.receipt(received_at="2026-11-20T18:00:00Z")
    assert step(late, dated, proof=late.proof()) == "proof"
    assert step(late, dated, proof=late.proof(time=seconds(NEXT_DAY))) == ""


def test_the_earliest_cosignature_at_hand_counts(tmp_path: Path) -> None:
    """A proof that was kept early shows inclusion in time, though the copy of the log is from later."""
    operator = Operator(desk=WITNESSED)
    mirror = operator.mirror(tmp_path, time=seconds(NEXT_DAY))

    assert "rests on the operator's clock" in why("included", operator, log=mirror)
    assert "as promised" in why("included", operator, log=mirror, proof=operator.proof())


def test_two_checkpoints_of_one_size_are_one() -> None:
    """A proof of the receipt's size and another root is a fork, in the holder's own hands."""
    operator = Operator()
    fork = Operator(start=operator.start[:2], after=[received()])

    assert step(operator, proof=fork.proof()) == "proof"
    assert "forked" in why("proof", operator, proof=fork.proof())


RECEIPT = Operator().receipt()
WHOLE: dict[str, Any] = {"proof": Operator().proof().encode(), "opening": opened().encode()}


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_hostile_files_beside_a_receipt_never_pass(name: str, data: st.DataObject) -> None:
    """A proof or an opening with bytes cut out, put in or changed is refused in a sentence, unless it says the same."""
    raw = WHOLE[name]
    start = data.draw(st.integers(0, len(raw) - 1))
    stop = data.draw(st.integers(start, min(start + 9, len(raw))))
    changed = raw[:start] + data.draw(st.binary(max_size=9)) + raw[stop:]

    found = receipt.verify(RECEIPT, DESK.policy(), **{name: changed})

    assert not found.ok or json.loads(changed) == json.loads(raw)
    assert "could not be carried out" not in found.steps[-1].why
