"""Signed notes (c2sp.org/signed-note): a text, a blank line, and one line for each signature.

    <text, ending in a newline>

    — <key name> <base64(key id, 4 bytes || signature)>

Rules of opening:

* Signatures by keys that the reader does not know are ignored; a signature that names a *known* key and fails
  rejects the whole note, and so does a note that no known key signed.
* One text, one encoding: control characters, stray lines and loose base64 are refused.

Knows three algorithms: Ed25519 (0x01), the witnesses' timestamped Ed25519 cosignature (0x04,
c2sp.org/tlog-cosignature), and ML-DSA-44 over a checkpoint (0x06, `audits.mldsa`). What else a text *means* is none of
this module's business.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audits import algorithms, keys
from audits.algorithms import Algorithm
from audits.errors import VerificationError, expect, require
from audits.strict import decode_base64, encode_base64

ED25519 = 0x01
COSIGNATURE = 0x04
ML_DSA_44 = 0x06
MAX_SIGNATURES = 100
MAX_BYTES = 1024 * 1024
_ALGORITHMS: Mapping[int, Algorithm] = {ED25519: "ed25519", COSIGNATURE: "ed25519", ML_DSA_44: "ml-dsa-44"}
_KEY_ID_SIZE = 4
_TIME_SIZE = 8
_LATEST_TIME = 2**63 - 1
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifierKey:
    """A public key under a name. The name is part of its identity, and of its key id."""

    name: str
    algorithm: int
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """SHA-256(name || 0x0A || algorithm || key), first four bytes. A hint for looking up, no protection."""
        hashed = self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public_key
        return hashlib.sha256(hashed).digest()[:_KEY_ID_SIZE]

    def format(self) -> str:
        """The key as a vkey: `name+keyid+base64(algorithm || key)`."""
        encoded = encode_base64(bytes([self.algorithm]) + self.public_key)
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """One signature line, unverified: `blob` is what follows the key id."""

    name: str
    key_id: bytes
    blob: bytes

    def format(self) -> str:
        """The line, with its newline."""
        return f"— {self.name} {encode_base64(self.key_id + self.blob)}\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A note taken apart; nothing is verified yet."""

    text: str
    signatures: tuple[Signature, ...]

    def format(self) -> str:
        """The note as it travels."""
        return self.text + "\n" + "".join(one.format() for one in self.signatures)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verified:
    """One key whose signature on the note holds; `time` (POSIX seconds) only for a cosignature."""

    key: VerifierKey
    time: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A note's text, and which of the known keys signed it: at least one."""

    text: str
    verified: tuple[Verified, ...]


def parse_vkey(text: str) -> VerifierKey:
    """The verifier key in `text`; refuses unknown algorithms, weak keys, and any but its one spelling."""
    name, _, rest = text.partition("+")
    digits, _, encoded = rest.partition("+")
    require(_is_name(name), "The verifier key's name is empty or has a space or a plus sign.")
    require(len(digits) == 2 * _KEY_ID_SIZE and set(digits) <= _HEX, "The verifier key's id is not 8 hex digits.")
    raw = decode_base64(encoded, "The verifier key")
    require(raw[:1] and raw[0] in _ALGORITHMS, "The verifier key has an unknown algorithm.")
    algorithms.check(_ALGORITHMS[raw[0]], raw[1:])
    key = VerifierKey(name=name, algorithm=raw[0], public_key=raw[1:])
    require(key.format() == text, "The verifier key's id does not belong to the key.")
    return key


def format_vkey(name: str, public_key: bytes, algorithm: int = ED25519) -> str:
    """The vkey of a raw public key under `name`."""
    expect(_is_name(name), "A key's name is not empty and has no space, plus sign or control character.")
    expect(algorithm in _ALGORITHMS, "The algorithm is Ed25519 (1), a cosignature (4) or ML-DSA-44 (6).")
    algorithms.check(_ALGORITHMS[algorithm], public_key)
    return VerifierKey(name=name, algorithm=algorithm, public_key=public_key).format()


def sign(text: str, name: str, signer: keys.Signer) -> str:
    """The note over `text` with one Ed25519 signature under `name`."""
    expect(text.endswith("\n") and _is_text(text), "A note's text ends in a newline and has no control characters.")
    key = parse_vkey(format_vkey(name, signer.public_key))
    line = Signature(name=name, key_id=key.key_id, blob=signer.sign(text.encode()))
    return Note(text=text, signatures=(line,)).format()


def parse(note: str | bytes) -> Note:
    """Take a note apart, strictly, without verifying it."""
    text = _decode(note)
    body, separator, lines = text.rpartition("\n\n")
    require(separator and lines.endswith("\n"), "The note has no blank line before its signatures.")
    signatures = tuple(_parse_line(line) for line in lines[:-1].split("\n"))
    require(len(signatures) <= MAX_SIGNATURES, f"The note has more than {MAX_SIGNATURES} signatures.")
    return Note(text=body + "\n", signatures=signatures)


def open_note(note: str | bytes, known: Iterable[VerifierKey]) -> Opened:
    """The text of a note that at least one of the `known` keys signed, and that none of them signed wrongly."""
    parsed = parse(note)
    lookup: dict[tuple[str, bytes], VerifierKey] = {}
    for key in known:
        clash = lookup.setdefault((key.name, key.key_id), key)
        require(clash == key, "Two known keys share a name and an id.")
    verified: dict[tuple[str, bytes], Verified] = {}
    for line in parsed.signatures:
        identity = (line.name, line.key_id)
        # A second line of one key is skipped, as the Go implementation does: it can neither add nor take away.
        if identity in lookup and identity not in verified:
            verified[identity] = _verify_line(lookup[identity], line, parsed.text)
    require(verified, "No known key signed the note.")
    return Opened(text=parsed.text, verified=tuple(verified.values()))


def cosigned_message(text: str, time: int) -> bytes:
    """What a witness signs: the cosignature header, the time, and the whole checkpoint text."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _verify_line(key: VerifierKey, line: Signature, text: str) -> Verified:
    if key.algorithm == ML_DSA_44:
        return Verified(key=key, time=_verify_ml_dsa(key, line, text))
    message, signature, time = text.encode(), line.blob, None
    if key.algorithm == COSIGNATURE:
        time = int.from_bytes(line.blob[:_TIME_SIZE], "big")
        require(time <= _LATEST_TIME, "A cosignature's time is out of range.")
        message, signature = cosigned_message(text, time), line.blob[_TIME_SIZE:]
    try:
        keys.verify(key.public_key, signature, message)
    except VerificationError as fault:
        raise VerificationError(f"The note's signature by the known key {key.name} is wrong.") from fault
    return Verified(key=key, time=time)


def _verify_ml_dsa(key: VerifierKey, line: Signature, text: str) -> int | None:
    """The time that the line states, if any."""
    try:
        from audits import mldsa  # noqa: PLC0415 - it knows checkpoints, which know notes; and not every build has it
    except ImportError as fault:
        raise VerificationError("This build can't verify ML-DSA-44, which a known key signs with.") from fault
    try:
        return mldsa.verify(key.public_key, line.blob, text, name=key.name) or None
    except (VerificationError, ValueError) as fault:
        raise VerificationError(f"The note's signature by the known key {key.name} is wrong.") from fault


def _decode(note: str | bytes) -> str:
    try:
        raw = note.encode() if isinstance(note, str) else note
        text = raw.decode("utf-8")
    except UnicodeError as fault:
        raise VerificationError("The note is not valid UTF-8.") from fault
    require(len(raw) <= MAX_BYTES, f"The note is larger than {MAX_BYTES} bytes.")
    require(_is_text(text), "The note has a control character.")
    return text


def _parse_line(line: str) -> Signature:
    parts = line.split(" ")
    require(line.startswith("— ") and len(parts) == len(("dash", "name", "blob")), "A signature line is malformed.")
    require(_is_name(parts[1]), "A signature line names no key.")
    raw = decode_base64(parts[2], "A signature")
    require(len(raw) > _KEY_ID_SIZE, "A signature is too short.")
    return Signature(name=parts[1], key_id=raw[:_KEY_ID_SIZE], blob=raw[_KEY_ID_SIZE:])


def _is_text(text: str) -> bool:
    return all(character >= " " or character == "\n" for character in text)


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and name.isprintable() and not any(map(str.isspace, name))
