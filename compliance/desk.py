"""What the rooms above the ledger need of the composition root, so that they need not know it."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from audits.keys import RoleSigner
from compliance.ledger.ledger import Ledger
from compliance.ledger.publication import Published
from compliance.ledger.vault import Vault
from compliance.settings import Settings
from compliance.store import Store


class Desk(Protocol):
    """Settings, time, ids, the ledger, the files and the signers."""

    @property
    def settings(self) -> Settings:
        """The operator's settings."""

    @property
    def clock(self) -> Callable[[], datetime]:
        """Aware UTC time."""

    @property
    def ids(self) -> Callable[[], str]:
        """Fresh random ids."""

    @property
    def vault(self) -> Vault:
        """Encryption and keyed hashes."""

    @property
    def store(self) -> Store:
        """Models, data sets and sealed remains."""

    @property
    def signers(self) -> Mapping[str, RoleSigner]:
        """Signing keys by role."""

    def transaction(self) -> AbstractContextManager[Ledger]:
        """Read and write, all or nothing."""

    def read(self) -> AbstractContextManager[Ledger]:
        """Read one consistent state."""

    def publish(self) -> Published:
        """Sign and write out the log as it is now."""

    def witnessed(self, signed: str) -> bool:
        """Whether as many witnesses cosigned a checkpoint as the policy asks for."""

    def policy_text(self) -> str:
        """The tlog-policy under which the desk verifies its own bundles."""
