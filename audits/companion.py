"""A verification summary (SLSA VSA 1.x) beside a report, and the check of what lies in a bundle for other tools.

A summary says, to tools that know nothing of unlearning, that this desk's verifier held the report on these files
against the policy and let it pass, and which guarantee class was reached. It is signed by the report key.

Rules:

* It is made from a verification that passed, over this very payload, and from nothing else. It says PASSED or it is
  not made; a FAILED one would need a reader who looks.
* Its level is the guarantee class (`EXPUNGE_EMPIRICAL`, ...), in a name that can't be taken for a level of SLSA's own.
* All but verifier and time follows from the report, and is compared with what would be written again.
* Whoever uses it decides which verifier to believe: it is the desk's own word about its own report, and less than the
  report. What believes nobody is `audits.verify`.

Source of the form: slsa.dev/spec/v1.1/verification_summary.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

from audits import dsse, intoto, keys, log, oms, statement
from audits.errors import VerificationError, expect, require
from audits.predicate import Predicate
from audits.protocol import Verification
from audits.register import Register
from audits.strict import load_json

PREDICATE_TYPE = "https://slsa.dev/verification_summary/v1"
REPORT = "report.dsse.json"
SUMMARY = "report.vsa.dsse.json"
MODEL = "model.oms.sigstore.json"
STAMP = "timestamp.tsr"
PRINT = "report.pdf"
_LEVEL = "EXPUNGE_"


def summarise(verdict: Verification, envelope: bytes, *, verifier: str, at: str, signer: keys.Signer) -> bytes:
    """The signed summary of a verification of the report in `envelope`; `verifier` is a URI, `at` RFC 3339 in UTC.

    `ValueError` when the verification did not pass, or when the verifier's own check would refuse the summary.
    """
    payload = verdict.payload or b""
    expect(verdict.ok and payload, "Only a verification that passed is summarised.")
    raw = dsse.sign(_summary(payload, envelope, verifier=verifier, at=at), payload_type=dsse.INTOTO, signer=signer)
    try:
        verify_summary(raw, payload=payload, envelope=envelope, public_key=signer.public_key)
    except VerificationError as fault:
        raise ValueError(f"The summary would not be believed. {fault}") from fault
    return raw


def verify_summary(raw: bytes, *, payload: bytes, envelope: bytes, public_key: bytes) -> str:
    """Who verified the report and when, by a summary of it under the report key; VerificationError."""
    signed = dsse.verify_ours(raw, payload_type=dsse.INTOTO, public_key=public_key)
    value = load_json(signed, what="The summary")
    told = value.get("predicate") if isinstance(value, dict) else None
    known = told.get("verifier") if isinstance(told, dict) else None
    verifier, at = (known.get("id") if isinstance(known, dict) else None), (told or {}).get("timeVerified")
    require(isinstance(verifier, str) and ":" in verifier, "The summary names no verifier.")
    require(isinstance(at, str) and log.is_time(at), "The summary has no time.")
    again = _summary(payload, envelope, verifier=str(verifier), at=str(at))
    require(signed == again, "The summary is not one of this report.")
    return f"{verifier} at {at}"


def check(
    files: Mapping[str, bytes], predicate: Predicate, payload: bytes, *, envelope: bytes, register: Register, index: int
) -> str:
    """What lies in a bundle for other tools says what the report says; VerificationError.

    The report key is the one that the report's entry at `index` rests on; `register` is of the bundle's entries.
    """
    told = []
    if MODEL in files:
        _check_model(files[MODEL], predicate, register, index)
        told.append("The model's signature is over the report's files, by a key that the log registers.")
    if SUMMARY in files:
        report_key = dsse.parse(envelope)[2][0][0] or ""
        key = register.valid(report_key, "report", index)
        who = verify_summary(files[SUMMARY], payload=payload, envelope=envelope, public_key=key.public_key)
        told.append(f"The summary is of this report, by {who}.")
    if PRINT in files:
        require(files[PRINT].startswith(b"%PDF-"), "The printed report is no PDF.")
    unchecked = [name for name in (PRINT, STAMP) if name in files]
    if unchecked:
        told.append(f"{' and '.join(unchecked)} need(s) a reader of its own and was not checked here.")
    return " ".join(told) or "There are none."


def model_name(predicate: Predicate) -> str:
    """What a signature calls the model after."""
    return f"{predicate['model']['name']}-v{predicate['model']['after']['version']}"


def _check_model(raw: bytes, predicate: Predicate, register: Register, index: int) -> None:
    named = oms.parse(raw).hint
    found = [key for key in register.in_force("model", index) if oms.hint(oms.public_key(key.public_key)) == named]
    if not found:
        raise VerificationError("The model is signed by a key that the log did not register for models, or revoked.")
    files = predicate["model"]["after"]["files"]
    oms.verify(raw, name=model_name(predicate), files=files, key=found[0].public_key)


def _summary(payload: bytes, envelope: bytes, *, verifier: str, at: str) -> bytes:
    predicate = statement.parse(payload)
    after = predicate["model"]["after"]
    subjects = [{"name": name, "digest": {"sha256": one["sha256"]}} for name, one in sorted(after["files"].items())]
    value: dict[str, Any] = {
        "_type": intoto.TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "verifier": {"id": verifier},
            "timeVerified": at,
            "resourceUri": f"urn:expunge:model:{predicate['model']['modelId']}:{after['version']}",
            "policy": {"digest": {"sha256": predicate["policy"]["digest"]}},
            "inputAttestations": [{"uri": REPORT, "digest": {"sha256": hashlib.sha256(envelope).hexdigest()}}],
            "verificationResult": "PASSED",
            "verifiedLevels": [_LEVEL + predicate["guarantee"]["class"].upper()],
        },
    }
    return rfc8785.dumps(value)
