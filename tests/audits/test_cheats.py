"""An operator who cheats, with every key and full control of the log: each cheat fails at the step made for it."""

import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from audits import bundle, canaries, dsse, log, statement
from audits.predicate import Predicate
from tests.audits.bundles import (
    AT,
    MODEL_FILES,
    ORIGIN,
    REPORT_INDEX,
    Desk,
    estimate,
    hex_digest,
    raw_payload,
    signing_key,
    write,
)
from tests.audits.test_verify import failed_step

Files = dict[str, bytes]
Edit = Callable[[dict[str, Any]], None]


def reported(edit: Edit, *, certified: bool = False) -> Files:
    """An honest report but for one edit, signed, logged and rendered like any other."""
    desk = Desk()
    value = copy.deepcopy(cast("dict[str, Any]", desk.certified() if certified else desk.predicate()))
    edit(value)
    return desk.files(cast("Predicate", value), raw=True)


def flipped(name: str, needle: bytes) -> Files:
    """The honest bundle with the first byte of `needle` changed in one file."""
    files = Desk().files()
    position = files[name].index(needle)
    raw = bytearray(files[name])
    raw[position] ^= 1
    return {**files, name: bytes(raw)}


def one_byte_in_a_hash(name: str) -> Files:
    """The honest bundle with another, well-formed hash in one proof."""
    files = Desk().files()
    lines = files[name].split(b"\n")
    lines[2] = b"A" * 42 + b"8="
    return {**files, name: b"\n".join(lines)}


def duplicate_key() -> Files:
    """A statement that one reader takes for witnessed and another does not."""
    desk, predicate = Desk(), Desk().predicate()
    payload = raw_payload(predicate).replace(b'"witnessed":false', b'"witnessed":true,"witnessed":false')
    return desk.files(predicate, payload=payload)


def spaced_statement() -> Files:
    """A statement that is not in its one form."""
    desk, predicate = Desk(), Desk().predicate()
    return desk.files(predicate, payload=raw_payload(predicate).replace(b",", b", "))


def unregistered_key() -> Files:
    """A report signed by a key that nobody registered."""
    desk = Desk()
    payload = statement.build(desk.predicate())
    envelope = dsse.sign(payload, payload_type=dsse.INTOTO, signer=signing_key("report", 8))
    return {**desk.files(), bundle.REPORT: envelope}


def receipt_key() -> Files:
    """A report signed by a key that is registered for receipts."""
    desk = Desk(report_key=signing_key("report", 3))
    payload = statement.build(desk.predicate())
    entries = [*desk.entries(), desk.logged(desk.predicate(), payload)]
    return desk.assemble(desk.predicate(), payload, entries=entries, report=REPORT_INDEX, key=1)


def late_key() -> Files:
    """A key that was registered after it had signed."""
    desk = Desk()
    payload = statement.build(desk.predicate())
    first, *rest = desk.entries()
    entries = [*rest, rest[0], desk.logged(desk.predicate(), payload), first]
    return desk.assemble(desk.predicate(), payload, entries=entries, report=REPORT_INDEX, key=REPORT_INDEX + 1)


def unlogged_report() -> Files:
    """A report whose entry was never in the log."""
    desk = Desk()
    files = desk.files()
    other = log.report_entry(
        at=AT, salt="f" * 32, report_id="report-7f3a", payload=b"{}", key_id=desk.report_key.key_id
    )
    return {**files, bundle.REPORT_ENTRY: other}


def another_entry() -> Files:
    """An entry that is in the log, and is about no report."""
    desk = Desk()
    payload = statement.build(desk.predicate())
    return desk.assemble(desk.predicate(), payload, entries=desk.entries(), report=20, key=0)


def replaced_report() -> Files:
    """A better report, signed after another one was logged."""
    desk = Desk()
    better = cast("dict[str, Any]", desk.predicate())
    better["limits"] = ["None.", statement.UNSIGNED]
    payload = statement.build(cast("Predicate", better))
    honest = desk.logged(desk.predicate(), statement.build(desk.predicate()))
    return desk.assemble(
        cast("Predicate", better), payload, entries=[*desk.entries(), honest], report=REPORT_INDEX, key=0
    )


def split_view() -> Files:
    """A key proved in one history and a report in another, both signed by the log."""
    honest, other = Desk().files(), Desk()
    entries = [*other.entries(), b"another history"]
    whole = log.Log(origin=ORIGIN, entries=entries)
    return {**honest, bundle.KEY_PROOF: whole.proof(0, whole.checkpoint(other.log_key)).encode()}


def extra_data() -> Files:
    """A proof with data that nothing authenticates."""
    files = Desk().files()
    name = bundle.REPORT_PROOF
    return {**files, name: files[name].replace(b"index", b"extra QUJD\nindex", 1)}


def another_type() -> Files:
    """The report's payload signed as something else."""
    desk = Desk()
    payload = statement.build(desk.predicate())
    return {**desk.files(), bundle.REPORT: dsse.sign(payload, payload_type="text/plain", signer=desk.report_key)}


def evidence_with_better_numbers() -> Files:
    """An evidence file, named by the report, that says something else than the report."""

    def edit(value: dict[str, Any]) -> None:
        found = copy.deepcopy(value["evidence"]["findings"])
        value["evidence"]["findings"][0]["after"] = estimate(0.1, 0.05, 0.15)
        raw = json.dumps({"findings": found}).encode()
        value["evidence"]["evidenceDigest"] = hashlib.sha256(raw).hexdigest()

    files = reported(edit)
    honest = Desk().predicate()["evidence"]["findings"]
    return {**files, bundle.EVIDENCE: json.dumps({"findings": honest}).encode()}


def swapped_evidence() -> Files:
    """The evidence file of another run."""
    return {**Desk().files(), bundle.EVIDENCE: Desk().files(Desk().certified())[bundle.EVIDENCE]}


def page_of_another_report() -> Files:
    """The page of a better report."""
    return {**Desk().files(), bundle.PAGE: Desk().files(Desk().certified())[bundle.PAGE]}


def upgraded_gate(value: dict[str, Any]) -> None:
    """Call a gate held that was underpowered."""
    value["gates"][2]["outcome"] = value["attempts"][-1]["gates"][2]["outcome"] = "held"


def published_against_a_gate(value: dict[str, Any]) -> None:
    """Publish, honestly reported, what a gate contradicts."""
    value["evidence"]["findings"][0]["difference"] = estimate(0.2, 0.15, 0.25)
    value |= Desk().rejudged(cast("Predicate", value))


def published_on_weak_evidence(value: dict[str, Any]) -> None:
    """Publish an empirical run on evidence that settles nothing."""
    value["evidence"]["findings"][0]["difference"] = estimate(0.0, -0.5, 0.5)
    value |= Desk().rejudged(cast("Predicate", value))


def published_without_reference(value: dict[str, Any]) -> None:
    """Publish a run that was compared with nothing."""
    for finding in value["evidence"]["findings"]:
        finding["reference"] = finding["difference"] = None
    value |= Desk().rejudged(cast("Predicate", value))


def put(*path: str | int, to: object) -> Edit:
    """An edit that sets one field of the report."""

    def edit(value: Any) -> None:  # noqa: ANN401 - any JSON value
        for key in path[:-1]:
            value = value[key]
        value[path[-1]] = to

    return edit


def all_of(*edits: Edit) -> Edit:
    """Several edits, one after the other."""

    def edit(value: dict[str, Any]) -> None:
        for one in edits:
            one(value)

    return edit


def noise(to: float) -> Edit:
    """The certificate's second constant, which is the noise multiplier."""
    return put(*CERTIFICATE, "constants", 1, "value", to=to)


def audit(**changes: float) -> dict[str, Any]:
    """An audit whose every guess was right: far above what the certificate allows."""
    told = {"canaries": 400, "guesses": 200, "significance": 0.05}
    ceiling = canaries.ceiling(canaries=400, guesses=200, delta=1e-5, significance=0.05)
    return {**told, "correct": 200, "lowerBound": ceiling, "ceiling": ceiling, **changes}


def without_failures(value: dict[str, Any]) -> None:
    """Report that the first attempt was published, and the second one, too."""
    value["attempts"][0]["outcome"] = "published"


CERTIFICATE = ("guarantee", "certificate")
STATEMENTS: list[tuple[str, Edit]] = [
    ("a chosen seed", put("evidence", "seed", to="42")),
    ("a seed from before the plan", put("evidence", "seedCheckpoint", "size", to=2)),
    ("a class with a better name", put("guarantee", "class", to="certified")),
    ("a class nobody knows", put("guarantee", "class", to="perfect")),
    ("an invented witness", put("witnessed", to=True)),
    ("a plan made afterwards", put("plan", "logIndex", to=18)),
    ("attempts that are not logged yet", put("attempts", 1, "logIndex", to=99)),
    ("two published attempts", without_failures),
    ("another rung", put("method", "rung", to="retrain")),
    ("weights of another run", put("attempts", 1, "weightsDigest", to=hex_digest("other"))),
    ("a model digest that does not follow", put("model", "after", "digest", to=hex_digest("other"))),
    ("a time that runs backwards", put("finishedAt", to="2026-11-20T14:00:00Z")),
    ("a time that never was", put("createdAt", to="2026-13-20T14:00:00Z")),
    ("a request counted twice", put("requestBatch", "accounted", 1, "requestId", to="request-01")),
    ("requests that are not accounted for", put("requestBatch", "requests", to=5)),
    ("gates that are not the policy's", put("policy", "gates", 0, "margin", to=0.5)),
    ("no gate at all", put("gates", to=[])),
    ("a field from nowhere", put("approvedBy", to="the operator")),
    ("no limits", put("limits", to=[])),
]

CHEATS: list[Any] = [
    pytest.param(lambda: flipped(bundle.REPORT, b'"payload":"ey'), 7, id="a byte of the envelope"),
    pytest.param(lambda: flipped(bundle.REPORT, Desk().report_key.key_id.encode()), 7, id="a byte of the key id"),
    pytest.param(lambda: flipped(bundle.REPORT_ENTRY, b"reportDigest"), 6, id="a byte of the report's entry"),
    pytest.param(lambda: flipped(bundle.KEY_ENTRY, b"publicKey"), 5, id="a byte of the key's entry"),
    pytest.param(lambda: flipped(bundle.EVIDENCE, b"0.874"), 10, id="a byte of the evidence"),
    pytest.param(lambda: flipped(bundle.PAGE, b"removed"), 13, id="a byte of the page"),
    pytest.param(lambda: flipped(bundle.REPORT_PROOF, b"log.expunge"), 3, id="a byte of the checkpoint"),
    pytest.param(lambda: one_byte_in_a_hash(bundle.REPORT_PROOF), 6, id="a hash of the report's proof"),
    pytest.param(lambda: one_byte_in_a_hash(bundle.KEY_PROOF), 5, id="a hash of the key's proof"),
    pytest.param(duplicate_key, 8, id="one key twice"),
    pytest.param(spaced_statement, 8, id="a statement in another form"),
    pytest.param(unregistered_key, 7, id="a key that is not registered"),
    pytest.param(receipt_key, 5, id="a key of another role"),
    pytest.param(late_key, 5, id="a key registered afterwards"),
    pytest.param(unlogged_report, 6, id="a report that was not logged"),
    pytest.param(another_entry, 6, id="an entry about something else"),
    pytest.param(replaced_report, 9, id="a report replaced after logging"),
    pytest.param(split_view, 3, id="two histories"),
    pytest.param(extra_data, 3, id="unauthenticated data"),
    pytest.param(another_type, 7, id="a payload of another type"),
    pytest.param(swapped_evidence, 10, id="evidence of another run"),
    pytest.param(evidence_with_better_numbers, 10, id="evidence that says something else"),
    pytest.param(page_of_another_report, 13, id="the page of another report"),
    pytest.param(lambda: reported(upgraded_gate, certified=True), 11, id="a gate upgraded"),
    pytest.param(lambda: reported(published_against_a_gate), 11, id="evidence against it"),
    pytest.param(lambda: reported(published_against_a_gate, certified=True), 11, id="evidence against a certificate"),
    pytest.param(lambda: reported(published_on_weak_evidence), 11, id="evidence too weak"),
    pytest.param(lambda: reported(published_without_reference), 11, id="no reference"),
    *(pytest.param(lambda edit=edit: reported(edit), 8, id=name) for name, edit in STATEMENTS),
    *(
        pytest.param(lambda edit=edit: reported(edit, certified=True), step, id=name)
        for name, edit, step in [
            ("an epsilon too low", put(*CERTIFICATE, "epsilon", to=2.78), 12),
            ("a single epsilon too low", put(*CERTIFICATE, "singleEpsilon", to=0.5), 12),
            ("more deletions than covered", put(*CERTIFICATE, "unitsDeletedSinceBase", to=4), 12),
            ("more deletions than can be computed", put(*CERTIFICATE, "unitsDeletedSinceBase", to=10**9), 12),
            ("less noise in one place", put(*CERTIFICATE, "accountant", "noiseMultiplier", to=3.9), 8),
            ("more steps in one place", put(*CERTIFICATE, "accountant", "steps", to=10**6), 8),
            ("less noise", all_of(noise(3.9), put(*CERTIFICATE, "accountant", "noiseMultiplier", to=3.9)), 12),
            ("a constant that was estimated", put(*CERTIFICATE, "constants", 0, "held", to="estimated"), 8),
            ("another mechanism's training", put(*CERTIFICATE, "learned", to=None), 8),
            ("an audit that found nothing", put(*CERTIFICATE, "audit", to=audit(lowerBound=0.0)), 12),
            ("an audit that refutes", put(*CERTIFICATE, "audit", to=audit()), 12),
            ("more left than fits", put(*CERTIFICATE, "unitsLeft", to=16), 12),
            ("nothing said of what is left", put(*CERTIFICATE, "unitsLeft", to=None), 12),
            ("more left than there are units", put(*CERTIFICATE, "unitsLeft", to=10**6), 12),
            ("a spent budget", put(*CERTIFICATE, "epsilonLimit", to=2), 12),
            ("a delta of one person in the data", put(*CERTIFICATE, "points", to=100_000), 12),
            ("a base that learned nothing", put(*CERTIFICATE, "learned", "learned", to=False), 12),
            ("a base that is said to have learned", put(*CERTIFICATE, "learned", "baseLoss", to=5.5), 12),
            ("a base no better than word frequencies", put(*CERTIFICATE, "learned", "unigramLoss", to=4.5), 12),
            ("a certificate given and refused", put("guarantee", "refused", to="The base did not learn."), 8),
            ("a certificate for an empirical run", put("guarantee", "class", to="empirical"), 8),
            ("an unsound mechanism", put(*CERTIFICATE, "accountant", "mechanism", to="shuffled_gaussian"), 8),
        ]
    ),
]


@pytest.mark.parametrize(("cheat", "step"), CHEATS)
def test_a_cheat_is_noticed_where_it_should_be(tmp_path: Path, cheat: Callable[[], Files], step: int) -> None:
    """The honest bundle with one cheat fails, at that cheat's step."""
    assert failed_step(write(tmp_path, cheat()), Desk().policy()) == step


def test_the_honest_bundle_passes_the_same_check(tmp_path: Path) -> None:
    """An edit that changes nothing is no cheat, so the failures above are the cheats' own."""
    for certified in (False, True):
        files = reported(lambda value: None, certified=certified)  # noqa: ARG005 - nothing is edited

        assert failed_step(write(tmp_path, files), Desk().policy()) is None


def test_another_log_is_not_believed(tmp_path: Path) -> None:
    """A policy for another log, or for the same log with another key, ends the protocol at the checkpoint."""
    write(tmp_path, Desk().files())
    stranger = Desk(log_key=signing_key("log", 9))

    assert failed_step(tmp_path, stranger.policy()) == 3
    assert failed_step(tmp_path, stranger.policy().replace(ORIGIN, "other.example")) == 2


def test_a_missing_witness_is_missed(tmp_path: Path) -> None:
    """A policy that asks for a cosignature is not content with the log's word."""
    write(tmp_path, Desk().files())

    assert failed_step(tmp_path, Desk(witnessed=True).policy()) == 4


def test_a_swapped_model_is_noticed(tmp_path: Path) -> None:
    """A report on one model does not pass for another one's."""
    desk = Desk(model_files={**MODEL_FILES, "model.safetensors": b"what was reported on"})
    served = write(tmp_path / "served", MODEL_FILES)

    assert failed_step(write(tmp_path / "bundle", desk.files()), desk.policy(), served) == 21
