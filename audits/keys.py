"""Signing keys: one key for one role, registered in the log before it signs.

Rules:

* A key has one role (`ROLES`) and, by its role, one algorithm (`audits.algorithms`). Its file says which role, and
  `load` refuses another one: a stolen receipt key must not be able to sign a report.
* The private key is a PKCS #8 PEM file, created with mode 0600 and never overwritten; with a passphrase it is
  encrypted (PBES2: PBKDF2-HMAC-SHA256 and AES-256-CBC, as OpenSSL reads it). The 2,048 rounds of that derivation do
  little for a short passphrase: at least `SHORTEST_PASSPHRASE` characters are asked for, best random ones.
* The line with the role stands outside the encryption. What binds it is the log: a key is registered for one role,
  and under another one nobody accepts it.
* A public key of low order is refused wherever a key comes in.

Where hardware keeps the key, an adapter with the two members of `Signer` stands in for `SigningKey`.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from audits import algorithms
from audits.algorithms import Algorithm
from audits.errors import VerificationError, expect, require
from audits.strict import decode_base64, encode_base64

Role = Literal["log", "report", "receipt", "witness", "model", "approver"]
ROLES: tuple[Role, ...] = get_args(Role)
SHORTEST_PASSPHRASE = 12
KEY_SIZE = algorithms.ED25519_SIZE
SIGNATURE_SIZE = 64
_ROLE_LINE = "Expunge-Role: "
_ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"
_LARGEST_FILE = 16 * 1024
_KEY_ID = re.compile(r"[0-9a-f]{64}")

# The optional second line of a log is ML-DSA-44; OpenSSF Model Signing wants an elliptic curve.
_ALGORITHMS: Mapping[str, tuple[Algorithm, ...]] = {"log": ("ed25519", "ml-dsa-44"), "model": ("ecdsa-p256",)}


class Signer(Protocol):
    """Whatever can sign with one key: a file, a PKCS #11 token, a signing service."""

    @property
    def public_key(self) -> bytes:
        """The raw public key, as `audits.algorithms` has it: 32 bytes of Ed25519, 65 of P-256."""

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`: 64 bytes of Ed25519 (RFC 8032), or ECDSA with SHA-256 in DER."""


class RoleSigner(Signer, Protocol):
    """A signer that knows what it may sign."""

    @property
    def role(self) -> Role:
        """Its one role."""

    @property
    def key_id(self) -> str:
        """SHA-256 of the raw public key, hex."""


class SigningKey:
    """A private key in memory, bound to its role: P-256 for `model`, Ed25519 for the others."""

    def __init__(self, role: Role, private: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
        """Bind `private` to `role`; `ValueError` when its algorithm is not the role's."""
        expect(role in ROLES, f"There is no key role {role!r}; there are {', '.join(ROLES)}.")
        name, self.public_key = _public(private)
        wanted = algorithm_of(role)
        expect(name == wanted, f"A {role} key is an {wanted} key.")
        self.role: Role = role
        self._private = private

    def __repr__(self) -> str:
        """Role and key id, never the key."""
        return f"SigningKey({self.role}, {self.key_id})"

    @property
    def key_id(self) -> str:
        """SHA-256 of the raw public key, hex."""
        return key_id(self.public_key)

    @property
    def fingerprint(self) -> str:
        """The key id as people compare it."""
        return fingerprint(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, deterministic in both algorithms (RFC 8032, RFC 6979)."""
        if isinstance(self._private, Ed25519PrivateKey):
            return self._private.sign(message)
        return self._private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def generate(role: Role) -> SigningKey:
    """A new key from the system's randomness."""
    curve = algorithm_of(role) == "ecdsa-p256"
    return SigningKey(role, ec.generate_private_key(ec.SECP256R1()) if curve else Ed25519PrivateKey.generate())


def to_pem(key: SigningKey, passphrase: str | None = None) -> bytes:
    """The key file's bytes: the role, then the PKCS #8 block, encrypted when there is a passphrase."""
    long = passphrase is None or len(passphrase) >= SHORTEST_PASSPHRASE
    expect(long, f"A passphrase has at least {SHORTEST_PASSPHRASE} characters.")
    protection = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase.encode())
    block = key._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)  # noqa: SLF001 - same module
    return f"{_ROLE_LINE}{key.role}\n".encode() + block


def is_encrypted(pem: bytes) -> bool:
    """Whether a key file's bytes need a passphrase."""
    return pem.partition(b"\n")[2].lstrip().startswith(_ENCRYPTED)


def from_pem(
    pem: bytes, role: Role, passphrase: str | None = None, *, make: Callable[[Any], SigningKey] | None = None
) -> SigningKey:
    """The key in `pem`, which must name `role` in its first line; the passphrase is for an encrypted one only.

    `make` takes the private key where the role has one of another algorithm than its own (`audits.mldsa`).
    """
    expect(role in ROLES, f"There is no key role {role!r}; there are {', '.join(ROLES)}.")
    first, _, block = pem.partition(b"\n")
    require(first == f"{_ROLE_LINE}{role}".encode(), f"The key file's first line is not '{_ROLE_LINE}{role}'.")
    secret = None
    if is_encrypted(pem):
        require(passphrase, f"The {role} key file is encrypted: give its passphrase.")
        secret = str(passphrase).encode()
    try:
        private: Any = load_pem_private_key(block, password=secret)
        return SigningKey(role, private) if make is None else make(private)
    except (ValueError, TypeError) as fault:
        locked = f"The passphrase does not open the {role} key file, or the file is damaged."
        plain = f"The key file holds no PKCS #8 private key for the role {role}."
        raise VerificationError(plain if secret is None else locked) from fault
    except Exception as fault:  # cryptography raises UnsupportedAlgorithm for curves it does not know
        raise VerificationError("The key file holds a key of an unknown kind.") from fault


def save(key: SigningKey, path: Path, passphrase: str | None = None) -> None:
    """Write the key file with mode 0600; `FileExistsError` when `path` exists, for a key is never overwritten."""
    content = to_pem(key, passphrase)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def load(
    path: Path, role: Role, passphrase: str | None = None, *, make: Callable[[Any], SigningKey] | None = None
) -> SigningKey:
    """The key in the file `path`, refused when it has another role or when every user of the machine can read it."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        require(stat.S_ISREG(status.st_mode), "The key file is not an ordinary file.")
        require(not status.st_mode & 0o007, "The key file is open to every user: chmod 600 it, and replace the key.")
        require(status.st_size <= _LARGEST_FILE, "The key file is too large to be one.")
        return from_pem(file.read(), role, passphrase, make=make)


def key_id(public_key: bytes) -> str:
    """SHA-256 of the raw public key, hex."""
    return hashlib.sha256(public_key).hexdigest()


def algorithm_of(role: Role) -> Algorithm:
    """The algorithm in which a role's own key signs."""
    return _of_role(role)[0]


def is_key_id(value: object) -> bool:
    """Whether `value` has the form of a key id."""
    return isinstance(value, str) and _KEY_ID.fullmatch(value) is not None


def fingerprint(public_key: bytes) -> str:
    """The key id in eight groups of eight digits, as people compare it over a telephone."""
    digits = key_id(public_key)
    return " ".join(digits[start : start + 8] for start in range(0, len(digits), 8))


def check_public_key(public_key: bytes) -> None:
    """Refuse what is not 32 bytes, or one of the 14 encodings of a point of low order."""
    algorithms.check_ed25519(public_key)


def verify(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check an Ed25519 signature (RFC 8032, section 5.1.7), on a key that `check_public_key` accepts."""
    check_public_key(public_key)
    require(len(signature) == SIGNATURE_SIZE, "An Ed25519 signature has 64 bytes.")
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError) as fault:
        raise VerificationError("The signature is not this key's signature over these bytes.") from fault


@dataclass(frozen=True, kw_only=True, slots=True)
class Registration:
    """What a `key.registered` entry says, checked."""

    role: Role
    algorithm: Algorithm
    public_key: bytes
    key_id: str


def registration(key: Signer, role: Role) -> dict[str, str]:
    """What the log entry `key.registered` says of a key, whose algorithm is the role's unless it says another."""
    own = getattr(key, "role", role)
    expect(own == role, f"This key has the role {own}, not {role}.")
    algorithm = getattr(key, "algorithm", algorithm_of(role))
    return register_public(key.public_key, role=role, algorithm=algorithm)


def register_public(public_key: bytes, *, role: Role, algorithm: Algorithm) -> dict[str, str]:
    """What the log entry `key.registered` says of a public key whose private half somebody else holds."""
    data = {
        "role": role,
        "algorithm": algorithm,
        "publicKey": encode_base64(public_key),
        "keyId": key_id(public_key),
    }
    read_registration(data)
    return data


def read_registration(data: Mapping[str, Any]) -> Registration:
    """The key that a `key.registered` entry registers: known role, the role's algorithm, an acceptable key."""
    require(set(data) == {"role", "algorithm", "publicKey", "keyId"}, "The key registration has other fields.")
    role, algorithm = data["role"], data["algorithm"]
    require(role in ROLES, "The key registration names an unknown role.")
    known = _of_role(role)
    require(algorithm in known, f"The registered {role} key's algorithm is not {' or '.join(known)}.")
    require(isinstance(data["publicKey"], str), "The registered key is not text.")
    public_key = decode_base64(data["publicKey"], "The registered key")
    algorithms.check(algorithm, public_key)
    require(data["keyId"] == key_id(public_key), "The registered key id is not the key's digest.")
    return Registration(role=role, algorithm=algorithm, public_key=public_key, key_id=data["keyId"])


def parse_registration(data: Mapping[str, Any], role: Role) -> bytes:
    """The raw public key that a `key.registered` entry registers for `role`."""
    found = read_registration(data)
    require(found.role == role, f"The registered key is not a {role} key.")
    return found.public_key


def _of_role(role: Role) -> tuple[Algorithm, ...]:
    """The algorithms that a role's keys may have."""
    return _ALGORITHMS.get(role, ("ed25519",))


def _public(private: object) -> tuple[Algorithm, bytes]:
    """Algorithm and raw public key of a private key; `ValueError` when no role has such a key."""
    if isinstance(private, Ed25519PrivateKey):
        return "ed25519", private.public_key().public_bytes_raw()
    if isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, ec.SECP256R1):
        return "ecdsa-p256", private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    raise ValueError("No role has a key of this algorithm.")
