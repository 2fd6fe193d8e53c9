"""OpenSSF Model Signing v1.0: every file of a model by name and digest, in a form that other people's tools verify.

    payload   = in-toto Statement v1; one subject, whose digest is SHA-256 over the files' raw digests in name order
    envelope  = DSSE with ECDSA P-256 and SHA-256, DER signature
    bundle    = Sigstore bundle v0.3 JSON; the hint is SHA-256 (hex) of the public key's PEM text

Rules:

* Every file counts. `ignore_paths` is never written and never accepted: what a signature leaves out (the format's
  own tool leaves out `.git` and its like by default) can be exchanged under it.
* The subject's digest binds no names and no sizes, so nothing here rests on it: `verify` compares every resource with
  the files that the caller knows from elsewhere, which is the report.
* One form. The bundle is compared byte for byte with the one that `build` would write around its signature, and of
  the two values of s that ECDSA allows only the smaller is written and accepted. So nothing unsigned can be changed.

Ed25519 would be refused by the format's tool, which knows elliptic curves of the NIST kind only.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audits import algorithms, dsse, intoto, keys
from audits.errors import VerificationError, expect, require
from audits.model import FileDigest
from audits.strict import encode_base64, load_json

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_BYTES = 16 * 1024 * 1024
_SERIALIZATION: Mapping[str, Any] = {"allow_symlinks": False, "hash_type": "sha256", "method": "files"}
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256 (SEC 2, section 2.4.2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """What a bundle says, of which nothing is verified yet."""

    name: str
    files: Mapping[str, str]
    hint: str
    payload: bytes
    signature: bytes


def build(*, name: str, files: Mapping[str, FileDigest], signer: keys.Signer) -> bytes:
    """The bundle over `files` of the model called `name`; `ValueError` when `signer` does not sign as it should."""
    expect(name and files, "A signed model has a name and at least one file.")
    payload = _payload(name, {path: one["sha256"] for path, one in files.items()})
    key = public_key(signer.public_key)
    signature = _smaller(signer.sign(dsse.pae(dsse.INTOTO, payload)))
    raw = _bundle(payload, hint(key), signature)
    try:
        verify(raw, name=name, files=files, key=signer.public_key)
    except VerificationError as fault:
        raise ValueError(f"The model's signer does not sign as it should. {fault}") from fault
    return raw


def verify(raw: bytes, *, name: str, files: Mapping[str, FileDigest], key: bytes) -> None:
    """Refuse a bundle that is not `key`'s signature, in our one form, over exactly these files of the model `name`."""
    found = parse(raw)
    expected = {path: one["sha256"] for path, one in files.items()}
    changed = sorted(path for path in expected.keys() | found.files if expected.get(path) != found.files.get(path))
    require(not changed, f"The model's signature is over other files: {', '.join(changed[:5])}.")
    require(found.name == name, "The model's signature names another model.")
    require(found.payload == _payload(name, expected), "The model's signature is not over our form of the statement.")
    public = public_key(key)
    require(found.hint == hint(public), "The model's signature names another key.")
    try:
        public.verify(found.signature, dsse.pae(dsse.INTOTO, found.payload), ec.ECDSA(SHA256()))
    except InvalidSignature as fault:
        raise VerificationError("The model's signature is not by the expected key.") from fault
    require(_smaller(found.signature) == found.signature, "The model's signature is not in its one form.")
    require(_bundle(found.payload, found.hint, found.signature) == raw, "The model's signature holds unsigned matter.")


def parse(raw: bytes) -> Signed:
    """What a bundle signed by a bare key says (any tool's, v1.0, whole files with SHA-256); nothing is verified."""
    value = load_json(raw, what="The model's signature", max_bytes=MAX_BYTES)
    require(isinstance(value, dict), "The model's signature is not a JSON object.")
    kind, material = value.get("mediaType"), value.get("verificationMaterial")
    require(kind == MEDIA_TYPE, "The model's signature is no Sigstore bundle of version 0.3.")
    known = material.get("publicKey") if isinstance(material, dict) else None
    named = known.get("hint") if isinstance(known, dict) else None
    require(isinstance(named, str), "The model's signature names no public key.")
    envelope = value.get("dsseEnvelope")
    require(isinstance(envelope, dict), "The model's signature holds no envelope.")
    payload_type, payload, signatures = dsse.parse(rfc8785.dumps(envelope))
    require(payload_type == dsse.INTOTO, "The model's signature is not over an in-toto statement.")
    require(len(signatures) == 1, "The model's signature is more than one.")
    name, files = _manifest(payload)
    return Signed(name=name, files=files, hint=str(named), payload=payload, signature=signatures[0][1])


def public_key(raw: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key in the form in which `audits.algorithms` has it."""
    algorithms.check_p256(raw)
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)


def pem(key: ec.EllipticCurvePublicKey) -> bytes:
    """The public key as other tools read it."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def hint(key: ec.EllipticCurvePublicKey) -> str:
    """How a bundle names its key: SHA-256 of the PEM text, hex."""
    return hashlib.sha256(pem(key)).hexdigest()


def root(digests: Mapping[str, str]) -> str:
    """The subject's digest: SHA-256 over the raw digests in the order of their names, hex."""
    return hashlib.sha256(b"".join(bytes.fromhex(one) for _, one in sorted(digests.items()))).hexdigest()


def _payload(name: str, digests: Mapping[str, str]) -> bytes:
    resources = [{"algorithm": "sha256", "digest": one, "name": path} for path, one in sorted(digests.items())]
    value: dict[str, Any] = {
        "_type": intoto.TYPE,
        "subject": [{"name": name, "digest": {"sha256": root(digests)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"resources": resources, "serialization": dict(_SERIALIZATION)},
    }
    return rfc8785.dumps(value)


def _bundle(payload: bytes, named: str, signature: bytes) -> bytes:
    envelope: dict[str, Any] = {
        "payload": encode_base64(payload),
        "payloadType": dsse.INTOTO,
        "signatures": [{"keyid": "", "sig": encode_base64(signature)}],
    }
    material: dict[str, Any] = {"publicKey": {"hint": named}, "tlogEntries": []}
    return rfc8785.dumps({"mediaType": MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


def _manifest(payload: bytes) -> tuple[str, dict[str, str]]:
    """Name of the model, and digest by file; what is not whole files under SHA-256 is refused."""
    statement = intoto.parse(payload)
    require(statement.predicate_type == PREDICATE_TYPE, "The statement is not of the type of a signed model.")
    require(len(statement.subjects) == 1, "The statement is not about one model.")
    predicate, subject = statement.predicate or {}, statement.subjects[0]
    serialization: Any = predicate.get("serialization")
    resources: Any = predicate.get("resources")
    require(isinstance(serialization, dict), "The signed model does not say how its files were read.")
    require(isinstance(resources, list) and resources, "The signed model lists no file.")
    told = {key: serialization.get(key) for key in _SERIALIZATION}
    require(told == _SERIALIZATION, "The signed model's files were not read whole, under SHA-256 and without links.")
    files = dict(_resource(one) for one in resources)
    require(len(files) == len(resources), "The signed model names one file twice.")
    require(subject.digest.get("sha256") == root(files), "The signed model's digest does not follow from its files.")
    return subject.name or "", files


def _resource(value: Any) -> tuple[str, str]:  # noqa: ANN401 - any JSON value
    require(isinstance(value, dict), "A file of the signed model is not a JSON object.")
    name, digest = value.get("name"), value.get("digest")
    require(isinstance(name, str) and name, "A file of the signed model has no name.")
    require(value.get("algorithm") == "sha256", "A file of the signed model is not under SHA-256.")
    proper = isinstance(digest, str) and len(digest) == hashlib.sha256().digest_size * 2
    require(proper and set(digest) <= set("0123456789abcdef"), "A file of the signed model has no proper digest.")
    return str(name), str(digest)


def _smaller(signature: bytes) -> bytes:
    """The signature with the smaller of its two values of s, in DER."""
    try:
        r, s = utils.decode_dss_signature(signature)
    except ValueError as fault:
        raise VerificationError("The model's signature is not in DER.") from fault
    return utils.encode_dss_signature(r, min(s, _ORDER - s))
