"""Randomness for DP training: a ChaCha20 key stream under a 256-bit secret that is never written anywhere.

Sampling must be as secret as the noise (amplification by subsampling assumes it), so both come from here. Evidence
carries only the SHA-256 of the secret: enough to show later, should the secret ever be kept in escrow, that the
noise was fixed in advance, and useless for removing it. Gaussians are Box-Muller in double precision; what finite
floating point gives away (Mironov 2012) is not accounted for.
"""

import hashlib
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

SECRET_BYTES = 32
SAMPLING, NOISE = 0, 1


def fresh_secret() -> bytes:
    """256 bits from the operating system."""
    return os.urandom(SECRET_BYTES)


def commitment(secret: bytes) -> str:
    """SHA-256 (hex) of the secret."""
    return hashlib.sha256(secret).hexdigest()


def joins(secret: bytes, *, round_: int, units: int, sample_rate: float) -> NDArray[np.bool_]:
    """Poisson sampling: which units join a round, each independently with probability `sample_rate`."""
    return _uniforms(secret, SAMPLING, round_, units) <= sample_rate


def gaussians(secret: bytes, *, round_: int, count: int) -> NDArray[np.float64]:
    """Independent standard normal numbers for one round."""
    half = (count + 1) // 2
    uniforms = _uniforms(secret, NOISE, round_, 2 * half)
    radius = np.sqrt(-2.0 * np.log(uniforms[:half]))
    angle = 2.0 * np.pi * uniforms[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def _uniforms(secret: bytes, purpose: int, round_: int, count: int) -> NDArray[np.float64]:
    """Uniform in (0, 1], 53 bits each; every (purpose, round) has a nonce of its own."""
    nonce = bytes(8) + round_.to_bytes(7, "little") + bytes([purpose])
    stream = Cipher(algorithms.ChaCha20(secret, nonce), mode=None).encryptor()
    words = np.frombuffer(stream.update(bytes(8 * count)), dtype="<u8")
    return ((words >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53
