"""Changing keys: a new one is registered and the old one revoked in one transaction, and the files follow suit.

The new file takes its place under the ledger's lock, before the commit: whoever signs next, in whichever process,
signs with a key that the log knows. A rollback puts the old file back. A power cut between the two leaves a new file
that is not registered; nothing is signed with it, and `expunge db upgrade` finishes the rotation (`enrol`).

The old private key is kept beside, named after its id: nothing it signs from now on is believed, but its owner may
have to show it.
"""

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from audits import keys
from audits.keys import Role, RoleSigner
from compliance.desk import Desk
from compliance.errors import ConflictError
from compliance.keyring.ring import ROLES, key_file, passphrase
from compliance.ledger.ledger import Ledger


def enrol(
    ledger: Ledger, signers: Mapping[str, RoleSigner], *, now: datetime, second: RoleSigner | None = None
) -> None:
    """Register the key of every role; an older one of the same role and algorithm is revoked as rotated.

    `second` is the log's key of another algorithm, if it has one.
    """
    for role in ROLES:
        _take_over(ledger, signers[role], role, now)
    if second is not None:
        _take_over(ledger, second, second.role, now)


def rotate(desk: Desk, role: Role) -> tuple[str, str]:
    """Give `role` a new key file; the ids of the old key and of the new one. ConflictError when a token has the key."""
    settings = desk.settings
    if role in settings.token_keys:
        message = (
            f"a token holds the {role} key: make a new key in it, name that in EXPUNGE_{role.upper()}_KEY "
            "and run 'expunge db upgrade', which revokes the old one"
        )
        raise ConflictError(message, code="key-in-token")
    old, new = desk.signers[role], keys.generate(role)
    path = key_file(settings, role)
    fresh = path.with_name(f".{role}-{new.key_id[:16]}.pem")
    keys.save(new, fresh, passphrase(settings))
    try:
        with desk.transaction() as ledger:
            undo = _replace(path, fresh, aside=path.with_name(f"{role}-{old.key_id[:16]}.pem"))
            ledger.on_rollback(undo)
            _take_over(ledger, new, role, desk.clock())
    finally:
        fresh.unlink(missing_ok=True)  # still there only when it took nobody's place
    return old.key_id, new.key_id


def _take_over(ledger: Ledger, signer: RoleSigner, role: Role, now: datetime) -> None:
    data = keys.registration(signer, role)
    ledger.register_key(key_id=signer.key_id, role=role, public_key=signer.public_key, data=data, now=now)
    for older in ledger.keys_in_force(role):
        if older.key_id != signer.key_id and older.algorithm == data["algorithm"]:
            ledger.revoke_key(key_id=older.key_id, reason="rotated", now=now)


def _replace(path: Path, fresh: Path, *, aside: Path) -> Callable[[], None]:
    """Put `fresh` in the place of `path`, which stays as `aside`; what undoes it. The place is never empty."""
    if not (aside.exists() and aside.samefile(path)):  # it is when a power cut came between this step and the next
        os.link(path, aside)
    fresh.replace(path)
    _to_disk(path.parent)

    def undo() -> None:
        aside.replace(path)

    return undo


def _to_disk(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
