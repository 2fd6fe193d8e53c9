"""Which keys were in force at which entry of the log: registrations and revocations, folded in order.

A signature is judged by the log, not by a clock: it counts when its key was registered before the entry it belongs
to and not revoked up to that entry. So old receipts and reports stay good after a rotation, and nothing new is good
under a key that was given up.

Rules:

* A key is registered once, for one role, and revoked at most once; both stay so for ever. A second registration
  (of a revoked key, say, or of the same key for another role) makes the log contradict itself and is refused.
* Part of a log will do: a revocation whose registration lies before the part is kept, and holds. What was not shown
  cannot be known, so only a register over the whole log says that a key was *never* revoked.
* Whoever holds a stolen key can sign, yet has to get an entry into the log before the revocation to be believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from audits import keys, log
from audits.errors import expect, require
from audits.keys import Role

KEY_REVOKED = "key.revoked"
Reason = Literal["rotated", "compromised", "retired"]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, kw_only=True, slots=True)
class Registered(keys.Registration):
    """A key and the entry that registered it."""

    index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Revoked:
    """A key that was given up, why, and by which entry."""

    key_id: str
    role: Role
    reason: Reason
    index: int


class Register:
    """The keys of one log, as far as its entries have been applied."""

    def __init__(self) -> None:
        """A register that has seen no entry."""
        self._keys: dict[str, Registered] = {}
        self._revoked: dict[str, Revoked] = {}
        self._last = -1

    def apply(self, index: int, entry: log.Entry) -> None:
        """Take in the entry at `index`, which lies after all that were applied; one about no key changes nothing."""
        expect(index > self._last, "Entries are applied in the order of the log.")
        self._last = index
        if entry.type == log.KEY_REGISTERED:
            self._add(index, keys.read_registration(entry.data))
        elif entry.type == KEY_REVOKED:
            self._revoke(index, entry.data)

    def valid(self, key_id: str, role: Role, index: int) -> Registered:
        """The key, when it was registered for `role` before entry `index` and not revoked up to it."""
        key = self._keys.get(key_id)
        require(key is not None, "The key is not registered in the log.")
        assert key is not None  # noqa: S101 - for the type checker; `require` raised
        require(key.role == role, f"The key is registered as a {key.role} key, not as a {role} key.")
        require(key.index < index, f"The {role} key was registered only afterwards, by entry {key.index}.")
        gone = self.revoked(key_id, index)
        reason = "" if gone is None else f"The {role} key was revoked before, by entry {gone.index} ({gone.reason})."
        require(gone is None, reason)
        return key

    def revoked(self, key_id: str, index: int) -> Revoked | None:
        """The revocation of a key up to entry `index`; None when none is known."""
        found = self._revoked.get(key_id)
        return found if found is not None and found.index <= index else None

    def in_force(self, role: Role, index: int) -> tuple[Registered, ...]:
        """The keys of `role` that entry `index` could rest on, in the order of their registration."""
        return tuple(
            key
            for key in self._keys.values()
            if key.role == role and key.index < index and self.revoked(key.key_id, index) is None
        )

    def _add(self, index: int, key: keys.Registration) -> None:
        require(key.key_id not in self._revoked, f"Entry {index} registers a key again that was revoked.")
        require(key.key_id not in self._keys, f"Entry {index} registers a key a second time.")
        self._keys[key.key_id] = Registered(
            role=key.role, algorithm=key.algorithm, public_key=key.public_key, key_id=key.key_id, index=index
        )

    def _revoke(self, index: int, data: Mapping[str, Any]) -> None:
        gone = read_revocation(index, data)
        require(gone.key_id not in self._revoked, f"Entry {index} revokes a key a second time.")
        key = self._keys.get(gone.key_id)
        require(key is None or key.role == gone.role, f"Entry {index} revokes a key under another role than its own.")
        self._revoked[gone.key_id] = gone


def revocation(*, key_id: str, role: Role, reason: Reason) -> dict[str, str]:
    """What the log entry `key.revoked` says; `ValueError` for an unknown role or reason."""
    expect(role in keys.ROLES, f"There is no key role {role!r}; there are {', '.join(keys.ROLES)}.")
    expect(reason in REASONS, f"The reason for a revocation is one of {', '.join(REASONS)}.")
    return {"keyId": key_id, "role": role, "reason": reason}


def read_revocation(index: int, data: Mapping[str, Any]) -> Revoked:
    """The revocation that the `key.revoked` entry at `index` says."""
    require(set(data) == {"keyId", "role", "reason"}, "The key revocation has other fields.")
    require(keys.is_key_id(data["keyId"]), "The key revocation names no key id.")
    require(data["role"] in keys.ROLES, "The key revocation names an unknown role.")
    require(data["reason"] in REASONS, f"The key revocation's reason is not one of {', '.join(REASONS)}.")
    return Revoked(key_id=data["keyId"], role=data["role"], reason=data["reason"], index=index)
