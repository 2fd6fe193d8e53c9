"""The parsers and checks of the verifier, each on its own: notes, proofs, policies, envelopes, entries, trees."""

import json
from collections.abc import Callable, Hashable
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audits import (
    approval,
    checkpoint,
    dsse,
    excerpt,
    intoto,
    log,
    merkle,
    note,
    oms,
    opening,
    policy,
    proof,
    register,
    statement,
    strict,
    witness,
)  # fmt: skip
from audits.errors import VerificationError
from audits.render import html
from tests.audits.bundles import AT, MODEL_FILES, ORIGIN, WITNESSED_AT, Desk, file_digests, hex_digest, signing_key
from tests.fuzz.target import Target

DESK = Desk(witnessed=True)
ENTRIES = [*DESK.entries(), *(log.entry(type="x.y", at=AT, salt=f"{n:032x}", data={"n": n}) for n in range(9))]
LOG = log.Log(origin=ORIGIN, entries=ENTRIES)
SIGNED = DESK.sign_checkpoint(LOG)
STATE = checkpoint.peek(SIGNED)
POLICY = policy.parse(DESK.policy())
VKEY = note.parse_vkey(log.vkey(ORIGIN, DESK.log_key.public_key))
WITNESS = note.parse_vkey(witness.vkey("witness.example/w1", DESK.witness_key.public_key))
APPROVER, REQUEST, COMMITMENT = signing_key("approver", 5), "request-01", hex_digest("commitment")
MODEL = "support-assistant"
FILES = file_digests(MODEL_FILES)
PAYLOADS = tuple(statement.build(one) for one in (Desk().predicate(), Desk().certified()))


class _ModelKey:
    """A P-256 key that every run makes again."""

    private = ec.derive_private_key(7, ec.SECP256R1())
    public_key = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, message: bytes) -> bytes:
        """An ECDSA signature in DER."""
        return self.private.sign(message, ec.ECDSA(hashes.SHA256()))


MODEL_KEY = _ModelKey()


def _note(raw: bytes) -> Hashable:
    opened = note.open_note(raw, [VKEY, WITNESS])
    signed = {(one.key.name, one.time) for one in opened.verified}
    assert signed <= {(VKEY.name, None), (WITNESS.name, WITNESSED_AT)}
    return opened.text


def _policy(raw: bytes) -> Hashable:
    found = policy.parse(raw)
    assert found.logs
    return None


def _evaluated(raw: bytes) -> Hashable:
    trust = policy.evaluate(POLICY, raw)
    return trust.checkpoint, trust.level, trust.witnesses


def _proof(raw: bytes) -> Hashable:
    found, trust = proof.verify(POLICY, raw, ENTRIES[3])
    return found.index, trust.checkpoint, trust.level


def _vkey(raw: bytes) -> Hashable:
    text = raw.decode("utf-8", "replace")
    assert note.parse_vkey(text).format() == text
    return None


def _witness_request(raw: bytes) -> Hashable:
    request = witness.parse_request(raw)
    found = witness.authenticate(request, {ORIGIN: [VKEY]})
    older = checkpoint.Checkpoint(origin=ORIGIN, size=5, root=LOG.root(5))
    witness.require_extended(older, found, request)
    return found


def _strict(raw: bytes) -> Hashable:
    value = strict.load_json(raw)
    json.dumps(value, allow_nan=False).encode()
    return None


def _entry(raw: bytes) -> Hashable:
    found = log.parse_entry(raw)
    register.Register().apply(0, found)
    return None


def _envelope(raw: bytes) -> Hashable:
    payload = dsse.verify_ours(raw, payload_type=dsse.INTOTO, public_key=DESK.report_key.public_key)
    return payload, raw


def _lenient(raw: bytes) -> Hashable:
    return dsse.verify(raw, payload_type=dsse.INTOTO, public_key=DESK.report_key.public_key)


def _statement(raw: bytes) -> Hashable:
    intoto.parse(raw)
    statement.parse(raw)
    return None


def _page(raw: bytes) -> Hashable:
    page = html.page(raw).lower()
    assert b"<script" not in page
    assert b"\x1b" not in page
    return None


def _approval(raw: bytes) -> Hashable:
    data = _object(raw)
    approval.verify(data, APPROVER.public_key, request_id=REQUEST, commitment=COMMITMENT)
    return str(data["statement"])


def _excerpt(raw: bytes) -> Hashable:
    found = excerpt.parse(raw)
    excerpt.require_included(found, STATE)
    shown = [(one.index, one.entry) for one in found.singles] + list(enumerate(found.entries, start=found.start))
    assert all(ENTRIES[index] == entry for index, entry in shown)
    assert [index for index, _ in found.parsed()] == [index for index, _ in shown]
    return None


def _opening(raw: bytes) -> Hashable:
    opening.verify(raw, request_id=REQUEST, committed=opening.commitment(bytes(32), opening.canonical(IDENTIFIERS)))
    return None


def _model(raw: bytes) -> Hashable:
    oms.verify(raw, name=MODEL, files=FILES, key=MODEL_KEY.public_key)
    return oms.parse(raw).payload


def _inclusion(raw: bytes) -> Hashable:
    told = _object(raw)
    leaf, path = _hash(told["leaf"]), _hashes(told["proof"])
    merkle.verify_inclusion(leaf=leaf, index=_index(told["index"]), size=LOG.size, proof=path, root=LOG.root())
    return told["index"], leaf, path


def _consistency(raw: bytes) -> Hashable:
    told = _object(raw)
    size, root, path = _index(told["size"]), _hash(told["root"]), _hashes(told["proof"])
    merkle.verify_consistency(size1=size, size2=LOG.size, root1=root, root2=LOG.root(), proof=path)
    return size, root, path


def _object(raw: bytes) -> dict[str, Any]:
    """JSON arguments, with the fields that the functions under test always have."""
    value = strict.load_json(raw)
    if not isinstance(value, dict) or not {"leaf", "size", "statement"} & set(value):
        raise VerificationError("No arguments.")
    wanted = {"leaf": {"leaf", "proof", "index"}, "size": {"size", "proof", "root"}}
    if any(first in value and not fields <= set(value) for first, fields in wanted.items()):
        raise VerificationError("Too few arguments.")
    return value


def _index(value: object) -> int:
    if not isinstance(value, int):
        raise VerificationError("No number.")
    return value


def _hash(value: object) -> bytes:
    return strict.decode_base64(value if isinstance(value, str) else "?", "A hash")


def _hashes(value: object) -> tuple[bytes, ...]:
    return tuple(_hash(one) for one in value) if isinstance(value, list) else ()


def _told(**fields: Any) -> bytes:  # noqa: ANN401 - JSON
    """Arguments as JSON, hashes in base64."""
    return json.dumps(fields, default=strict.encode_base64).encode()


def _paths() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Good inclusion and consistency proofs in this log."""
    tree = merkle.Tree(map(merkle.leaf_hash, ENTRIES))
    inclusion = (
        _told(leaf=merkle.leaf_hash(ENTRIES[n]), index=n, proof=tree.inclusion_proof(n)) for n in range(tree.size)
    )
    consistency = (_told(size=n, root=tree.root(n), proof=tree.consistency_proof(n)) for n in range(1, tree.size + 1))
    return tuple(inclusion), tuple(consistency)


class _Source:
    """The log as an excerpt is cut from it."""

    tree = merkle.Tree(map(merkle.leaf_hash, ENTRIES))

    def entries(self, start: int, stop: int) -> list[bytes]:
        """The entries [start, stop)."""
        return ENTRIES[start:stop]

    def range_proof(self, start: int, stop: int) -> merkle.RangeProof:
        """The subtrees beside them."""
        return self.tree.range_proof(start, stop)

    def proof(self, index: int) -> str:
        """One entry's `.tlog-proof`."""
        return LOG.proof(index, SIGNED)


IDENTIFIERS = {"name": "N", "email": "e@example.org", "identifiers": ["1"], "statement": "s"}
_ENVELOPES = tuple(dsse.sign(one, payload_type=dsse.INTOTO, signer=DESK.report_key) for one in PAYLOADS)


def _approvals() -> tuple[bytes, ...]:
    raw = approval.statement(request_id=REQUEST, commitment=COMMITMENT, approved_at=AT)
    return (json.dumps(approval.sign(raw, APPROVER)).encode(),)


def _witness_requests() -> tuple[bytes, ...]:
    path = tuple(LOG.consistency_proof(5))
    return (witness.Request(old=5, proof=path, checkpoint=SIGNED).format().encode(),)


def _excerpts() -> tuple[bytes, ...]:
    return tuple(
        excerpt.build(_Source(), start=start, stop=stop, singles=range(0, start, 3)).format()
        for start, stop in ((0, 15), (4, 9), (6, 15), (14, 15))
    )


def targets() -> list[Target]:
    """All of them, with good inputs."""
    inclusion, consistency = _paths()
    logged = tuple(ENTRIES)
    note_, vkeys = (SIGNED.encode(),), (VKEY.format().encode(), WITNESS.format().encode())
    proofs = (LOG.proof(3, SIGNED).encode(),)
    rows: list[tuple[str, tuple[bytes, ...], Callable[[bytes], Hashable], int]] = [
        ("note", note_, _note, 70),
        ("checkpoint", note_, _evaluated, 70),
        ("vkey", vkeys, _vkey, 40),
        ("policy", (DESK.policy().encode(),), _policy, 40),
        ("proof", proofs, _proof, 80),
        ("inclusion", inclusion, _inclusion, 70),
        ("consistency", consistency, _consistency, 70),
        ("witness request", _witness_requests(), _witness_request, 60),
        ("json", (*PAYLOADS, *logged, *_ENVELOPES), _strict, 60),
        ("entry", logged, _entry, 60),
        ("envelope", _ENVELOPES, _envelope, 70),
        ("lenient envelope", _ENVELOPES, _lenient, 50),
        ("approval", _approvals(), _approval, 60),
        ("excerpt", _excerpts(), _excerpt, 60),
        ("model signature", (oms.build(name=MODEL, files=FILES, signer=MODEL_KEY),), _model, 50),
        ("statement", PAYLOADS, _statement, 40),
        ("page", PAYLOADS, _page, 20),
        (
            "opening",
            (opening.build(request_id=REQUEST, key=bytes(32), identifiers=IDENTIFIERS).encode(),),
            _opening,
            30,
        ),
    ]
    return [Target(name=name, inputs=inputs, judge=judge, share=share) for name, inputs, judge, share in rows]
