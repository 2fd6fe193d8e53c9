"""What intake needs of the composition root beyond the common `compliance.desk.Desk`."""

from collections.abc import Callable
from typing import Any, Protocol

from compliance import desk
from compliance.ledger.publication import Published


class Desk(desk.Desk, Protocol):
    """The common desk, random bytes, receipts, and somebody to tell about a proved identity.

    `transaction()` commits when its block ends without an exception and raises when the commit fails;
    nothing may be answered before that (invariant 2). `receipt` reads what was committed.
    """

    @property
    def secrets(self) -> Callable[[int], bytes]:
        """So many random bytes."""

    def receipt(self, request_id: str) -> dict[str, Any]:
        """The signed receipt of a stored request."""

    def published(self) -> Published:
        """The log as anybody can fetch it."""

    def verified(self, request_id: str) -> None:
        """Told after the commit that a person proved who they are; matching may start."""
