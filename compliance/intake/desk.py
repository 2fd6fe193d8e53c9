"""What intake needs of the composition root, so that it need not know it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

from compliance.ledger.ledger import Ledger
from compliance.ledger.vault import Vault
from compliance.settings import Settings


class Desk(Protocol):
    """Settings, time, ids, the vault and the two ways into the ledger.

    `transaction()` commits when its block ends without an exception and raises when the commit fails;
    nothing may be answered before that (invariant 2). `receipt` reads what was committed.
    """

    @property
    def settings(self) -> Settings:
        """The operator's settings."""

    @property
    def clock(self) -> Callable[[], datetime]:
        """Aware UTC time; the only time a request ever gets."""

    @property
    def ids(self) -> Callable[[], str]:
        """Fresh random ids."""

    @property
    def secrets(self) -> Callable[[int], bytes]:
        """So many random bytes."""

    @property
    def vault(self) -> Vault:
        """Keyed hashes and encryption."""

    def transaction(self) -> AbstractContextManager[Ledger]:
        """Read and write, all or nothing."""

    def read(self) -> AbstractContextManager[Ledger]:
        """Read one consistent state."""

    def receipt(self, request_id: str) -> dict[str, Any]:
        """The signed receipt of a stored request."""

    def verified(self, request_id: str) -> None:
        """Told after the commit that a person proved who they are; matching may start."""
