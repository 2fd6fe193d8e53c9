"""A key in a PKCS #11 token (a hardware module, or SoftHSM) behind the same two members as a key file.

Named as in RFC 7512, with the module as a query attribute:

    pkcs11:token=expunge;object=log?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/run/secrets/pin

* The PIN stands in a file (`pin-source`) or in EXPUNGE_TOKEN_PIN; never in the name, which ends up in settings.
* Ed25519 needs a token with CKM_EDDSA (PKCS #11 3.0; SoftHSM 2.6 has it); P-256 needs CKM_ECDSA over a digest.
* Each signature is a session of its own and is verified before it leaves: a token that signs with another key, or
  over another digest, publishes nothing. A forked process opens the module anew, as the standard asks.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from pydantic import SecretStr

from audits import algorithms, keys
from audits.errors import VerificationError
from audits.keys import Role
from compliance.errors import InvalidInputError, UnavailableError

_SCHEME = "pkcs11:"
_HALF = 32
_LOCK = threading.Lock()
# Key type, mechanism, and the curve as a DER object identifier (RFC 8410, section 3; RFC 5480, section 2.1.1.1).
_KINDS = {
    "ed25519": ("EC_EDWARDS", "EC_EDWARDS_KEY_PAIR_GEN", bytes.fromhex("06032b6570")),
    "ecdsa-p256": ("EC", "EC_KEY_PAIR_GEN", bytes.fromhex("06082a8648ce3d030107")),
}
_OPENED: dict[str, int] = {}
"""In which process each module was opened last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a key lies."""

    module: str
    token: str
    label: str
    pin_source: str


def parse(uri: str) -> Place:
    """The place a `pkcs11:` URI names; InvalidInputError for what it lacks or may not have."""
    path, _, query = uri.removeprefix(_SCHEME).partition("?")
    found = _attributes(path, ";") | _attributes(query, "&")
    known = {"token", "object", "module-path", "pin-source"}
    missing = {"token", "object", "module-path"} - set(found)
    if not uri.startswith(_SCHEME) or missing or set(found) - known:
        message = (
            "a token's key is named pkcs11:token=NAME;object=LABEL?module-path=/path/of/module.so, with "
            "&pin-source=/path/of/pin where a file has the PIN; mend the setting"
        )
        raise InvalidInputError(message, code="bad-token-uri")
    return Place(
        module=found["module-path"],
        token=found["token"],
        label=found["object"],
        pin_source=found.get("pin-source", "").removeprefix("file:"),
    )


class TokenKey:
    """One role's key in a token; UnavailableError when the token does not answer as it should."""

    def __init__(self, role: Role, uri: str, *, pin: SecretStr | None) -> None:
        """The key that `uri` names; nothing is opened yet."""
        self.role: Role = role
        self._place = parse(uri)
        self._pin = pin
        self._public: bytes | None = None

    def __repr__(self) -> str:
        """Role and label, no PIN."""
        return f"TokenKey({self.role}, {self._place.label})"

    @property
    def key_id(self) -> str:
        """SHA-256 of the raw public key, hex."""
        return keys.key_id(self.public_key)

    @property
    def public_key(self) -> bytes:
        """The raw public key, read from the token once."""
        if self._public is None:
            with self._session() as session:
                self._public = self._read(session)
        return self._public

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, made in the token and verified here."""
        public_key = self.public_key
        with self._session() as session:
            signature = self._sign(session, message)
        try:
            if keys.algorithm_of(self.role) == "ed25519":
                keys.verify(public_key, signature, message)
            else:
                point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
                point.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except (VerificationError, InvalidSignature) as fault:
            raise self._failed("signed with another key than the one it shows") from fault
        return signature

    def generate(self) -> None:
        """Make the key in the token, where it stays (CKA_EXTRACTABLE false, the library's default); refuse a second."""
        import pkcs11  # noqa: PLC0415 - as in `_session`

        kind, mechanism, curve = _KINDS[keys.algorithm_of(self.role)]
        with self._session(writing=True) as session:
            if list(session.get_objects({pkcs11.Attribute.LABEL: self._place.label})):
                raise self._failed(f"has an object named '{self._place.label}' already")
            terms = {pkcs11.Attribute.EC_PARAMS: curve}
            domain = session.create_domain_parameters(pkcs11.KeyType[kind], terms, local=True)
            domain.generate_keypair(mechanism=pkcs11.Mechanism[mechanism], store=True, label=self._place.label)

    def _read(self, session: Any) -> bytes:  # noqa: ANN401 - the library is loaded late
        import pkcs11  # noqa: PLC0415 - as in `_session`

        found = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=self._place.label)
        point = bytes(found[pkcs11.Attribute.EC_POINT])
        sizes = (algorithms.ED25519_SIZE, algorithms.P256_SIZE)
        # PKCS #11 wants the point in a DER octet string; some tokens leave that away.
        raw = point if len(point) in sizes else point[2:]
        try:
            keys.register_public(raw, role=self.role, algorithm=keys.algorithm_of(self.role))
        except VerificationError as fault:
            raise self._failed(
                f"holds no {keys.algorithm_of(self.role)} key, which the role {self.role} asks for"
            ) from fault
        return raw

    def _sign(self, session: Any, message: bytes) -> bytes:  # noqa: ANN401 - the library is loaded late
        import pkcs11  # noqa: PLC0415 - as in `_session`

        private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=self._place.label)
        if keys.algorithm_of(self.role) == "ed25519":
            return bytes(private.sign(message, mechanism=pkcs11.Mechanism.EDDSA))
        pair = bytes(private.sign(sha256(message).digest(), mechanism=pkcs11.Mechanism.ECDSA))
        return encode_dss_signature(int.from_bytes(pair[:_HALF], "big"), int.from_bytes(pair[_HALF:], "big"))

    @contextmanager
    def _session(self, *, writing: bool = False) -> Iterator[Any]:
        """A session with the token, alone in this process: the module is not told to guard itself against threads."""
        import pkcs11  # noqa: PLC0415 - a desk without a token needs no such module

        with _LOCK:
            try:
                module = pkcs11.lib(self._place.module)
                if _OPENED.setdefault(self._place.module, os.getpid()) != os.getpid():
                    module.reinitialize()
                    _OPENED[self._place.module] = os.getpid()
                token = module.get_token(token_label=self._place.token)
                with token.open(user_pin=self._user_pin(), rw=writing) as session:
                    yield session
            except (pkcs11.PKCS11Error, OSError, RuntimeError) as fault:
                raise self._failed(f"did not answer ({type(fault).__name__})") from fault

    def _user_pin(self) -> str:
        if self._place.pin_source:
            return Path(self._place.pin_source).read_text(encoding="utf-8").strip()
        return "" if self._pin is None else self._pin.get_secret_value()

    def _failed(self, what: str) -> UnavailableError:
        message = f"the token '{self._place.token}' with the {self.role} key {what}; check the setting and the token"
        return UnavailableError(message, code="token")


def _attributes(text: str, separator: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(separator) if part)
    return {name: unquote(value) for name, _, value in pairs}
