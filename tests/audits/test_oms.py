"""OpenSSF Model Signing: the published vectors, another program's verifier, and what may not pass."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from model_signing import verifying
from referencing import Registry, Resource

from audits import dsse, model, oms
from audits.errors import VerificationError
from audits.strict import load_json
from tests.audits.bundles import MODEL_FILES, VECTORS, file_digests, write

OMS = VECTORS / "oms-v1.0"
REAL = VECTORS / "dsse-intoto-model-signing"
published = pytest.mark.skipif(not OMS.is_dir(), reason="the shared vectors are not here")
NAME = "support-assistant-v2"
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
UNREADABLE = {  # what our own reader says of the published bundles; one signed by a bare key is what it reads
    "valid/key.bundle.json": "",
    "valid/certificate.bundle.json": "names no public key",
    "valid/sigstore.bundle.json": "names no public key",
    "invalid/empty.bundle.json": "not valid JSON",
    "invalid/missing-envelope.bundle.json": "holds no envelope",
    "invalid/missing-tlog-entries.bundle.json": "names no public key",
    "invalid/missing-verification-material.bundle.json": "names no public key",
    "invalid-payload/wrong-predicate.bundle.json": "not of the type of a signed model",
}


class ModelKey:
    """A P-256 key that every run of the tests makes again."""

    def __init__(self, number: int = 7) -> None:
        self.private = ec.derive_private_key(number, ec.SECP256R1())

    @property
    def public_key(self) -> bytes:
        """The uncompressed point."""
        return self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, message: bytes) -> bytes:
        """An ECDSA signature in DER, of either s."""
        return self.private.sign(message, ec.ECDSA(hashes.SHA256()))


KEY = ModelKey()
FILES = file_digests(MODEL_FILES)
BUNDLE = oms.build(name=NAME, files=FILES, signer=KEY)


def accepts(raw: bytes, *, name: str = NAME, files: dict[str, model.FileDigest] | None = None) -> bool:
    """Whether a bundle verifies."""
    try:
        oms.verify(raw, name=name, files=FILES if files is None else files, key=KEY.public_key)
    except VerificationError:
        return False
    return True


def schemas() -> dict[str, Draft202012Validator]:
    """The published schemas by their short names."""
    found = {path.name.partition(".")[0]: json.loads(path.read_text()) for path in (OMS / "schemas").iterdir()}
    registry: Registry[Any] = Registry().with_resources(
        (one["$id"], Resource.from_contents(one)) for one in found.values()
    )
    return {name: Draft202012Validator(one, registry=registry) for name, one in found.items()}


def keeps_schemas(raw: bytes) -> tuple[bool, bool]:
    """Whether a bundle keeps the bundle's schema, and its payload the statement's."""
    found, value = schemas(), json.loads(raw or b"null")
    whole = bool(found["bundle"].is_valid(value))
    if not whole:
        return False, False
    payload = json.loads(base64.b64decode(value["dsseEnvelope"]["payload"]))
    return True, bool(found["statement"].is_valid(payload))


@published
@pytest.mark.parametrize("path", UNREADABLE)
def test_vector_outcomes_of_the_published_bundles(path: str) -> None:
    """Each of the eight published bundles has the outcome against the published schemas that its folder names."""
    expected = {"valid": (True, True), "invalid": (False, False), "invalid-payload": (True, False)}

    assert keeps_schemas((OMS / path).read_bytes()) == expected[path.partition("/")[0]]


@published
@pytest.mark.parametrize(("path", "refusal"), UNREADABLE.items())
def test_vector_bundles_through_our_own_reader(path: str, refusal: str) -> None:
    """Our reader reads the published bundle of a bare key, and says of every other why it does not."""
    raw = (OMS / path).read_bytes()
    if refusal:
        with pytest.raises(VerificationError, match=refusal):
            oms.parse(raw)
    else:
        assert list(oms.parse(raw).files) == ["signme-1", "signme-2"]


@published
def test_vector_of_a_real_signature() -> None:
    """A signature that the format's own tool made (P-384) is over our encoding and over the files beside it."""
    folder = REAL / "v1.1.0-elliptic-key"
    found = oms.parse((folder / "model.sig").read_bytes())
    public = load_pem_public_key((REAL / "signing-key-pub.pem").read_bytes().partition(b"\n\n\n")[2])
    assert isinstance(public, ec.EllipticCurvePublicKey)

    public.verify(found.signature, dsse.pae(dsse.INTOTO, found.payload), ec.ECDSA(hashes.SHA384()))
    with pytest.raises(InvalidSignature):
        public.verify(found.signature, dsse.pae(dsse.INTOTO, found.payload + b" "), ec.ECDSA(hashes.SHA384()))
    assert found.files == {name: model.files(folder)[name]["sha256"] for name in ("signme-1", "signme-2")}
    assert found.hint == oms.hint(public)


@published
def test_our_bundle_keeps_the_published_schemas_vector() -> None:
    """What we write keeps the published schemas of bundle, envelope, statement and predicate."""
    assert keeps_schemas(BUNDLE) == (True, True)


def test_the_formats_own_tool_verifies_our_bundle(tmp_path: Path) -> None:
    """The tool `model_signing` verifies our bundle over the model's folder, and refuses it over a changed one."""
    folder = write(tmp_path / "model", MODEL_FILES)
    signature, key = tmp_path / "model.oms.sigstore.json", tmp_path / "model.pem"
    signature.write_bytes(oms.build(name=NAME, files=model.files(folder), signer=KEY))
    key.write_bytes(oms.pem(oms.public_key(KEY.public_key)))

    check = verifying.Config().use_elliptic_key_verifier(public_key=key).verify
    check(folder, signature)
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"config\.json"):
        check(folder, signature)


OTHER_FILES: dict[str, Callable[[Any], Any]] = {
    "added": lambda files: files | {"extra.json": files["config.json"]},
    "left out": lambda files: {name: one for name, one in files.items() if name != "config.json"},
    "swapped": lambda files: (
        files | {"config.json": files["model.safetensors"], "model.safetensors": files["config.json"]}
    ),
    "renamed": lambda files: {name.replace("config", "konfig"): one for name, one in files.items()},
}


@pytest.mark.parametrize("change", OTHER_FILES)
def test_other_files_than_the_signed_ones(change: str) -> None:
    """Files added, left out, swapped or renamed are noticed; the format's own digest would not notice the last."""
    assert not accepts(BUNDLE, files=OTHER_FILES[change](dict(FILES)))


def test_another_models_name_and_another_key() -> None:
    """A bundle is for one model and by one key."""
    assert accepts(BUNDLE)
    assert not accepts(BUNDLE, name="support-assistant-v3")
    assert not accepts(oms.build(name=NAME, files=FILES, signer=ModelKey(8)))


def test_the_other_value_of_s() -> None:
    """Of a signature's two forms only one is accepted."""
    value = load_json(BUNDLE)
    signature = oms.parse(BUNDLE).signature
    r, s = utils.decode_dss_signature(signature)
    other = base64.b64encode(utils.encode_dss_signature(r, ORDER - s)).decode()
    value["dsseEnvelope"]["signatures"][0]["sig"] = other

    assert not accepts(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def test_unsigned_matter() -> None:
    """Spacing, a key id or a field more is refused, for nobody signed them."""
    value = load_json(BUNDLE)
    value["dsseEnvelope"]["signatures"][0]["keyid"] = "another"

    assert not accepts(json.dumps(load_json(BUNDLE)).encode())
    assert not accepts(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def test_a_signer_that_signs_badly() -> None:
    """A signer whose signature is not its key's makes no bundle."""
    broken = ModelKey()
    broken.private = ec.derive_private_key(9, ec.SECP256R1())

    class Liar(ModelKey):
        def sign(self, message: bytes) -> bytes:
            return broken.sign(message)

    with pytest.raises(ValueError, match="does not sign as it should"):
        oms.build(name=NAME, files=FILES, signer=Liar())


@pytest.mark.parametrize("raw", [b"", b"\x04" + bytes(64), bytes(32)])
def test_keys_that_are_none(raw: bytes) -> None:
    """What is no point of P-256 is refused in a sentence."""
    with pytest.raises(VerificationError, match="public key"):
        oms.public_key(raw)


@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
def test_one_changed_byte(at: int, change: int) -> None:
    """No byte of a bundle can be changed."""
    assert not accepts(BUNDLE[:at] + bytes([BUNDLE[at] ^ change]) + BUNDLE[at + 1 :])
