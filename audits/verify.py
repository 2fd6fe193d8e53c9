"""The numbered offline protocol: does this bundle prove what its report says?

     1  bundle                 every file is there, within limits
     2  trust policy           given from outside; one inside the bundle is never trusted
     3  checkpoint signature   a log of the policy signed the checkpoint
     4  witnesses              the policy's quorum cosigned it; a log without witnesses is `unwitnessed`
     5  key registration       the log registers the report key, in the role "report"
     6  report entry           the log holds an entry for the report, after the key's
     7  envelope signature     the registered key signed the report, and nothing beside it
     8  statement              the report is well formed and agrees with itself
     9  report digest          the log's entry is about exactly these bytes
    10  evidence               the numbers' file is the one that the report names, and says what the report says
    11  gates                  every gate, judged again from its interval, allows the publication
    12  certificate            epsilon is not below the one computed again, nor above its limit; so is what is left
    13  page                   the HTML page is what the verified report renders to
    14  ledger excerpt         the log's entries from the previous report to this one, complete and in order of time
    15  key validity           neither the report's key nor the checkpoint's was revoked when the report was logged
    16  requests               every request of the range is accounted for as the log has it, and so is the batch
    17  approvals              the batch's requests stood approved at its plan, signed where a key for it was there
    18  attempts               the plan and its gates, every attempt and its outcome, and the seed are the log's
    19  times                  the report is dated as its entries are, and as its witnesses saw it
    20  earlier reports        it follows the report before it without a gap or omission, and so do its versions

Then, as far as there is something to hold them against (numbered on in this order):

    companions                 (where there are some) the files for other tools say what the report says
    model                      (with a model folder) the model at hand is the one reported on
    whole log                  (with a copy of the log) it extends the report's checkpoint; every entry parses, in order
    key validity, ...          steps 15 to 18 and 20 again, over all entries
    older checkpoint           (with one) the log extends it, and nothing was dated back behind it

Trust runs policy -> log key -> checkpoint -> entries -> report key -> envelope -> statement -> everything else. Each
step uses only what an earlier one has established. Reads files; no network, no database, no clock.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from audits import (
    budget,
    bundle,
    canaries,
    claims,
    companion,
    dsse,
    excerpt,
    gates,
    keys,
    mechanisms,
    model,
    note,
    statement,
)
from audits import log as logs
from audits import mirror as mirrors
from audits import policy as policies
from audits import proof as proofs
from audits.errors import VerificationError, require
from audits.predicate import Certificate, Learned, Predicate
from audits.protocol import Recorder, Trust, Verification, present
from audits.render import html
from audits.strict import load_json

EPSILON_TOLERANCE = 1e-6
AUDIT_TOLERANCE = 1e-4
WHOLE = ", whole log"


@dataclass(slots=True)
class _State:
    """What the steps so far have established."""

    path: Path
    policy_text: str | bytes | None
    files: Mapping[str, bytes] = field(default_factory=dict)
    policy: policies.Policy | None = None
    report_proof: proofs.Proof | None = None
    trust: policies.Trust | None = None
    level: Trust = "none"
    public_key: bytes = b""
    entry: Mapping[str, Any] = field(default_factory=dict)
    payload: bytes = b""
    predicate: Predicate | None = None
    shown: claims.Shown | None = None
    mirror: mirrors.Mirror | None = None
    whole: claims.Shown | None = None


def verify(
    path: Path,
    policy_text: str | bytes | None,
    *,
    model: Path | None = None,
    log: Path | None = None,
    since: str | bytes | None = None,
) -> Verification:
    """Verify the bundle at `path` (folder or zip) under a trust policy; never raises on hostile input.

    With `model` the folder is compared with the one reported on; with `log`, a copy of the log (C2SP tiles), what the
    report says is held against all of its entries; `since` is an older signed checkpoint that this log must extend.

    Without a policy nothing can be believed: the result is not ok, its trust is `none`, and step 2 says which keys
    the bundle claims, so that they can be compared with what their owners publish.
    """
    state = _State(path=path, policy_text=policy_text)
    recorder = Recorder()
    recorder.run("bundle", lambda: _read_bundle(state))
    recorder.run("trust policy", lambda: _read_policy(state))
    recorder.run("checkpoint signature", lambda: _check_checkpoint(state))
    recorder.run("witnesses", lambda: _check_witnesses(state))
    recorder.run("key registration", lambda: _check_key(state))
    recorder.run("report entry", lambda: _check_entry(state))
    recorder.run("envelope signature", lambda: _check_envelope(state))
    recorder.run("statement", lambda: _check_statement(state))
    recorder.run("report digest", lambda: _check_digest(state))
    recorder.run("evidence", lambda: _check_evidence(state))
    recorder.run("gates", lambda: _check_gates(state))
    recorder.run("certificate", lambda: _check_certificate(state))
    recorder.run("page", lambda: _check_page(state))
    recorder.run("ledger excerpt", lambda: _check_excerpt(state))
    _run_claims(recorder, state, lambda: present(state.shown))
    recorder.run("times", lambda: _check_times(state))
    recorder.run("earlier reports", lambda: claims.earlier_reports(present(state.shown), present(state.predicate)))
    if state.files.keys() & bundle.OPTIONAL.keys():
        recorder.run("companions", lambda: _check_companions(state))
    if model is not None:
        recorder.run("model", lambda: _check_model(state, model))
    if log is not None:
        _run_whole_log(recorder, state, log)
    if since is not None:
        recorder.run("older checkpoint", lambda: _check_older(state, since))
    return recorder.verification(state.level, state.payload)


def _run_claims(recorder: Recorder, state: _State, shown: Callable[[], claims.Shown], where: str = "") -> None:
    """What the report claims about keys, requests, approvals and attempts, against what is `shown` of the log."""
    recorder.run(f"key validity{where}", lambda: _check_validity(state, shown()))
    recorder.run(f"requests{where}", lambda: claims.requests(shown(), present(state.predicate)))
    recorder.run(f"approvals{where}", lambda: claims.approvals(shown(), present(state.predicate)))
    recorder.run(f"attempts{where}", lambda: claims.attempts(shown(), present(state.predicate)))


def _run_whole_log(recorder: Recorder, state: _State, folder: Path) -> None:
    recorder.run("whole log", lambda: _check_whole_log(state, folder))
    _run_claims(recorder, state, lambda: present(state.whole), WHOLE)
    recorder.run(
        f"earlier reports{WHOLE}", lambda: claims.earlier_reports(present(state.whole), present(state.predicate))
    )


# (1): read the known files, each within its limit.
def _read_bundle(state: _State) -> str:
    found = bundle.read(state.path)
    state.files = found.files
    beside = [name for name in bundle.OPTIONAL if name in found.files]
    companions = f" For other tools there are {', '.join(beside)}." if beside else ""
    others = f" {found.others} other file(s) lie in the bundle and were not checked." if found.others else ""
    ignored = " A policy in a bundle is never trusted." if found.has_policy else ""
    return f"All {len(bundle.LIMITS)} files are there.{companions}{others}{ignored}"


# (2): whom to trust comes from outside.
def _read_policy(state: _State) -> str:
    if state.policy_text is None:
        raise VerificationError(
            f"No trust policy was given, so nothing here can be believed. {_claimed_keys(state.files)}"
        )
    state.policy = policies.parse(state.policy_text)
    logs = ", ".join(log.name for log in state.policy.logs)
    return f"The policy trusts the log(s) {logs} and names {len(state.policy.witnesses)} witness(es)."


# (3): a log of the policy signed the checkpoint that both proofs carry.
def _check_checkpoint(state: _State) -> str:
    proof = _parse_proof(state.files[bundle.REPORT_PROOF])
    # Two checkpoints in one bundle could be of two histories, and nothing in the bundle would show it.
    other = _parse_proof(state.files[bundle.KEY_PROOF])
    state.report_proof = proof
    state.trust = policies.verify_log(present(state.policy), proof.checkpoint)
    require(other.checkpoint == proof.checkpoint, "The two proofs carry different checkpoints.")
    checkpoint, key = state.trust.checkpoint, keys.fingerprint(state.trust.log.public_key)
    return f"The log {checkpoint.origin} (key {key}) signed a checkpoint over {checkpoint.size} entries."


# (4): enough of the policy's witnesses saw the same history.
def _check_witnesses(state: _State) -> str:
    trust = present(state.trust)
    policies.require_quorum(present(state.policy), trust)
    state.level = trust.level
    if trust.level == "unwitnessed":
        return "unwitnessed: nobody but the log's operator vouches for there being only one history."
    return f"Cosigned by {', '.join(trust.witnesses)}."


# (5): the report key was registered in the log.
def _check_key(state: _State) -> str:
    entry, proof = state.files[bundle.KEY_ENTRY], _parse_proof(state.files[bundle.KEY_PROOF])
    proofs.require_included(proof, present(state.trust).checkpoint, entry)
    state.public_key = logs.parse_key_entry(entry, "report")
    require(proof.index < present(state.report_proof).index, "The report key was registered after its report.")
    return f"Entry {proof.index} registers the report key {keys.fingerprint(state.public_key)}."


# (6): the report was logged, after its key.
def _check_entry(state: _State) -> str:
    raw, proof = state.files[bundle.REPORT_ENTRY], present(state.report_proof)
    proofs.require_included(proof, present(state.trust).checkpoint, raw)
    entry = logs.parse_entry(raw)
    require(entry.type == logs.REPORT_LOGGED, "The log entry is not about a report.")
    require(set(entry.data) == {"reportId", "reportDigest", "keyId"}, "The report's log entry has other fields.")
    state.entry = entry.data
    return f"Entry {proof.index} of the log, made at {entry.at}, is about a report."


# (7): the registered key signed the envelope; from here on only the verified bytes are used.
def _check_envelope(state: _State) -> str:
    envelope = state.files[bundle.REPORT]
    state.payload = dsse.verify_ours(envelope, payload_type=dsse.INTOTO, public_key=state.public_key)
    return f"The registered key signed {len(state.payload)} bytes."


# (8): the report keeps its schema and its own rules, and claims no more than the log shows.
def _check_statement(state: _State) -> str:
    predicate = statement.parse(state.payload)
    index = present(state.report_proof).index
    logged = [predicate["plan"]["logIndex"], *(one["logIndex"] for one in predicate["attempts"])]
    require(max(logged) < index, "The report refers to log entries that come after its own.")
    require(predicate["evidence"]["seedCheckpoint"]["size"] <= index, "The evaluation's seed is newer than the report.")
    claimed = predicate["witnessed"] and present(state.trust).level != "witnessed"
    require(not claimed, "The report calls itself witnessed, and its checkpoint is not.")
    state.predicate = predicate
    version = predicate["model"]["after"]["version"]
    return f"Report {predicate['reportId']} about version {version} of {predicate['model']['name']}."


# (9): the log's entry and the envelope are about the same report.
def _check_digest(state: _State) -> str:
    digest = hashlib.sha256(state.payload).hexdigest()
    require(state.entry["reportDigest"] == digest, "The log's entry is about another report.")
    require(state.entry["keyId"] == keys.key_id(state.public_key), "The log's entry names another key.")
    require(state.entry["reportId"] == present(state.predicate)["reportId"], "The log's entry names another report.")
    return f"The report's SHA-256 is {digest}, as logged."


# (10): the evidence file is the one that the report names, and says the same.
def _check_evidence(state: _State) -> str:
    raw, reported = state.files[bundle.EVIDENCE], present(state.predicate)["evidence"]
    digest = hashlib.sha256(raw).hexdigest()
    require(digest == reported["evidenceDigest"], "The evidence file is not the one that the report names.")
    value = load_json(raw, what="The evidence file")
    require(isinstance(value, dict), "The evidence file is not a JSON object.")
    require(value.get("findings") == reported["findings"], "The evidence file and the report state different findings.")
    agree = value.get("aggregates") == reported.get("aggregates")
    require(agree, "The evidence file and the report state different counts of groups.")
    return f"{len(reported['findings'])} finding(s) agree with the evidence file."


# (11): judge every gate again, from its interval alone.
def _check_gates(state: _State) -> str:
    predicate = present(state.predicate)
    guarantee = predicate["guarantee"]["class"]
    policy = [gates.Gate.from_json(one) for one in predicate["policy"]["gates"]]
    judged = gates.judge_all(policy, predicate["evidence"]["findings"])
    for result, stated in zip(judged, predicate["gates"], strict=True):
        name = result.gate.metric
        require(result.to_json() == stated, f"The gate on {name} is {result.outcome}, not what the report says.")
        blocked = gates.blocks(guarantee, result.outcome)
        require(not blocked, f"The gate on {name} is {result.outcome}: this {guarantee} run must not be published.")
    counts = ", ".join(f"{result.gate.metric} {result.outcome}" for result in judged) or "no gates"
    return f"Judged again for a run of the class {guarantee}: {counts}."


# (12): compute the bound again, with the verifier's own accountant.
def _check_certificate(state: _State) -> str:
    guarantee = present(state.predicate)["guarantee"]
    certificate = guarantee["certificate"]
    if certificate is None:
        return f"No certificate is given, and none is claimed for the class {guarantee['class']}."
    if certificate["learned"] is not None:
        require_learned(certificate["learned"])
    for name, group in (("singleEpsilon", 1), ("epsilon", certificate["unitsDeletedSinceBase"])):
        bound = recompute(certificate, group)
        stated = certificate["epsilon"] if name == "epsilon" else certificate["singleEpsilon"]
        require(stated >= bound - EPSILON_TOLERANCE, f"The stated {name} {stated} is below the computed {bound:.6f}.")
    require(certificate["epsilon"] <= certificate["epsilonLimit"], "The epsilon is above the policy's limit.")
    require(certificate["delta"] * certificate["points"] < 1, "The delta reaches one in the number of points.")
    require_left(certificate)
    require_not_refuted(certificate)
    units = certificate["unitsDeletedSinceBase"]
    return f"epsilon {certificate['epsilon']:.4g} at delta {certificate['delta']:.2g} covers {units} deleted unit(s)."


# (13): the page that people read is the report that was verified.
def _check_page(state: _State) -> str:
    require(html.page(state.payload) == state.files[bundle.PAGE], "The HTML page is not a rendering of this report.")
    return "The HTML page is a rendering of this very report."


# (14): the log's entries that the report speaks of, all of them, under the report's own checkpoint.
def _check_excerpt(state: _State) -> str:
    found, index = excerpt.parse(state.files[bundle.LEDGER]), present(state.report_proof).index
    excerpt.require_included(found, present(state.trust).checkpoint)
    predicate = present(state.predicate)
    require(found.stop == index + 1, "The log excerpt does not end with the report's own entry.")
    first = min(predicate["requestBatch"]["ledgerRange"]["from"], predicate["plan"]["logIndex"])
    require(found.start <= first, f"The log excerpt begins with entry {found.start}, and entry {first} is needed.")
    key = _parse_proof(state.files[bundle.KEY_PROOF]).index
    entries = {key: logs.parse_entry(state.files[bundle.KEY_ENTRY]), **dict(found.parsed())}
    state.shown = claims.show(
        sorted(entries.items(), key=lambda one: one[0]),
        predicate,
        index=index,
        root_at=found.root_at,
        whole=found.start == 0,
    )
    return f"Entries {found.start} to {index} of the log are here, complete, and {len(found.singles)} older one(s)."


# (15): neither the report's key nor the log's own had been given up.
def _check_validity(state: _State, shown: claims.Shown) -> str:
    signers = [one.public_key for one in present(state.trust).signers]
    return claims.key_validity(shown, state.public_key, signers)


# (19): dates against the log's and the witnesses'.
def _check_times(state: _State) -> str:
    policy = present(state.policy)
    cosigned = _cosigned(policy, present(state.report_proof).checkpoint)
    agreed = policies.agreed_at(policy, cosigned)
    return claims.times(present(state.shown), present(state.predicate), tuple(cosigned.values()), agreed)


# With files for other tools: they are of this report, and signed by keys that the log registers.
def _check_companions(state: _State) -> str:
    shown = present(state.shown)
    return companion.check(
        state.files,
        present(state.predicate),
        state.payload,
        envelope=state.files[bundle.REPORT],
        register=shown.history.register,
        index=shown.index,
    )


# With a copy of the log: it is the log of the report, grown, and nothing in it is malformed or out of order.
def _check_whole_log(state: _State, folder: Path) -> str:
    found = mirrors.read(folder, present(state.policy))
    found.extends(present(state.trust).checkpoint)
    state.mirror = found
    state.whole = claims.show(
        ((index, logs.parse_entry(raw)) for index, raw in enumerate(found.entries)),
        present(state.predicate),
        index=present(state.report_proof).index,
        root_at=found.tree.root,
        whole=True,
    )
    return f"All {found.size} entries lead to the copy's checkpoint, which extends the report's."


# With an older checkpoint: the log still has that history, and what came after is not dated before it.
def _check_older(state: _State, signed: str | bytes) -> str:
    if state.mirror is None:
        raise VerificationError("An older checkpoint is compared with a copy of the log, and none was given.")
    policy = present(state.policy)
    older = policies.verify_log(policy, signed).checkpoint
    state.mirror.extends(older)
    seen = claims.seen_at(tuple(_cosigned(policy, signed).values()))
    if seen is None:
        return f"The log extends the older checkpoint over {older.size} entries; no witness says when that was."
    for index, raw in enumerate(state.mirror.entries[older.size :], start=older.size):
        claims.require_after(index, logs.parse_entry(raw), seen)
    return f"The log extends the older checkpoint over {older.size} entries, and what came after is dated after it."


# With a model folder: it is the model reported on.
def _check_model(state: _State, folder: Path) -> str:
    predicate = present(state.predicate)
    model.verify(folder, cast("Mapping[str, Any]", predicate))
    return f"All {len(predicate['model']['after']['files'])} files of the model are those reported on."


def recompute(certificate: Certificate, group: int) -> float:
    """The epsilon of a certificate's mechanism for a group of `group` units."""
    try:
        return mechanisms.epsilon(certificate["accountant"], delta=certificate["delta"], group=group)
    except ValueError as fault:
        raise VerificationError(f"The certificate's mechanism can't be accounted for. {fault}") from fault


def require_left(certificate: Certificate) -> None:
    """Refuse a deletion budget that promises more than its mechanism can keep.

    What is stated may be less than what is left; the bound for the group with all of it is computed again.
    """
    told, deleted = certificate["unitsLeft"], certificate["unitsDeletedSinceBase"]
    used_up = certificate["accountant"]["mechanism"] in budget.USED_UP
    require((told is not None) == used_up, "The certificate does not say what its mechanism has left for others.")
    if told:
        kept = deleted + told < certificate["points"]
        kept = kept and recompute(certificate, deleted + told) <= certificate["epsilonLimit"] + EPSILON_TOLERANCE
        require(kept, f"{told} more unit(s) do not fit below the policy's limit, as the report says they do.")


def require_not_refuted(certificate: Certificate) -> None:
    """Refuse a certificate whose own audit contradicts it, or whose audit's figures are not those of its counts.

    A canary is one unit, so its lower bound is held against the epsilon of one unit.
    """
    audit = certificate["audit"]
    if audit is None:
        return
    told: dict[str, Any] = {name: audit[name] for name in ("canaries", "guesses")}
    told |= {"delta": certificate["delta"], "significance": audit["significance"]}
    try:
        found = canaries.lower_bound(correct=audit["correct"], **told)
        ceiling = canaries.ceiling(**told)
    except ValueError as fault:
        raise VerificationError(f"The privacy audit's counts make no sense. {fault}") from fault
    agree = abs(found - audit["lowerBound"]) <= AUDIT_TOLERANCE and abs(ceiling - audit["ceiling"]) <= AUDIT_TOLERANCE
    require(agree, f"The privacy audit's bound is {found:.4f} of at most {ceiling:.4f}, not what the report says.")
    refuted = found > certificate["singleEpsilon"]
    require(not refuted, f"The privacy audit refutes the certificate: it found an epsilon of at least {found:.4f}.")


def require_learned(learned: Learned) -> None:
    """Refuse a bound on a base that learned nothing: enough noise gives a small epsilon to an empty model.

    The base must beat, by the margin, both its starting point and frequencies alone.
    """
    wanted = min(learned["startLoss"], learned["unigramLoss"]) - learned["margin"]
    gained = learned["baseLoss"] <= wanted
    require(learned["learned"] and gained, "The DP base did not learn, so its epsilon says nothing.")


def _parse_proof(raw: bytes) -> proofs.Proof:
    proof = proofs.parse(raw)
    require(proof.extra is None, "The proof carries extra data, which nothing authenticates.")
    return proof


def _cosigned(policy: policies.Policy, signed: str | bytes) -> dict[str, int]:
    """When each of the policy's witnesses, by name, cosigned a checkpoint, in POSIX seconds."""
    opened = note.open_note(signed, [*policy.logs, *policy.witnesses.values()])
    times = {one.key: one.time for one in opened.verified if one.time is not None}
    return {name: times[key] for name, key in policy.witnesses.items() if key in times}


def _claimed_keys(files: Mapping[str, bytes]) -> str:
    """The keys that a bundle names, for comparing with what their owners publish; unverified."""
    try:
        signed = note.parse(_parse_proof(files[bundle.REPORT_PROOF]).checkpoint)
        log_keys = ", ".join(f"{one.name}+{one.key_id.hex()}" for one in signed.signatures)
        report_key = logs.parse_key_entry(files[bundle.KEY_ENTRY], "report")
    except VerificationError:
        return "The keys it names can't be read."
    return f"It claims checkpoint key(s) {log_keys} and the report key {keys.fingerprint(report_key)}."
