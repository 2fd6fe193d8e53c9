"""ML-DSA-44 verification with nothing but integers (FIPS 204, algorithms 3 and 8), for the single-file verifier.

The third of its kind beside `ed25519` and `p256`. The pure variant with an empty context, over the signature's one
encoding: every bound of the decoders is checked, since the hints of a lax decoder can be written in several ways.

Verification handles public data only: nothing here is constant in time, and nothing here may ever sign.
"""

import hashlib

from audits.errors import require

KEY_SIZE, SIGNATURE_SIZE = 1312, 2420
Q, N = 8_380_417, 256
_ROOT = 1753  # a 512th root of unity modulo Q
_K = _L = 4
_D, _TAU, _OMEGA = 13, 39, 80
_GAMMA1, _GAMMA2 = 1 << 17, (Q - 1) // 88
_BETA = 78
_SEED, _CHALLENGE = 32, 32
_T1_SIZE, _Z_SIZE = 320, 576  # bytes of a polynomial in 10 and in 18 bits a coefficient
_LEVELS = (Q - 1) // (2 * _GAMMA2)

_Poly = list[int]


def _zetas() -> list[int]:
    """The powers of the root in bit-reversed order (FIPS 204, appendix B)."""
    return [pow(_ROOT, int(f"{index:08b}"[::-1], 2), Q) for index in range(N)]


_ZETAS = _zetas()
_HALF = pow(N, -1, Q)


def verify(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check an ML-DSA-44 signature (2,420 bytes) by a public key (1,312); `VerificationError` when it is none."""
    require(len(public_key) == KEY_SIZE, f"An ML-DSA-44 public key has {KEY_SIZE} bytes.")
    require(len(signature) == SIGNATURE_SIZE, f"An ML-DSA-44 signature has {SIGNATURE_SIZE} bytes.")
    challenge, rest = signature[:_CHALLENGE], signature[_CHALLENGE:]
    z = [[_GAMMA1 - one for one in _bits(rest[i * _Z_SIZE : (i + 1) * _Z_SIZE], 18)] for i in range(_L)]
    small = max(abs(one) for poly in z for one in poly) < _GAMMA1 - _BETA
    require(small, "The signature's numbers are too large.")
    hints = _hints(rest[_L * _Z_SIZE :])
    digest = hashlib.shake_256(public_key).digest(64)
    represented = hashlib.shake_256(digest + b"\x00\x00" + message).digest(64)
    high = [_use_hints(hint, poly) for hint, poly in zip(hints, _approximation(public_key, challenge, z), strict=True)]
    found = hashlib.shake_256(represented + b"".join(map(_packed, high))).digest(_CHALLENGE)
    require(found == challenge, "The signature is not this key's signature over these bytes.")


def _approximation(public_key: bytes, challenge: bytes, z: list[_Poly]) -> list[_Poly]:
    """A z - c t1 2**d, which the signer rounded."""
    seed, rest = public_key[:_SEED], public_key[_SEED:]
    transformed, ball = [_ntt(poly) for poly in z], _ntt(_ball(challenge))
    result = []
    for row in range(_K):
        t1 = _ntt([one << _D for one in _bits(rest[row * _T1_SIZE : (row + 1) * _T1_SIZE], 10)])
        total = [-b * t for b, t in zip(ball, t1, strict=True)]
        for column, poly in enumerate(transformed):
            entry = _uniform(seed + bytes([column, row]))
            total = [sofar + a * x for sofar, a, x in zip(total, entry, poly, strict=True)]
        result.append(_inverse([one % Q for one in total]))
    return result


def _bits(raw: bytes, width: int) -> list[int]:
    """Numbers of `width` bits, least significant first."""
    number, mask = int.from_bytes(raw, "little"), (1 << width) - 1
    return [number >> shift & mask for shift in range(0, 8 * len(raw), width)]


def _packed(poly: _Poly) -> bytes:
    """Coefficients of 6 bits."""
    return sum(one << 6 * index for index, one in enumerate(poly)).to_bytes(N * 6 // 8, "little")


def _hints(raw: bytes) -> list[set[int]]:
    """HintBitUnpack (algorithm 21): ascending positions for each polynomial, and zeros behind the last."""
    result, start = [], 0
    for stop in raw[_OMEGA:]:
        positions = list(raw[start:stop])
        ordered = start <= stop <= _OMEGA and positions == sorted(set(positions))
        require(ordered, "The signature's hints are not in their one form.")
        result.append(set(positions))
        start = stop
    require(not any(raw[start:_OMEGA]), "The signature's hints are not in their one form.")
    return result


def _use_hints(hint: set[int], poly: _Poly) -> _Poly:
    """UseHint (algorithm 40) for every coefficient."""
    result = []
    for index, one in enumerate(poly):
        low = one % (2 * _GAMMA2)
        low -= 2 * _GAMMA2 if low > _GAMMA2 else 0
        high, low = (0, low - 1) if one - low == Q - 1 else ((one - low) // (2 * _GAMMA2), low)
        if index in hint:
            high = (high + (1 if low > 0 else -1)) % _LEVELS
        result.append(high)
    return result


def _ball(seed: bytes) -> _Poly:
    """SampleInBall (algorithm 29): 39 coefficients of 1 or -1."""
    stream = iter(hashlib.shake_256(seed).digest(1024))
    signs = int.from_bytes(bytes(next(stream) for _ in range(8)), "little")
    result = [0] * N
    for number, last in enumerate(range(N - _TAU, N)):
        place = next(one for one in stream if one <= last)
        result[last] = result[place]
        result[place] = 1 - 2 * (signs >> number & 1)
    return result


def _uniform(seed: bytes) -> _Poly:
    """RejNTTPoly (algorithm 30): one entry of the matrix, already transformed."""
    raw = hashlib.shake_128(seed).digest(3 * 2 * N)  # twice what is needed: one in a thousand is rejected
    numbers = (int.from_bytes(raw[at : at + 3], "little") & 0x7FFFFF for at in range(0, len(raw), 3))
    return [one for one in numbers if one < Q][:N]


def _ntt(poly: _Poly) -> _Poly:
    """Algorithm 41."""
    result, index, length = list(poly), 0, N // 2
    while length:
        for start in range(0, N, 2 * length):
            index += 1
            zeta = _ZETAS[index]
            for at in range(start, start + length):
                other = zeta * result[at + length] % Q
                result[at + length] = (result[at] - other) % Q
                result[at] = (result[at] + other) % Q
        length //= 2
    return result


def _inverse(poly: _Poly) -> _Poly:
    """Algorithm 42."""
    result, index, length = list(poly), N, 1
    while length < N:
        for start in range(0, N, 2 * length):
            index -= 1
            zeta = -_ZETAS[index]
            for at in range(start, start + length):
                one, other = result[at], result[at + length]
                result[at] = (one + other) % Q
                result[at + length] = zeta * (one - other) % Q
        length *= 2
    return [one * _HALF % Q for one in result]
