"""Whole bundles for tests: a small log, its keys, a model and a report, made by the package's own public functions.

`Desk` plays the honest operator, whose log (`Story`) says what the report says. A cheat is an ordinary Desk with one
thing changed, so that every signature, entry and proof of the cheat is as genuine as an operator with all the keys can
make it.
"""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audits import (
    accountant,
    bundle,
    dsse,
    excerpt,
    gates,
    intoto,
    log,
    model,
    policy,
    statement,
    witness,
)
from audits.errors import VerificationError
from audits.keys import Role, SigningKey, key_id, registration
from audits.predicate import Predicate
from audits.render import html
from tests.audits.story import BATCH, FILED, REQUESTS, Shelf, Story, commitment

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"
ORIGIN = "log.expunge.example/desk"
AT = "2026-11-20T15:04:05Z"
REPORT_INDEX = 21
WITNESSED_AT = 1_795_187_100  # a minute after the report was logged
MODEL_FILES: Mapping[str, bytes] = {
    "config.json": b'{"hidden_size": 64}\n',
    "model.safetensors": bytes(range(256)) * 8,
    "tokenizer/tokenizer.json": b'{"model": {}}\n',
}


def signing_key(role: Role, number: int) -> SigningKey:
    """A key that every run of the tests makes again."""
    return SigningKey(role, Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


def hex_digest(text: str) -> str:
    """A digest that stands for something not at hand."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_digests(contents: Mapping[str, bytes]) -> dict[str, model.FileDigest]:
    """Digest and size of each file."""
    return {
        name: model.FileDigest(sha256=hashlib.sha256(raw).hexdigest(), size=len(raw))
        for name, raw in sorted(contents.items())
    }


BEFORE = file_digests({**MODEL_FILES, "model.safetensors": b"older weights"})


def estimate(value: float, low: float, high: float, n: int = 24) -> dict[str, Any]:
    """One estimate of a finding."""
    return {"value": value, "ci95": [low, high], "n": n}


def findings() -> list[dict[str, Any]]:
    """What a run that went well measures."""
    return [
        {
            "metric": "verbmem_f",
            "before": estimate(0.874, 0.831, 0.912),
            "after": estimate(0.213, 0.184, 0.245),
            "reference": estimate(0.205, 0.177, 0.236),
            "difference": estimate(0.008, -0.014, 0.031),
        },
        {
            "metric": "knowmem_r",
            "before": estimate(0.642, 0.611, 0.675),
            "after": estimate(0.631, 0.597, 0.662),
            "reference": estimate(0.638, 0.606, 0.671),
            "difference": estimate(-0.007, -0.031, 0.016),
        },
        {
            "metric": "privleak_auc",
            "before": estimate(0.981, 0.952, 0.997),
            "after": estimate(0.541, 0.463, 0.617),
            "reference": estimate(0.512, 0.438, 0.588),
            "difference": estimate(0.029, -0.058, 0.117),
        },
        {
            "metric": "forget_loss",
            "before": estimate(0.412, 0.371, 0.455),
            "after": estimate(2.871, 2.702, 3.044),
            "reference": estimate(2.903, 2.741, 3.069),
            "difference": estimate(-0.032, -0.141, 0.078),
        },
    ]


def policy_gates() -> list[gates.Gate]:
    """The gates of the tests' policy."""
    return [
        gates.Gate(metric="verbmem_f", direction="at_most", margin=0.05, minimum_n=10),
        gates.Gate(metric="knowmem_r", direction="at_least", margin=0.05, minimum_n=10),
        gates.Gate(metric="privleak_auc", direction="within", margin=0.15, minimum_n=10),
    ]


def bound(units: int) -> float:
    """The epsilon of the tests' mechanism for a group."""
    found = accountant.epsilon(sample_rate=0.1, noise_multiplier=4, steps=60, delta=1e-5, group=units)
    return found.epsilon


def certificate(units: int = 3) -> dict[str, Any]:
    """A certificate whose bound is exactly what the accountant computes."""
    return {
        "theorem": "Deleting a group of units from the input of a differentially private training run.",
        "unit": "data subject",
        "neighbours": "add or remove one unit",
        "points": 400,
        "epsilon": bound(units),
        "delta": 1e-5,
        "singleEpsilon": bound(1),
        "accountant": {
            "mechanism": "poisson_subsampled_gaussian",
            "sampleRate": 0.1,
            "noiseMultiplier": 4,
            "steps": 60,
            "clip": 1,
        },
        "unitsDeletedSinceBase": units,
        "unitsLeft": 7 - units,
        "epsilonLimit": 8,
        "seedCommitment": hex_digest("a secret"),
        "learned": {"startLoss": 5.51, "unigramLoss": 5.02, "baseLoss": 4.33, "margin": 0.2, "learned": True},
        "constants": [
            {"name": "sampleRate", "value": 0.1, "held": "enforced"},
            {"name": "noiseMultiplier", "value": 4.0, "held": "enforced"},
            {"name": "steps", "value": 60.0, "held": "enforced"},
            {"name": "clip", "value": 1.0, "held": "enforced"},
        ],
        "internalStateCovered": True,
        "audit": None,
    }


CIRCUMSTANCES: Mapping[str, Any] = {
    "reportId": "report-7f3a",
    "createdAt": "2026-11-20T15:03:00Z",
    "startedAt": "2026-11-20T14:10:00Z",
    "finishedAt": "2026-11-20T14:52:00Z",
    "verifiedAt": "2026-11-20T15:01:30Z",
    "requestBatch": {
        "batchId": "batch-41",
        "requests": 3,
        "subjects": 3,
        "records": 41,
        "commitmentRoot": log.commitment_root(bytes.fromhex(commitment(one)) for one in BATCH).hex(),
        "approvals": "unsigned",
        "ledgerRange": {"from": 0, "to": REPORT_INDEX},
        "accounted": [{"requestId": one, "state": state} for one, state in REQUESTS.items()],
    },
    "dataset": {
        "name": "support-tickets",
        "beforeDigest": hex_digest("dataset 1"),
        "afterDigest": hex_digest("dataset 2"),
        "removed": 41,
    },
    "method": {
        "rung": "npo",
        "name": "npo",
        "variant": "npo + kl",
        "parameters": {"beta": 0.1, "learning_rate": 1e-05, "epochs": 5, "retain_term": "kl"},
        "codeDigest": hex_digest("code"),
        "configDigest": hex_digest("configuration"),
        "environment": {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "threads": 2},
    },
    "guarantee": {
        "class": "empirical",
        "statement": "Evidence only: scores with intervals, and attacks that did not succeed.",
        "conditions": [],
        "certificate": None,
        "refused": None,
    },
    "plan": {"digest": hex_digest("plan"), "logIndex": 11},
    "limits": [
        "That a model no longer shows a text does not prove that nothing of it is left in the weights.",
        "Copies of the earlier model outside the controller's systems are not covered.",
        statement.UNSIGNED,
    ],
    "previousReportDigest": None,
    "unpublishedReports": [],
    "witnessed": False,
}


def attempts(results: list[dict[str, Any]], weights: str) -> list[dict[str, Any]]:
    """A gradient-ascent run that failed its first gate, and the run that was published."""
    contradicted = {"interval": [0.084, 0.142], "n": 24, "outcome": "contradicted"}
    return [
        {
            "attemptId": "attempt-1",
            "rung": "ga",
            "outcome": "gates_failed",
            "code": "gate_contradicted",
            "why": "The model still completes records word for word more often than the reference.",
            "weightsDigest": hex_digest("weights of attempt 1"),
            "logIndex": 17,
            "gates": [results[0] | contradicted, *results[1:]],
            "seconds": 741.2,
        },
        {
            "attemptId": "attempt-2",
            "rung": "npo",
            "outcome": "published",
            "code": None,
            "why": None,
            "weightsDigest": weights,
            "logIndex": 20,
            "gates": results,
            "seconds": 1316.8,
        },
    ]


@dataclass(kw_only=True)
class Desk:
    """An operator with a log and its keys; change a field to make a cheat."""

    log_key: SigningKey = field(default_factory=lambda: signing_key("log", 1))
    report_key: SigningKey = field(default_factory=lambda: signing_key("report", 2))
    receipt_key: SigningKey = field(default_factory=lambda: signing_key("receipt", 3))
    witness_key: SigningKey = field(default_factory=lambda: signing_key("witness", 4))
    approver_key: SigningKey | None = None
    witnessed: bool = False
    cosigned_at: int = WITNESSED_AT
    second: bool = False
    model_files: Mapping[str, bytes] = field(default_factory=lambda: dict(MODEL_FILES))

    def story(self, value: Mapping[str, Any]) -> Story:
        """The log before the report's own entry; `second` puts another report, and what it was about, before."""
        told = Story()
        for role, key in (("report", self.report_key), ("receipt", self.receipt_key)):
            told.add(log.KEY_REGISTERED, **registration(key, cast("Role", role)))
        told.add("version.published", modelId="model-1", number=1, digest=model.digest(BEFORE), reportDigest=None)
        if self.approver_key is not None:
            told.add(log.KEY_REGISTERED, **registration(self.approver_key, "approver"))
        if self.second:
            told.file("request-00")
            told.decide("request-00", "approved", self.approver_key, at=FILED)
            digest, key_of = hex_digest("earlier report"), key_id(self.report_key.public_key)
            told.since = told.add(log.REPORT_LOGGED, reportId="report-1", reportDigest=digest, keyId=key_of)
            told.add("version.published", modelId="model-2", number=2, reportDigest=digest)
            told.add("request.state", requestId="request-00", state="fulfilled")
        for request_id in REQUESTS:
            told.file(request_id)
        for request_id, state in REQUESTS.items():
            told.decide(request_id, state, self.approver_key)
        told.batch(value["attempts"], value["evidence"]["evidenceDigest"], value["policy"])
        return told

    def entries(self, predicate: Predicate | None = None) -> list[bytes]:
        """The log before the report's own entry, as the report tells it."""
        value = predicate or self.predicate()
        return self.story(value).entries

    def predicate(self) -> Predicate:
        """A report on an NPO run that followed a failed attempt."""
        results = [one.to_json() for one in gates.judge_all(policy_gates(), findings())]
        after = file_digests(self.model_files)
        evidence = hashlib.sha256(self.evidence(findings())).hexdigest()
        value = {
            **CIRCUMSTANCES,
            "model": {
                "name": "support-assistant",
                "modelId": "model-1",
                "before": {"version": 1, "digest": model.digest(BEFORE), "files": BEFORE},
                "after": {"version": 2, "digest": model.digest(after), "files": after},
            },
            "policy": {
                "name": "records-default",
                "digest": hex_digest("policy"),
                "ladder": ["ga", "npo", "retrain"],
                "reference": "retrained",
                "gates": [one.to_json() for one in policy_gates()],
            },
            "attempts": attempts(results, model.digest(after)),
            "evidence": {
                "suite": "muse",
                "suiteVersion": "1",
                "evidenceDigest": evidence,
                "findings": findings(),
            },
            "gates": results,
        }
        return self.settled(cast("Predicate", copy.deepcopy(value)))

    def settled(self, predicate: Predicate) -> Predicate:
        """The report with everything that follows from this desk's log as the report tells it."""
        value = cast("dict[str, Any]", copy.deepcopy(predicate))
        told = self.story(value)
        for attempt in value["attempts"]:
            attempt["logIndex"] = told.ended[attempt["attemptId"]]
        value["plan"]["logIndex"] = told.plan
        value["requestBatch"]["ledgerRange"] = {"from": told.since, "to": len(told.entries)}
        value["previousReportDigest"] = hex_digest("earlier report") if self.second else None
        if self.second:
            value["requestBatch"]["accounted"] = [
                {"requestId": "request-00", "state": "fulfilled"},
                *(one for one in value["requestBatch"]["accounted"] if one["requestId"] != "request-00"),
            ]
        if self.approver_key is not None:
            value["requestBatch"]["approvals"] = "signed"
            value["limits"] = [one for one in value["limits"] if one != statement.UNSIGNED]
        root = log.Log(origin=ORIGIN, entries=told.entries).root(told.seed)
        value["evidence"]["seedCheckpoint"] = {"size": told.seed, "root": root.hex()}
        value["evidence"]["seed"] = str(log.evaluation_seed(size=told.seed, root=root))
        return cast("Predicate", value)

    def certified(self, units: int = 3) -> Predicate:
        """A report on a certified run, with a gate that is too weak to say anything."""
        value = cast("dict[str, Any]", self.predicate())
        value["guarantee"] |= {
            "class": "certified",
            "statement": "An (epsilon, delta) bound for the group of all data subjects deleted since the base.",
            "conditions": ["The tokenizer was fitted on public text only."],
            "certificate": certificate(units),
        }
        value["method"] |= {"rung": "dp2", "name": "dp2", "variant": None}
        value["policy"]["ladder"] = ["ga", "npo", "dp2", "retrain"]
        value["attempts"][-1]["rung"] = "dp2"
        value["evidence"]["findings"][2]["difference"]["ci95"] = [-0.19, 0.24]
        return self.rejudged(cast("Predicate", value))

    def rejudged(self, predicate: Predicate) -> Predicate:
        """The report with gates and evidence digest that follow from its findings."""
        value = cast("dict[str, Any]", copy.deepcopy(predicate))
        policy_of = [gates.Gate.from_json(one) for one in value["policy"]["gates"]]
        results = [one.to_json() for one in gates.judge_all(policy_of, value["evidence"]["findings"])]
        value["gates"] = value["attempts"][-1]["gates"] = results
        raw = self.evidence(value["evidence"]["findings"])
        value["evidence"]["evidenceDigest"] = hashlib.sha256(raw).hexdigest()
        return self.reseeded(cast("Predicate", value))

    def reseeded(self, predicate: Predicate) -> Predicate:
        """The report with the seed of its own log, unless a test chose one that does not follow from any."""
        value, settled = copy.deepcopy(predicate), self.settled(predicate)["evidence"]
        told = value["evidence"]["seedCheckpoint"]
        seed = log.evaluation_seed(size=told["size"], root=bytes.fromhex(told["root"]))
        if told["size"] == settled["seedCheckpoint"]["size"] and value["evidence"]["seed"] == str(seed):
            value["evidence"] |= {"seed": settled["seed"], "seedCheckpoint": settled["seedCheckpoint"]}
        return value

    def evidence(self, found: list[dict[str, Any]]) -> bytes:
        """The evidence file for these findings."""
        return json.dumps({"version": 1, "findings": found}, indent=1).encode()

    def logged(self, predicate: Predicate, payload: bytes) -> bytes:
        """The report's own log entry."""
        return log.report_entry(
            at=AT,
            salt=f"{9:032x}",
            report_id=predicate["reportId"],
            payload=payload,
            key_id=key_id(self.report_key.public_key),
        )

    def files(
        self, predicate: Predicate | None = None, *, payload: bytes | None = None, raw: bool = False
    ) -> dict[str, bytes]:
        """The bundle's files; a statement that `build` would refuse is signed when `raw`, or given as `payload`."""
        predicate = self.reseeded(predicate or self.predicate())
        payload = payload or (raw_payload if raw else statement.build)(predicate)
        entries = [*self.entries(predicate), self.logged(predicate, payload)]
        return self.assemble(predicate, payload, entries=entries, report=len(entries) - 1, key=0)

    def assemble(
        self,
        predicate: Predicate,
        payload: bytes,
        *,
        entries: list[bytes],
        report: int,
        key: int,
    ) -> dict[str, bytes]:
        """The bundle's files over any log: which entries it has, and which of them are the report's and the key's."""
        whole = log.Log(origin=ORIGIN, entries=entries)
        checkpoint = self.sign_checkpoint(whole)
        try:
            page = html.page(payload)
        except VerificationError:
            page = b"A cheat's statement may not render; its bundle is made all the same."
        return {
            bundle.REPORT: dsse.sign(payload, payload_type=dsse.INTOTO, signer=self.report_key),
            bundle.REPORT_ENTRY: entries[report],
            bundle.REPORT_PROOF: whole.proof(report, checkpoint).encode(),
            bundle.KEY_ENTRY: entries[key],
            bundle.KEY_PROOF: whole.proof(key, checkpoint).encode(),
            bundle.EVIDENCE: self.evidence(cast("list[dict[str, Any]]", predicate["evidence"]["findings"])),
            bundle.PAGE: page,
            bundle.LEDGER: self.excerpt(predicate, whole, entries, checkpoint, report).format(),
        }

    def excerpt(
        self, predicate: Predicate, whole: log.Log, entries: list[bytes], checkpoint: str, report: int
    ) -> excerpt.Excerpt:
        """What the report speaks of, and older entries about its keys and its batch."""
        start = min(predicate["requestBatch"]["ledgerRange"]["from"], predicate["plan"]["logIndex"], report)
        older = [b'"key.re', *(one.encode() for one in BATCH)]
        singles = [index for index, raw in enumerate(entries[:start]) if any(one in raw for one in older)]
        return excerpt.build(Shelf(entries, whole, checkpoint), start=start, stop=report + 1, singles=singles)

    def sign_checkpoint(self, whole: log.Log) -> str:
        """The log's checkpoint, cosigned when the desk has a witness."""
        signed = whole.checkpoint(self.log_key)
        if self.witnessed:
            line = witness.cosign(signed, name="witness.example/w1", signer=self.witness_key, time=self.cosigned_at)
            signed = witness.add(signed, line)
        return signed

    def policy(self) -> str:
        """The trust policy that an auditor has from elsewhere."""
        vkey = log.vkey(ORIGIN, self.log_key.public_key)
        witnesses = []
        if self.witnessed:
            witnesses = [("w1", witness.vkey("witness.example/w1", self.witness_key.public_key))]
        return policy.format_policy(log_vkey=vkey, witnesses=witnesses)


def raw_payload(predicate: Predicate) -> bytes:
    """The payload of a statement whatever it says, as a cheat with the key would sign it."""
    files = predicate["model"]["after"]["files"]
    subjects = [{"name": name, "digest": {"sha256": one["sha256"]}} for name, one in sorted(files.items())]
    value: Any = {
        "_type": intoto.TYPE,
        "subject": subjects,
        "predicateType": statement.PREDICATE_TYPE,
        "predicate": predicate,
    }
    return rfc8785.dumps(value)


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write a bundle's files and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    return folder
