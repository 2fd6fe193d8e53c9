"""Ed25519 keys: one key for one role, registered in the log before it signs.

Rules:

* A key has one role (`ROLES`) and, by its role, one algorithm (`audits.algorithms`). Its file says which role, and
  `load` refuses another one: a stolen receipt key must not be able to sign a report.
* The private key is a PKCS #8 PEM file, created with mode 0600 and never overwritten.
* A public key of low order is refused wherever a key comes in.

Where hardware keeps the key, an adapter with the two members of `Signer` stands in for `SigningKey`.
"""

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from audits import algorithms
from audits.algorithms import Algorithm
from audits.errors import VerificationError, expect, require
from audits.strict import decode_base64, encode_base64

Role = Literal["log", "report", "receipt", "witness", "model", "approver"]
ROLES: tuple[Role, ...] = get_args(Role)
KEY_SIZE = algorithms.ED25519_SIZE
SIGNATURE_SIZE = 64
_ROLE_LINE = "Expunge-Role: "
_LARGEST_FILE = 16 * 1024
_KEY_ID = re.compile(r"[0-9a-f]{64}")

# The optional second line of a log is ML-DSA-44; OpenSSF Model Signing wants an elliptic curve.
_ALGORITHMS: Mapping[str, tuple[Algorithm, ...]] = {"log": ("ed25519", "ml-dsa-44"), "model": ("ecdsa-p256",)}


class Signer(Protocol):
    """Whatever can sign with one Ed25519 key: a file, a PKCS #11 token, a signing service."""

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature over `message`, 64 bytes."""


class SigningKey:
    """A private key in memory, bound to its role."""

    def __init__(self, role: Role, private: Ed25519PrivateKey) -> None:
        """Bind `private` to `role`."""
        expect(role in ROLES, f"There is no key role {role!r}; there are {', '.join(ROLES)}.")
        self.role: Role = role
        self.public_key: bytes = private.public_key().public_bytes_raw()
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
        """The Ed25519 signature over `message` (RFC 8032, deterministic)."""
        return self._private.sign(message)


def generate(role: Role) -> SigningKey:
    """A new key from the system's randomness."""
    return SigningKey(role, Ed25519PrivateKey.generate())


def to_pem(key: SigningKey) -> bytes:
    """The key file's bytes: the role, then the unencrypted PKCS #8 block."""
    block = key._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # noqa: SLF001 - same module
    return f"{_ROLE_LINE}{key.role}\n".encode() + block


def from_pem(pem: bytes, role: Role) -> SigningKey:
    """The key in `pem`, which must name `role` in its first line."""
    expect(role in ROLES, f"There is no key role {role!r}; there are {', '.join(ROLES)}.")
    first, _, block = pem.partition(b"\n")
    require(first == f"{_ROLE_LINE}{role}".encode(), f"The key file's first line is not '{_ROLE_LINE}{role}'.")
    try:
        private = load_pem_private_key(block, password=None)
    except (ValueError, TypeError) as fault:
        raise VerificationError("The key file holds no unencrypted PKCS #8 private key.") from fault
    except Exception as fault:  # cryptography raises UnsupportedAlgorithm for curves it does not know
        raise VerificationError("The key file holds a key of an unknown kind.") from fault
    if not isinstance(private, Ed25519PrivateKey):
        raise VerificationError("The key file holds a key that is not Ed25519.")
    return SigningKey(role, private)


def save(key: SigningKey, path: Path) -> None:
    """Write the key file with mode 0600; `FileExistsError` when `path` exists, for a key is never overwritten."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(to_pem(key))
        file.flush()
        os.fsync(file.fileno())


def load(path: Path, role: Role) -> SigningKey:
    """The key in the file `path`, refused when it has another role or when every user of the machine can read it."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        require(stat.S_ISREG(status.st_mode), "The key file is not an ordinary file.")
        require(not status.st_mode & 0o007, "The key file is open to every user: chmod 600 it, and replace the key.")
        require(status.st_size <= _LARGEST_FILE, "The key file is too large to be one.")
        return from_pem(file.read(), role)


def key_id(public_key: bytes) -> str:
    """SHA-256 of the raw public key, hex."""
    return hashlib.sha256(public_key).hexdigest()


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
    """What the log entry `key.registered` says of a key; for a role of several algorithms, of its first one."""
    own = getattr(key, "role", role)
    expect(own == role, f"This key has the role {own}, not {role}.")
    return register_public(key.public_key, role=role, algorithm=_of_role(role)[0])


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
