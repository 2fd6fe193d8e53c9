"""What a person may take along besides the receipt: the opening of their commitment, and the proof of their entry.

The opening holds personal data and the request's own key. It is given out only to who holds the status token, exists
only until the vault erases the request, and whoever keeps it can still show afterwards that the entry was theirs.
The proof holds nothing that is not in the public log.
"""

from typing import Any

from compliance.errors import NotFoundError
from compliance.intake.desk import Desk


def opening(desk: Desk, request_id: str) -> str:
    """The opening file; NotFoundError when the personal data have been erased."""
    with desk.read() as ledger:
        try:
            return ledger.open_commitment(request_id)
        except NotFoundError:
            message = "what you told us has been erased here; only a copy that you kept can open the fingerprint"
            raise NotFoundError(message, code="erased") from None


def proof(desk: Desk, request_id: str) -> dict[str, Any]:
    """The request's log entry with its `.tlog-proof`, as `expunge log prove --json` prints it.

    NotFoundError while no signed checkpoint covers the entry yet; the receipt says by when one does.
    """
    with desk.read() as ledger:
        index = ledger.history(request_id)[0].index
    published = desk.published()
    if index >= published.size:
        message = "your request is recorded, and the log's next checkpoint is not signed yet; come back in a while"
        raise NotFoundError(message, code="not-yet-published")
    return {"index": index, "entry": published.entry(index).decode(), "proof": published.proof(index)}
