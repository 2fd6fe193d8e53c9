"""Keys and ciphertexts of the vault; it holds two master keys and no state.

Every request (and every batch) has its own random 256-bit key, stored only wrapped under the master key.
Personal data is AES-256-GCM under that key with the owner's id and purpose as associated data, so that
a ciphertext moved to another row does not open. Erasing the wrapped key erases everything under it, and
makes the logged commitment, HMAC-SHA256(key, identifiers), meaningless to anybody (EDPB 02/2025).

Tags are keyed hashes under a separate key: equal identifiers must meet across requests and data sets,
which a per-request key would prevent. They are never logged.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audits import opening
from compliance.errors import NotFoundError

NONCE = 12
KEY = 32
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Vault:
    """Wraps, seals, commits and tags; `secrets(n)` gives n random bytes."""

    master_key: bytes
    matching_key: bytes
    secrets: Callable[[int], bytes]

    def new_key(self, owner: str) -> tuple[bytes, bytes]:
        """A fresh key and its wrapped form, bound to `owner`."""
        key = self.secrets(KEY)
        return key, self._encrypt(self.master_key, f"key/{owner}", key)

    def unwrap(self, owner: str, wrapped: bytes) -> bytes:
        """The key that `new_key` wrapped for `owner`."""
        return self._decrypt(self.master_key, f"key/{owner}", wrapped)

    def seal(self, key: bytes, context: str, plaintext: bytes) -> bytes:
        """Nonce and AES-256-GCM ciphertext of `plaintext`, bound to `context`."""
        return self._encrypt(key, context, plaintext)

    def open(self, key: bytes, context: str, ciphertext: bytes) -> bytes:
        """Undo `seal`; NotFoundError when key, context or bytes do not belong together."""
        return self._decrypt(key, context, ciphertext)

    def commitment(self, key: bytes, identifiers: bytes) -> str:
        """HMAC-SHA256 over the canonical identifiers: binding, and hiding while the key is secret."""
        return opening.commitment(key, identifiers)

    def tag(self, purpose: str, value: str) -> str:
        """The keyed hash under which equal values of one purpose are recognised."""
        return hmac.new(self.matching_key, f"{purpose}\0{value}".encode(), hashlib.sha256).hexdigest()

    def seal_file(self, key: bytes, context: str, source: Path, target: Path) -> None:
        """Encrypt a file in chunks of 1 MiB, each bound to its position and to being the last or not.

        Raises OSError; the target appears only when it is complete.
        """
        partial = target.with_suffix(target.suffix + ".partial")
        with source.open("rb") as plain, partial.open("wb") as out:
            for index, (chunk, last) in enumerate(_chunks(plain)):
                sealed = self._encrypt(key, f"{context}/{index}/{int(last)}", chunk)
                out.write(len(sealed).to_bytes(4, "big") + sealed)
        partial.replace(target)

    def open_file(self, key: bytes, context: str, source: Path, target: Path) -> None:
        """Undo `seal_file`; NotFoundError when a chunk is missing, moved or changed."""
        with source.open("rb") as sealed, target.open("wb") as out:
            for index, (chunk, last) in enumerate(_frames(sealed)):
                out.write(self._decrypt(key, f"{context}/{index}/{int(last)}", chunk))

    def _encrypt(self, key: bytes, context: str, plaintext: bytes) -> bytes:
        nonce = self.secrets(NONCE)
        return nonce + AESGCM(key).encrypt(nonce, plaintext, context.encode())

    def _decrypt(self, key: bytes, context: str, ciphertext: bytes) -> bytes:
        try:
            return AESGCM(key).decrypt(ciphertext[:NONCE], ciphertext[NONCE:], context.encode())
        except (InvalidTag, ValueError):
            message = "a sealed value does not open with this key; check EXPUNGE_MASTER_KEY"
            raise NotFoundError(message, code="sealed-value") from None


def _chunks(plain: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    chunk = plain.read(CHUNK)
    while True:
        following = plain.read(CHUNK)
        yield chunk, not following
        if not following:
            return
        chunk = following


def _frames(sealed: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    length = sealed.read(4)
    while length:
        chunk = sealed.read(int.from_bytes(length, "big"))
        length = sealed.read(4)
        yield chunk, not length
