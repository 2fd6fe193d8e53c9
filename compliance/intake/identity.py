"""The one-time code and the status token. Pure, given random bytes or the vault.

A code is random and lies nowhere in clear: the database keeps a keyed hash to compare a guess with, the vault
keeps it until its letter has been sent. The status token is a keyed hash of the random request id, so that a
repeated submission gets the same answer; the database keeps only its digest.

The numbers: 31 unambiguous characters, 8 of them, are 8.5e11 codes; five tries at each of at most five codes
of a request give a guesser 3e-11. A code is good for one hour, because mail is slow for those who worry.
"""

import hashlib
import hmac
import re
from collections.abc import Callable
from datetime import timedelta

from compliance.ledger.vault import Vault

ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # without 0 and O, 1 and I and L
LENGTH = 8
ID_PATTERN = "[0-9A-Za-z_-]{1,64}"
_ID = re.compile(ID_PATTERN)
TTL = timedelta(hours=1)
ATTEMPTS = 5
CODES_A_REQUEST = 5


def draw_code(secrets: Callable[[int], bytes]) -> str:
    """A fresh code: 256 random bits modulo 31^8, so the bias is below 2^-216."""
    number = int.from_bytes(secrets(32))
    letters = []
    for _ in range(LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[digit])
    return "".join(letters)


def code_digest(vault: Vault, *, request_id: str, code: str) -> str:
    """What the database keeps of a code."""
    return vault.tag("identity-code-digest", f"{request_id}/{code}")


def same(one: str, other: str) -> bool:
    """Compare without telling by the time taken where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def typed(code: str) -> str:
    """A code as people type it: only what can be in a code counts, in capitals."""
    return "".join(c for c in code[:64].upper() if c in ALPHABET)


def is_id(value: str) -> bool:
    """Whether `value` could be one of our ids: anything else never reaches a database (a NUL would fail there)."""
    return _ID.fullmatch(value) is not None


def status_token(vault: Vault, *, request_id: str) -> str:
    """The unguessable key to a request's status page: 256 bits in hex."""
    return vault.tag("status-token", request_id)


def status_digest(token: str) -> str:
    """What the database keeps of a status token; plain, because the token has full entropy."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
