"""The unlearning report: an in-toto Statement v1 whose subjects are the files of the published model.

Its shape is the JSON Schema in `schema/unlearning-report-v1.json`. Beyond a shape, a report must agree with itself:

* the subjects are exactly the files of `model.after`, and both model digests follow from their files;
* times run startedAt <= finishedAt <= verifiedAt <= createdAt;
* a request, a metric and an attempt are named once; no more requests are in the batch than are accounted for;
* one attempt was published, the last one: its rung, weights and gates are those of the report. Before it one may be
  `interim`: a guard that held all its gates and was published on its own. In the report on that guard, of the class
  `suppression`, it is the last one and none was published;
* versions are counted: the model after has the number of the one before, and one more for each that was published;
* suppression removes nothing: the model after is the one before, byte for byte, with files below `guard/` added, and no
  record left the data set. A model of any other class has no guard;
* the gates are the policy's, in its order, and a class that rests on evidence alone has at least one;
* the plan was logged before every attempt, and the seed follows from the checkpoint that it names;
* counts and shapes of groups of pictures, where there are some, keep the rules of `aggregates`;
* approvals that nobody signed are named among the limits;
* a certificate belongs to a certified or conditional run alone, a certified run has one, and a refused one says why.

What needs more than the report (signatures, log, evidence file, accountant) is checked in `verify`.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import rfc8785

from audits import aggregates, intoto, log, mechanisms, model
from audits.errors import expect, require
from audits.predicate import GateResultJson, Predicate
from audits.schema import Schema
from audits.strict import load_json

PREDICATE_TYPE = "https://expunge.example/unlearning-report/v1"
SCHEMA = Schema.load("unlearning-report-v1")
MAX_BYTES = 16 * 1024 * 1024
MOST_VERSIONS = 24  # earlier ones that a report tells of, as the schema has it
_SHOWN = 5
_BOUNDED = ("certified", "conditional")
GUARD, SUPPRESSION = "guard/", "suppression"
UNSIGNED = (
    "Approvals were not signed: that anybody but the operator agreed to these requests rests on the operator's word."
)
_MADE = ("published", "interim")  # outcomes that lead to a version
_GATE_FIELDS = ("metric", "direction", "margin", "minimumN")


def build(predicate: Predicate) -> bytes:
    """The payload for the envelope, in RFC 8785 form; `ValueError` lists what is wrong with the report."""
    files = predicate["model"]["after"]["files"]
    subjects = [{"name": name, "digest": {"sha256": one["sha256"]}} for name, one in sorted(files.items())]
    value: dict[str, Any] = {
        "_type": intoto.TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    found = faults(value)
    expect(not found, " ".join(found))
    try:
        payload = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as fault:
        raise ValueError("The report holds a value that JSON can't carry.") from fault
    # Floats that are whole numbers come back as integers: read it as everybody else will before it is signed.
    found = faults(load_json(payload, max_bytes=MAX_BYTES))
    expect(not found, " ".join(found))
    return payload


def parse(payload: bytes) -> Predicate:
    """The report in a verified payload; `VerificationError` names its first faults."""
    value = load_json(payload, what="The statement", max_bytes=MAX_BYTES)
    found = faults(value)
    more = f" ({len(found) - _SHOWN} more faults)" if len(found) > _SHOWN else ""
    require(not found, " ".join(found[:_SHOWN]) + more)
    require(rfc8785.dumps(value) == payload, "The statement is not in its RFC 8785 form.")
    return cast("Predicate", value["predicate"])


def policy_digest(policy: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a report's `policy` in RFC 8785 form: the plan's log entry fixes it before anything is run."""
    return hashlib.sha256(rfc8785.dumps(dict(policy))).hexdigest()


def faults(value: object) -> list[str]:
    """One sentence for each rule that a statement breaks; none when it keeps them all."""
    found = SCHEMA.faults(value)
    # The rules below read fields freely, which only a statement of the right shape has.
    return found or list(_contradictions(cast("dict[str, Any]", value)))


def _contradictions(value: dict[str, Any]) -> Iterator[str]:
    predicate: Predicate = value["predicate"]
    subjects = {one["name"]: one["digest"]["sha256"] for one in value["subject"]}
    files = {name: one["sha256"] for name, one in predicate["model"]["after"]["files"].items()}
    if subjects != files or len(subjects) != len(value["subject"]):
        yield "The statement's subjects are not the files of the model after."
    for label, version in (("before", predicate["model"]["before"]), ("after", predicate["model"]["after"])):
        if model.digest(version["files"]) != version["digest"]:
            yield f"The digest of the model {label} does not follow from its files."
    yield from _times(predicate)
    yield from _batch(predicate)
    yield from _attempts(predicate)
    yield from _ending(predicate)
    yield from _versions(predicate)
    yield from _guard(predicate)
    yield from _gates(predicate)
    yield from _evidence(predicate)
    yield from _certificate(predicate)


def _times(predicate: Predicate) -> Iterator[str]:
    order = ("startedAt", "finishedAt", "verifiedAt", "createdAt")
    times = [cast("Mapping[str, str]", predicate)[name] for name in order]
    if not all(map(log.is_time, times)):
        yield "A time of the statement is not in the calendar."
        return
    moments = [log.parse_time(one) for one in times]
    for name, later, before, after in zip(order, order[1:], moments, moments[1:], strict=False):
        if after < before:
            yield f"{later} lies before {name}."


def _batch(predicate: Predicate) -> Iterator[str]:
    batch = predicate["requestBatch"]
    ids = [one["requestId"] for one in batch["accounted"]]
    if len(set(ids)) != len(ids):
        yield "A request is accounted for twice."
    if batch["requests"] > len(ids):
        yield "The batch has more requests than are accounted for."
    if batch["subjects"] > batch["records"]:
        yield "The batch has more data subjects than records."
    if batch["approvals"] == "unsigned" and UNSIGNED not in predicate["limits"]:
        yield "The approvals were not signed, and the limits do not say so."
    if batch["ledgerRange"]["from"] > batch["ledgerRange"]["to"]:
        yield "The ledger range ends before it begins."


def _attempts(predicate: Predicate) -> Iterator[str]:
    attempts = predicate["attempts"]
    ids = [one["attemptId"] for one in attempts]
    if len(set(ids)) != len(ids):
        yield "An attempt is named twice."
    last = attempts[-1]
    if last["rung"] != predicate["method"]["rung"]:
        yield "The published attempt is of another rung than the report."
    if last["weightsDigest"] != predicate["model"]["after"]["digest"]:
        yield "The published attempt has other weights than the model after."
    if last["gates"] != predicate["gates"]:
        yield "The published attempt has other gate results than the report."
    if any(one["rung"] not in predicate["policy"]["ladder"] for one in attempts):
        yield "An attempt is of a rung that is not on the policy's ladder."
    if any(one["logIndex"] <= predicate["plan"]["logIndex"] for one in attempts):
        yield "An attempt was logged before its verification plan."


def _ending(predicate: Predicate) -> Iterator[str]:
    """Which attempts led to versions, and how the versions are counted."""
    attempts, versions = predicate["attempts"], predicate["model"]
    made = [one["outcome"] for one in attempts if one["outcome"] in _MADE]
    if predicate["guarantee"]["class"] == SUPPRESSION:
        if made != ["interim"] or attempts[-1]["outcome"] != "interim":
            yield "A report on a guard ends with its interim attempt, the only one, and none was published."
    elif made.count("published") != 1 or attempts[-1]["outcome"] != "published":
        yield "Not exactly one attempt, the last one, was published."
    if made.count("interim") > 1:
        yield "More than one interim attempt is named."
    if any(one["outcome"] == "interim" and not _held(one["gates"]) for one in attempts):
        yield "An interim attempt has no gates, or one that did not hold."
    if versions["after"]["version"] != versions["before"]["version"] + len(made):
        yield "The number of the model after is not that of the model before and one more for each published version."


def _versions(predicate: Predicate) -> Iterator[str]:
    """Earlier versions are named in order, each once, and are earlier."""
    numbers = [one["version"] for one in predicate.get("history", [])]
    numbers.append(predicate["model"]["after"]["version"])
    if any(later <= earlier for earlier, later in pairwise(numbers)):
        yield "The earlier versions are not in order, or not earlier."


def _held(gates: Sequence[GateResultJson]) -> bool:
    return bool(gates) and all(one["outcome"] == "held" for one in gates)


def _guard(predicate: Predicate) -> Iterator[str]:
    """What suppression leaves as it was, and that nothing else is guarded."""
    before, after = predicate["model"]["before"]["files"], predicate["model"]["after"]["files"]
    guard, data = {name for name in after if name.startswith(GUARD)}, predicate["dataset"]
    if predicate["guarantee"]["class"] != SUPPRESSION:
        if guard:
            yield "The model after is guarded, which is suppression and nothing else."
        if not data["removed"]:
            yield "No record left the data set, and the report is about a removal."
        return
    if not guard or {name: one for name, one in after.items() if name not in guard} != before:
        yield "The model after is not the model before with a guard beside it."
    if data["removed"] or data["beforeDigest"] != data["afterDigest"]:
        yield "A guard removes no record, and the data set was changed."


def _gates(predicate: Predicate) -> Iterator[str]:
    policy = predicate["policy"]["gates"]
    judged = [{name: cast("Any", one)[name] for name in _GATE_FIELDS} for one in predicate["gates"]]
    if judged != policy:
        yield "The gate results are not those of the policy's gates in their order."
    if not policy and predicate["guarantee"]["class"] not in ("exact", "certified"):
        yield "A run that rests on evidence alone has no gate."


def _evidence(predicate: Predicate) -> Iterator[str]:
    evidence = predicate["evidence"]
    metrics = [one["metric"] for one in evidence["findings"]]
    if len(set(metrics)) != len(metrics):
        yield "A metric is reported twice."
    origin = evidence["seedCheckpoint"]
    seed = log.evaluation_seed(size=origin["size"], root=bytes.fromhex(origin["root"]))
    if evidence["seed"] != str(seed):
        yield "The evaluation's seed does not follow from the checkpoint it names."
    if origin["size"] <= predicate["plan"]["logIndex"]:
        yield "The evaluation's seed is older than the verification plan."
    if "aggregates" in evidence:
        yield from aggregates.contradictions(evidence["aggregates"], predicate["requestBatch"]["records"])


def _certificate(predicate: Predicate) -> Iterator[str]:
    guarantee = predicate["guarantee"]
    certificate = guarantee["certificate"]
    if certificate is not None and guarantee["class"] not in _BOUNDED:
        yield f"A run of the class {guarantee['class']} has no certificate."
    if certificate is None and guarantee["class"] == "certified":
        yield "A certified run has no certificate."
    if certificate is not None and guarantee["refused"] is not None:
        yield "A certificate is both given and refused."
    if certificate is None:
        return
    trained = certificate["accountant"]["mechanism"] == mechanisms.POISSON
    if trained != (certificate["learned"] is not None):
        yield "Whether the base learned is said of DP training, and of nothing else."
    if certificate["constants"] != mechanisms.constants(certificate["accountant"]):
        yield "The constants of the certificate are not those of its mechanism."
    if guarantee["class"] == "certified" and any(one["held"] == "estimated" for one in certificate["constants"]):
        yield "A constant was estimated, so the guarantee is conditional at most."
    if guarantee["class"] == "certified" and certificate["accountant"]["mechanism"] in mechanisms.CONDITIONAL:
        yield "No theorem certifies this mechanism, so the guarantee is conditional at most."
    if certificate["internalStateCovered"] != mechanisms.COVERS_STATE[certificate["accountant"]["mechanism"]]:
        yield "Whether internal state is covered is not what holds for its mechanism."
