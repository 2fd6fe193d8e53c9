"""An operator with every key and full control of the log, whose report does not say what the log says, or hides it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from audits import approval, bundle, excerpt, log, model, policy, witness
from audits.keys import SigningKey, registration
from audits.strict import encode_base64
from tests.audits.bundles import ORIGIN, WITNESSED_AT, Desk, file_digests, signing_key
from tests.audits.cheating import (
    APPROVER,
    DAY,
    NOTHING,
    OTHER,
    SIGNED,
    STRANGER,
    Told,
    account,
    added,
    attempt,
    called,
    entry,
    hidden_failure,
    index_of,
    inserted,
    moved,
    other_report,
    put,
    replaced,
    revoked,
    seed_of_another_log,
    signed_by,
    told,
    without,
)
from tests.audits.story import BATCH, DECIDED, FILED, PLANNED

OTHER_FILES = file_digests({"model.safetensors": b"weights that remember more"})
OTHER_BEFORE = {"version": 1, "digest": model.digest(OTHER_FILES), "files": OTHER_FILES}
EARLIER_VERSION = {
    "version": 1,
    "guarantee": "certified",
    "reportDigest": OTHER,
    "metrics": {},
    "epsilon": 0.1,
    "units": 1,
}


def counted_from(version: int) -> Callable[[dict[str, Any]], None]:
    """A report that counts the model's versions from another one."""

    def edit(value: dict[str, Any]) -> None:
        value["model"]["before"]["version"], value["model"]["after"]["version"] = version, version + 1

    return edit


def loosened(value: dict[str, Any]) -> None:
    """Wider margins than were planned, so that what was measured passes easily."""
    for place in (value["policy"], value, value["attempts"][-1]):
        place["gates"] = [one | {"margin": 2 * one["margin"]} for one in place["gates"]]


def other_batch() -> list[bytes]:
    """Another batch with the same requests, whose attempt failed."""
    about = {"batchId": "batch-40", "modelId": "model-1", "planDigest": OTHER, "rulesDigest": OTHER, "items": 3}
    queued = [
        entry("item.state", PLANNED, itemId=f"item-{one}", requestId=one, batchId="batch-40", state="queued")
        for one in BATCH
    ]
    return [entry("batch.planned", PLANNED, **about), *queued, *attempt(3, "batch-40", PLANNED)]


CHEATS: list[tuple[str, str, Callable[[], Told]]] = [
    ("a hidden failed attempt", "attempts", lambda: told(Desk(), report=hidden_failure)),
    ("failures hidden in another batch", "requests", lambda: told(Desk(), log_=inserted(11, *other_batch()))),
    (
        "a denial that becomes a success",
        "ledger excerpt",
        lambda: told(
            Desk(),
            log_=added(entry("request.state", requestId="request-04", state="fulfilled")),
            report=account("request-04", "fulfilled"),
        ),
    ),
    ("a hidden attempt afterwards", "attempts", lambda: told(Desk(), log_=added(*attempt(3)))),
    ("an attempt that is still open", "attempts", lambda: told(Desk(), log_=added(attempt(3)[0]))),
    ("an attempt of no batch", "attempts", lambda: told(Desk(), log_=added(*attempt(3, "batch-99")))),
    ("a failure told as an error", "attempts", lambda: told(Desk(), report=put("attempts", 0, "outcome", to="error"))),
    ("a failure told kindly", "attempts", lambda: told(Desk(), report=put("attempts", 0, "gates", to=[]))),
    ("another reason", "attempts", lambda: told(Desk(), report=put("attempts", 0, "code", to="out-of-memory"))),
    ("another rung", "attempts", lambda: told(Desk(), report=put("attempts", 0, "rung", to="retrain"))),
    ("a plan made up afterwards", "attempts", lambda: told(Desk(), report=put("plan", "digest", to=OTHER))),
    (
        "a second plan",
        "attempts",
        lambda: told(
            Desk(),
            log_=inserted(
                11, entry("batch.planned", PLANNED, batchId="batch-41", modelId="model-1", planDigest=OTHER, items=3)
            ),
        ),
    ),
    ("gates that were loosened afterwards", "attempts", lambda: told(Desk(), report=loosened)),
    ("another ladder", "attempts", lambda: told(Desk(), report=put("policy", "ladder", to=["npo", "ga"]))),
    ("another model's plan", "attempts", lambda: told(Desk(), report=put("model", "modelId", to="model-2"))),
    (
        "weights that were never fixed",
        "attempts",
        lambda: told(
            Desk(),
            log_=replaced(
                entry("attempt.weights_fixed", attemptId="attempt-2", digest=OTHER),
                "attempt.weights_fixed",
                attemptId="attempt-2",
            ),
        ),
    ),
    ("a seed of another log", "attempts", lambda: told(Desk(), report=seed_of_another_log)),
    ("a dropped request", "requests", lambda: told(Desk(), report=account("request-04", None))),
    ("a request that stands elsewhere", "requests", lambda: told(Desk(), report=account("request-04", "matched"))),
    ("a denial that never was", "requests", lambda: told(Desk(), report=account("request-03", "denied"))),
    ("somebody nobody knows", "requests", lambda: told(Desk(), report=account("request-77", "approved"))),
    ("fewer requests", "requests", lambda: told(Desk(), report=put("requestBatch", "requests", to=2))),
    ("commitments of others", "requests", lambda: told(Desk(), report=put("requestBatch", "commitmentRoot", to=OTHER))),
    (
        "an approval that is missing",
        "approvals",
        lambda: told(
            Desk(),
            log_=replaced(NOTHING, "request.state", requestId=BATCH[0]),
            report=account(BATCH[0], "received"),
        ),
    ),
    (
        "an approval after the plan",
        "approvals",
        lambda: told(Desk(), log_=moved("attempt.started", "request.state", requestId=BATCH[0])),
    ),
    (
        "an approval in SQL",
        "approvals",
        lambda: told(
            SIGNED, log_=replaced(NOTHING, approval.REQUEST_APPROVED, requestId=BATCH[0]), report=called("unsigned")
        ),
    ),
    (
        "an approval by a stranger",
        "approvals",
        lambda: told(SIGNED, log_=replaced(signed_by(STRANGER), approval.REQUEST_APPROVED, requestId=BATCH[0])),
    ),
    (
        "an approval of somebody else's request",
        "approvals",
        lambda: told(
            SIGNED,
            log_=replaced(
                entry(
                    approval.REQUEST_APPROVED,
                    DECIDED,
                    **{**log.parse_entry(signed_by(APPROVER, BATCH[1])).data, "requestId": BATCH[0]},
                ),
                approval.REQUEST_APPROVED,
                requestId=BATCH[0],
            ),
        ),
    ),
    (
        "an approval by a revoked key",
        "approvals",
        lambda: told(SIGNED, log_=inserted(4, revoked(APPROVER, "approver", FILED))),
    ),
    (
        "an approval by the operator's own key",
        "approvals",
        lambda: told(
            SIGNED,
            log_=replaced(
                entry(
                    approval.REQUEST_APPROVED,
                    DECIDED,
                    **{**log.parse_entry(signed_by(APPROVER)).data, "keyId": SIGNED.report_key.key_id},
                ),
                approval.REQUEST_APPROVED,
                requestId=BATCH[0],
            ),
        ),
    ),
    (
        "an approval that was taken back",
        "approvals",
        lambda: told(
            Desk(),
            log_=inserted(11, entry("request.state", PLANNED, requestId=BATCH[0], state="on_hold")),
            report=account(BATCH[0], "on_hold"),
        ),
    ),
    (
        "an approval from before a withdrawal",
        "ledger excerpt",
        lambda: told(
            SIGNED,
            log_=inserted(
                index_of(SIGNED.entries(), "batch.planned"),
                *(entry("request.state", PLANNED, requestId=BATCH[0], state=one) for one in ("withdrawn", "approved")),
            ),
        ),
    ),
    (
        "an id approved in advance",
        "ledger excerpt",
        lambda: told(Desk(), log_=inserted(3, entry("request.state", FILED, requestId=BATCH[0], state="approved"))),
    ),
    (
        "a request queued after the run",
        "requests",
        lambda: told(Desk(), log_=moved("attempt.finished", "item.state", requestId=BATCH[0])),
    ),
    (
        "a log key that was given up",
        "key validity",
        lambda: told(Desk(), log_=added(revoked(Desk().log_key, "log"))),
    ),
    ("another model before", "earlier reports", lambda: told(Desk(), report=put("model", "before", to=OTHER_BEFORE))),
    ("a version that never was", "earlier reports", lambda: told(Desk(), report=counted_from(2))),
    (
        "a history of another model",
        "earlier reports",
        lambda: told(Desk(), report=put("history", to=[EARLIER_VERSION])),
    ),
    ("unsigned approvals called signed", "approvals", lambda: told(Desk(), report=called("signed"))),
    ("a revoked report key", "key validity", lambda: told(Desk(), log_=added(revoked(Desk().report_key, "report")))),
    ("a report dated back", "times", lambda: told(Desk(witnessed=True, cosigned_at=WITNESSED_AT + 2 * DAY))),
    ("a report dated ahead", "times", lambda: told(Desk(witnessed=True, cosigned_at=WITNESSED_AT - 3600))),
    ("a start that was another", "times", lambda: told(Desk(), report=put("startedAt", to="2026-11-20T12:00:00Z"))),
    (
        "a creation before its entry",
        "times",
        lambda: told(Desk(), log_=lambda _: None, report=put("createdAt", to="2026-11-20T16:00:00Z")),
    ),
    (
        "an entry dated back",
        "ledger excerpt",
        lambda: told(Desk(), log_=added(entry("model.checked", DECIDED, modelId="model-1"))),
    ),
    (
        "a report in between",
        "earlier reports",
        lambda: told(
            Desk(), log_=added(other_report(OTHER), entry("version.published", modelId="model-2", reportDigest=OTHER))
        ),
    ),
    ("a report that was dropped", "earlier reports", lambda: told(Desk(), log_=added(other_report(OTHER)))),
    (
        "a previous report that never was",
        "earlier reports",
        lambda: told(Desk(), report=put("previousReportDigest", to=OTHER)),
    ),
    (
        "a previous report that is passed over",
        "earlier reports",
        lambda: told(
            Desk(second=True),
            report=lambda value: value.update(
                previousReportDigest=None,
                requestBatch={
                    **value["requestBatch"],
                    "ledgerRange": {"from": 0, "to": value["requestBatch"]["ledgerRange"]["to"]},
                },
            ),
        ),
    ),
    (
        "a range that goes on elsewhere",
        "earlier reports",
        lambda: told(Desk(), report=put("requestBatch", "ledgerRange", "from", to=3)),
    ),
    (
        "a range that ends early",
        "earlier reports",
        lambda: told(Desk(), report=put("requestBatch", "ledgerRange", "to", to=9)),
    ),
]


@pytest.mark.parametrize(("step", "cheat"), [pytest.param(*one[1:], id=one[0]) for one in CHEATS])
def test_a_report_that_the_log_contradicts_is_noticed(tmp_path: Path, step: str, cheat: Callable[[], Told]) -> None:
    """By the step made for it, from the bundle alone."""
    assert cheat().first_failure(tmp_path) == step


HONEST = {
    "as it was": lambda: told(Desk()),
    "witnessed": lambda: told(Desk(witnessed=True)),
    "signed": lambda: told(SIGNED),
    "after another report": lambda: told(Desk(second=True)),
    "with a dropped report that it names": lambda: told(
        Desk(), log_=added(other_report(OTHER)), report=put("unpublishedReports", to=[OTHER])
    ),
    "with an approver's key since": lambda: told(
        Desk(), log_=added(entry(log.KEY_REGISTERED, **registration(APPROVER, "approver")))
    ),
    "with an approver's key revoked since": lambda: told(SIGNED, log_=added(revoked(APPROVER, "approver"))),
    "with another batch's attempt": lambda: told(
        Desk(),
        log_=added(
            entry("batch.planned", batchId="batch-99", modelId="model-2", planDigest=OTHER, items=1),
            *attempt(3, "batch-99"),
        ),
    ),
}


@pytest.mark.parametrize("made", HONEST.values(), ids=HONEST.keys())
def test_an_honest_log_passes(tmp_path: Path, made: Callable[[], Told]) -> None:
    """With the same tools, so that the failures above are the cheats' own; with a copy of the log every step twice."""
    honest = made()
    older = log.checkpoint_of(honest.entries[:5], origin=ORIGIN, signer=honest.desk.log_key)

    assert honest.first_failure(tmp_path, log=honest.mirror(tmp_path / "mirror"), since=older) == ""


EXCERPTS: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "an entry less": ("ledger excerpt", lambda value: value["entries"].pop(3)),
    "an entry changed": ("ledger excerpt", lambda value: value["entries"].__setitem__(4, value["entries"][5])),
    "an older entry changed": (
        "ledger excerpt",
        lambda value: value["single"][0].update(entry=value["single"][0]["entry"].replace("00", "01", 1)),
    ),
    "an older entry at another index": ("ledger excerpt", lambda value: value["single"][0].update(index=1)),
    "no entries": ("ledger excerpt", lambda value: value.update(entries=[])),
    "a start that is no number": ("ledger excerpt", lambda value: value.update(start=True)),
    "a negative start": ("ledger excerpt", lambda value: value.update(start=-1)),
    "more hashes than a tree has": ("ledger excerpt", lambda value: value.update(left=["A" * 43 + "="] * 64)),
    "one field more": ("ledger excerpt", lambda value: value.update(note="")),
    "single entries that are none": ("ledger excerpt", lambda value: value.update(single=[[]])),
    "an approver's key that is not shown": ("approvals", lambda value: value["single"].pop(2)),
}


@pytest.mark.parametrize(("step", "change"), EXCERPTS.values(), ids=EXCERPTS.keys())
def test_an_excerpt_can_t_be_changed(tmp_path: Path, step: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Entries can't be left out or changed, and what a check needs has to be shown."""
    desk = Desk(second=True, approver_key=APPROVER)
    changed = Told(desk, without(desk.files(), change), [])

    assert changed.first_failure(tmp_path) == step


def test_an_excerpt_that_starts_too_late_is_refused(tmp_path: Path) -> None:
    """Its proof is as good as any, and the entries that the report rests on are not in it."""
    honest = told(Desk(second=True))
    start = excerpt.parse(honest.files[bundle.LEDGER]).start
    whole = log.Log(origin=ORIGIN, entries=honest.entries)
    value: Any = {
        "start": start + 1,
        "entries": [one.decode() for one in honest.entries[start + 1 :]],
        "left": [encode_base64(one) for one in whole.range_proof(start + 1, len(honest.entries)).left],
        "right": [],
        "single": [],
    }
    late = Told(honest.desk, {**honest.files, bundle.LEDGER: rfc8785.dumps(value)}, [])

    assert late.first_failure(tmp_path) == "ledger excerpt"


@dataclass(kw_only=True)
class TwiceWitnessed(Desk):
    """A desk with a second witness, which says what the operator likes."""

    friend: SigningKey = field(default_factory=lambda: signing_key("witness", 14))

    def sign_checkpoint(self, whole: log.Log) -> str:
        """The checkpoint with both witnesses' lines; the friend saw it when the report says it was made."""
        signed = super().sign_checkpoint(whole)
        line = witness.cosign(signed, name="witness.example/w2", signer=self.friend, time=WITNESSED_AT)
        return witness.add(signed, line)

    def policy(self) -> str:
        """Both of them are asked for."""
        keys = {"w1": self.witness_key, "w2": self.friend}
        named = [(one, witness.vkey(f"witness.example/{one}", key.public_key)) for one, key in keys.items()]
        return policy.format_policy(log_vkey=log.vkey(ORIGIN, self.log_key.public_key), witnesses=named)


@pytest.mark.parametrize(("days", "step"), [(0, ""), (2, "times")])
def test_one_witness_can_t_date_back_for_the_quorum(tmp_path: Path, days: int, step: str) -> None:
    """A report counts as seen when as many witnesses had seen it as the policy asks for, not when the first had."""
    made = told(TwiceWitnessed(witnessed=True, cosigned_at=WITNESSED_AT + days * DAY))

    assert made.first_failure(tmp_path) == step
