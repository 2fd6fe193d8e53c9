"""Public keys by algorithm: how the bytes of each look, and which of them are refused.

| algorithm | bytes of a public key | refused |
|---|---|---|
| `ed25519` | 32, RFC 8032 | the 14 encodings of a point of low order |
| `ecdsa-p256` | 65, SEC 1 uncompressed: 0x04, X, Y | what is no point of the curve (SP 800-186, 3.2.1.3) |
| `ml-dsa-44` | 1312, FIPS 204 | nothing else |

One spelling for each key: a DER or compressed form of the same key would have another digest, and so another id.
Signatures under an Ed25519 key of low order verify for *every* message, so its holder could later claim any report
text; OpenSSL accepts them. Needs no library, so that a register of keys can be read anywhere.
"""

from typing import Literal

from audits.errors import require

Algorithm = Literal["ed25519", "ecdsa-p256", "ml-dsa-44"]

ED25519_SIZE = 32
P256_SIZE = 65
ML_DSA_44_SIZE = 1312

# y-coordinates of the eight points of small order, then those of them that also have a non-canonical encoding
# (y + p below 2**255), each with both signs: 14 encodings (C2SP CCTV, flag low_order_A).
_P = 2**255 - 19
_Y8 = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_LOW_ORDER = frozenset(
    (y | sign << 255).to_bytes(ED25519_SIZE, "little")
    for y in (0, 1, _P - 1, _Y8, _P - _Y8, _P, _P + 1)
    for sign in (0, 1)
)

# The field and the constant of NIST P-256: y**2 = x**3 - 3x + b. Its cofactor is 1, so every point has full order.
_Q = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def check(algorithm: str, public_key: bytes) -> None:
    """Refuse an algorithm that is not in the table, and a key that its row refuses."""
    require(algorithm in _CHECKS, f"The key's algorithm is not one of {', '.join(_CHECKS)}.")
    _CHECKS[algorithm](public_key)


def check_ed25519(public_key: bytes) -> None:
    """Refuse what is not 32 bytes, or one of the 14 encodings of a point of low order."""
    require(len(public_key) == ED25519_SIZE, "An Ed25519 public key has 32 bytes.")
    require(public_key not in _LOW_ORDER, "The public key has low order: signatures under it prove nothing.")


def check_p256(public_key: bytes) -> None:
    """Refuse what is not an uncompressed point of P-256."""
    form = len(public_key) == P256_SIZE and public_key[0] == 0x04  # noqa: PLR2004 - SEC 1, 2.3.3: uncompressed
    require(form, "A P-256 public key has 65 bytes, the first of them 04 (SEC 1, uncompressed).")
    x, y = int.from_bytes(public_key[1:33], "big"), int.from_bytes(public_key[33:], "big")
    on_curve = x < _Q and y < _Q and (y * y - x * x * x + 3 * x - _B) % _Q == 0
    require(on_curve, "The public key is no point of the curve P-256.")


def _check_ml_dsa_44(public_key: bytes) -> None:
    require(len(public_key) == ML_DSA_44_SIZE, f"An ML-DSA-44 public key has {ML_DSA_44_SIZE} bytes.")


_CHECKS = {"ed25519": check_ed25519, "ecdsa-p256": check_p256, "ml-dsa-44": _check_ml_dsa_44}
