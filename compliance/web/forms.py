"""Reading a submitted form: small, and from a page of ours.

Forgery guard (OWASP signed double submit): every page sets a random cookie (HttpOnly, SameSite=Strict) and
every form carries the keyed hash of it; a foreign page can send neither.
"""

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

from compliance.ledger.vault import Vault

COOKIE = "expunge_form"
FIELD = "guard"
BODY_MAX = 64 * 1024
_FIELDS_MAX = 50
_NONCE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent, and whether it came from a page of ours."""

    values: dict[str, str] = field(repr=False)
    genuine: bool

    def __getitem__(self, name: str) -> str:
        """The value of a field; empty when it was not sent."""
        return self.values.get(name, "")


def nonce_of(request: Request, secrets: Callable[[int], bytes]) -> str:
    """The browser's cookie, or a new one."""
    sent = request.cookies.get(COOKIE, "")
    return sent if _NONCE.fullmatch(sent) else secrets(16).hex()


def guard(vault: Vault, nonce: str) -> str:
    """What a form carries for the browser with this cookie."""
    return vault.tag("web-form", nonce)


async def read_form(request: Request, vault: Vault) -> Form:
    """The fields of an urlencoded body; HTTPException 413 or 415."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise HTTPException(415)
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            raise HTTPException(413)
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict")
    except ValueError:
        raise HTTPException(400) from None
    values = dict(pairs)
    nonce = request.cookies.get(COOKIE, "")
    sent = values.pop(FIELD, "")
    genuine = bool(_NONCE.fullmatch(nonce)) and hmac.compare_digest(sent.encode(), guard(vault, nonce).encode())
    return Form(values, genuine)
