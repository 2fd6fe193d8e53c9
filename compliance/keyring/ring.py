"""The signers of the desk by role, as they are now: a process that runs for weeks signs with a rotated key at once.

A role's key is the file `keys/ROLE.pem` of the work folder, or the key of a token that the setting `EXPUNGE_ROLE_KEY`
names (RFC 7512). The file's identity is looked at each time a key is asked for; rotation puts a new one in its place
while it holds the ledger's lock (`compliance.keyring.rotation`). Whether a key is *in force* is the ledger's answer.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from audits import keys, mldsa
from audits.errors import VerificationError
from audits.keys import Role, RoleSigner
from compliance.errors import UnavailableError
from compliance.keyring.tokens import TokenKey
from compliance.settings import Settings

ROLES: tuple[Role, ...] = ("log", "report", "receipt", "model")


class Keyring(Mapping[str, RoleSigner]):
    """Every role's signer; UnavailableError for a key that is missing or does not open."""

    def __init__(self, settings: Settings) -> None:
        """The keys of `settings`, none of which is opened yet."""
        self._settings = settings
        self._tokens: dict[str, TokenKey] = {
            role: TokenKey(role, uri, pin=settings.token_pin)
            for role in ROLES
            if (uri := settings.token_keys.get(role))
        }
        self._files: dict[str, tuple[tuple[int, int], RoleSigner]] = {}

    def __getitem__(self, role: str) -> RoleSigner:
        """The role's signer of this moment."""
        if role in self._tokens:
            return self._tokens[role]
        for known in ROLES:
            if known == role:
                return self._from_file(known)
        raise KeyError(role)

    def __iter__(self) -> Iterator[str]:
        """The roles."""
        return iter(ROLES)

    def __len__(self) -> int:
        """How many roles there are."""
        return len(ROLES)

    def _from_file(self, role: Role) -> RoleSigner:
        path = key_file(self._settings, role)
        try:
            status = path.stat()
            stamp = (status.st_ino, status.st_mtime_ns)
            if role not in self._files or self._files[role][0] != stamp:
                self._files[role] = (stamp, keys.load(path, role, passphrase(self._settings)))
        except FileNotFoundError:
            message = (
                f"the {role} key is missing; run 'expunge db upgrade' in a new work folder, or restore it from backup"
            )
            raise UnavailableError(message, code="no-key") from None
        except VerificationError as fault:
            words = str(fault).rstrip(".")
            message = f"the {role} key can't be used: {words[:1].lower()}{words[1:]} (EXPUNGE_KEY_PASSPHRASE)"
            raise UnavailableError(message, code="bad-key") from fault
        return self._files[role][1]


class Current:
    """One role's signer, whichever it is at the moment of signing."""

    def __init__(self, ring: Mapping[str, RoleSigner], role: Role) -> None:
        """The signer of `role` in `ring`."""
        self._ring = ring
        self.role: Role = role

    @property
    def public_key(self) -> bytes:
        """The raw public key of the moment."""
        return self._ring[self.role].public_key

    def sign(self, message: bytes) -> bytes:
        """A signature by the key of the moment."""
        return self._ring[self.role].sign(message)


def open_ring(settings: Settings) -> Keyring:
    """The signers of `settings`; UnavailableError at once when a key file is missing or does not open."""
    found = Keyring(settings)
    for role in set(ROLES) - set(settings.token_keys):
        found[role]
    return found


def second_key(settings: Settings) -> keys.SigningKey | None:
    """The log's ML-DSA-44 key, where one is asked for."""
    if not settings.post_quantum:
        return None
    return keys.load(_second_file(settings), "log", passphrase(settings), make=mldsa.SecondKey)


def key_file(settings: Settings, role: Role) -> Path:
    """Where a role's private key lies, unless a token holds it."""
    return settings.keys / f"{role}.pem"


def passphrase(settings: Settings) -> str | None:
    """What encrypts new key files and opens encrypted ones; None when none is set."""
    return None if settings.key_passphrase is None else settings.key_passphrase.get_secret_value()


def make_missing(settings: Settings) -> None:
    """Make the key file of every role that has neither a file nor a token."""
    settings.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    for role in ROLES:
        path = key_file(settings, role)
        if role not in settings.token_keys and not path.exists():
            keys.save(keys.generate(role), path, passphrase(settings))
    if settings.post_quantum and not _second_file(settings).exists():
        keys.save(mldsa.generate(), _second_file(settings), passphrase(settings))


def _second_file(settings: Settings) -> Path:
    return settings.keys / "log-ml-dsa-44.pem"
