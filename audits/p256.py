"""ECDSA verification over NIST P-256 with SHA-256, with nothing but integers (FIPS 186-5, section 6.4.2).

It stands beside `ed25519` in the single-file verifier, for OpenSSF Model Signing. Signatures come in DER, in the one
encoding that DER allows, as OpenSSL has it; public keys as uncompressed points. Points are added by the complete
formulas of Renes, Costello and Batina (2016), so that no case is special.

Verification handles public data only: nothing here is constant in time, and nothing here may ever sign.
"""

import hashlib

from audits import algorithms
from audits.errors import require

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    1,
)
_NEUTRAL = (0, 1, 0)
_WINDOW = 4
_SHORT = 0x80  # a length below this is one byte of its own (X.690, section 8.1.3.4)
_SEQUENCE, _INTEGER = 0x30, 0x02

_Point = tuple[int, int, int]  # X, Y, Z with x = X/Z, y = Y/Z


def verify(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check a DER signature by an uncompressed point (65 bytes); `VerificationError` when it is none."""
    algorithms.check_p256(public_key)
    r, s = decode_signature(signature)
    require(0 < r < N and 0 < s < N, "A number of the signature is not below the group's order.")
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    inverse = pow(s, -1, N)
    key = (int.from_bytes(public_key[1:33], "big"), int.from_bytes(public_key[33:], "big"), 1)
    x, _, z = _sum_of_products(digest * inverse % N, r * inverse % N, key)
    held = z != 0 and x * pow(z, -1, P) % P % N == r
    require(held, "The signature is not this key's signature over these bytes.")


def decode_signature(der: bytes) -> tuple[int, int]:
    """The two numbers of a DER signature, which must be what `encode_signature` writes."""
    require(len(der) > 1 and der[0] == _SEQUENCE and der[1] == len(der) - 2, "The signature is not in DER.")
    r, rest = _integer(der[2:])
    s, rest = _integer(rest)
    require(not rest and encode_signature(r, s) == der, "The signature is not in the one form of DER.")
    return r, s


def encode_signature(r: int, s: int) -> bytes:
    """Two numbers in DER, as ECDSA signatures travel (RFC 3279, section 2.2.3)."""
    body = b"".join(
        bytes([_INTEGER, size]) + one.to_bytes(size, "big", signed=True)
        for one in (r, s)
        for size in [one.bit_length() // 8 + 1]
    )
    require(len(body) < _SHORT, "The signature's numbers are too large.")
    return bytes([_SEQUENCE, len(body)]) + body


def _integer(der: bytes) -> tuple[int, bytes]:
    """A number and what follows it."""
    require(len(der) > 1 and der[0] == _INTEGER and 0 < der[1] < _SHORT, "The signature is not in DER.")
    stop = 2 + der[1]
    require(stop <= len(der), "The signature ends in the middle of a number.")
    return int.from_bytes(der[2:stop], "big", signed=True), der[stop:]


def _add(left: _Point, right: _Point) -> _Point:
    x1, y1, z1 = left
    x2, y2, z2 = right
    xx, yy, zz = x1 * x2 % P, y1 * y2 % P, z1 * z2 % P
    xy = ((x1 + y1) * (x2 + y2) - xx - yy) % P
    yz = ((y1 + z1) * (y2 + z2) - yy - zz) % P
    xz = ((x1 + z1) * (x2 + z2) - xx - zz) % P
    u, k = 3 * (_B * zz - xz) % P, 3 * (xx - zz)
    q = 3 * (_B * xz - xx - 3 * zz) % P
    return (xy * (yy - u) - yz * q) % P, ((yy + u) * (yy - u) + k * q) % P, (yz * (yy + u) + xy * k) % P


def _multiples(point: _Point) -> list[_Point]:
    """The point times 0, 1, ..., 15."""
    result = [_NEUTRAL]
    for _ in range(2**_WINDOW - 1):
        result.append(_add(result[-1], point))
    return result


def _sum_of_products(first: int, second: int, key: _Point) -> _Point:
    """First * base point + second * key, doubling for both at once."""
    tables = ((first, _multiples(_BASE)), (second, _multiples(key)))
    result = _NEUTRAL
    for shift in range(256 - _WINDOW, -1, -_WINDOW):
        for _ in range(_WINDOW):
            result = _add(result, result)
        for scalar, table in tables:
            result = _add(result, table[scalar >> shift & 2**_WINDOW - 1])
    return result
