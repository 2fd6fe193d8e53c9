"""A witness's folder: its key, the logs it knows, and the newest checkpoint of each that it cosigned.

    witness.pem                     the private key, mode 0600, made at the first start
    witness.vkey                    the public key under the witness's name, for settings and trust policies
    logs                            one verifier key a line: the logs it cosigns; one log may have several keys,
                                    and a new line counts at once
    <hex sha256(origin)>/checkpoint the newest checkpoint of a log, with the log's signature and ours
    <hex sha256(origin)>/fork       the first other history of a size that we had cosigned, if a log ever signed one

Rules:

* A checkpoint is on the disk, synchronised, before its cosignature is handed out. Comparing and storing are one step
  under a lock that holds between threads and between processes, so no two requests can both go on from one size.
* A crash between storing and answering is harmless: the log asks again, learns the size, and gets its cosignature.
* What is stored must carry our own signature. A file that does not is an error, never "nothing was cosigned yet".
* The folder must never be restored from an older copy: the witness would cosign a fork of what it had forgotten.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from audits import checkpoint, keys, note, witness
from audits.errors import VerificationError, require
from compliance.errors import InvalidInputError, UnavailableError

KEY_FILE, VKEY_FILE, LOGS_FILE, NEWEST, FORK = "witness.pem", "witness.vkey", "logs", "checkpoint", "fork"
_log = structlog.get_logger("expunge.witness")


@dataclass(frozen=True, kw_only=True, slots=True)
class WitnessFolder:
    """An opened folder, and the key in it."""

    path: Path
    vkey: note.VerifierKey
    signer: keys.Signer

    @property
    def logs(self) -> dict[str, list[note.VerifierKey]]:
        """The known logs' keys by origin, read again each time: a log's new key must not need a restart."""
        return _parsed(_listed(self.path))

    def cosign(self, body: bytes, *, time: int) -> str:
        """Our signature line for the checkpoint of an `add-checkpoint` request; `time` is in POSIX seconds.

        `witness.RefusedError` says with which status it is refused; UnavailableError and OSError that nothing could be
        stored, so nothing was cosigned.
        """
        request, logs = witness.parse_request(body), self.logs
        candidate = witness.authenticate(request, logs)
        place, signed = self.place(candidate.origin), _without_strangers(request, logs[candidate.origin])
        with _locked(place):
            newest = self._newest(place, candidate.origin)
            try:
                witness.require_extended(newest, candidate, request)
            except witness.RefusedError:
                _keep_evidence(place, newest, candidate, signed)
                raise
            line = witness.cosign(request.checkpoint, name=self.vkey.name, signer=self.signer, time=time)
            _store(place / NEWEST, witness.add(signed, line).encode())
        _log.info("cosigned", log=candidate.origin, size=candidate.size)
        return line

    def place(self, origin: str) -> Path:
        """Where a log's newest checkpoint lies; the folder's name is part of the protocol."""
        return self.path / hashlib.sha256(origin.encode()).hexdigest()

    def _newest(self, place: Path, origin: str) -> checkpoint.Checkpoint | None:
        try:
            signed = (place / NEWEST).read_bytes()
        except FileNotFoundError:
            return None
        try:
            newest = checkpoint.parse(note.open_note(signed, [self.vkey]).text)
            require(newest.origin == origin, "The stored checkpoint is of another log.")
        except VerificationError as fault:
            message = f"the stored checkpoint {place.name}/{NEWEST} is damaged, and nothing is cosigned; {fault}"
            raise UnavailableError(message, code="witness-damaged") from fault
        return newest


def _without_strangers(request: witness.Request, known: Sequence[note.VerifierKey]) -> str:
    """The request's note with the log's own lines only: anybody can add others to a public checkpoint."""
    identities = {(key.name, key.key_id) for key in known}
    parsed = note.parse(request.checkpoint)
    lines = tuple(line for line in parsed.signatures if (line.name, line.key_id) in identities)
    return note.Note(text=parsed.text, signatures=lines).format()


def _keep_evidence(
    place: Path, newest: checkpoint.Checkpoint | None, candidate: checkpoint.Checkpoint, signed: str
) -> None:
    """Two roots of one size, both signed by the log, prove that it showed two histories: keep the first such."""
    if newest is not None and newest.size == candidate.size and newest.root != candidate.root:
        _log.error("the log signed two histories", log=candidate.origin, size=candidate.size)
        if not (place / FORK).exists():
            _store(place / FORK, signed.encode())


def open_folder(path: Path, *, name: str | None = None, logs: Iterable[str] = ()) -> WitnessFolder:
    """The folder `path`, with a new key where there is none, and with `logs` (vkeys) added to those it knows.

    InvalidInputError for a name that does not fit, a vkey that is none, or a folder that cannot be used.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(path):
            signer = _signer(path)
            vkey = _vkey(path, signer, name)
            _remember(path, logs)
    except OSError as error:
        message = f"{path} cannot be used as a witness's folder ({error.strerror}); choose another with --folder"
        raise InvalidInputError(message, code="folder-unusable") from None
    return WitnessFolder(path=path, vkey=vkey, signer=signer)


def _signer(path: Path) -> keys.SigningKey:
    file = path / KEY_FILE
    if not file.exists():
        keys.save(keys.generate("witness"), file)
    return keys.load(file, "witness")


def _vkey(path: Path, signer: keys.SigningKey, name: str | None) -> note.VerifierKey:
    """The verifier key that the folder has, or a new one under `name`."""
    file = path / VKEY_FILE
    if not file.exists():
        try:
            text = witness.vkey(name or f"localhost/witness-{signer.key_id[:8]}", signer.public_key)
        except ValueError as fault:
            raise InvalidInputError(f"--name does not fit; {fault}", code="bad-name") from None
        _store(file, f"{text}\n".encode())
    vkey = witness.parse_vkey(file.read_text(encoding="utf-8").strip())
    if vkey.public_key != signer.public_key:
        message = f"{VKEY_FILE} is not the public key of {KEY_FILE}; restore the one that belongs to the other"
        raise InvalidInputError(message, code="other-key")
    if name not in (None, vkey.name):
        message = f"this witness is called {vkey.name}, and its name is part of its key; leave --name out"
        raise InvalidInputError(message, code="other-name")
    return vkey


def _remember(path: Path, added: Iterable[str]) -> None:
    """Add logs to those that the folder knows; all of them must be sound."""
    before = _listed(path)
    texts = list(dict.fromkeys([*before, *added]))
    _parsed(texts)
    if texts != before:
        _store(path / LOGS_FILE, "".join(f"{text}\n" for text in texts).encode())


def _listed(path: Path) -> list[str]:
    file = path / LOGS_FILE
    return file.read_text(encoding="utf-8").split() if file.exists() else []


def _parsed(texts: Iterable[str]) -> dict[str, list[note.VerifierKey]]:
    known: dict[str, list[note.VerifierKey]] = {}
    for text in texts:
        try:
            key = note.parse_vkey(text)
            require(key.algorithm == note.ED25519, "A log's key is of type 1.")
        except VerificationError as fault:
            raise InvalidInputError(f"this is no log's verifier key (--log): {text}; {fault}", code="bad-log") from None
        known.setdefault(key.name, []).append(key)
    return known


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Alone in `place`, among threads and processes alike: each opening of the lock file is a lock of its own."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _store(file: Path, content: bytes) -> None:
    """Replace `file` in one step; when this returns, the new content survives a power failure."""
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(file)
    for folder in (file.parent, file.parent.parent):  # the name, and that of a folder made for it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
