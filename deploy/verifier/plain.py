"""What `audits` asks of the library `cryptography`, in plain Python: the single-file verifier carries this instead.

Chosen when the file is built, never at run time: inside the file there is no other library of that name, and in an
installed package there is no copy of this. It verifies Ed25519, P-256 and ML-DSA-44 (`audits.ed25519`, `audits.p256`,
`audits.fips204`). Nothing here signs, reads private keys or makes them; whoever asks gets `UnsupportedAlgorithm`.
"""

import base64
from typing import NoReturn

from audits import algorithms, ed25519, fips204, p256
from audits.errors import VerificationError

_P256_INFO = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")  # RFC 5480: before the point
_PEM_WIDTH = 64


class InvalidSignature(Exception):  # noqa: N818 - the library's name
    """A signature is not what it should be."""


class UnsupportedAlgorithm(Exception):  # noqa: N818 - the library's name
    """This file only verifies."""


class _Absent(type):
    """A class that can be named, for annotations and `isinstance`, and not used."""

    def __call__(cls, *_arguments: object, **_named: object) -> NoReturn:
        raise UnsupportedAlgorithm("This file verifies; it neither signs nor reads private keys.")

    def __getattr__(cls, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls.__call__


class Ed25519PrivateKey(metaclass=_Absent):
    """Not here."""


class MLDSA44PrivateKey(metaclass=_Absent):
    """Not here."""


class BestAvailableEncryption(metaclass=_Absent):
    """Not here."""


class NoEncryption(metaclass=_Absent):
    """Not here."""


class load_pem_private_key(metaclass=_Absent):  # noqa: N801 - the library's name
    """Not here."""


class PrivateFormat:
    """How private keys are written; none is."""

    PKCS8 = "PKCS8"


class Encoding:
    """How public keys are written."""

    PEM, DER, X962 = "PEM", "DER", "X962"


class PublicFormat:
    """In which structure."""

    SubjectPublicKeyInfo, UncompressedPoint = "SubjectPublicKeyInfo", "UncompressedPoint"


class SHA256:
    """The one hash function of our signatures over P-256."""


class hashes:  # noqa: N801 - the library's name
    """The module of hash functions."""

    SHA256 = SHA256


class Ed25519PublicKey:
    """A raw public key."""

    def __init__(self, raw: bytes) -> None:
        """Keep it; `verify` looks at it."""
        self._raw = raw

    @classmethod
    def from_public_bytes(cls, raw: bytes) -> "Ed25519PublicKey":
        """The key in 32 bytes."""
        return cls(raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """`InvalidSignature` when it is none."""
        try:
            ed25519.verify(self._raw, signature, message)
        except VerificationError as fault:
            raise InvalidSignature from fault


class MLDSA44PublicKey:
    """A raw public key of FIPS 204."""

    def __init__(self, raw: bytes) -> None:
        """Keep it; `verify` looks at it."""
        self._raw = raw

    @classmethod
    def from_public_bytes(cls, raw: bytes) -> "MLDSA44PublicKey":
        """The key in 1,312 bytes."""
        return cls(raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """`InvalidSignature` when it is none."""
        try:
            fips204.verify(self._raw, signature, message)
        except VerificationError as fault:
            raise InvalidSignature from fault


class ec:  # noqa: N801 - the library's name
    """The module of elliptic curves, with one curve."""

    class SECP256R1:
        """P-256."""

    class ECDSA:
        """ECDSA with a hash function."""

        def __init__(self, algorithm: SHA256) -> None:
            """Refuse every other one."""
            if not isinstance(algorithm, SHA256):
                raise UnsupportedAlgorithm("This file knows ECDSA with SHA-256 only.")

    class EllipticCurvePrivateKey(metaclass=_Absent):
        """Not here."""

    class EllipticCurvePublicKey:
        """A point of P-256."""

        def __init__(self, point: bytes) -> None:
            """Keep it."""
            self._point = point
            self.curve = ec.SECP256R1()

        @classmethod
        def from_encoded_point(cls, _curve: object, raw: bytes) -> "ec.EllipticCurvePublicKey":
            """The key in 65 bytes; `ValueError` when it is no point of the curve."""
            try:
                algorithms.check_p256(raw)
            except VerificationError as fault:
                raise ValueError(str(fault)) from fault
            return cls(raw)

        def verify(self, signature: bytes, message: bytes, _algorithm: "ec.ECDSA") -> None:
            """`InvalidSignature` when it is none."""
            try:
                p256.verify(self._point, signature, message)
            except VerificationError as fault:
                raise InvalidSignature from fault

        def public_bytes(self, encoding: str, form: str) -> bytes:
            """The point, or the key as other tools read it."""
            if form == PublicFormat.UncompressedPoint:
                return self._point
            der = _P256_INFO + self._point
            if encoding == Encoding.DER:
                return der
            text = base64.b64encode(der).decode()
            lines = [text[start : start + _PEM_WIDTH] for start in range(0, len(text), _PEM_WIDTH)]
            return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""]).encode()


class utils:  # noqa: N801 - the library's name
    """The module of signatures' encodings."""

    @staticmethod
    def decode_dss_signature(signature: bytes) -> tuple[int, int]:
        """The two numbers of a DER signature; `ValueError` when it is none."""
        try:
            return p256.decode_signature(signature)
        except VerificationError as fault:
            raise ValueError(str(fault)) from fault

    @staticmethod
    def encode_dss_signature(r: int, s: int) -> bytes:
        """Two numbers in DER."""
        return p256.encode_signature(r, s)
