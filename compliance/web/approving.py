"""The approve button where approvers have keys: the page shows what is signed, and the browser signs it.

The key file is read in the page and never sent (its field has no name, and the page's policy allows no connection but
the form's own). What comes back is a statement, a key id and a signature, which the ledger verifies.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime

from starlette.responses import Response

from audits import approval
from compliance import intake
from compliance.ledger.entries import rfc3339
from compliance.ledger.ledger import Ledger
from compliance.ledger.views import RequestView
from compliance.web.forms import Form
from compliance.web.rendering import POLICY, STATIC

_SCRIPT = "approve.js"


def to_sign(ledger: Ledger, view: RequestView, *, now: datetime) -> str:
    """What an approver has to sign for the request; empty where no approver's key is in force."""
    if not ledger.keys_in_force("approver"):
        return ""
    return approval.statement(request_id=view.id, commitment=view.commitment, approved_at=rfc3339(now)).decode()


def signed(form: Form) -> Mapping[str, str] | None:
    """The approval in a form; None when the form carries none."""
    if not form["statement"]:
        return None
    return intake.signed_approval(said=form["statement"], signature=form["signature"], key_id=form["key_id"])


def script() -> str:
    """Where the page's program is; the digest changes with it."""
    return f"/static/{_SCRIPT}?{hashlib.sha256((STATIC / _SCRIPT).read_bytes()).hexdigest()[:12]}"


def allow_script(page: Response) -> Response:
    """Let this one page run programs from this server; connections stay forbidden."""
    page.headers["Content-Security-Policy"] = f"{POLICY}; script-src 'self'"
    return page
