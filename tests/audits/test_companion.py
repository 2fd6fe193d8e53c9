"""The summary beside a report, and the verifier's step about what lies in a bundle for other tools."""

import copy
import json
from typing import Any, cast

import pytest

from audits import bundle, companion, dsse, keys, log, oms, statement
from audits.errors import VerificationError
from audits.protocol import Verification
from audits.register import Register, revocation
from audits.strict import encode_base64, load_json
from tests.audits.bundles import AT, Desk, signing_key
from tests.audits.test_oms import ModelKey

DESK = Desk()
PREDICATE = DESK.predicate()
PAYLOAD = statement.build(PREDICATE)
ENVELOPE = DESK.files(PREDICATE)[bundle.REPORT]
VERIFIER = "https://log.expunge.example/desk"
PASSED = Verification(ok=True, trust="unwitnessed", steps=(), payload=PAYLOAD)
INDEX = 20


def summary(**changes: Any) -> bytes:  # noqa: ANN401 - any argument
    """The honest summary, or one with something changed."""
    told: dict[str, Any] = {"verifier": VERIFIER, "at": AT, "signer": DESK.report_key} | changes
    return companion.summarise(PASSED, ENVELOPE, **told)


def register(model_key: ModelKey, *, revoked: bool = False) -> Register:
    """The keys of a log that registers report key and model key, and perhaps revokes the latter."""
    found = Register()
    found.apply(0, log.parse_entry(log.key_entry(at=AT, salt="0" * 32, key=DESK.report_key, role="report")))
    data = {
        "role": "model",
        "algorithm": "ecdsa-p256",
        "publicKey": encode_base64(model_key.public_key),
        "keyId": keys.key_id(model_key.public_key),
    }
    found.apply(1, log.Entry(type=log.KEY_REGISTERED, at=AT, salt="1" * 32, data=data))
    if revoked:
        gone: Any = revocation(key_id=data["keyId"], role="model", reason="compromised")
        found.apply(2, log.Entry(type="key.revoked", at=AT, salt="2" * 32, data=gone))
    return found


def signed_model(key: ModelKey, name: str | None = None) -> bytes:
    """The model's signature by a key."""
    files = PREDICATE["model"]["after"]["files"]
    return oms.build(name=name or companion.model_name(PREDICATE), files=files, signer=key)


def check(files: dict[str, bytes], known: Register) -> str:
    """What the verifier's step says."""
    return companion.check(files, PREDICATE, PAYLOAD, envelope=ENVELOPE, register=known, index=INDEX)


def test_a_summary_says_what_passed() -> None:
    """The summary names the files, the policy, the envelope, the result and the guarantee class as its level."""
    value = load_json(dsse.verify(summary(), payload_type=dsse.INTOTO, public_key=DESK.report_key.public_key))
    told = value["predicate"]

    assert value["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert [one["name"] for one in value["subject"]] == sorted(PREDICATE["model"]["after"]["files"])
    assert (told["verificationResult"], told["verifiedLevels"]) == ("PASSED", ["EXPUNGE_EMPIRICAL"])
    assert told["policy"]["digest"]["sha256"] == PREDICATE["policy"]["digest"]
    assert (told["verifier"]["id"], told["timeVerified"]) == (VERIFIER, AT)


def test_a_failed_verification_has_no_summary() -> None:
    """What did not pass is not summarised, and never as passed."""
    failed = Verification(ok=False, trust="none", steps=(), payload=None)

    with pytest.raises(ValueError, match="that passed"):
        companion.summarise(failed, ENVELOPE, verifier=VERIFIER, at=AT, signer=DESK.report_key)


@pytest.mark.parametrize("changes", [{"verifier": "somebody"}, {"at": "yesterday"}], ids=["verifier", "time"])
def test_a_summary_that_nobody_would_believe(changes: dict[str, str]) -> None:
    """A verifier without an address, or a time that is none, is our own mistake and makes no summary."""
    with pytest.raises(ValueError, match="would not be believed"):
        summary(**changes)


def test_companions_that_agree() -> None:
    """Signature and summary of this report are accepted, and what is not read here is said not to be."""
    key = ModelKey()
    files = {
        companion.MODEL: signed_model(key),
        companion.SUMMARY: summary(),
        companion.PRINT: b"%PDF-1.7",
        companion.STAMP: b"0",
    }
    told = check(files, register(key))

    assert "over the report's files" in told
    assert f"by {VERIFIER} at {AT}" in told
    assert "report.pdf and timestamp.tsr need(s) a reader of its own and was not checked here." in told
    assert check({}, register(key)) == "There are none."


def test_a_model_signed_by_a_stranger() -> None:
    """A signature by a key that the log never registered, or that it revoked, is refused."""
    for known in (register(ModelKey(8)), register(ModelKey(), revoked=True)):
        with pytest.raises(VerificationError, match="did not register for models, or revoked"):
            check({companion.MODEL: signed_model(ModelKey())}, known)


def test_a_signature_of_another_model() -> None:
    """The signature of another version is refused."""
    key = ModelKey()

    with pytest.raises(VerificationError, match="names another model"):
        check({companion.MODEL: signed_model(key, "support-assistant-v1")}, register(key))


def test_a_summary_of_another_report() -> None:
    """A summary of another payload, by another key, or with a better level is refused."""
    other = cast("dict[str, Any]", copy.deepcopy(PREDICATE)) | {"reportId": "report-other"}
    payload = statement.build(cast("Any", other))
    known = register(ModelKey())
    better = load_json(dsse.parse(summary())[1])
    better["predicate"]["verifiedLevels"] = ["EXPUNGE_EXACT"]
    raw = json.dumps(better, sort_keys=True, separators=(",", ":")).encode()
    cheats = [
        companion.summarise(
            Verification(ok=True, trust="witnessed", steps=(), payload=payload),
            dsse.sign(payload, payload_type=dsse.INTOTO, signer=DESK.report_key),
            verifier=VERIFIER,
            at=AT,
            signer=DESK.report_key,
        ),
        summary(signer=signing_key("report", 9)),
        dsse.sign(raw, payload_type=dsse.INTOTO, signer=DESK.report_key),
        dsse.sign(b"{}", payload_type=dsse.INTOTO, signer=DESK.report_key),
        ENVELOPE,
    ]
    for cheat in cheats:
        with pytest.raises(VerificationError):
            check({companion.SUMMARY: cheat}, known)


def test_a_print_that_is_none() -> None:
    """What calls itself the printed report is a PDF at least."""
    with pytest.raises(VerificationError, match="no PDF"):
        check({companion.PRINT: b"<html>"}, register(ModelKey()))
