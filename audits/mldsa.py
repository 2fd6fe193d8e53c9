r"""The optional second signature of a log on its checkpoints: ML-DSA-44, which no quantum computer is known to forge.

A note line of type 0x06 (c2sp.org/tlog-cosignature, "ML-DSA-44 signed message"): the blob is a time of eight bytes and
a signature of 2,420 (FIPS 204, empty context) over

    "subtree/v1\n\0"  name of the signer  time  origin  start (0)  size  root

with both names behind a length byte and the numbers as eight bytes, big-endian. The log states no time with it (0):
that is a witness's business. Whoever does not know the key skips the line; a policy that names it asks for it.
"""

from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from audits import checkpoint as checkpoints
from audits import keys, note
from audits.algorithms import Algorithm, check
from audits.errors import VerificationError, expect, require

ALGORITHM: Algorithm = "ml-dsa-44"
SIGNATURE_SIZE = 2420
_LABEL = b"subtree/v1\n\0"
_WORD = 8
_LATEST = 2**63 - 1
_LONGEST_NAME = 255


class SecondKey(keys.SigningKey):
    """A log's ML-DSA-44 key in memory; its file and its registration are those of any key."""

    algorithm: Algorithm = ALGORITHM

    def __init__(self, private: object) -> None:
        """Take a private key of this algorithm; `ValueError` for another."""
        if not isinstance(private, MLDSA44PrivateKey):
            raise ValueError("The log's second key is an ML-DSA-44 key.")  # noqa: TRY004 - as for every other key
        self.role = "log"
        self.public_key = private.public_key().public_bytes_raw()
        self._private: Any = private
        self._sign = private.sign

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, 2,420 bytes; another one each time (FIPS 204, hedged)."""
        return self._sign(message)


def generate() -> SecondKey:
    """A new key from the system's randomness."""
    return SecondKey(MLDSA44PrivateKey.generate())


def add(signed: str, signer: keys.Signer) -> str:
    """The log's signed checkpoint with the line of its second key below, under the log's name."""
    state = checkpoints.peek(signed)
    key = note.VerifierKey(name=state.origin, algorithm=note.ML_DSA_44, public_key=signer.public_key)
    blob = (0).to_bytes(_WORD, "big") + signer.sign(message(state, name=state.origin, time=0))
    return signed + note.Signature(name=key.name, key_id=key.key_id, blob=blob).format()


def verify(public_key: bytes, blob: bytes, text: str, *, name: str) -> int:
    """Check a line's blob over a checkpoint's text; the time that it states, in POSIX seconds, or 0 for none."""
    check(ALGORITHM, public_key)
    require(len(blob) == _WORD + SIGNATURE_SIZE, "An ML-DSA-44 line has a time and 2,420 bytes of signature.")
    time = int.from_bytes(blob[:_WORD], "big")
    require(time <= _LATEST, "A cosignature's time is out of range.")
    signed = message(checkpoints.parse(text), name=name, time=time)
    try:
        MLDSA44PublicKey.from_public_bytes(public_key).verify(blob[_WORD:], signed)
    except (InvalidSignature, ValueError) as fault:
        raise VerificationError("The signature is not this key's signature over this checkpoint.") from fault
    return time


def message(state: checkpoints.Checkpoint, *, name: str, time: int) -> bytes:
    """What is signed for a whole tree; `ValueError` for a name of more than 255 bytes."""
    numbers = b"".join(number.to_bytes(_WORD, "big") for number in (0, state.size))
    return _LABEL + _named(name) + time.to_bytes(_WORD, "big") + _named(state.origin) + numbers + state.root


def _named(name: str) -> bytes:
    raw = name.encode()
    expect(0 < len(raw) <= _LONGEST_NAME, "A cosigner's name and a log's origin have 1 to 255 bytes.")
    return bytes([len(raw)]) + raw
