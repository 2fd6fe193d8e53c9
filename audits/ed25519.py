"""Ed25519 verification with nothing but integers (RFC 8032, section 5.1.7), for the single-file verifier.

Everywhere else `keys.verify` asks OpenSSL. This module says the same of every signature, so that a file which an
auditor keeps for ten years needs Python and no library. What "the same" means, where readers of the RFC differ:

* the equation is the one without the cofactor, [S]B = R + [k]A, and R is compared as bytes: only its canonical
  encoding can pass;
* S is below the group's order L, or the signature could be changed into another valid one;
* A may be written non-canonically, as OpenSSL accepts it. `keys.check_public_key` refuses the dangerous ones before.

Verification handles public data only: nothing here is constant in time, and nothing here may ever sign.
"""

import hashlib
from functools import cache

from audits.errors import require

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
SIZE = 32
_D = -121665 * pow(121666, -1, P) % P
_D2 = 2 * _D % P
_SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)
_BASE_Y = 4 * pow(5, -1, P) % P
_BASE_WIDTH = 8  # a wide table for the base point, made once a process
_KEY_WIDTH = 5

# X, Y, Z, T with x = X/Z, y = Y/Z, xy = T/Z (RFC 8032, section 5.1.4).
_Point = tuple[int, int, int, int]
_NEUTRAL: _Point = (0, 1, 1, 0)


def verify(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check an Ed25519 signature (64 bytes) by a raw public key (32 bytes); `VerificationError` when it is none."""
    require(len(public_key) == SIZE, "An Ed25519 public key has 32 bytes.")
    require(len(signature) == 2 * SIZE, "An Ed25519 signature has 64 bytes.")
    point = _decode(public_key)
    encoded, scalar = signature[:SIZE], int.from_bytes(signature[SIZE:], "little")
    require(scalar < L, "The signature's number is not below the group's order.")
    digest = hashlib.sha512(encoded + public_key + message).digest()
    challenge = int.from_bytes(digest, "little") % L
    x, y, z, t = point
    found = _sum_of_products(scalar, challenge, _odd_multiples((-x % P, y, z, -t % P), _KEY_WIDTH))
    require(_encode(found) == encoded, "The signature is not this key's signature over these bytes.")


def _decode(encoded: bytes) -> _Point:
    """The point of an encoding (RFC 8032, section 5.1.3), with its y taken modulo P."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, (number & (2**255 - 1)) % P
    square = y * y % P
    top, bottom = (square - 1) % P, (_D * square + 1) % P
    # A square root of top/bottom in one power; it is one of two candidates, or there is none.
    x = top * pow(bottom, 3, P) * pow(top * pow(bottom, 7, P), (P - 5) // 8, P) % P
    if (bottom * x * x - top) % P:
        x = x * _SQRT_MINUS_1 % P
    require((bottom * x * x - top) % P == 0, "The public key is no point of the curve.")
    if x & 1 != sign:
        x = -x % P
    return x, y, 1, x * y % P


def _encode(point: _Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(SIZE, "little")


def _add(left: _Point, right: _Point) -> _Point:
    """RFC 8032, section 5.1.4: complete, so no case is special."""
    x1, y1, z1, t1 = left
    x2, y2, z2, t2 = right
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = t1 * t2 % P * _D2 % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _double(point: _Point) -> _Point:
    x, y, z, _ = point
    a, b = x * x % P, y * y % P
    h = a + b
    e = h - (x + y) * (x + y) % P
    g = a - b
    f = 2 * z * z % P + g
    return e * f % P, g * h % P, f * g % P, e * h % P


def _odd_multiples(point: _Point, width: int) -> list[_Point]:
    """The point times 1, 3, 5, ..., 2**(width - 1) - 1."""
    twice, result = _double(point), [point]
    for _ in range(2 ** (width - 2) - 1):
        result.append(_add(result[-1], twice))
    return result


@cache
def _base_multiples() -> list[_Point]:
    base = _decode(_BASE_Y.to_bytes(SIZE, "little"))
    return _odd_multiples(base, _BASE_WIDTH)


def _digits(scalar: int, width: int) -> list[int]:
    """The scalar's non-adjacent form, lowest digit first: few digits are not zero, and those are odd."""
    digits: list[int] = []
    while scalar:
        digit = 0
        if scalar & 1:
            digit = scalar & (2**width - 1)
            digit -= (digit >> (width - 1)) << width
            scalar -= digit
        digits.append(digit)
        scalar >>= 1
    return digits


def _sum_of_products(scalar: int, challenge: int, multiples: list[_Point]) -> _Point:
    """[scalar]B + [challenge]Q, doubling for both at once; `multiples` are the odd ones of Q."""
    pairs = ((_digits(scalar, _BASE_WIDTH), _base_multiples()), (_digits(challenge, _KEY_WIDTH), multiples))
    result = _NEUTRAL
    for position in reversed(range(max(len(digits) for digits, _ in pairs))):
        result = _double(result)
        for digits, table in pairs:
            digit = digits[position] if position < len(digits) else 0
            if digit:
                result = _add(result, _signed(table, digit))
    return result


def _signed(table: list[_Point], digit: int) -> _Point:
    x, y, z, t = table[abs(digit) >> 1]
    return (x, y, z, t) if digit > 0 else (-x % P, y, z, -t % P)
