"""The operator's session: a signed cookie, good for eight hours, void as soon as the token changes.

There is no table of sessions, so none survives a change of the token by being forgotten there.
"""

import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime, timedelta

from compliance.ledger.vault import Vault

COOKIE = "expunge_operator"
LIFETIME = timedelta(hours=8)


def is_token(sent: str, token: str) -> bool:
    """Whether `sent` is the operator's token; hashed first, so that its length tells nothing either."""
    return hmac.compare_digest(hashlib.sha256(sent.encode()).digest(), hashlib.sha256(token.encode()).digest())


def open_session(vault: Vault, token: str, *, now: datetime, secrets: Callable[[int], bytes]) -> str:
    """The value of the cookie."""
    stem = f"{int((now + LIFETIME).timestamp())}.{secrets(8).hex()}"
    return f"{stem}.{_seal(vault, stem, token)}"


def is_open(vault: Vault, token: str, cookie: str, *, now: datetime) -> bool:
    """Whether the cookie was given out for this token and is still good."""
    stem, _, seal = cookie.rpartition(".")
    if not hmac.compare_digest(seal.encode(), _seal(vault, stem, token).encode()):
        return False
    return now.timestamp() < int(stem.partition(".")[0])


def _seal(vault: Vault, stem: str, token: str) -> str:
    return vault.tag("operator-session", f"{stem}/{hashlib.sha256(token.encode()).hexdigest()}")
